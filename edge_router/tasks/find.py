"""Which games are played: a split's, a folder's, or the one that a file holds."""

from __future__ import annotations

import os
from pathlib import Path

from edge_router.tasks.games import Found
from edge_router.tasks.protocol import Task


def chosen_games(
    task: Task,
    game: str | int | None = None,
    split: str | None = None,
    folder: str | Path | None = None,
) -> tuple[Found, str | int]:
    """The games to choose from, and the selector of one of them for `games.pick`.

    A `game` that names a file is that game and no other. Raises UserError.
    """
    if split is None and folder is None and isinstance(game, str) and os.path.isfile(game):
        return task.games(folder=game), 0
    found = task.games(split, folder)
    return found, task.first_game(found.games) if game is None else game
