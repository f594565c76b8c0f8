"""GGUF headers: what they say is read right, and no damaged file gets past them."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_router.engine.gguf_file import GGML_TYPES, read_header
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError
from tests.engine_fixtures import tiny_paths

__all__ = ["tiny_paths"]

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def test_the_table_of_types_agrees_with_the_gguf_package() -> None:
    theirs = {t.value: (t.name, *size) for t, size in GGML_QUANT_SIZES.items()}
    newer = {42: ("Q2_0", 64, 18)}  # llama.cpp writes it, the package does not know it yet
    assert theirs | newer == dict(GGML_TYPES)


@pytest.mark.parametrize("tier", ["f16", "q4_k_m", "q8_0"])
def test_the_header_says_what_the_gguf_package_reads(
    tiny_paths: dict[str, Path], tier: str
) -> None:
    header, theirs = read_header(tiny_paths[tier]), GGUFReader(tiny_paths[tier])
    assert header.architecture == "qwen3"
    assert header.metadata["qwen3.attention.head_count"] == "4"
    assert header.metadata["tokenizer.ggml.add_bos_token"] == "false"
    assert "<|im_start|>" in header.metadata["tokenizer.chat_template"]
    assert [
        (t.name, t.shape, t.type_name, t.offset, t.n_bytes) for t in header.tensors.values()
    ] == [
        (t.name, tuple(map(int, t.shape)), t.tensor_type.name, t.data_offset, t.n_bytes)
        for t in theirs.tensors
    ]


def test_a_missing_file_a_folder_and_another_kind_of_file_are_distinguished(tmp_path: Path) -> None:
    text = tmp_path / "notes.gguf"
    text.write_text("not a model")
    pointer = tmp_path / "pointer.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    empty = tmp_path / "empty.gguf"
    empty.touch()
    for path, part in [
        (tmp_path / "absent.gguf", "does not exist"),
        (tmp_path, "is a folder"),
        (text, "is not a GGUF file"),
        (empty, "is not a GGUF file"),
        (pointer, "is not the file itself but a git-lfs pointer"),
    ]:
        with pytest.raises(UserError, match=part):
            read_header(path)


def test_weights_cut_short_are_named(tiny_paths: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_paths["q8_0"].read_bytes()[:-100])
    with pytest.raises(
        UserError, match=r"truncated or damaged \(tensor \S+ reaches \d+ bytes past"
    ):
        read_header(cut)


@SHARED
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(
    tiny_paths: dict[str, Path], tmp_path: Path, share: float
) -> None:
    whole = tiny_paths["q4_k_m"].read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError):
        LlamaModel.load(cut)


@SHARED
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_header_with_wrong_bytes_is_read_or_refused_but_never_crashes(
    tiny_paths: dict[str, Path], tmp_path: Path, flips: list[tuple[float, int]]
) -> None:
    data = bytearray(tiny_paths["q4_k_m"].read_bytes())
    end = min(t.offset for t in read_header(tiny_paths["q4_k_m"]).tensors.values())
    for share, value in flips:
        data[4 + int(share * (end - 5))] = value
    path = tmp_path / "odd.gguf"
    path.write_bytes(data)
    try:
        header = read_header(path)
    except UserError:
        return
    assert all(t.offset + t.n_bytes <= len(data) for t in header.tensors.values())
