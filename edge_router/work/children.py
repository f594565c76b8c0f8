"""Start Python in other processes without looking into the current folder.

`python -m` and `python -c` put the current folder before everything else. A
random.py or json.py that happens to lie there would be run in the place of
Python's own, and the child would end. `-P` (PYTHONSAFEPATH) leaves that folder
out; installed packages, editable ones too, are found as always.
"""

from __future__ import annotations

import os
import sys


def python_module(name: str, *arguments: str) -> list[str]:
    """The command that runs the module `name` in a new process of this Python."""
    return [sys.executable, "-P", "-m", name, *arguments]


def leave_out_current_folder() -> None:
    """Have the processes that multiprocessing and joblib start from now on do the same."""
    os.environ["PYTHONSAFEPATH"] = "1"
