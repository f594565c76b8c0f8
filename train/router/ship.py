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
from edge_router.ladders.ladder_file import adopt_router
from edge_router.screen.printable import say
from train.router.run import read_note

ROUTER = "router.onnx"
PICTURES = "router-*.png"


def ship(run: Path, folder: Path) -> None:
    """Copy the router of a training run and its pictures to `folder`. Raises UserError."""
    note = read_note(run, "export")
    if note is None:
        raise UserError(f"{run} holds no exported router; run train router --stage export first")
    adopt_router(folder, run / ROUTER, kv=note["kv"])
    for path in run.glob(PICTURES):
        shutil.copyfile(path, folder / path.name)


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
