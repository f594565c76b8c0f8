"""Record the two runs that `edge-router demo` shows: the first game, low tier alone and routed.

    python -m tools.record_demo

writes edge_router/demo/{low,routed}.jsonl with the embedded model and its router. Run it after
either has changed (a test says when), and while nothing else runs: the times are kept as well.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from edge_router.agent.episode import Options
from edge_router.agent.session import Session
from edge_router.agent.trace import TraceWriter
from edge_router.cli.replay import DEMO, RUNS
from edge_router.engine.ladder import Ladder, default_context
from edge_router.ladders.resolve import find_ladder
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.tasks.alfworld.game_files import GENERATED, default_game, split_games
from edge_router.tasks.games import pick


def record(folder: Path, name: str) -> None:
    """One run: "low", or "routed" under the ladder's own router."""
    ladder, games = find_ladder("household"), split_games(GENERATED)
    load = partial(Ladder.load, ladder.tiers, n_ctx=default_context(ladder.tiers))
    router = make_router(ladder.router if name == "routed" else name)
    path = folder / f"{name}.jsonl"
    with (
        Session(games, load, router, Options(prompt=ladder.prompt)) as session,
        TraceWriter(path) as writer,
    ):
        session.play(pick(games, default_game(games)), [writer])
    _leave_out_the_folder(path)


def _leave_out_the_folder(path: Path) -> None:
    """A router is named by its path; of that only the file's name is of interest elsewhere."""
    header, *steps = path.read_text("utf-8").splitlines()
    first = json.loads(header)
    router = RouterSpec.parse(first["episode"]["router"])
    if router.file is not None:
        first["episode"]["router"] = str(RouterSpec.trained(Path(router.file.name)))
    lines = [json.dumps(first, separators=(",", ":")), *steps]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Record both."""
    DEMO.mkdir(exist_ok=True)
    for name in RUNS:
        record(DEMO, name)
        print(DEMO / f"{name}.jsonl")


if __name__ == "__main__":
    main()
