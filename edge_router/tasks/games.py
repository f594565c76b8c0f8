"""Games that can be played, and how one of them is picked: the same for every task."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from edge_router.errors import UserError


@dataclass(frozen=True)
class GameRef:
    """One playable game, not yet opened.

    `path` is the file that holds it: results are kept by the file's content. `id` finds it again
    within its split; parts are joined by "/", the last of which names it alone.
    """

    id: str
    path: Path
    kind: str  # the type of game within its task; results are counted by it
    task: str  # the task's name


@dataclass(frozen=True)
class Found:
    """The games of a folder: those that can be played, by id, and why how many others cannot."""

    folder: Path
    games: tuple[GameRef, ...]
    left_out: Mapping[str, int]  # reason -> count, the most frequent first

    @property
    def note(self) -> str:
        """What was left out, in one sentence; "" when it was nothing."""
        return f"{left_out(self.left_out)} in {self.folder}" if self.left_out else ""


def left_out(reasons: Mapping[str, int]) -> str:
    """ "left out: 3 marked as not solvable, 1 without traj_data.json"."""
    return "left out: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def pick(games: Sequence[GameRef], selector: str | int = "0", seed: int | None = None) -> GameRef:
    """The game an INDEX, an ID or "random" (drawn with `seed`) stands for.

    An ID is the game's id, its last part alone, or any beginning of either that fits one game.
    Raises UserError.
    """
    wanted = str(selector)
    if wanted == "random":
        return random.Random(seed).choice(games)
    if re.fullmatch(r"[-+]?\d+", wanted):
        if not 0 <= int(wanted) < len(games):
            last = len(games) - 1
            raise UserError(f"There is no game {wanted}; this set has games 0 to {last}.")
        return games[int(wanted)]
    exact = [g for g in games if wanted in (g.id, _last_part(g))]
    close = exact or [
        g for g in games if g.id.startswith(wanted) or _last_part(g).startswith(wanted)
    ]
    if len(close) == 1:
        return close[0]
    if close:
        shown = ", ".join(g.id for g in close[:3])
        raise UserError(f"'{wanted}' fits {len(close)} games ({shown}, ...); write more of the id.")
    raise UserError(f"There is no game '{wanted}'{nearest(wanted, [g.id for g in games])}.")


def nearest(wanted: str, names: Iterable[str]) -> str:
    """ " (did you mean 'valid_seen'?)", "" where no name is like it."""
    near = get_close_matches(wanted, list(names), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _last_part(game: GameRef) -> str:
    return game.id.rsplit("/", 1)[-1]


# -- folders of games ----------------------------------------------------------------------------


def folder_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder below `folder`, itself among them, with its files' names; links are followed.

    Dot folders, where a generator may be at work, are not looked into, nor is a folder into which
    a link leads from within itself.
    """
    for where, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(where)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not _leads_up(os.path.join(where, name), here)
        ]
        yield Path(where), files


def _leads_up(path: str, here: str) -> bool:
    """Whether a folder is a link to one that it lies in."""
    if not os.path.islink(path):
        return False
    real = os.path.realpath(path)
    return os.path.commonpath((real, here)) == real
