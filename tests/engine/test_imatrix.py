"""Importance matrices hold what the weights were really fed with, and make better files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

from edge_router.engine.imatrix import ImportanceMatrix, collect, read_imatrix, write_imatrix
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.quantise import NEEDS_IMPORTANCE, quantise
from edge_router.errors import UserError
from tests.engine_fixtures import tiny_paths  # noqa: F401 - a fixture

TEXTS = [list(range(40, 360)), list(range(600, 900, 2))]
PRODUCTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@pytest.fixture(scope="module")
def f16(tiny_paths: dict[str, Path]) -> Path:  # noqa: F811 - pytest's way
    return tiny_paths["f16"]


@pytest.fixture(scope="module")
def matrix(f16: Path) -> ImportanceMatrix:
    return collect(f16, TEXTS, threads=1)


def weight(path: Path, name: str) -> NDArray[np.float32]:
    found = next(t for t in GGUFReader(path).tensors if t.name == name)
    return np.asarray(dequantize(found.data, found.tensor_type), np.float32)


def test_every_weight_of_every_block_is_watched_over_all_tokens(matrix: ImportanceMatrix) -> None:
    assert set(matrix.means) == {f"blk.{i}.{p}.weight" for i in range(2) for p in PRODUCTS}
    assert matrix.tokens == sum(map(len, TEXTS))
    assert all((mean > 0).all() for mean in matrix.means.values())


def test_the_first_blocks_squares_are_those_of_the_normed_embeddings(
    f16: Path, matrix: ImportanceMatrix
) -> None:
    x = weight(f16, "token_embd.weight")[[t for text in TEXTS for t in text]].astype(np.float64)
    normed = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-6)
    fed = normed * weight(f16, "blk.0.attn_norm.weight")
    np.testing.assert_allclose(matrix.means["blk.0.attn_q.weight"], (fed * fed).mean(0), rtol=2e-3)


def test_a_matrix_is_written_and_read_back(matrix: ImportanceMatrix, tmp_path: Path) -> None:
    path = tmp_path / "tiny.imatrix.gguf"
    write_imatrix(matrix, path)
    again = read_imatrix(path)
    assert again.tokens == matrix.tokens
    assert again.means.keys() == matrix.means.keys()
    for name, mean in matrix.means.items():
        np.testing.assert_allclose(again.means[name], mean, rtol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_columns_that_matter_are_kept_better(f16: Path, tmp_path: Path) -> None:
    name = "blk.1.ffn_down.weight"
    original = weight(f16, name)
    columns = np.full(original.shape[1], 1e-3, np.float32)
    columns[::8] = 100.0
    means = {n: columns if n == name else np.ones(w, np.float32) for n, w in sizes(f16).items()}
    errors = {}
    for label, importance in (("with", ImportanceMatrix(means, 1)), ("without", None)):
        made = tmp_path / f"{label}.gguf"
        quantise(f16, made, "q2_k", importance=importance, threads=1)
        errors[label] = float(((weight(made, name) - original)[:, ::8] ** 2).mean())
    assert errors["with"] < 0.8 * errors["without"]


def sizes(path: Path) -> dict[str, int]:
    """Columns of every weight of the blocks."""
    found = {t.name: int(t.shape[0]) for t in GGUFReader(path).tensors if len(t.shape) == 2}
    return {n: columns for n, columns in found.items() if n.startswith("blk.")}


QUICK = {"q2_k_s"}  # the others first compute a table of points, for seconds


@pytest.mark.parametrize(
    "tier",
    [
        tier if tier in QUICK else pytest.param(tier, marks=pytest.mark.slow)
        for tier in sorted(NEEDS_IMPORTANCE)
    ],
)
def test_tiers_that_need_a_matrix_are_made_with_it_and_refused_without(
    f16: Path, matrix: ImportanceMatrix, tmp_path: Path, tier: str
) -> None:
    target = tmp_path / f"{tier}.gguf"
    with pytest.raises(UserError, match="not made without an importance matrix"):
        quantise(f16, target, tier, threads=1)
    assert not list(tmp_path.iterdir())
    quantise(f16, target, tier, importance=matrix, threads=1)
    model = LlamaModel.load(target)
    context = LlamaContext(model, n_ctx=64, n_threads=1)
    context.decode([40, 41, 42], 0)
    assert np.isfinite(context.logits()).all()


def test_decoding_all_at_once_gives_the_logits_of_one_by_one(f16: Path) -> None:
    model = LlamaModel.load(f16)
    text = TEXTS[0][:20]
    batch = LlamaContext(model, n_ctx=64, n_threads=1, max_rows=64)
    whole = batch.decode_rows(text, 0)
    single = LlamaContext(model, n_ctx=64, n_threads=1)
    for i, token in enumerate(text):
        single.decode([token], i)
        np.testing.assert_allclose(whole[i], single.logits(), atol=2e-2)


@pytest.mark.parametrize("content", [b"", b"no GGUF at all", b"GGUF" + bytes(60)])
def test_a_file_that_is_no_matrix_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no importance matrix"):
        read_imatrix(path)


def test_a_model_is_no_matrix(f16: Path) -> None:
    with pytest.raises(UserError, match="holds no importance matrix"):
        read_imatrix(f16)


def test_no_text_is_refused(f16: Path) -> None:
    with pytest.raises(UserError, match="needs a text"):
        collect(f16, [], threads=1)
