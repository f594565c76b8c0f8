"""Defaults of one's own: config.toml, and `edge-router config`, which shows where values come from.

    [play]
    router = "entropy:0.3"
    max-steps = 30

    [bench.policies]
    jobs = 2

A table is a command, a key one of its long options. The command line wins over the environment
(EDGE_ROUTER_PLAY_ROUTER), that over the file, and the file over what is built in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edge_router.errors import UserError
from edge_router.files.data_files import read_toml
from edge_router.files.folders import HOME, config_folder, if_any

FILE = "config.toml"
PREFIX = "EDGE_ROUTER"
VARIABLES = (
    HOME,
    "EDGE_ROUTER_OPENINGS_GB",
    "EDGE_ROUTER_AMX",
    "EDGE_ROUTER_DEBUG",
    "ALFWORLD_DATA",
    "LLAMA_CPP_LIB_PATH",
)
_SOURCES = {
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}

_PLAIN = (str, int, float, tuple, Path)


def config_path() -> Path | None:
    """Where config.toml is looked for; None when the user has no home."""
    folder = if_any(config_folder)
    return folder / FILE if folder else None


def read_defaults(ctx: click.Context) -> dict[str, Any]:
    """What config.toml says, as click's `default_map`. Raises `UserError` for what is wrong."""
    path = config_path()
    if path is None or not os.path.isfile(path):
        return {}
    data = read_toml(path, "settings")
    try:
        return _group_defaults(ctx, data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _group_defaults(ctx: click.Context, data: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    group = ctx.command
    assert isinstance(group, click.Group)
    found: dict[str, Any] = {}
    for name, table in data.items():
        command = group.get_command(ctx, name)
        if command is None:
            near = _nearest(name, group.list_commands(ctx))
            raise UserError(f"there is no command {at + name!r}{near}")
        if not isinstance(table, dict):
            raise UserError(f"{at + name} is a command; write its options below [{at + name}]")
        inner = click.Context(command, info_name=name, parent=ctx)
        is_group = isinstance(command, click.Group)
        fill = _group_defaults if is_group else _command_defaults
        found[name] = fill(inner, table, f"{at}{name}.")
    return found


def _command_defaults(ctx: click.Context, table: Mapping[str, Any], at: str) -> dict[str, Any]:
    options = {_key(option): option for option in options_of(ctx.command)}
    found: dict[str, Any] = {}
    for key, value in table.items():
        option = options.get(key)
        if option is None:
            raise UserError(f"[{at[:-1]}] has no option {key!r}{_nearest(key, options)}")
        try:
            _require_kind(option, value)
            option.type_cast_value(ctx, value)
        except (click.BadParameter, TypeError) as error:
            said = error.message if isinstance(error, click.BadParameter) else "write a text"
            raise UserError(f"[{at[:-1]}] {key} = {_toml(value)}: {said.rstrip('.')}") from error
        found[str(option.name)] = value
    return found


def _require_kind(option: click.Option, value: Any) -> None:
    """Refuse what click would bend until it fits: letters of a text as a list, 2.7 as 2."""
    if option.is_flag != isinstance(value, bool):
        raise click.BadParameter("write true or false" if option.is_flag else "write a value")
    if option.multiple != isinstance(value, list):
        raise click.BadParameter("write a list" if option.multiple else "write one value")
    if isinstance(option.type, type(click.INT)) and not isinstance(value, int):
        raise click.BadParameter("write a whole number")


def _nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def commands_of(group: click.Group, ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group by name; those of the main one are imported by it."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield name, command


def options_of(command: click.Command) -> list[click.Option]:
    """The options that may have a default of the user's."""
    return [p for p in command.params if isinstance(p, click.Option) and not p.is_eager]


def _key(option: click.Option) -> str:
    """ "max-steps" for --max-steps."""
    return max(option.opts, key=len).lstrip("-")


def yields_to(*others: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Callback of an option: a value from config.toml gives way to `others` on the command line.

    Click handles what the command line gives before what it does not.
    """

    def value_or_none(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        from_file = ctx.get_parameter_source(str(param.name)) is ParameterSource.DEFAULT_MAP
        given = [ctx.get_parameter_source(o) is ParameterSource.COMMANDLINE for o in others]
        if from_file and any(given):
            return () if param.multiple else None
        return value

    return value_or_none


# -- edge-router config ------------------------------------------------------------------------


@click.command()
@click.argument("command", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a value.")
@click.pass_context
def config(ctx: click.Context, command: tuple[str, ...], as_json: bool) -> None:
    """Show every setting and where it comes from.

    Defaults of your own go into config.toml, a table a command and a key an
    option: [play] and router = "high". EDGE_ROUTER_PLAY_ROUTER in the environment
    wins over it, and the command line over both. COMMAND, such as bench speed,
    shows that command alone.

    \b
    edge-router config
    edge-router config play
    """
    settings = [s for s in _settings(ctx.find_root()) if s[0][: len(command)] == command]
    if not settings:
        raise UserError(f"there is no command {' '.join(command)!r} with options")
    if as_json:
        for path, key, value, source in settings:
            row = {"command": " ".join(path), "option": key, "value": value, "source": source}
            click.echo(json.dumps(row, default=str))
        return
    if not command:
        _show_places()
    _show(settings)


Setting = tuple[tuple[str, ...], str, Any, str]  # command, option, value, source


def _settings(ctx: click.Context) -> Iterator[Setting]:
    """Every option of every command below `ctx`, as a bare call of that command would get it."""
    group = ctx.command
    assert isinstance(group, click.Group)
    for name, command in commands_of(group, ctx):
        inner = click.Context(
            command, info_name=name, parent=ctx, auto_envvar_prefix=_prefix(ctx, name)
        )
        if isinstance(command, click.Group):
            yield from (((name, *path), *rest) for path, *rest in _settings(inner))
            continue
        for option in options_of(command):
            found, source = option.consume_value(inner, {})
            missing = option.required and source is ParameterSource.DEFAULT
            value = None if missing else option.process_value(inner, found)
            plain = value if isinstance(value, _PLAIN) else None  # click marks what is not set
            yield (name,), _key(option), plain, _SOURCES.get(source, "default")


def _prefix(ctx: click.Context, name: str) -> str:
    return f"{ctx.auto_envvar_prefix or PREFIX}_{name}".upper().replace("-", "_")


def _show_places() -> None:
    path = config_path()
    there = "" if path and os.path.isfile(path) else "  (not there)"
    click.echo(f"# {path or 'no home folder, so no config.toml'}{there if path else ''}")
    for name in VARIABLES:
        value = os.environ.get(name)
        click.echo(f"# {name} {'is not set' if value is None else f'= {value}'}")


def _show(settings: Sequence[Setting]) -> None:
    shown: tuple[str, ...] = ()
    for path, key, value, source in settings:
        if path != shown:
            click.echo(f"\n[{'.'.join(path)}]")
            shown = path
        unset = value is None or value == ()
        line = f"# {key} is not set" if unset else f"{key} = {_toml(value)}"
        click.echo(line if unset else f"{line:40}  # {source}")


def _toml(value: Any) -> str:
    """A value as TOML writes it; JSON's strings, numbers, booleans and lists are TOML too."""
    return json.dumps(value, default=str, ensure_ascii=False)
