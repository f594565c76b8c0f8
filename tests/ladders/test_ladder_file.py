"""ladder.toml: what is read of it, and one true sentence for everything that can be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.ladders.ladder_file import read_ladder
from edge_router.ladders.resolve import find_ladder

GOOD = '[ladder]\nname = "mine"\n[[tier]]\nname = "q8_0"\nfile = "m.gguf"\n'


def ladder(folder: Path, text: str | bytes) -> Path:
    path = folder / "ladder.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        read_ladder(folder)
    said = str(error.value)
    assert said.startswith(f"{folder / 'ladder.toml'} does not describe a ladder: ")
    assert "\n" not in said
    return said


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    ladder(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert [tier.name for tier in read_ladder(tmp_path).tiers] == ["q8_0"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD.replace('"mine"', "5"), "'name' in [ladder] has to be a text"),
        (GOOD.replace('"m.gguf"', "[]"), "'file' in [[tier]] number 1 has to be a text"),
        (GOOD + "size_bytes = true\n", "'size_bytes' in [[tier]] number 1 has to be a whole"),
        (GOOD + 'sha256 = "abc"\n', "the sha256 of q8_0 is not 64 hexadecimal digits"),
        (GOOD.replace("[[tier]]", "[tier]"), "'tier' has to be a list of tables: write [[tier]]"),
        (
            "tier = [1]\n" + GOOD.partition("[[")[0],
            "'tier' has to be a list of tables: write [[tier]]",
        ),
        ('ladder = "x"\ntier = []\n', "'ladder' has to be a table"),
        (GOOD.replace("[[", 'rooter = "low"\n[['), "'rooter' in [ladder] is not known"),
        (GOOD + 'path = "x"\n', "'path' in [[tier]] number 1 is not known; there are name, file"),
        ("[laddder]\n" + GOOD, "'laddder' is not known; there are ladder, source, tier"),
        (GOOD.replace('"mine"', '"../mine"'), "the ladder's name '../mine' will not do"),
        (GOOD.replace('"q8_0"', '"a/b"'), "the tier's name 'a/b' will not do"),
        (GOOD.replace("m.gguf", "../m.gguf"), "'../m.gguf' does not lie in the ladder's own"),
        (GOOD.replace("m.gguf", "/m.gguf"), "'/m.gguf' does not lie in the ladder's own folder"),
        (GOOD.replace("[[", 'router = "onnx:../r.onnx"\n[['), "'../r.onnx' does not lie in"),
        ("a = " + "[" * 3000, "it is nested too deeply"),
        (b"\xff\xfe" + GOOD.encode("utf-16-le"), "it is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_reported_by_its_cause(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    assert why in refused(ladder(tmp_path, text))


def test_a_pipe_in_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ladder.toml")
    assert "it is a pipe or a device" in refused(tmp_path)
    with pytest.raises(UserError, match="is a pipe"):
        find_ladder(str(tmp_path))


def test_a_shipped_ladder_may_share_its_neighbours_files() -> None:
    shared = find_ladder("household-3")
    assert all(tier.path.is_file() and tier.shipped for tier in shared.tiers)
    assert read_ladder(shared.folder) == shared
