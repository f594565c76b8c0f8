"""`edge-router games`: list games, and draw new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_router.cli.types import COUNT, FILE, SEED, SPLIT, TASK

if TYPE_CHECKING:
    from edge_router.tasks.alfworld.generate import Drawn


@click.group()
def games() -> None:
    """List games, or generate new ones."""


@games.command("list")
@click.option("--task", type=TASK, default="alfworld", show_default=True, help="The task.")
@click.option("--split", type=SPLIT, help="generated, train, valid_seen or valid_unseen.")
@click.option("--games", "folder", type=FILE, help="A folder of games instead of a split.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a game.")
def list_games(task: str, split: str | None, folder: Path | None, as_json: bool) -> None:
    """List the games of a split with their index, task type and id.

    \b
    edge-router games list --split train
    """
    from edge_router.screen.printable import columns, say, wrapped
    from edge_router.tasks.registry import find_task

    width = columns()
    found = find_task(task).games(split, folder)
    for index, game in enumerate(found.games):
        if as_json:
            click.echo(json.dumps({"index": index, "id": game.id, "kind": game.kind}))
        else:
            indent = f"{index:5d}  "
            for_screen = width and wrapped(game.id, width, indent=indent, hanging=" " * len(indent))
            say("\n".join(for_screen or [f"{indent}{game.kind:32}{game.id}"]))
    if found.note:
        say(found.note, err=True)


@games.command()
@click.option("--count", type=COUNT, default=60, show_default=True, help="How many games.")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="The same seed, the same games."
)
@click.option("--out", type=FILE, required=True, help="A new or empty folder.")
def generate(count: int, seed: int, out: Path) -> None:
    """Generate ALFWorld games, each proven solvable on the real engine.

    All six task types in turn; about 3 seconds a game. Play them with --games.

    \b
    edge-router games generate --count 100 --seed 7 --out my-games
    edge-router play --games my-games --game random
    """
    from edge_router.tasks.alfworld.generate import generate_games

    def tell(drawn: Drawn) -> None:
        click.echo(f"{drawn.done}/{drawn.count}  {drawn.game.id}  ({drawn.steps} steps)", err=True)

    made = generate_games(count, seed, out, tell)
    click.echo(f"{len(made)} games in {out}")
