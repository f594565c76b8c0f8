"""Sets of new games, written one by one: what every task's generator has in common."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_router.errors import UserError
from edge_router.tasks.games import GameRef, nearest

MAX_REDRAWS: Final = 20


@dataclass(frozen=True)
class Drawn:
    """Told after every game: `done` of `count`; `dropped` draws could not be won."""

    game: GameRef
    steps: int  # length of the plan that won it
    done: int = 0
    count: int = 0
    dropped: int = 0
    parts: tuple[str, ...] = ()  # what is moved to its place, within the folder drawn into


Draw = Callable[[int, Path], Drawn | None]
Progress = Callable[[Drawn], None]


def write_games(
    count: int, out: str | Path, draw: Draw, progress: Progress | None = None
) -> list[GameRef]:
    """Write `count` games into the folder `out` and return them in the order drawn.

    `draw(index, folder)` writes one game into a folder and proves that it can be won; None where
    it cannot, and then it is asked again. A game appears in `out` only when it is proven, so an
    interrupted run leaves whole games. Raises UserError when `count` is below 1 or `out` is no new
    or empty folder.
    """
    if count < 1:
        raise UserError(f"The number of games must be at least 1, not {count}.")
    target = _empty_folder(out)
    games = []
    with tempfile.TemporaryDirectory(dir=target, prefix=".drawing-") as desk:
        for index in range(count):
            drawn = _proven(draw, index, Path(desk))
            for part in drawn.parts:
                (target / part).parent.mkdir(parents=True, exist_ok=True)
                os.rename(Path(desk, part), target / part)
            path = target / drawn.game.path.relative_to(desk)
            drawn = replace(drawn, game=replace(drawn.game, path=path), done=index + 1, count=count)
            games.append(drawn.game)
            if progress:
                progress(drawn)
    return games


def one_of(challenge: str, known: tuple[str, ...]) -> str:
    """`challenge`, if it is known. Raises UserError."""
    if challenge not in known:
        raise UserError(
            f"there is no challenge {challenge!r}{nearest(challenge, known)};"
            f" challenges are {', '.join(known)}"
        )
    return challenge


def _proven(draw: Draw, index: int, desk: Path) -> Drawn:
    for dropped in range(MAX_REDRAWS):
        drawn = draw(index, desk)
        if drawn is not None:
            return replace(drawn, dropped=dropped)
    raise RuntimeError(f"none of {MAX_REDRAWS} draws of game {index} can be won")


def _empty_folder(out: str | Path) -> Path:
    target = Path(out)
    try:
        target.mkdir(parents=True, exist_ok=True)
        taken = any(target.iterdir())
    except OSError as error:
        raise UserError(f"Cannot make the folder {target}: {error.strerror}.") from None
    if taken:
        raise UserError(f"{target} already holds files; name a new or an empty folder.")
    return target
