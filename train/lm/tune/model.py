"""The checkpoint that is trained: with LoRA adapters, or all of it.

model = load(folder, lora=16, device=device)
hidden = states(model, ids, mask=..., positions=...)    # before the output matrix
logits = head(model)(hidden[chosen])
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from edge_router.errors import UserError

# Every matrix of a block; embeddings and output stay what they are.
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def chosen_device(name: str | None = None) -> torch.device:
    """The device of that name, by default the first of CUDA, Apple's MPS and the CPU.

    Raises `UserError` for one that is not there.
    """
    there = [
        kind
        for kind, found in (
            ("cuda", torch.cuda.is_available()),
            ("mps", torch.backends.mps.is_available()),
            ("cpu", True),
        )
        if found
    ]
    if name is not None and name not in there:
        raise UserError(f"PyTorch finds no {name} here; there is {', '.join(there)}")
    return torch.device(name or there[0])


def has_bf16(device: torch.device) -> bool:
    """Whether computing in bf16 pays: on GPUs and CPUs that have instructions for it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.backends.cpu.get_cpu_capability().startswith("AVX512")) and bool(
            torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    return False


def half(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bf16 for what is computed inside, where it pays."""
    if has_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def load(folder: Path, lora: int, device: torch.device, seed: int = 0) -> Any:
    """The checkpoint in `folder`, in float32; its adapters have rank `lora`, 0 trains all of it.

    In half precision small steps of the optimiser would be lost, so weights that are trained are
    float32; where there is bf16 the frozen ones are kept in it.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
    )
    if lora:
        torch.manual_seed(seed)
        config = LoraConfig(
            r=lora, lora_alpha=2 * lora, target_modules=list(TARGETS), task_type="CAUSAL_LM"
        )
        if has_bf16(device):
            model.to(torch.bfloat16)
        model = get_peft_model(model, config, autocast_adapter_dtype=True)
    return model.to(device)


def plain(model: Any) -> Any:
    """transformers' model, with the adapters that PEFT put inside."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def states(model: Any, ids: Tensor, **inputs: Any) -> Tensor:
    """The last hidden states of shape (rows, length, width)."""
    found: Tensor = plain(model).get_decoder()(input_ids=ids, **inputs).last_hidden_state
    return found


def head(model: Any) -> nn.Module:
    """The output matrix, hidden states to logits."""
    module: nn.Module = plain(model).get_output_embeddings()
    return module


def losses(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """-ln p of every target that is learnt, row by row; shape (how many there are,).

    Only there are logits computed: the output matrix is a fifth of a small model.
    """
    hidden = states(model, ids, attention_mask=mask, position_ids=positions, use_cache=False)
    learnt = targets >= 0
    logits = head(model)(hidden[learnt]).float() / temperature
    return nn.functional.cross_entropy(logits, targets[learnt], reduction="none")


def trained(model: Any) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
