"""The `edge-router` command, and how it ends.

The commands lie in modules of their own; the work is done by the libraries below, which are
imported when a command runs: `--help` loads neither llama.cpp nor onnxruntime nor the game engine.

When something is in its way a command ends with one sentence on stderr and an exit code:

    0    done; 1 in doctor's sense, or an error of edge-router's own
    2    bad input, or the system refuses (a full disk, no permission)
    130  Ctrl-C, or SIGTERM

A reader that goes away (`| head`) ends a command quietly, with 1.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from importlib import import_module
from typing import Any, Final

import click

from edge_router.cli.config import PREFIX, read_defaults
from edge_router.errors import UserError
from edge_router.screen import printable
from edge_router.screen.printable import one_line, say
from edge_router.work.processes import sigterm_as_ctrl_c

DEBUG = "EDGE_ROUTER_DEBUG"
BAD_INPUT = 2


class OneSentence(click.Group):
    """A group whose commands end in a sentence and never in a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        printable.mend()
        try:
            code = self._run(*args, **kwargs)
            printable.flush()
        except OSError as error:  # of the last flush
            code = _of_error(error)
        printable.give_up()
        sys.exit(code)

    def _run(self, *args: Any, **kwargs: Any) -> int:
        """Click's own main; what it raises becomes a sentence and an exit code."""
        try:
            with sigterm_as_ctrl_c():
                ended = super().main(*args, **(kwargs | {"standalone_mode": False}))
        except SystemExit as end:
            ended = end.code
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:  # click itself would add two lines on usage
            return _say(error.format_message(), error.exit_code)
        except click.Abort:
            return _say("interrupted", 130)
        except Exception as error:
            return _of_error(error)
        return ended if isinstance(ended, int) else 0


def _of_error(error: Exception) -> int:
    if isinstance(error, UserError):
        return _say(str(error), BAD_INPUT)
    if isinstance(error, BrokenPipeError):
        return 1
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        where = f"{error.filename}: " if error.filename else "cannot write: "
        return _say(f"{where}{error.strerror}", BAD_INPUT)
    return _unforeseen(error)


# What the system may refuse at any time and no code of ours can help.
_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EMFILE)


def _unforeseen(error: Exception) -> int:
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    said = " ".join(str(error).split())
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return _tell(
        f"edge-router hit an error it did not expect: {what}; run again with {DEBUG}=1 for the "
        "traceback and report it",
        1,
    )


def _say(sentence: str, code: int) -> int:
    return _tell(f"edge-router: {sentence}", code)


def _tell(line: str, code: int) -> int:
    with contextlib.suppress(OSError):  # standard error may be what is full
        say(one_line(line), err=True)
    return code


# -- the command ----------------------------------------------------------------------------------

COMMANDS = (
    *("advise", "bench", "calibrate", "completion", "config", "convert", "demo", "doctor", "games"),
    *("models", "play", "replay", "report", "serve", "train"),
)


# Commands that lie in a module of another name, beside those that they belong to.
_MODULES: Final = {
    **dict.fromkeys(("advise", "calibrate", "doctor"), "machine"),
    "demo": "replay",
    "report": "bench",
}


class Commands(OneSentence):
    """The commands, each imported when it is asked for: a sixth of the time until `play` begins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = getattr(import_module(f"edge_router.cli.{_MODULES.get(name, name)}"), name)
        assert isinstance(command, click.Command)
        return command


def _show_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from edge_router.engine.library import build_line, packages_line

    try:
        line = build_line()
    except UserError:
        line = f"{packages_line()}, llama.cpp cannot be loaded (edge-router doctor says why)"
    click.echo(line)
    ctx.exit()


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": PREFIX,
    },
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    allow_from_autoenv=False,
    callback=_show_version,
    help="Show versions and what llama.cpp was compiled with, and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run an LLM agent at the precision that each step needs, no more.

    \b
    edge-router play --task alfworld            one episode on the embedded model
    edge-router play --router high --trace e.jsonl
    edge-router replay e.jsonl                  the same episode again, without a model
    """
    ctx.default_map = read_defaults(ctx)


if __name__ == "__main__":
    main()
