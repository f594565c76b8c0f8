"""Put a trained router into its ladder's folder, and let the ladder suggest it.

    python -m train.router.ship runs/router models/household

A file that does not fit the ladder is refused, and nothing is changed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_router.errors import UserError
from edge_router.ladders.ladder_file import read_ladder, set_router
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.screen.printable import say

ROUTER = "router.onnx"
PICTURES = "router-*.png"


def ship(run: Path, folder: Path) -> None:
    """Copy the router of a training run and its pictures to `folder`. Raises UserError."""
    names = tuple(tier.name for tier in read_ladder(folder).tiers)
    make_router(RouterSpec.trained(run / ROUTER)).reset(names, 0)
    for path in (run / ROUTER, *run.glob(PICTURES)):
        shutil.copyfile(path, folder / path.name)
    set_router(folder, f"onnx:{ROUTER}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 with one sentence on bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("folder", type=Path, help="folder of the ladder")
    options = parser.parse_args(arguments)
    try:
        ship(options.run, options.folder)
    except (UserError, OSError) as error:
        say(str(error), err=True)
        return 2
    say(f"{options.folder} suggests onnx:{ROUTER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
