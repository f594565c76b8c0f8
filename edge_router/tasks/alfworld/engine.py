"""The part of TextWorld that plays games in PDDL, without the rest of it.

`import textworld` loads game generators, three more engines, networkx and a command prompt, and
takes most of the time before a first action. Four of its modules are needed, so they are imported
with the packages around them left empty. Then they are taken out of `sys.modules` again: whoever
imports textworld has all of it, and nothing of it is changed. Changed in ours:

- expressions in a game's sentences are computed by `tasks.alfworld.expressions`, never by `eval`;
- a rule that expands into itself is refused, and a sentence that takes too many;
- entities have ALFWorld's names (those of its `AlfredDemangler`), and alfworld is not imported.

A test plays games on the stock engine beside this one.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final, NamedTuple

from edge_router.errors import MachineError, UserError
from edge_router.files.folders import cache_folder
from edge_router.tasks.alfworld.engine_speed import remember_commands
from edge_router.tasks.alfworld.expressions import ForbiddenGameError, evaluate, parse
from edge_router.tasks.household.pddl import entity_names, load_game

_LOCK: Final = threading.RLock()  # `sys.modules` and the temporary folder are everybody's
MOST_EXPANSIONS: Final = 1_000  # of rules in one sentence; a kitchen's longest needs 103
_EMPTY: Final = ("textworld", "textworld.envs", "textworld.generator")
# Each engine holds its own copy of the planner's library, and unloading several of these copies
# ends the process in a segmentation fault: an engine whose game was closed is used again.
_idle: Final[list[Any]] = []
_engines = 0  # made in this process


class Entity:
    """Stands in for TextWorld's EntityInfo, whose module loads the game generators.

    The engine fills in the names; a game's sentences read them.
    """

    def __init__(self, id: str, type: str) -> None:
        self.id, self.type = id, type
        self.name: str | None = None
        self.definite: str | None = None
        self.indefinite: str | None = None
        self.noun = self.adj = self.desc = self.room_type = None

    def __str__(self) -> str:
        return self.name or ""


def take() -> Any:
    """An engine for one game: an idle one, else a new one. Raises MachineError."""
    with _LOCK:
        return _idle.pop() if _idle else new_engine()


def give_back(engine: Any) -> None:
    """The engine of a game that is over, for the next game."""
    _idle.append(engine)


def load_ahead() -> None:
    """Begin to load an engine in a thread; a fault is told by the `take` that meets it again."""

    def make() -> None:
        with _LOCK, suppress(MachineError):
            if not _engines:
                _idle.append(new_engine())

    threading.Thread(target=make, name="game engine").start()


def new_engine() -> Any:
    """An engine without a game. Raises MachineError when this machine cannot run one."""
    global _engines
    with _LOCK:
        try:
            pddl = modules().pddl
            planner = pddl.fast_downward
        except (ImportError, AttributeError, OSError) as error:
            raise MachineError(
                f"The game engine cannot be loaded ({type(error).__name__}: {error});"
                " install edge-router again."
            ) from error
        library, load_lib = _planner(planner, first=_engines == 0), planner.load_lib
        planner.load_lib = lambda: library
        try:
            engine = pddl.PddlEnv(pddl.EnvInfos(won=True, admissible_commands=True))
        finally:
            planner.load_lib = load_lib
        _engines += 1
    return engine


def load(engine: Any, file: Path) -> None:
    """Load a game into an engine.

    Raises ForbiddenGameError, UserError for a file that is no game, or whatever the engine
    raises at what it does not understand.
    """
    engine.load(load_game(file))
    names = entity_names(engine._entity_infos)
    for entity in engine._entity_infos.values():
        entity.name = names.get(entity.id, entity.id)
    for action in engine._logic.actions.values():  # the sentences have been parsed, these not yet
        for text in (action.template, action.feedback_rule):
            modules().textgen._parse_and_convert(text, rule_name="symbols")
    _require_end(engine._logic.grammar)
    remember_commands(engine)


def _require_end(grammar: Any) -> None:
    """Refuse a grammar with a rule that comes back to itself. Raises ForbiddenGameError.

    ALFWorld's has none: what would end such a rule is a condition, and none of its rules needs it.
    """
    reached = {
        name: {n for rule in rules for symbol in rule.rhs for n in _rules_of(symbol)}
        for name, rules in grammar._rules.items()
    }
    try:
        TopologicalSorter(reached).prepare()
    except CycleError as error:
        raise ForbiddenGameError(
            f"its grammar's rule {error.args[1][0]!a:.40} expands into itself"
        ) from error


def _rules_of(symbol: Any) -> Iterator[str]:
    """The rules that a symbol of a sentence asks for."""
    textgen = modules().textgen
    if isinstance(symbol, textgen.NonterminalSymbol):
        yield symbol.symbol
    elif isinstance(symbol, textgen.ListSymbol):
        yield from ("list_empty", "list_separator", "list_last_separator")
        yield from _rules_of(symbol.symbol)
    elif isinstance(symbol, textgen.ConditionalSymbol):
        yield from _rules_of(symbol.expression)


# -- the planner's library ------------------------------------------------------------------------


def _planner(package: Any, *, first: bool) -> Any:
    """The planner's library, loaded. Raises MachineError.

    The library holds one game, so each engine needs a copy of it in a file of its own (34 MB).
    The first engine of a process takes the installed file, through a link.
    """
    places: list[tuple[Callable[[], str], Callable[[str, str], Any]]] = [
        (tempfile.gettempdir, shutil.copyfile),
        (_own_folder, shutil.copyfile),
    ]
    if first:
        places.insert(0, (tempfile.gettempdir, os.symlink))
    failed: dict[str, None] = {}
    for folder, put in places:
        try:
            with _temporary_files(package.interface, folder(), put):
                return package.load_lib()
        except (OSError, UserError) as error:  # UserError: there is no folder of our own
            failed[_reason(error)] = None
    raise MachineError(
        f"The game engine cannot load its planner ({'; '.join(failed)}). It is put into a temporary"
        " folder: make room there, or set TMPDIR to one with 40 MB of room that lets programs run."
    )


def temporary_folder() -> str:
    """The system's temporary folder, or what is wrong with it."""
    try:
        return tempfile.gettempdir()
    except OSError as error:
        return f"none ({error.strerror})"


def _own_folder() -> str:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _reason(error: OSError | UserError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def _temporary_files(interface: Any, folder: str, put: Callable[[str, str], Any]) -> Iterator[None]:
    """Have the planner's interface `put` the library into a new folder within `folder`."""
    before = tempfile.tempdir, interface.shutil
    tempfile.tempdir, interface.shutil = folder, SimpleNamespace(copyfile=put)
    try:
        yield
    finally:
        tempfile.tempdir, interface.shutil = before


# -- the modules ----------------------------------------------------------------------------------


class Modules(NamedTuple):
    """Of TextWorld, ours alone."""

    pddl: Any  # textworld.envs.pddl.pddl
    textgen: Any  # textworld.envs.pddl.textgen


@cache
def modules() -> Modules:
    """The engine's modules, imported at the first call. Raises what importing them raises."""
    with _LOCK, _hidden("textworld"):
        for name in _EMPTY:
            _put_empty(name)
        stand_in = ModuleType("textworld.generator.game")
        vars(stand_in)["EntityInfo"] = Entity
        sys.modules[stand_in.__name__] = stand_in
        core = importlib.import_module("textworld.core")
        vars(sys.modules["textworld"])["Environment"] = core.Environment
        textgen = importlib.import_module("textworld.envs.pddl.textgen")
        _compute_safely(textgen)
        return Modules(importlib.import_module("textworld.envs.pddl.pddl"), textgen)


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let a package be imported anew within, and put back afterwards what there was before."""

    def taken() -> dict[str, ModuleType]:
        names = [n for n in sys.modules if n == package or n.startswith(f"{package}.")]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)


def _put_empty(name: str) -> None:
    """Put a package in place whose modules can be imported, without running its `__init__`."""
    parent, _, leaf = name.rpartition(".")
    where = sys.modules[parent].__path__ if parent else None
    spec = PathFinder.find_spec(name, where)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = sys.modules[name] = module_from_spec(spec)
    if parent:
        setattr(sys.modules[parent], leaf, package)


def _compute_safely(textgen: Any) -> None:
    """Have the module that writes sentences run nothing, and come to an end."""

    class EvalSymbol(textgen.EvalSymbol):  # type: ignore[misc]
        def __init__(self, expression: str, context: dict[str, Any] | None = None) -> None:
            super().__init__(expression, context or {})
            parse(expression)  # refused when the game is loaded, not when it is played

        def derive(self, context: dict[str, Any] | None = None) -> list[Any]:
            entities = (context or self.context)["variables"]
            return [textgen.TerminalSymbol(evaluate(parse(self.expression), entities))]

    grammar = textgen.ContextSensitiveGrammar  # others hold the class: its methods are changed
    derive, replace = grammar.derive, grammar.replace

    def derive_bounded(self: Any, start: str, context: dict[str, Any] | None = None) -> str:
        self._left = MOST_EXPANSIONS
        return str(derive(self, start, context or {}))

    def replace_bounded(self: Any, start: Any) -> list[Any]:
        if self._left == 0:
            raise ForbiddenGameError(
                f"a sentence of its grammar is not done after {MOST_EXPANSIONS} expansions,"
                f" the last of the rule {str(start)!a:.40}"
            )
        self._left -= 1
        return list(replace(self, start))

    textgen.EvalSymbol = EvalSymbol
    grammar.derive, grammar.replace = derive_bounded, replace_bounded
