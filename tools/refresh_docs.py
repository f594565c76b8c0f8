"""Keep the help texts in the documentation those that the commands really print.

    python -m tools.refresh_docs

is run by `make docs`. Between the markers

    <!-- help: edge-router play -->
    <!-- end help -->

it puts the output of `edge-router play --help`; between `<!-- routers -->` or
`<!-- features -->` and their ends, tables of what the code declares.
tests/project/test_docs.py fails when a block is stale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from edge_router.cli.main import main as edge_router
from edge_router.router.feature_table import FEATURES, Feature
from edge_router.router.registry import kinds

ROOT: Final = Path(__file__).resolve().parent.parent
BLOCK: Final = re.compile(
    r"(?P<open><!-- help: edge-router(?P<args>[^>]*?) -->\n).*?(?P<close><!-- end help -->)",
    re.DOTALL,
)
TABLE: Final = re.compile(
    r"(?P<open><!-- (?P<what>routers|features) -->\n).*?(?P<close><!-- end (?P=what) -->)",
    re.DOTALL,
)
WIDTH: Final = 78  # of the text, which click makes no wider


def pages() -> Iterator[Path]:
    """The README and every page of docs/."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").glob("**/*.md"))


@cache
def help_text(args: str) -> str:
    """What `edge-router ARGS --help` prints on a terminal of 80 columns or more, without colour."""
    done = CliRunner().invoke(
        edge_router, [*args.split(), "--help"], prog_name="edge-router", terminal_width=WIDTH
    )
    if done.exit_code:
        raise ValueError(f"edge-router {args} --help: {done.output}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def refreshed(markdown: str) -> str:
    """`markdown` with every help block filled from the command itself."""

    def fill(block: re.Match[str]) -> str:
        return f"{block['open']}```text\n{help_text(block['args'].strip())}\n```\n{block['close']}"

    tables = {"routers": routers_table, "features": features_table}
    filled = BLOCK.sub(fill, markdown)
    return TABLE.sub(lambda m: f"{m['open']}{tables[m['what']]()}\n{m['close']}", filled)


def routers_table() -> str:
    """Every kind of router, as the registry has it."""
    rows = [f"| `{kind.written}` | {kind.doc} |" for kind in kinds()]
    auto = "what the model's `ladder.toml` suggests; for the embedded model its trained router"
    return "\n".join(
        ["| `--router` | picks |", "|---|---|", f"| `auto` (default) | {auto} |", *rows]
    )


def features_table() -> str:
    """Every feature, as the table of features has it."""
    rows = [f"| `{f.name}` | {f.doc} | {f.unit} | {_scale(f)} |" for f in FEATURES]
    return "\n".join(["| feature | what | unit | read as |", "|---|---|---|---|", *rows])


def _scale(f: Feature) -> str:
    value = "ln(1 + x)" if f.log else "x"
    divided = f"{value} / {f.per:g}" if f.per != 1 else value
    ends = [f"from {f.least:g}"] * (f.least > -math.inf) + [f"up to {f.most:.4g}"] * (
        f.most < math.inf
    )
    return ", ".join([divided, *ends])


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
