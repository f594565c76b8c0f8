"""Take the pictures of the app that README and docs/tui.md show, with the shipped ladder.

    python -m tools.take_screenshots [--game 56] [--step 11]

plays the game on the embedded model with the router that comes with it (`--router auto`),
stops after the step and writes docs/tui-running.svg; then plays it with `--router low` as
well and writes docs/tui-compare.svg, both runs at the step where they part; then has three
conversations with a server on port 8080 and writes docs/server-watch.svg. Times are those of
this machine at this moment: take them while nothing else runs. Look at them afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from textual.pilot import Pilot

from edge_router.agent.episode import Options
from edge_router.agent.session import Session
from edge_router.agent.trace import TraceWriter, read_trace
from edge_router.api import load
from edge_router.engine.ladder import Ladder, default_context
from edge_router.ladders.resolve import find_ladder, router_for
from edge_router.router.registry import make_router
from edge_router.server.answering import Served
from edge_router.server.run import Listening, watched
from edge_router.tasks.alfworld.game_files import GENERATED, split_games
from tui.apps.commands import DEFAULT_PACE
from tui.apps.compare import CompareApp, complete
from tui.apps.frame import Frame
from tui.apps.live import LiveApp
from tui.apps.server import ServerApp
from tui.state.episode import first_difference
from tui.state.screenful import Status

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
SIZE: Final = (120, 40)
_TURNS: Final = 4  # of each conversation with a server
_REPLY: Final = {"role": "user", "content": "Nothing happens."}
_LONG: Final = 1000.0  # seconds a step: the app then waits for the key for one


def session(router: str | None = None) -> Session:
    """The embedded ladder under a router, or under its own."""
    ladder = find_ladder("household")
    load = partial(Ladder.load, ladder.tiers, n_ctx=default_context(ladder.tiers))
    options = Options(prompt=ladder.prompt)
    return Session(split_games(GENERATED), load, make_router(router or ladder.router), options)


async def until(pilot: Pilot[int], condition: Callable[[], bool]) -> None:
    """Let the app work until the condition holds."""
    give_up = time.monotonic() + 120
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("the app did not get there")
        await pilot.pause(0.02)
    await pilot.pause()


def save(app: Frame, name: str, title: str) -> None:
    path = DOCS / name
    path.write_text(app.export_screenshot(title=title), encoding="utf-8")
    print(path)


async def picture_of_running(game: int, step: int) -> None:
    """The live app after `step` steps, going on."""
    with session() as playing:
        app = LiveApp(playing, playing.games[game], pace=_LONG)
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: app.status is Status.RUNNING)
            for count in range(1, step + 1):
                await pilot.press("n")
                await until(pilot, lambda: len(app.episode.done_steps) >= count)  # noqa: B023
            await pilot.press("space")
            # The pace is that of a user; the player notices only when its present wait is over.
            app.player._pace = DEFAULT_PACE
            app.show()
            await pilot.pause()
            save(app, "tui-running.svg", "edge-router play")
            app.finish_work()


async def picture_of_comparing(game: int) -> None:
    """The game on the low tier alone and routed, where the two part."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("low.jsonl", "routed.jsonl")]
        for path, router in zip(paths, ("low", None), strict=True):
            with session(router) as playing, TraceWriter(path) as writer:
                playing.play(playing.games[game], [writer])
        traces = [read_trace(path) for path in paths]
    app = CompareApp(traces, [path.name for path in paths], paused=True)
    parts_at = first_difference(*map(complete, traces))
    async with app.run_test(size=SIZE) as pilot:
        app.action_go_to(app.timelines[0].steps if parts_at is None else parts_at)
        await pilot.pause()
        save(app, "tui-compare.svg", "edge-router replay low.jsonl routed.jsonl")


async def picture_of_serving() -> None:
    """A server's app after three conversations."""
    described = find_ladder("household")
    listening = Listening(port=8080)
    with load(described, slots=3) as model, listening.open() as opened:
        served = Served("household", model, router_for(described, "auto"), 0.5)
        app = ServerApp(partial(watched, served, listening, opened))
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: app.traffic.opened is not None)
            async with httpx.AsyncClient(base_url="http://127.0.0.1:8080/v1", timeout=60) as client:
                await asyncio.gather(*(_talk(client, thing) for thing in ("mug", "pan", "egg")))
            await until(pilot, lambda: app.traffic.answered == 3 * _TURNS and not app.happened)
            save(app, "server-watch.svg", "edge-router serve --watch")
        app.finish_work()


async def _talk(client: httpx.AsyncClient, thing: str) -> None:
    """A conversation about a household that refuses everything."""
    goal = f"task: put a clean {thing} in cabinet.\nroom: cabinet 2 cabinet 1 countertop 1 fridge 1"
    messages = [{"role": "user", "content": goal}]
    for _ in range(_TURNS):
        asked = {"model": "household", "messages": messages}
        reply = await client.post("/chat/completions", json=asked)
        messages += [reply.json()["choices"][0]["message"], _REPLY]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--game", type=int, default=56, help="index of a shipped game")
    parser.add_argument("--step", type=int, default=11, help="step to stop after")
    options = parser.parse_args()
    asyncio.run(picture_of_running(options.game, options.step))
    asyncio.run(picture_of_comparing(options.game))
    asyncio.run(picture_of_serving())


if __name__ == "__main__":
    main()
