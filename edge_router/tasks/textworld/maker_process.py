"""The child that draws TextWorld games and compiles them with Inform 7.

    {"make": "cooking", "settings": {...}, "seed": 7, "path": "/folder/name.z8"}    {}

What cannot be drawn is answered with {"error": ...}, and {"machine": ...} says that no game can be
made here.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edge_router.work.processes import ChildLimits, serve

_LIMITS: Final = ChildLimits(seconds=600.0, memory=8 << 30)  # our own games: against runaways alone
_SERIAL: Final = slice(18, 24)  # of a program's header: the day on which it was compiled


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """Make one game."""
    import textworld
    import textworld.challenges
    from textworld.generator import CouldNotCompileGameError, QuestGenerationError, compile_game

    missing = _missing_compilers()
    if missing:
        return {
            "machine": "TextWorld compiles its games with Inform 7, and this installation of it"
            f" lacks {', '.join(missing)}; install textworld again, or set INFORM_HOME to the"
            " folder of an Inform 7 of version 6M62"
        }
    options = textworld.GameOptions()
    options.seeds, options.path, options.force_recompile = message["seed"], message["path"], True
    _, make, _ = textworld.challenges.CHALLENGES[f"tw-{message['make']}"]
    try:
        compile_game(make(settings=message["settings"], options=options), options)
    except (QuestGenerationError, CouldNotCompileGameError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    except (OSError, subprocess.SubprocessError) as error:
        return {"machine": f"TextWorld cannot make a game on this machine ({error})"}
    _settle(Path(message["path"]))
    return {}


def _missing_compilers() -> list[str]:
    """The compilers' paths that lead nowhere."""
    import os

    from textworld.generator.inform7.world2inform7 import I7_DEFAULT_PATH

    home = Path(os.environ.get("INFORM_HOME", I7_DEFAULT_PATH), "share", "inform7", "Compilers")
    return [str(home / name) for name in ("ni", "inform6") if not (home / name).is_file()]


def _settle(program: Path) -> None:
    """Leave out of a game's files what is another on another day or machine, and the source."""
    with program.open("r+b") as stream:
        stream.seek(_SERIAL.start)  # the checksum is not over the header
        stream.write(b"0" * (_SERIAL.stop - _SERIAL.start))
    described = program.with_suffix(".json")
    game = json.loads(described.read_bytes())
    names = game["grammar"].get("names_to_exclude", [])  # a set
    game["grammar"]["names_to_exclude"] = sorted(name for name in names if name)
    game["KB"]["text_grammars_path"] = ""  # a folder of this machine; to play, none is needed
    described.write_text(json.dumps(game), encoding="utf-8")
    with suppress(FileNotFoundError):
        program.with_suffix(".ni").unlink()


if __name__ == "__main__":
    serve(answer, _LIMITS)
