"""The store of results: found again by what decided them, safe against foreign files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.work.store import Store, key_of


def test_results_outlive_the_process_and_are_replaced_by_their_key(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.sqlite"
    with Store(path) as store:
        assert store.get("a") is None
        store.put("a", {"won": True}, "game 1")
        store.put("a", {"won": False})
        store.put("b", [1, 2])
    with Store(path) as store:
        assert (store.get("a"), store.get("b"), len(store)) == ({"won": False}, [1, 2], 2)


def test_two_runs_may_write_at_once(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as one, Store(tmp_path / "s") as other:
        one.put("a", 1)
        other.put("b", 2)
        assert (one.get("b"), other.get("a")) == (2, 1)


def test_a_key_depends_on_every_part_and_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})


@pytest.mark.parametrize(
    "damage", ["{half", "[" * 100_000, b"\xff\xfe\x00", None, 7.5], ids=lambda d: str(d)[:5]
)
def test_a_damaged_result_is_counted_and_the_others_are_found(
    tmp_path: Path, damage: object
) -> None:
    with Store(tmp_path / "s") as store:
        store.put("a", {"won": True})
        store.put("b", 1)
    with sqlite3.connect(tmp_path / "s") as database:
        database.execute("UPDATE results SET result = ? WHERE key = 'a'", (damage,))
    with Store(tmp_path / "s") as store:
        assert (store.get("b"), store.damaged) == (1, 0)
        assert store.get("a") in (None, 7.5)


def test_a_store_with_other_columns_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s") as database:
        database.execute("CREATE TABLE results (name TEXT)")
        database.execute("PRAGMA user_version = 1")
    with Store(tmp_path / "s") as store, pytest.raises(UserError, match="cannot be used"):
        store.get("a")


def test_a_store_of_another_version_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "later") as database:
        database.execute("PRAGMA user_version = 99")
    (tmp_path / "text").write_text("hello, this is not a database at all")
    with pytest.raises(UserError, match="another version"):
        Store(tmp_path / "later")
    with pytest.raises(UserError, match="cannot be used"):
        Store(tmp_path / "text")
    with pytest.raises(UserError, match="cannot be used"):
        Store(tmp_path / "text" / "below")
