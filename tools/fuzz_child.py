"""One process of the fuzzer: read the whole files, then damaged ones, and say how each ended.

    python -m tools.fuzz_child KIND SEED FIRST LAST FOLDER

A line before each input, and one after it: "read", "refused" (a `UserError`) or "traceback".
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
import traceback
from pathlib import Path

from edge_router.errors import UserError
from tools.fuzz_kinds import KINDS, Kind

_MEMORY = 6 << 30  # an input that asks for more has found something


def main(kind: str, seed: int, first: int, last: int, folder: Path) -> None:
    said = os.fdopen(os.dup(1), "w", buffering=1)  # libraries print what they like
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.environ["EDGE_ROUTER_HOME"] = str(folder / "home")
    whole, work = folder / "whole", folder / "work"
    made = KINDS[kind]
    if not whole.exists():
        partial = folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        made.make(partial)
        partial.rename(whole)
    _fresh(whole, work)
    made.read(work)  # what is whole is read, or the damage would prove nothing
    said.write("ready\n")
    for number in range(first, last):
        _fresh(whole, work)
        made.harm(work, random.Random(f"{seed}/{kind}/{number}"))
        said.write(f"{number}\n")
        how, what = _outcome(made, work)
        said.write(json.dumps([number, how, what]) + "\n")


def _fresh(whole: Path, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(whole, work)


def _outcome(kind: Kind, work: Path) -> tuple[str, str]:
    try:
        kind.read(work)
    except UserError as error:
        said = str(error)
        return ("refused", "") if "\n" not in said.strip() else ("traceback", f"lines: {said!r}")
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        ours = [
            f for f in traceback.extract_tb(error.__traceback__) if "edge_router/" in f.filename
        ]
        where = ours[-1] if ours else at
        return (
            "traceback",
            f"{type(error).__name__} at {where.filename}:{where.lineno} {error!s:.90}",
        )
    return "read", ""


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
