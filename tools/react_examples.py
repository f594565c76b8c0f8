"""Write the worked examples that general models are shown, from games of our own.

    python -m tools.react_examples

draws games with a seed of its own (none of them is among the shipped ones, so
no example is a game that is played), lets the scripted expert play them on the
real engine, and puts its terse thoughts into sentences. Two games a task type
go to edge_router/tasks/alfworld/react_examples.json: the first is shown in prompts, the
second is what `edge-router convert` measures its tiers on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.generate import generate_games
from edge_router.tasks.alfworld.react_prompt import EXAMPLES_FILE, sentence
from edge_router.tasks.games import GameRef
from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.rules import KIND_NAMES
from edge_router.tasks.protocol import scripted_steps

SEED: Final = 20_270_101
GAMES: Final = 48
PER_KIND: Final = 2
STEPS: Final = range(5, 14)  # long enough to show a search, short enough for a prompt

Step = dict[str, str]


def play(ref: GameRef) -> dict[str, object] | None:
    """The game as an example, None when it is not fit for one."""
    with closing(AlfworldGame(ref.path)) as game:
        opening = game.reset()
        expert = Expert(opening)
        played = list(scripted_steps(game.step, expert, STEPS.stop))
    if any(step.thought.startswith(("wrong", "here")) for step in played):
        return None
    if not played[-1].reply.won or len(played) not in STEPS:
        return None
    steps: list[Step] = [
        {
            "thought": sentence(step.thought, step.action, expert.wish.object),
            "short": step.thought,  # the embedded model's own words
            "action": step.action,
            "observation": step.reply.observation,
        }
        for step in played
    ]
    opened = {"observation": opening.observation, "goal": opening.goal}
    return {"kind": ref.kind, "game": ref.id, **opened, "steps": steps}


def examples() -> Iterator[dict[str, object]]:
    """`PER_KIND` examples of every task type, in the order of the types."""
    with tempfile.TemporaryDirectory() as folder:
        games = generate_games(GAMES, SEED, Path(folder, "games"))
        played = [example for example in map(play, games) if example is not None]
    for kind in KIND_NAMES:
        of_kind = [example for example in played if example["kind"] == kind][:PER_KIND]
        if len(of_kind) < PER_KIND:
            sys.exit(f"only {len(of_kind)} games of {kind} are fit to be an example")
        yield from of_kind


def main() -> None:
    EXAMPLES_FILE.write_text(json.dumps(list(examples()), indent=1) + "\n", encoding="utf-8")
    print(f"{EXAMPLES_FILE}: {EXAMPLES_FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
