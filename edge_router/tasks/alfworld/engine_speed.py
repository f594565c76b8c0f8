"""Spares the ALFWorld engine work it repeats, without touching its rules or sentences.

Measured on one kitchen (38 commands, busy machine): deriving every command's text anew takes
92 % of a step, and translating the PDDL, done twice for each load and each reset, nearly all
of a reset. Both depend on the game file only, so each is done once. A test compares the
result with the stock engine, step by step. The engine's planner (`policy_commands`) is not
asked for here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from edge_router.tasks.alfworld.expressions import require_plain_names

Translations = dict[tuple[str, str], Any]

_PREDICATE = re.compile(r"(\w+)\(")
_CONSTANT = {"receptacleatlocation"}  # no action of ALFWorld's domain moves a receptacle
_LOCK = RLock()  # the engine swaps sys.stdout while it translates, so one at a time


def remember_commands(env: Any) -> None:
    """Derive the text of each action of the loaded game once; call it after every `load`."""
    logic = env._logic
    derive: Callable[[str, dict[str, Any]], str] = logic.grammar.derive
    templates = {a.template for a in logic.actions.values() if _is_constant(a.template)}
    known: dict[tuple[Any, ...], str] = {}

    def derive_once(start: str, context: dict[str, Any]) -> str:
        if start not in templates:
            return derive(start, context)
        key = (start, *((ph.name, var.name) for ph, var in context["mapping"].items()))
        if key not in known:
            known[key] = derive(start, context)
        return known[key]

    logic.grammar.derive = derive_once


def _is_constant(template: str) -> bool:
    return set(_PREDICATE.findall(template)) <= _CONSTANT


@contextmanager
def remembered_translations(known: Translations) -> Iterator[None]:
    """Let loads and resets within take translations from `known`, and add to it."""
    import fast_downward

    translate = fast_downward.pddl2sas

    def translate_once(
        domain: str, problem: str, verbose: bool = False, optimize: bool = False
    ) -> Any:
        # `optimize` asks for a second translation that only the planner's expert reads, and
        # nothing here asks for its plans: the first one serves, at half the time.
        if (domain, problem) not in known:
            task, planned = translate(domain, problem, verbose=verbose)
            require_plain_names(task, planned)
            known[domain, problem] = task, planned
        return known[domain, problem]

    with _LOCK:
        fast_downward.pddl2sas = translate_once
        try:
            yield
        finally:
            fast_downward.pddl2sas = translate
