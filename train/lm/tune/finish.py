"""What a run leaves for others: the adapter, the merged checkpoint, and the ladder of it."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from edge_router.convert.build import Made, Order, convert
from edge_router.convert.journal import source_of
from edge_router.convert.source import PROMPT_STYLE, open_source
from edge_router.work.progress import ShownProgress
from train.lm.tune.dialogues import STYLE

ADAPTER: Final = "adapter"
MERGED: Final = "merged"
_WEIGHTS: Final = "adapter_model.safetensors"


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """Write the LoRA adapters in PEFT's format, in F16: what is shipped of a run."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = base
    model.save_pretrained(folder, save_embedding_layers=False)  # else it asks the hub about them
    weights = {name: w.half() for name, w in load_file(folder / _WEIGHTS).items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's form, with nothing filled in


def save_merged(model: Any, tokenizer: Any, base: Path, run: Path) -> Path:
    """Write the whole trained model as a checkpoint of F16 weights; returns its folder.

    Adapters are merged into the weights as they were, not into those that training kept in bf16.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    whole = model
    if hasattr(model, "peft_config"):
        fresh = AutoModelForCausalLM.from_pretrained(
            base, local_files_only=True, dtype=torch.float32
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's, of things that do not concern LoRA
            whole = PeftModel.from_pretrained(fresh, run / ADAPTER).merge_and_unload()
    folder = run / MERGED
    whole.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _name_style(folder / "config.json")
    return folder


def _name_style(config: Path) -> None:
    """Say in config.json, and so in every GGUF made of it, how the model wants to be asked."""
    data = json.loads(config.read_text(encoding="utf-8"))
    data[PROMPT_STYLE] = STYLE.name
    config.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def make_ladder(
    merged: Path, out: Path, name: str, tiers: tuple[str, ...], progress: ShownProgress
) -> Made:
    """The tiers of the merged checkpoint; those of a run that has gone on since are kept aside."""
    source = open_source(merged)
    if source_of(out) not in (None, source.fingerprint(lambda n_bytes: None)):
        numbers = (out.with_name(f"{out.name}-{number}") for number in itertools.count(1))
        aside = next(folder for folder in numbers if not folder.exists())
        out.rename(aside)
        progress.note(f"the ladder of the run as it was before is in {aside}")
    return convert(source, Order(out, tiers, name=name, prompt=STYLE.name), progress)
