"""Where ALFWorld games lie and how one is picked, without loading the engine.

A game is a folder `<task folder>/<trial folder>` with `game.tw-pddl` and `traj_data.json`.
Official splits are looked for under `$ALFWORLD_DATA/json_2.1.1/<split>`; the split
"generated" is the set of our own games that ships with the package.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from edge_router.errors import UserError
from edge_router.tasks.household.world import TASK_KINDS

GAME_FILE = "game.tw-pddl"
DATA_FILE = "traj_data.json"
GENERATED = "generated"
SPLITS = ("train", "valid_seen", "valid_unseen", GENERATED)
SHIPPED = Path(__file__).parent / "household" / "games"

_SOLVABLE = re.compile(rb'"solvable":\s*(true|false)\s*}\s*$')
_UNSUPPORTED = re.compile("movable|Sliced")  # ALFWorld's own test for tasks it leaves out
_TAIL = 64  # bytes; "solvable" is the last key of the official files


@dataclass(frozen=True)
class GameRef:
    """One playable game: `id` is "<task folder>/<trial folder>", `path` its `game.tw-pddl`."""

    id: str
    path: Path
    kind: str


def default_split() -> str:
    """ "valid_seen" when ALFWORLD_DATA is set, else "generated", which needs no download."""
    return "valid_seen" if os.environ.get("ALFWORLD_DATA") else GENERATED


def data_root() -> Path:
    """ALFWORLD_DATA, or the folder that `alfworld-download` fills when it is not set.

    Raises UserError when there is no such folder.
    """
    named = os.environ.get("ALFWORLD_DATA")
    root = Path(named).expanduser() if named else Path.home() / ".cache" / "alfworld"
    if root.is_dir():
        return root
    remedy = f"run alfworld-download, or play our own games with --split {GENERATED}"
    if named:
        raise UserError(f"ALFWORLD_DATA points to {root}, which is no folder; {remedy}.")
    raise UserError(f"ALFWORLD_DATA is not set; set it to the folder of the games, {remedy}.")


def find_games(root: str | Path, split: str | None = None) -> list[GameRef]:
    """The playable games of a split, sorted by id, so that an index always means the same game.

    `root` is a folder in ALFWorld's usual layout (with or without `json_2.1.1`); without a
    split it is any folder of games, searched at every depth. Left out, as ALFWorld does:
    movable receptacles, slices, games not marked solvable. Raises UserError when nothing is left.
    """
    folder = Path(root)
    if split is not None:
        below = (folder / "json_2.1.1" / split, folder / split)
        folder = next((f for f in below if f.is_dir()), below[0])
    if not folder.is_dir():
        raise UserError(f"There is no folder of games at {folder}.")
    files = (file for file in folder.rglob(GAME_FILE) if not _is_hidden(file, folder))
    games = [_game(file) for file in files]
    found = sorted((g for g in games if g is not None), key=lambda g: (g.id, str(g.path)))
    if not found:
        raise UserError(f"{folder} holds no playable games (looked for {GAME_FILE} files).")
    return found


def split_games(split: str | None = None) -> list[GameRef]:
    """The games of a split by its name; None is the default split. UserError if there are none."""
    split = split or default_split()
    if split not in SPLITS:
        hint = _nearest(split, SPLITS)
        raise UserError(f"There is no split '{split}'{hint}; splits are {', '.join(SPLITS)}.")
    if split == GENERATED:
        return find_games(SHIPPED)
    return find_games(data_root(), split)


def pick(games: list[GameRef], selector: str | int = "0", seed: int | None = None) -> GameRef:
    """The game an INDEX, an ID or "random" (drawn with `seed`) stands for.

    An ID is the game's id, its trial folder alone, or any prefix of either that fits one game.
    """
    wanted = str(selector)
    if wanted == "random":
        return random.Random(seed).choice(games)
    if re.fullmatch(r"[-+]?\d+", wanted):
        if not 0 <= int(wanted) < len(games):
            last = len(games) - 1
            raise UserError(f"There is no game {wanted}; this set has games 0 to {last}.")
        return games[int(wanted)]
    exact = [g for g in games if wanted in (g.id, _trial(g))]
    close = exact or [g for g in games if g.id.startswith(wanted) or _trial(g).startswith(wanted)]
    if len(close) == 1:
        return close[0]
    if close:
        shown = ", ".join(g.id for g in close[:3])
        raise UserError(f"'{wanted}' fits {len(close)} games ({shown}, ...); write more of the id.")
    raise UserError(f"There is no game '{wanted}'{_nearest(wanted, [g.id for g in games])}.")


def _is_hidden(file: Path, folder: Path) -> bool:
    """In a dot folder, where a generator may be at work."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _trial(game: GameRef) -> str:
    return game.id.rsplit("/", 1)[-1]


def _nearest(wanted: str, names: Iterable[str]) -> str:
    near = get_close_matches(wanted, list(names), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _game(file: Path) -> GameRef | None:
    """The game's entry, or None when ALFWorld would leave it out."""
    trial = file.parent
    game_id = f"{trial.parent.name}/{trial.name}"
    if _UNSUPPORTED.search(game_id) or not (trial / DATA_FILE).is_file():
        return None
    kind = task_kind(file)
    if kind not in TASK_KINDS or not _is_solvable(file):
        return None
    return GameRef(game_id, file, kind)


def task_kind(file: Path) -> str:
    """The task type in the folder's name, else in `traj_data.json`; '' when neither tells."""
    kind = file.parent.parent.name.split("-", 1)[0]
    if kind in TASK_KINDS:
        return kind
    try:
        data = json.loads((file.parent / DATA_FILE).read_text(encoding="utf-8"))
        return str(data["task_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _is_solvable(file: Path) -> bool:
    """Whether the game is marked solvable; unreadable files pass, so that opening tells why.

    The full train split has 3,553 games of 100 kB: reading their tails alone takes a tenth.
    """
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _TAIL))
            tail = _SOLVABLE.search(stream.read())
        if tail:
            return tail.group(1) == b"true"
        return bool(json.loads(file.read_bytes()).get("solvable", False))
    except (OSError, ValueError, AttributeError):
        return True
