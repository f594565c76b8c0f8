"""From a JSON schema to the grammar that an answer has to follow.

llama-cpp-python's converter does it. It follows references, repeats rules and reads regular
expressions, so a schema of a stranger could keep it busy or fill the memory: what it is given is
limited first, and so is what it returns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from edge_router.agent.tool_calls import BEGIN, END, Tool, Way
from edge_router.engine.grammar import Grammar
from edge_router.errors import UserError

ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
_LETTERS: Final = 32_768  # of a schema as JSON
_DEPTH: Final = 24
_TIMES: Final = 200  # that something is repeated
_PROPERTIES: Final = 100  # of one object
_PATTERN: Final = 100  # letters of a regular expression
_RULES: Final = 500_000  # letters of the grammar
_REPEATS: Final = ("minItems", "maxItems", "minLength", "maxLength")


def grammar_of(schema: Mapping[str, Any]) -> Grammar:
    """The grammar of the JSON texts that `schema` describes. Raises `UserError`."""
    return _converted(_checked(schema))


def call_grammar(tools: Sequence[Tool], way: Way) -> Grammar:
    """The grammar of a call of one of these functions, as the model writes it."""
    arguments = "parameters" if way == "llama" else "arguments"
    shared: dict[str, Any] = {}
    for tool in tools:
        _checked(tool["function"].get("parameters") or ANY_OBJECT)
    calls = [_call_schema(tool, arguments, f"-{i}", shared) for i, tool in enumerate(tools)]
    grammar = _converted(_checked({"anyOf": calls, "$defs": shared}))
    if way == "llama":
        return grammar
    inner = re.sub(r"^root ::=", "one-call ::=", grammar.rules, count=1, flags=re.MULTILINE)
    return Grammar(f'root ::= "{BEGIN}\\n" one-call "\\n{END}"\n{inner}')


def _call_schema(tool: Tool, arguments: str, suffix: str, shared: dict[str, Any]) -> dict[str, Any]:
    """The schema of one function's calls; its definitions go into `shared`, with a suffix."""
    function = tool["function"]
    schema = dict(function.get("parameters") or ANY_OBJECT)
    for key in ("$defs", "definitions"):
        parts = schema.pop(key, None) or {}
        if not isinstance(parts, dict):
            raise UserError(f"{key} of the JSON schema is no object")
        for name, part in parts.items():
            shared[f"{name}{suffix}"] = _moved(part, suffix)
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, arguments: _moved(schema, suffix)},
        "required": ["name", arguments],
    }


def _moved(schema: Any, suffix: str) -> Any:
    """The schema with its references as its definitions are called in `shared`."""
    if isinstance(schema, list):
        return [_moved(part, suffix) for part in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, suffix) for key, value in schema.items()}
    if isinstance(ref := schema.get("$ref"), str):
        moved["$ref"] = f"#/$defs/{ref.rpartition('/')[2]}{suffix}"
    return moved


def _checked(schema: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(schema)
    except (RecursionError, ValueError) as error:
        raise UserError("the JSON schema is no JSON, or too deep") from error
    if len(text) > _LETTERS:
        raise UserError(f"the JSON schema has {len(text)} letters; at most {_LETTERS} are taken")
    _check(schema, 0)
    return text


def _check(part: Any, depth: int) -> None:
    if depth > _DEPTH:
        raise UserError(f"the JSON schema is more than {_DEPTH} levels deep")
    if isinstance(part, list):
        for item in part:
            _check(item, depth + 1)
    if not isinstance(part, dict):
        return
    for key in _REPEATS:
        times = part.get(key, 0)
        if isinstance(times, int) and not 0 <= times <= _TIMES:
            raise UserError(f"{key} of the JSON schema must lie between 0 and {_TIMES}")
    pattern = part.get("pattern")
    if isinstance(pattern, str) and ("{" in pattern or len(pattern) > _PATTERN):
        raise UserError(
            f"a pattern of the JSON schema must have at most {_PATTERN} letters, and no {{}}"
        )
    properties = part.get("properties")
    if isinstance(properties, dict) and len(properties) > _PROPERTIES:
        raise UserError(f"an object of the JSON schema has more than {_PROPERTIES} properties")
    for value in part.values():
        _check(value, depth + 1)


@lru_cache(maxsize=32)  # agents ask for the same form again and again
def _converted(schema: str) -> Grammar:
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        rules = json_schema_to_gbnf(schema)
    except (AttributeError, KeyError, TypeError) as error:  # it indexes what may be missing
        raise UserError(
            "the JSON schema cannot be made into a grammar: a part of it has not the form that "
            "schemas have, or is not there"
        ) from error
    except Exception as error:  # it asserts
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"the JSON schema cannot be made into a grammar: {said}") from error
    if len(rules) > _RULES:
        raise UserError("the JSON schema makes too large a grammar; simplify it")
    return Grammar(rules)
