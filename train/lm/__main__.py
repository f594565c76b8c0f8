"""`make lm`: train the embedded model and build its tiers.

    python -m train.lm --run runs/lm [--steps N] [--threads N] [--out models]

Each stage can be run alone (`train.lm.train`, `.plot`, `.export`). A run that
was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from edge_router.screen.printable import say
from edge_router.work.processes import python_module
from train.lm.model import LmConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/lm"), help="folder of the run")
    parser.add_argument("--out", type=Path, default=Path("models"), help="the ladders' folder")
    parser.add_argument("--steps", type=int, default=LmConfig().steps)
    parser.add_argument("--threads", type=int, help="of PyTorch; by default as the machine allows")
    args = parser.parse_args()
    run = ["--run", str(args.run)]
    threads = [] if args.threads is None else ["--threads", str(args.threads)]
    for stage in (
        ["train.lm.train", *run, "--steps", str(args.steps), *threads],
        ["train.lm.plot", *run, "--out", str(args.out / "household" / "learning.png")],
        ["train.lm.export", *run, "--out", str(args.out)],
    ):
        say(f"== {' '.join(stage)}")
        if subprocess.call(python_module(*stage)):
            sys.exit(f"{stage[0]} failed; run `make lm` again to go on from its last checkpoint")


if __name__ == "__main__":
    main()
