"""A child with limits answers, is ended when it computes too long, and never waits for a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_router.work.processes import Confined, EndedError

CHILD = """
import os
from edge_router.work.processes import ChildLimits, serve

def answer(message):
    if message["do"] == "read a key":
        return {"read": os.read(0, 1).decode()}
    if message["do"] == "loop":
        while True:
            pass
    print("not an answer")
    return {"took": len(bytearray(message["bytes"]))}

serve(answer, ChildLimits(seconds=0.5, memory=1_000_000_000))
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Confined]:
    (tmp_path / "stranger.py").write_text(CHILD)
    child = Confined("stranger", environment={"PYTHONPATH": str(tmp_path)})
    yield child
    child.close()


def test_it_answers_in_lines_whatever_else_it_prints(child: Confined) -> None:
    assert [child.ask({"do": "take", "bytes": n}) for n in (3, 5)] == [{"took": 3}, {"took": 5}]


def test_what_waits_for_a_key_finds_none(child: Confined) -> None:
    assert child.ask({"do": "read a key"}) == {"read": ""}
    assert child.usable


def test_computing_too_long_ends_it(child: Confined) -> None:
    with pytest.raises(EndedError) as ended:
        child.ask({"do": "loop"})
    assert ended.value.too_slow
    assert not child.usable


def test_too_much_memory_ends_it(child: Confined) -> None:
    with pytest.raises(EndedError) as ended:
        child.ask({"do": "take", "bytes": 2_000_000_000})
    assert not ended.value.too_slow
