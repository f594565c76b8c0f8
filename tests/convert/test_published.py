"""Which GGUFs of a repository a word names: quantisations, files, patterns, parts."""

from __future__ import annotations

import pytest

from edge_router.convert.published import RemoteFile, choose, ggufs_of, listed, tier_names
from edge_router.errors import UserError

LAYOUTS = {
    "Qwen": ["qwen3-0.6b-q4_k_m.gguf", "qwen3-0.6b-q8_0.gguf", "README.md"],
    "bartowski": ["M-0.6B-Q4_K_M.gguf", "M-0.6B-Q4_K_L.gguf", "M-0.6B-Q8_0.gguf", "M.imatrix.gguf"],
    "mradermacher": ["M-0.6B.i1-Q4_K_M.gguf", "M-0.6B.i1-Q8_0.gguf", "M-0.6B.imatrix.gguf"],
    "ggml-org": ["M_Q4_K_M.gguf", "M_Q8_0.gguf", "mmproj-M-Q8_0.gguf"],
    "old": ["m.q4_k_m.gguf", "m.q8_0.gguf"],
    "folders": ["Q4_K_M/model.gguf", "Q8_0/model.gguf"],
    "parts": [
        *(f"Q8_0/M-Q8_0-0000{n}-of-00002.gguf" for n in (2, 1)),
        "M-Q4_K_M-00001-of-00001.gguf",
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_quantisation_is_found_however_files_are_called(layout: str) -> None:
    there = ggufs_of(RemoteFile(path) for path in LAYOUTS[layout])
    found = [choose("a/b", there, asked) for asked in ("q4_k_m", "Q8_0")]
    assert tier_names(found) == ["q4_k_m", "q8_0"]
    assert "gguf" not in listed(there)


def test_parts_belong_to_one_model_in_their_order() -> None:
    there = ggufs_of(RemoteFile(path, 5) for path in LAYOUTS["parts"])
    model = choose("a/b", there, "q8_0")
    assert [file.path[-19:-5] for file in model.files] == ["00001-of-00002", "00002-of-00002"]
    assert model.size == 10
    assert choose("a/b", there, model.files[1].path) == model


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("M-0.6B-Q8_0.gguf", "M-0.6B-Q8_0"),
        ("m-0.6b-q8_0", "M-0.6B-Q8_0"),
        ("*q8*", "M-0.6B-Q8_0"),
        ("ud-q4_k_xl", "M-0.6B-UD-Q4_K_XL"),
        ("q4_k_xl", "M-0.6B-UD-Q4_K_XL"),
        ("q4_k_m", "M-0.6B-Q4_K_M"),  # and not the one that has more behind it
    ],
)
def test_files_and_patterns_are_taken_as_well(asked: str, named: str) -> None:
    names = ["Q8_0", "UD-Q4_K_XL", "Q4_K_M", "Q4_K_M-imat"]
    there = ggufs_of(RemoteFile(f"M-0.6B-{name}.gguf") for name in names)
    assert choose("a/b", there, asked).label == named


@pytest.mark.parametrize(
    ("paths", "asked", "said"),
    [
        (["m-q4_k_m.gguf", "m-q8_0.gguf"], "q4_k", "has no GGUF 'q4_k'; there are q4_k_m, q8_0"),
        (["a-q8_0.gguf", "b-q8_0.gguf"], "q8_0", "could be a-q8_0 or b-q8_0"),
        (["m-q8_0.gguf", "m-q4_0.gguf"], "*", "could be"),
        (["m-q8_0-00002-of-00002.gguf"], "q8_0", "part 1 of 2 of m-q8_0 is not in a/b"),
        (["m-q8_0.gguf", "m-q8_0-00001-of-00001.gguf"], "q8_0", "whole and in parts"),
        (["../m-q8_0.gguf", "readme.md"], "q8_0", "it has no GGUF at all"),
    ],
)
def test_what_cannot_be_taken_is_told_with_what_there_is(
    paths: list[str], asked: str, said: str
) -> None:
    with pytest.raises(UserError) as error:
        choose("a/b", ggufs_of(RemoteFile(path) for path in paths), asked)
    assert said in str(error.value)


def test_tiers_of_one_quantisation_are_called_after_their_files() -> None:
    there = ggufs_of(RemoteFile(f"{name}-Q8_0.gguf") for name in ("base", "abliterated"))
    assert tier_names(there) == ["abliterated-q8_0", "base-q8_0"]
