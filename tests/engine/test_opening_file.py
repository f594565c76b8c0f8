"""The file of an opening: what was changed in it anywhere is noticed and never handed out."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.engine.openings import WrongFileError, read_pieces, write_pieces

KEY = hashlib.sha256(b"an opening").digest()
PIECES = [bytes(range(256)) * 2, b"", b"last"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("opening") / "a.kv"
    write_pieces(path, KEY, len(PIECES), iter(PIECES))
    return path.read_bytes()


def read(data: bytes, key: bytes = KEY, count: int = len(PIECES)) -> Iterator[bytes]:
    return read_pieces(io.BytesIO(data), key, count)


def test_what_was_written_is_read(written: bytes) -> None:
    assert list(read(written)) == PIECES


@given(data=st.data())
def test_a_changed_file_is_never_taken(written: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(written)), "at")
    removed = data.draw(st.integers(0, len(written) - at), "removed")
    added = data.draw(st.binary(max_size=40), "added")
    mutated = written[:at] + added + written[at + removed :]
    given_out = []
    try:
        for piece in read(mutated):
            given_out.append(piece)
        assert mutated == written
    except WrongFileError:
        assert mutated != written
    assert given_out == PIECES[: len(given_out)]


@given(st.binary(max_size=200))
def test_a_file_of_anything_is_never_taken(data: bytes) -> None:
    with pytest.raises(WrongFileError):
        list(read(data))


def test_another_opening_is_not_taken(written: bytes) -> None:
    with pytest.raises(WrongFileError, match="something else"):
        list(read(written, hashlib.sha256(b"another").digest()))
    with pytest.raises(WrongFileError, match="something else"):
        list(read(written, count=len(PIECES) - 1))


def test_pieces_of_equal_length_cannot_be_exchanged(tmp_path: Path) -> None:
    path, pieces = tmp_path / "a.kv", [b"aaaa", b"bbbb"]
    write_pieces(path, KEY, 2, pieces)
    data = path.read_bytes()
    size = data.index(b"bbbb") - data.index(b"aaaa")
    first, second = data[-2 * size : -size], data[-size:]
    assert list(read(data, count=2)) == pieces
    with pytest.raises(WrongFileError, match="checksum"):
        list(read(data[: -2 * size] + second + first, count=2))


def test_a_length_beyond_the_file_makes_no_room_for_it(written: bytes) -> None:
    at = written.index(len(PIECES[0]).to_bytes(8, "little"))
    with pytest.raises(WrongFileError, match="cut short"):
        list(read(written[:at] + (1 << 62).to_bytes(8, "little") + written[at + 8 :]))
