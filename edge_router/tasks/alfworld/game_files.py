"""Where ALFWorld games lie, and which of them can be played; the engine is not loaded.

A game is a folder `<task folder>/<trial folder>` with `game.tw-pddl` and `traj_data.json`.
Official splits are looked for under `$ALFWORLD_DATA/json_2.1.1/<split>`; the split
"generated" is the set of our own games that ships with the package.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.tasks.games import Found, GameRef, folder_files, left_out, nearest
from edge_router.tasks.household.pddl_write import DATA_FILE, GAME_FILE
from edge_router.tasks.household.rules import KIND_NAMES

NAME = "alfworld"  # the task's
GENERATED = "generated"
SPLITS = ("train", "valid_seen", "valid_unseen", GENERATED)
SHIPPED = Path(__file__).parents[1] / "household" / "games"

# What a newcomer sees first. The embedded model's low tier alone does not win it, and under the
# router one step of the high tier, which changes a command, is enough to; a test plays both.
SHOWN = "look_at_obj_in_light-Bowl-None-DeskLamp-321/trial_S2026_0001"

_SOLVABLE = re.compile(rb'"solvable":\s*(true|false)\s*}\s*$')
_UNSUPPORTED = re.compile("movable|Sliced")  # ALFWorld's own test for tasks it leaves out
_TAIL = 64  # bytes; "solvable" is the last key of the official files


def default_split() -> str:
    """ "valid_seen" when ALFWORLD_DATA is set, else "generated", which needs no download."""
    return "valid_seen" if os.environ.get("ALFWORLD_DATA") else GENERATED


def data_root() -> Path:
    """ALFWORLD_DATA, or the folder that `alfworld-download` fills when it is not set.

    Raises UserError when there is no such folder.
    """
    named = os.environ.get("ALFWORLD_DATA")
    root = Path(os.path.expanduser(named or "~/.cache/alfworld"))
    if root.is_dir():
        return root
    remedy = f"run alfworld-download, or play our own games with --split {GENERATED}"
    if named:
        raise UserError(f"ALFWORLD_DATA points to {root}, which is no folder; {remedy}.")
    raise UserError(f"ALFWORLD_DATA is not set; set it to the folder of the games, {remedy}.")


def find_games(root: str | Path, split: str | None = None) -> list[GameRef]:
    """The playable games of a split, sorted by id, so that an index always means the same game.

    Raises UserError when there is none; see `look_for_games`.
    """
    return list(look_for_games(root, split).games)


def look_for_games(root: str | Path, split: str | None = None) -> Found:
    """The games of a split, and why those that were left out were.

    `root` is a folder in ALFWorld's usual layout (with or without `json_2.1.1`); without a
    split it is any folder of games, searched at every depth, through links as well. Left out, as
    ALFWorld does: movable receptacles, slices, games not marked solvable. Raises UserError when
    nothing is left.
    """
    folder = Path(root).expanduser()
    if folder.name == GAME_FILE and folder.is_file():
        folder = folder.parent
    if split is not None:
        below = (folder / "json_2.1.1" / split, folder / split)
        folder = next((f for f in below if f.is_dir()), below[0])
    if not folder.is_dir():
        raise UserError(f"There is no folder of games at {folder}.")
    games, reasons = list[GameRef](), Counter[str]()
    for file in _game_files(folder):
        game = _game(file)
        if isinstance(game, str):
            reasons[game] += 1
        else:
            games.append(game)
    others = dict(reasons.most_common())
    if not games:
        why = left_out(others) if others else f"there is no {GAME_FILE} in it"
        raise UserError(f"{folder} holds no playable games: {why}.")
    return Found(folder, tuple(sorted(games, key=lambda g: (g.id, str(g.path)))), others)


def games_of(folder: str | Path | None, split: str | None = None) -> Found:
    """The games of a folder, else those of a split; both cannot be asked for. Raises UserError."""
    if folder is not None and split is not None:
        raise UserError("a folder of games and --split exclude each other; give one of them")
    return look_for_games(folder) if folder is not None else _split(split)


def split_games(split: str | None = None) -> list[GameRef]:
    """The games of a split by its name; None is the default split. UserError if there are none."""
    return list(_split(split).games)


def _split(split: str | None) -> Found:
    split = split or default_split()
    if split not in SPLITS:
        hint = nearest(split, SPLITS)
        raise UserError(f"There is no split '{split}'{hint}; splits are {', '.join(SPLITS)}.")
    if split == GENERATED:
        return look_for_games(SHIPPED)
    return look_for_games(data_root(), split)


def default_game(games: Sequence[GameRef]) -> str:
    """The selector of what is played unless asked otherwise: the shown game where it is there."""
    return SHOWN if any(game.id == SHOWN for game in games) else "0"


def _game_files(folder: Path) -> Iterator[Path]:
    """Every game file below a folder, there or not, and every link that leads nowhere."""
    for where, files in folder_files(folder):
        if not {GAME_FILE, DATA_FILE}.isdisjoint(files):
            yield where / GAME_FILE
        yield from (path for name in files if _leads_nowhere(path := where / name))


def _leads_nowhere(path: Path) -> bool:
    return path.name not in (GAME_FILE, DATA_FILE) and path.is_symlink() and not path.exists()


def _game(file: Path) -> GameRef | str:
    """The game's entry, or why ALFWorld would leave it out."""
    if file.name != GAME_FILE or (file.is_symlink() and not file.exists()):
        return "behind a link that leads nowhere"
    trial = file.parent
    game_id = f"{trial.parent.name}/{trial.name}"
    if unsupported := _UNSUPPORTED.search(game_id):
        return f"with '{unsupported[0]}' in the name, which ALFWorld does not support"
    if not file.is_file():
        return f"without {GAME_FILE}"
    if not (trial / DATA_FILE).is_file():
        return f"without {DATA_FILE}"
    kind = task_kind(file)
    if kind not in KIND_NAMES:
        return "of another task type than ALFWorld's six"
    return _unsolvable(file) or GameRef(game_id, file, kind, NAME)


def task_kind(file: Path) -> str:
    """The task type in the folder's name, else in `traj_data.json`; '' when neither tells."""
    kind = file.parent.parent.name.split("-", 1)[0]
    if kind in KIND_NAMES:
        return kind
    try:
        return str(read_object(file.parent / DATA_FILE, "a game's data")["task_type"])
    except (UserError, KeyError):
        return ""


def _unsolvable(file: Path) -> str:
    """Why a game may not be solvable, or ""; unreadable files pass, so that opening tells why.

    The full train split has 3,553 games of 100 kB: reading their tails alone takes a tenth.
    """
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _TAIL))
            tail = _SOLVABLE.search(stream.read())
        solvable = tail[1] == b"true" if tail else read_object(file, "a game").get("solvable")
    except (OSError, UserError):
        return ""
    if solvable is None:
        return "without a 'solvable' mark (older data has none; alfworld-download fetches newer)"
    return "" if solvable else "marked as not solvable"
