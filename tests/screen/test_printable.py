"""What is printed steers no terminal and keeps to the screen's width, whatever it was made from."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from edge_router.screen.printable import (
    clean,
    columns,
    one_line,
    paragraphs,
    say,
    shortened,
    wrapped,
)
from edge_router.screen.tables import Sheet

NAMES = ["low", "q8_0", "[/x]", "[bold]", "\x1b[2J\x1b[31mred", "a\nb", "\u202egnp.exe", "\udcff"]
WORDS = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=12)


@given(st.text() | st.sampled_from(NAMES))
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    shown = clean(text)
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    assert not any(c in "\x7f\x9b\x1b\u202e\u2028\u2066\u200f" for c in shown)
    assert "\n" not in one_line(text)
    shown.encode()  # no half characters


def test_ordinary_text_of_any_alphabet_stays_as_it_is() -> None:
    assert (
        clean("q8_0 [/x] \u00e9 \u4e2d\u6587 \U0001f600")
        == "q8_0 [/x] \u00e9 \u4e2d\u6587 \U0001f600"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_gets_only_characters_that_it_has(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    say(Sheet("\u4e2d", ("a", "b"), [("x \u00b1", "1")]).text(80))
    assert b"x " in raw.getvalue()


@given(st.lists(WORDS, max_size=40), st.integers(20, 100))
def test_lines_are_broken_between_words_only(words: list[str], width: int) -> None:
    lines = wrapped(" ".join(words), width, hanging="  ")
    assert " ".join(lines).split() == [w for word in words for w in one_line(word).split()]
    assert all(len(line) <= width for line in lines)


def test_a_path_that_is_wider_than_the_screen_goes_on_after_a_slash() -> None:
    path = "/" + "/".join(["folder"] * 20)
    lines = wrapped(f"written to {path} now", 40)
    assert all(len(line) <= 40 for line in lines)
    assert path in "".join(lines)


def test_lines_of_wide_letters_keep_to_the_screen() -> None:
    text = " ".join(["\u4e2d" * 4] * 20)
    lines = wrapped(text, 40)
    assert all(cell_len(line) <= 40 for line in lines)
    assert " ".join(lines) == text


def test_a_pipe_gets_a_text_on_one_line_and_a_screen_as_many_as_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = "word " * 40
    assert len(list(paragraphs([text]))) == 1
    monkeypatch.setenv("COLUMNS", "80")
    assert columns() == 80
    assert len(list(paragraphs([text]))) == 3


ESTIMATES = st.sampled_from(["", "41/60", "78.3 (64.0-88.0)", "+3.3 (-5.0 to +11.7)"])


@settings(max_examples=30)  # a table takes rich tens of milliseconds
@given(
    st.lists(st.tuples(WORDS | st.sampled_from(NAMES), ESTIMATES, ESTIMATES), max_size=6),
    st.integers(40, 120),
)
@example([("matched:onnx:household/router.onnx", "41/60", "78.3 (64.0-88.0)")], 80)
@example([("x" * 300, "41/60", "1")], 80)
@example([("0" * 7 + "\u0301", "", "")], 40)  # a letter that takes no column
@example([("\u4e2d" * 30, "41/60", "1")], 40)  # letters that take two
def test_a_table_is_as_wide_as_the_screen_and_no_word_of_it_is_broken(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    sheet = Sheet("Games won (95 %)", ("router", "against high", "escalated %"), rows)
    lines = sheet.text(width).split("\n")
    assert all(cell_len(line) <= width for line in lines)
    shown = " ".join(lines).split()
    for name, *numbers in rows:
        for word in [*one_line(name).split(), *" ".join(numbers).split(), "escalated", "router"]:
            assert shortened(word, width // 2) in shown


def test_markup_is_not_read_out_of_names() -> None:
    shown = Sheet("[red]t[/]", ("a", "b"), [("[/x]", "[bold]1")]).text(80)
    assert all(text in shown for text in ("[red]t[/]", "[/x]", "[bold]1"))


def test_a_wide_table_is_shown_in_parts_with_its_names_in_each() -> None:
    columns = ("router", *(f"column {i}" for i in range(20)))
    lines = Sheet("t", columns, [("low", *("12345678" for _ in range(20)))]).text(60).split("\n")
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("low ") for line in lines) > 1
    assert " ".join(lines).count("12345678") == 20
