"""`edge-router games`: list games, and draw new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_router.cli.types import COUNT, FILE, SEED, SPLIT, TASK, TEXT

if TYPE_CHECKING:
    from edge_router.tasks.drawn import Drawn


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
    from edge_router.tasks.protocol import found_games
    from edge_router.tasks.registry import find_task

    width = columns()
    found = found_games(find_task(task), split, folder)
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
@click.option("--task", type=TASK, default="alfworld", show_default=True, help="The task.")
@click.option(
    "--challenge",
    type=TEXT,
    metavar="NAME",
    help="Only this type: simple, coin_collector, treasure_hunter or cooking for textworld, one of "
    "the six task types for alfworld.  [all in turn]",
)
@click.option("--count", type=COUNT, default=60, show_default=True, help="How many games.")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="The same seed, the same games."
)
@click.option("--out", type=FILE, required=True, help="A new or empty folder.")
def generate(task: str, challenge: str | None, count: int, seed: int, out: Path) -> None:
    """Generate games, each proven solvable on its task's real engine.

    All types of games in turn; about 3 seconds an ALFWorld game, 5 a TextWorld
    game. Play them with --games.

    \b
    edge-router games generate --count 100 --seed 7 --out my-games
    edge-router games generate --task textworld --challenge cooking --out meals
    edge-router play --games my-games --game random
    """
    from edge_router.tasks.registry import find_task

    def tell(drawn: Drawn) -> None:
        click.echo(f"{drawn.done}/{drawn.count}  {drawn.game.id}  ({drawn.steps} steps)", err=True)

    made = find_task(task).generate(count, seed, out, challenge, tell)
    click.echo(f"{len(made)} games in {out}")
