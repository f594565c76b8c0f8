"""Keeps a game's file from becoming anything but a game: it may come from anybody.

TextWorld hands the `{...}` expressions of a grammar to `eval`. Here an expression is taken apart,
and only the forms in which ALFWorld's grammars are written have a value:

    r                           an entity that the sentence speaks of; it shows as its name
    o.name                      one of its texts
    o.indefinite + ' ' + o.name
    r.name or r.id

    evaluate(parse("o.indefinite + ' ' + o.name"), {"o": mug}) == "a mug 1"
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

# The texts that TextWorld's EntityInfo has.
TEXTS: Final = frozenset(
    ("id", "type", "name", "noun", "adj", "desc", "room_type", "definite", "indefinite")
)
_LONGEST: Final = 500  # characters of an expression; official games need 26
_NAME: Final = re.compile(r"[A-Za-z0-9_.+|@-]+")
_LONGEST_ACTION: Final = 1000  # bytes; the planner copies each into 1,024, asking nothing


class ForbiddenGameError(Exception):
    """A game holds what is never computed; `str()` says what, to follow "... is refused: "."""


@lru_cache(maxsize=4096)
def parse(expression: str) -> ast.expr:
    """The expression as a tree of allowed forms. Raises ForbiddenGameError."""
    text = expression.strip()
    try:
        tree = ast.parse(text, mode="eval").body if len(text) <= _LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None or not _allowed(tree):
        raise ForbiddenGameError(
            f"its grammar holds {_shown(text)}, and only an entity or its texts (o.name) may stand"
            " in such brackets, as nothing in a game is run as Python"
        )
    return tree


def evaluate(tree: ast.expr, entities: Mapping[str, Any]) -> Any:
    """The value of a tree that `parse` gave: a text, an entity or None.

    Raises NameError for an entity that is not there, TypeError for a sum of what is no text.
    """
    match tree:
        case ast.Constant(value=text):
            return text
        case ast.Name(id=name) if name in entities:
            return entities[name]
        case ast.Name(id=name):
            raise NameError(f"a sentence speaks of '{name}', which is not there")
        case ast.Attribute(value=entity, attr=text):
            return getattr(evaluate(entity, entities), text)
        case ast.BinOp(left=left, right=right):
            return _joined(evaluate(left, entities), evaluate(right, entities))
        case ast.BoolOp(values=values):
            found = (evaluate(value, entities) for value in values[:-1])
            return next((value for value in found if value), None) or evaluate(values[-1], entities)
    raise AssertionError(f"parse lets no {type(tree).__name__} pass")


def require_plain_names(task: Any, sas: str) -> None:
    """Refuse what the engine would put through `str.format` or write beyond a buffer's end.

    `task` and `sas` are a household as the planner's translator gives it: its objects and types,
    and its facts and actions with all their arguments, one a line. Raises ForbiddenGameError.
    """
    for entity in (*task.objects, *task.types):
        if not _NAME.fullmatch(entity.name):
            raise ForbiddenGameError(
                f"{entity.name!a:.60} is no name; names are made of letters, digits and _.+|@-"
            )
    longest = max(sas.split("\n"), key=len)
    if len(longest.encode()) > _LONGEST_ACTION:
        raise ForbiddenGameError(
            f"an action or fact of it is {len(longest.encode())} bytes long ({longest:.40}...), and"
            f" the engine's planner has room for {_LONGEST_ACTION}"
        )


def _allowed(tree: ast.expr) -> bool:
    match tree:
        case ast.Name():
            return True
        case ast.Attribute(value=ast.Name(), attr=text):
            return text in TEXTS
        case ast.Constant(value=str(text)):
            # TextWorld puts a command's text through `str.format` once it is derived.
            return not set(text) & {"{", "}"}
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _allowed(left) and _allowed(right)
        case ast.BoolOp(op=ast.Or(), values=values):
            return all(map(_allowed, values))
    return False


def _joined(left: Any, right: Any) -> str:
    if not (isinstance(left, str) and isinstance(right, str)):
        raise TypeError("a sentence joins what is no text")
    return left + right


def _shown(text: str) -> str:
    """The expression on one line, without what could steer a terminal."""
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return ascii("{" + short + "}")
