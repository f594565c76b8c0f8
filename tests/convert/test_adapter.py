"""Adapters and quantised GGUFs as sources: what is merged, and what requantising means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

from edge_router.convert.adapter import CONFIG, WEIGHTS, Adapter
from edge_router.convert.dequantise import to_checkpoint
from edge_router.convert.source import open_source
from edge_router.convert.tiers import quantise_tier
from edge_router.convert.vocabulary import load_tokenizer
from edge_router.engine.gguf_file import read_header
from edge_router.engine.tensor_values import tensor_values
from edge_router.errors import UserError
from tests.checkpoints import write_checkpoint, write_f16

FAMILIES = ("smollm2", "qwen2", pytest.param("qwen3", marks=pytest.mark.slow))


def write_adapter(folder: Path, base: Path, rank: int = 4, **config: Any) -> Path:
    """A random LoRA adapter for the checkpoint in `base`, in PEFT's format."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    rng, weights = np.random.default_rng(0), {}
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "k_proj", "down_proj")):
            rows, columns = module.weight.shape
            for letter, shape in (("A", (rank, columns)), ("B", (rows, rank))):
                values = rng.normal(0, 0.1, shape).astype(np.float32)
                weights[f"base_model.model.{name}.lora_{letter}.weight"] = values
    folder.mkdir()
    save_file(weights, folder / WEIGHTS)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    settings["target_modules"] = ["q_proj", "k_proj", "down_proj"]
    (folder / CONFIG).write_text(json.dumps(settings | config))
    return folder


def converted(source: Path, target: Path, **how: Any) -> tuple[str, ...]:
    return write_f16(source, target, **how)


def values(path: Path) -> dict[str, Any]:
    return {name: tensor_values(t) for name, t in read_header(path).tensors.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_file_is_what_peft_merges(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    base = write_checkpoint(tmp_path / "base", family, dtype="float32")
    adapter = write_adapter(tmp_path / "adapter", base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    whole = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    whole.save_pretrained(tmp_path / "merged")
    load_tokenizer(base).save_pretrained(tmp_path / "merged")
    converted(tmp_path / "merged", tmp_path / "wanted.gguf")
    converted(base, tmp_path / "got.gguf", adapter=adapter)
    converted(base, tmp_path / "f16.gguf")
    wanted = values(tmp_path / "wanted.gguf")
    for name, found in values(tmp_path / "got.gguf").items():
        np.testing.assert_allclose(found, wanted[name], atol=2e-3)
    # the same from a GGUF, whose rows llama.cpp has in another order
    converted(tmp_path / "f16.gguf", tmp_path / "again.gguf", adapter=adapter)
    for name, found in values(tmp_path / "again.gguf").items():
        np.testing.assert_allclose(found, wanted[name], atol=2e-3)


def test_a_quantised_file_is_taken_only_where_that_is_allowed(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm2")
    converted(base, tmp_path / "f16.gguf")
    low = tmp_path / "q4.gguf"
    quantise_tier(tmp_path / "f16.gguf", low, "q4_0")
    with pytest.raises(UserError, match="--allow-requantize"):
        open_source(low)
    (said, *_) = converted(low, tmp_path / "back.gguf", requantise=True, prompt="tuned")
    assert "what quantising lost is in no tier" in said
    before, after = read_header(low), read_header(tmp_path / "back.gguf")
    assert after.type_names == {"F16", "F32"}
    assert after.metadata["edge_router.prompt_style"] == "tuned"
    same = {k: v for k, v in before.raw.items() if "file_type" not in k and "quantization" not in k}
    assert {k: after.raw.get(k) for k in same} == same
    for name, found in values(tmp_path / "back.gguf").items():
        np.testing.assert_allclose(found, values(low)[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gguf_and_its_checkpoint_are_the_same_model(family: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", family)
    converted(base, tmp_path / "f16.gguf")
    to_checkpoint(tmp_path / "f16.gguf", tmp_path / "back")
    ids = torch.tensor([list(range(5, 80))])
    with torch.inference_mode():
        logits = [
            AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32)(ids).logits
            for f in (base, tmp_path / "back")
        ]
    torch.testing.assert_close(*logits, atol=2e-2, rtol=1e-2)
    ours, theirs = load_tokenizer(tmp_path / "back"), load_tokenizer(base)
    text = "<|im_start|>user\nput 2 mugs in cabinet 12 <think> don't<|im_end|>\n"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.chat_template == theirs.chat_template
    converted(tmp_path / "back", tmp_path / "again.gguf")  # llama.cpp reads text alike


def test_what_cannot_be_a_checkpoint_is_refused(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama2")
    converted(base, tmp_path / "f16.gguf")
    with pytest.raises(UserError, match="its tokenizer is none of"):
        to_checkpoint(tmp_path / "f16.gguf", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_adapter_of_another_kind_or_model_is_refused(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm2")
    narrow = write_checkpoint(tmp_path / "narrow", "smollm2", width=64)
    with pytest.raises(UserError, match="made for another model"):
        converted(base, tmp_path / "x.gguf", adapter=write_adapter(tmp_path / "other", narrow))
    assert not (tmp_path / "x.gguf").exists()
    with pytest.raises(UserError, match="use_dora"):
        Adapter.open(write_adapter(tmp_path / "dora", base, use_dora=True))
    with pytest.raises(UserError, match="is no adapter"):
        Adapter.open(base)
