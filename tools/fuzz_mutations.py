"""Small damage to small files, the same for the same random numbers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

# What no reader expects where it stands.
VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    10**400,
    0.5,
    -0.0,
    float("nan"),
    float("inf"),
    1e308,
    "",
    "x",
    "1",
    "/dev/zero",
    "../../../etc/passwd",
    "a\0b",
    "\ud800",
    "\x1b]0;x\x07\x1b[2J",
    "[/bold] [link=x]",
    "x" * 70_000,
    [],
    {},
    [[]],
    {"": {}},
    [None] * 1000,
)
_NUMBERS: Final = (
    0,
    1,
    0x7F,
    0xFF,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
_TOKEN: Final = re.compile(rb"[\w.+-]+|\s+|.", re.DOTALL)
_ODD: Final = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"'" * 3,
    b"[" * 5000,
    b"{" * 5000,
    b"(" * 5000,
    b"a." * 3000,
    b"9" * 5000,
    b"1e999",
    b"nan",
    b"-1",
    b'"',
    b"\\",
    b"\x1b[31m",
)


def mutate_bytes(data: bytes, rng: random.Random, *, head: int = 0) -> bytes:
    """One to four pieces of damage, most of them in the first `head` bytes (0: anywhere)."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not out:
            return bytes(out)
        area = min(head, len(out)) if head and rng.random() < 0.9 else len(out)
        at = rng.randrange(area)
        _damage(out, at, rng)
    return bytes(out)


def _damage(out: bytearray, at: int, rng: random.Random) -> None:
    kind = rng.randrange(7)
    if kind == 0:
        out[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        width = rng.choice((1, 2, 4, 8))
        number = rng.choice(_NUMBERS) % (1 << (8 * width))
        out[at : at + width] = number.to_bytes(width, "little")
    elif kind == 2:
        del out[at : at + rng.choice((1, 2, 8, 100))]
    elif kind == 3:
        out[at:at] = rng.randbytes(rng.choice((1, 4, 8, 64)))
    elif kind == 4:
        del out[at:]
    elif kind == 5:
        out[at:at] = out[at : at + rng.choice((8, 64, 1000))]
    else:
        out[at : at + 8] = rng.randbytes(8)


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Tokens replaced, doubled, left out or exchanged, and odd ones put in."""
    tokens = _TOKEN.findall(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not tokens:
            break
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        kind = rng.randrange(5)
        if kind == 0:
            tokens[at] = tokens[other]
        elif kind == 1:
            del tokens[at]
        elif kind == 2:
            tokens.insert(at, rng.choice(_ODD))
        elif kind == 3:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            tokens[at] = _toml(rng.choice(VALUES))
    return b"".join(tokens)


def _toml(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "replace")


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Values replaced, keys left out or renamed, lists made longer; now and then raw damage."""
    if rng.random() < 0.15:
        return mutate_bytes(data, rng)
    try:
        found = json.loads(data)
    except ValueError:  # not JSON from the beginning
        return mutate_text(data, rng)
    try:
        for _ in range(rng.choice((1, 1, 2, 4))):
            places = list(_places(found))
            if places:
                _change(*rng.choice(places), rng)
        if rng.random() < 0.03:
            found = rng.choice(VALUES)
        text = json.dumps(found).encode()
    except RecursionError:
        text = b"[" * 5000
    return text if rng.random() > 0.03 else text[: rng.randrange(len(text) + 1)]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object in `value`, with each of its keys."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict | list):
            for key in list(found) if isinstance(found, dict) else range(len(found)):
                yield found, key
                waiting.append(found[key])


def _change(within: Any, key: Any, rng: random.Random) -> None:
    kind = rng.randrange(6)
    if kind <= 2:
        within[key] = deepcopy(rng.choice(VALUES))  # which the next change may change
    elif kind == 3:
        del within[key]
    elif kind == 4 and isinstance(within[key], str):
        text = within[key].encode("utf-8", "replace")
        within[key] = mutate_text(text, rng).decode("utf-8", "replace")
    elif kind == 4 and isinstance(within[key], dict | list):
        deep: Any = within[key]
        for _ in range(rng.choice((3, 200, 900))):
            deep = [deep]
        within[key] = deep
    elif isinstance(within, list):
        within.append(deepcopy(within[key]))
    else:
        within[rng.choice(("", "x", "\x1b[2J", str(key) + " "))] = within.pop(key)
