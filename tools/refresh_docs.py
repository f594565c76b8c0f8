"""Keep the help texts in the documentation those that the commands really print.

    python -m tools.refresh_docs

is run by `make docs`. Between the markers

    <!-- help: edge-router play -->
    <!-- end help -->

it puts the output of `edge-router play --help`. tests/test_docs.py fails when
a block is not what the command prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BLOCK: Final = re.compile(
    r"(?P<open><!-- help: edge-router(?P<args>[^>]*?) -->\n).*?(?P<close><!-- end help -->)",
    re.DOTALL,
)
WIDTH: Final = 88


def pages() -> Iterator[Path]:
    """The README and every page of docs/."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").glob("**/*.md"))


@cache
def help_text(args: str) -> str:
    """What `edge-router ARGS --help` prints on a terminal of `WIDTH` columns without colour."""
    program = Path(sys.executable).with_name("edge-router")
    done = subprocess.run(
        [str(program), *args.split(), "--help"],
        env={**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def refreshed(markdown: str) -> str:
    """`markdown` with every help block filled from the command itself."""

    def fill(block: re.Match[str]) -> str:
        return f"{block['open']}```text\n{help_text(block['args'].strip())}\n```\n{block['close']}"

    return BLOCK.sub(fill, markdown)


def documented(markdown: str) -> set[str]:
    """The commands ("play", "games generate", "" for edge-router itself) that have a block."""
    return {block["args"].strip() for block in BLOCK.finditer(markdown)}


def main() -> None:
    """Rewrite the pages whose blocks are stale."""
    for page in pages():
        old = page.read_text("utf-8")
        new = refreshed(old)
        if new != old:
            page.write_text(new, "utf-8")
            print(f"{page.relative_to(ROOT)}: help refreshed")


if __name__ == "__main__":
    main()
