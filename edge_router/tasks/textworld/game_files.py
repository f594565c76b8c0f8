"""Where TextWorld games lie, and what their files say; the engine is not loaded.

tw-make writes two files: `NAME.z8`, a program for the Z-machine, and beside it `NAME.json`, which
says what the game consists of. Neither can be played without the other.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_router.errors import UserError
from edge_router.files.data_files import read_file, read_object
from edge_router.tasks.games import Found, GameRef, folder_files, left_out, nearest

NAME: Final = "textworld"  # the task's
PROGRAM: Final = ".z8"
GENERATED: Final = "generated"
SPLITS: Final = (GENERATED,)
SHIPPED: Final = Path(__file__).with_name("games")
CHALLENGES: Final = ("simple", "coin_collector", "treasure_hunter", "cooking")
CUSTOM: Final = "custom"  # the kind of every other game
PARTS: Final = {"KB": dict, "world": list, "quests": list, "infos": list}  # of the .json

_HEADER: Final = 64  # bytes; the checksum is over what follows
_LARGEST: Final = 1 << 19  # bytes that a program of version 8 can have
_OTHERS: Final = re.compile(r"\.(ulx|gblorb|z[1-7]|zblorb)$", re.IGNORECASE)
_MADE_BY: Final = re.compile(rf"tw-({'|'.join(CHALLENGES)})(?![a-z_])")


@dataclass(frozen=True)
class About:
    """What a game's .json says of it."""

    kind: str  # its challenge, or CUSTOM
    objective: str
    walkthrough: tuple[str, ...]  # commands that win it; () where its maker wrote none down
    max_score: int | None  # None: there is no highest one


def games_of(folder: str | Path | None, split: str | None = None) -> Found:
    """The games of a folder (or one file), else those of a split. Raises UserError."""
    if folder is not None and split is not None:
        raise UserError("a folder of games and --split exclude each other; give one of them")
    if split not in (None, *SPLITS):
        hint = nearest(split, SPLITS)
        raise UserError(f"There is no split '{split}'{hint}; splits are {', '.join(SPLITS)}.")
    if folder is None:
        return look_for_games(SHIPPED)
    path = Path(folder).expanduser()
    return _only(path) if path.is_file() else look_for_games(path)


def look_for_games(folder: Path) -> Found:
    """The games below a folder, sorted by id, and why others were left out. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"There is no folder of games at {folder}.")
    games, reasons = list[GameRef](), Counter[str]()
    for file in _candidates(folder):
        if _OTHERS.search(file.name):
            reasons[f"not in the format {PROGRAM}"] += 1
        elif not file.with_suffix(".json").is_file():
            reasons["without the .json that tw-make writes beside it"] += 1
        else:
            game_id = file.relative_to(folder).with_suffix("").as_posix()
            games.append(GameRef(game_id, file, _kind(file), NAME))
    if not games:
        why = left_out(reasons) if reasons else f"there is no {PROGRAM} in it"
        raise UserError(f"{folder} holds no TextWorld games: {why}.")
    return Found(folder, tuple(sorted(games, key=lambda g: g.id)), dict(reasons.most_common()))


def _candidates(folder: Path) -> Iterator[Path]:
    for where, names in folder_files(folder):
        yield from (where / n for n in names if n.endswith(PROGRAM) or _OTHERS.search(n))


def _only(file: Path) -> Found:
    """One game by its file, whatever its suffix: opening it says what is wrong."""
    game = GameRef(file.stem, file, _kind(file), NAME)
    return Found(file.parent, (game,), {})


def _kind(file: Path) -> str:
    """The game's challenge; CUSTOM where its .json cannot be read, as opening it tells why."""
    try:
        return _kind_of(read_object(file.with_suffix(".json"), "a TextWorld game"))
    except UserError:
        return CUSTOM


# -- one game -------------------------------------------------------------------------------------


def read_about(file: Path) -> About:
    """Check both files of a game, and read what they say. Raises UserError."""
    _check_name(file)
    _check_program(file)
    described = file.with_suffix(".json")
    if not described.exists():
        raise UserError(
            f"{file} cannot be played without {described.name}, which tw-make writes beside it;"
            " copy that file there as well, or make the game again"
        )
    game = read_object(described, "a TextWorld game")
    wrong = [part for part, kind in PARTS.items() if not isinstance(game.get(part), kind)]
    if wrong:
        raise UserError(f"{described} describes no TextWorld game: it has no {', '.join(wrong)}")
    objective = _objective(game)
    if not objective or not any(_can_be_won(quest) for quest in game["quests"]):
        raise UserError(
            f"{file} has no objective: nothing says how it is won; make it again with a goal"
            " (for tw-simple: --goal brief)"
        )
    walkthrough = _metadata(game).get("walkthrough")
    commands = walkthrough if isinstance(walkthrough, list) else []
    return About(_kind_of(game), objective, tuple(map(str, commands)), _max_score(game["quests"]))


def _check_name(file: Path) -> None:
    if file.suffix == PROGRAM:
        return
    if file.suffix.lower() == ".ulx":
        raise UserError(
            f"{file} is a Glulx game, which TextWorld cannot play from version 1.7 on; make it"
            f" again with tw-make --format {PROGRAM[1:]}"
        )
    if file.suffix == ".json":
        raise UserError(f"{file} only describes a game; give the {PROGRAM} that lies beside it")
    raise UserError(f"{file} is no TextWorld game: give the {PROGRAM} that tw-make has written")


def _check_program(file: Path) -> None:
    """Length and checksum against the header. Raises UserError."""
    program = read_file(file, "a TextWorld game", limit=_LARGEST)
    version = program[0] if len(program) >= _HEADER else 0
    length = 8 * int.from_bytes(program[26:28])
    if version != 8 or length <= _HEADER:
        raise UserError(f"{file} is no TextWorld game: it is no Z-machine program of version 8")
    if length > len(program):
        raise UserError(f"{file} is cut short: it has {len(program)} of {length} bytes")
    if sum(program[_HEADER:length]) & 0xFFFF != int.from_bytes(program[28:30]):
        raise UserError(f"{file} is damaged: its checksum is wrong; copy or make the game again")


def _objective(game: dict[str, Any]) -> str:
    """The sentence that says what is wanted, which a game may leave to its quests."""
    said = game.get("objective")
    if not isinstance(said, str):
        quests = (quest.get("desc") for quest in game["quests"] if isinstance(quest, dict))
        said = "\n".join(desc for desc in quests if isinstance(desc, str) and desc)
    return " ".join(said.split())


def _can_be_won(quest: Any) -> bool:
    return isinstance(quest, dict) and bool(quest.get("win_events"))


def _max_score(quests: list[Any]) -> int | None:
    """The sum of the rewards, as TextWorld counts it."""
    total = 0.0
    for quest in quests:
        reward = quest.get("reward") if isinstance(quest, dict) else None
        if not isinstance(reward, int | float):
            continue
        if reward > 0 and quest.get("repeatable"):
            return None
        total += reward if reward > 0 or not quest.get("optional") else 0
    return int(total) if math.isfinite(total) and abs(total) < 1e9 else None


def _metadata(game: dict[str, Any]) -> dict[str, Any]:
    found = game.get("metadata")
    return found if isinstance(found, dict) else {}


def _kind_of(game: dict[str, Any]) -> str:
    found = _MADE_BY.match(str(_metadata(game).get("uuid", "")))
    return found[1] if found else CUSTOM
