"""A converted checkpoint computes what transformers computes, for every supported architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from edge_router.engine.gguf_file import read_header
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.sampling import log_softmax
from tests.checkpoints import FAMILIES, VOCABULARY, edit_json, write_checkpoint, write_f16

TOKENS = 300  # beyond the original context of the stretched ropes, which is 256


def converted(folder: Path) -> Path:
    """The F16 GGUF of the checkpoint in `folder`, beside it."""
    target = folder.with_suffix(".gguf")
    write_f16(folder, target)
    return target


def random_text(seed: int = 0) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(3, VOCABULARY - 30, TOKENS)]


def reference_logits(folder: Path, tokens: list[int]) -> NDArray[np.float32]:
    """transformers in float32, shape (tokens, vocabulary)."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].numpy()
    return logits


def llama_logits(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    model = LlamaModel.load(path)
    context = LlamaContext(model, n_ctx=len(tokens), n_batch=100, n_threads=1, max_rows=100)
    return np.concatenate(
        [context.decode_rows(tokens[i : i + 100], i).copy() for i in (0, 100, 200)]
    )


def max_kl(folder: Path, path: Path) -> float:
    tokens = random_text()
    p, q = log_softmax(reference_logits(folder, tokens)), log_softmax(llama_logits(path, tokens))
    return float((np.exp(p) * (p - q)).sum(axis=-1).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_what_transformers_does(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / family, family)
    assert max_kl(folder, converted(folder)) < 1e-4


@pytest.mark.parametrize(
    "family", ["llama3", *(pytest.param(f, marks=pytest.mark.slow) for f in ("qwen2", "qwen3"))]
)
def test_rows_that_are_no_multiple_of_256_convert_too(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / family, family, width=160)
    assert max_kl(folder, converted(folder)) < 1e-4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_stored_precision_in_several_shards(dtype: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / dtype, "llama3", dtype=dtype, shard="1MB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert max_kl(folder, converted(folder)) < 1e-4


def test_a_configuration_as_transformers_4_wrote_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "old", "llama3")

    def as_before(config: dict[str, Any]) -> None:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope
        config["torch_dtype"] = config.pop("dtype")

    new = read_header(converted(folder))
    edit_json(folder / "config.json", as_before)
    old = read_header(converted(folder))
    assert old.raw == new.raw
    assert old.tensors == new.tensors


def test_stretched_rope_would_show_if_it_were_lost(tmp_path: Path) -> None:
    """The bound is sharp: the same weights without their rope scaling are far from it."""
    folder = write_checkpoint(tmp_path / "llama3", "llama3")
    reference = reference_logits(folder, random_text())
    edit_json(
        folder / "config.json",
        lambda config: config.update(rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
    )
    p, q = log_softmax(reference), log_softmax(llama_logits(converted(folder), random_text()))
    assert float((np.exp(p) * (p - q)).sum(axis=-1).max()) > 1e-3


def test_values_beyond_f16_stay_float32(tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    write_checkpoint(folder, "qwen3")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3, 5] = 1e6
    model.save_pretrained(folder)
    target = tmp_path / "wide.gguf"
    kept = write_f16(folder, target, check=False)
    assert kept == ("blk.1.ffn_down.weight stays float32: it holds values that F16 cannot",)
    assert read_header(target).tensors["blk.1.ffn_down.weight"].type_name == "F32"
    assert max_kl(folder, target) < 1e-4


def test_a_sliding_window_that_llama_cpp_lacks_limits_the_context(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mistral", "mistral")
    edit_json(folder / "config.json", lambda config: config.update(sliding_window=128))
    header = read_header(converted(folder))
    assert header.metadata["llama.context_length"] == "128"


def test_a_tied_output_matrix_is_not_written_twice(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tied", "qwen3")
    assert "output.weight" not in read_header(converted(folder)).tensors
    untied = write_checkpoint(tmp_path / "untied", "qwen2-untied")
    assert "output.weight" in read_header(converted(untied)).tensors


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("noise", "family"),
    [
        *((0.0, "qwen3"), (0.1, "smollm2")),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in ((0.1, "qwen3"), (0.0, "qwen2"), (0.1, "qwen2"), (0.0, "smollm2"))
        ),
    ],
)
def test_an_output_matrix_beside_tied_embeddings_counts_where_it_differs(
    noise: float, family: str, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "tied", family)

    def add_head(tensors: dict[str, torch.Tensor]) -> None:
        embeddings = tensors["model.embed_tokens.weight"].float()
        head = embeddings + noise * torch.randn(embeddings.shape)
        tensors["lm_head.weight"] = head.bfloat16()

    edit_weights(folder, add_head)
    path = converted(folder)
    assert ("output.weight" in read_header(path).tensors) == bool(noise)
    assert max_kl(folder, path) < 1e-4


def test_tied_embeddings_may_be_stored_as_the_output_matrix(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "head", "qwen3")

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")

    edit_weights(folder, rename)
    path = converted(folder)
    assert "output.weight" not in read_header(path).tensors
    assert max_kl(folder, path) < 1e-4
