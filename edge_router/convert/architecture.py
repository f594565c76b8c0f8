"""What a checkpoint's tensors and numbers are called in llama.cpp.

The four architectures are one transformer with small differences: Llama and
Mistral rotate pairs of neighbouring dimensions in llama.cpp and halves in
transformers, so the rows of their query and key matrices change places; Qwen2
has biases, Qwen3 norms on queries and keys. gguf's tensor map gives the names.

`plan(checkpoint, hparams)` lists what the F16 file will hold, in its order,
without reading a weight; `write_hparams` writes the numbers. Matrices become
F16 and vectors stay float32, as llama.cpp's converter has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.checkpoint import (
    Checkpoint,
    SourceTensor,
    require_count,
    require_number,
    same_values,
)
from edge_router.convert.rope import (
    Hparams,
    head_width,
    llama3_rope_factors,
    require_rope,
    rope_type,
    write_rope,
)
from edge_router.errors import UserError

if TYPE_CHECKING:
    from gguf import GGUFWriter

# Hugging Face's name -> llama.cpp's
ARCHITECTURES: Final[Mapping[str, str]] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
SUPPORTED: Final = (
    "Llama (Llama 2 and 3, SmolLM2, DeepSeek-R1-Distill-Llama), Mistral, Qwen2 (Qwen2.5) and Qwen3"
)
MOSTLY_F16: Final = 1  # llama.cpp's file type
# Stored by old checkpoints, computed by everybody.
_NOT_NEEDED: Final = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_COUNTS: Final = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)


class SourceValues(Protocol):
    """Where a tensor's values are read from, some at a time."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int: ...

    def rows(self, at_once: int) -> Iterator[NDArray[np.float16] | NDArray[np.float32]]: ...


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the F16 file; `shape` is rows first, `half` whether it is to be F16.

    It comes from `source`, with an adapter's `change` added to it and its rows rearranged for
    rotation in pairs when `rotated_heads` is not 0, or is `values` themselves.
    """

    name: str
    shape: tuple[int, ...]
    half: bool
    source: SourceValues | None = None
    rotated_heads: int = 0
    values: NDArray[np.float32] | None = None
    change: Callable[[], NDArray[np.float32]] | None = None

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * (2 if self.half else 4)


def architecture_of(checkpoint: Checkpoint) -> str:
    """llama.cpp's name of the architecture. Raises `UserError` for one that is not supported."""
    listed = checkpoint.config.get("architectures")
    named = str(listed[0]) if isinstance(listed, list) and listed else str(listed or "nothing")
    found = ARCHITECTURES.get(named)
    if found is None:
        raise UserError(
            f"{checkpoint.folder} is a {named}, which cannot be converted; supported are "
            f"{SUPPORTED}"
        )
    if quantised := checkpoint.config.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise UserError(
            f"{checkpoint.folder} is quantised already ({method or 'unknown'}); take the original "
            "checkpoint"
        )
    return found


def read_hparams(folder: Path, architecture: str) -> dict[str, Any]:
    """The configuration with the architecture's defaults filled in. Raises `UserError`."""
    from transformers import AutoConfig

    try:
        hparams: dict[str, Any] = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ).to_dict()
    except Exception as error:  # transformers raises whatever its parts raise
        said = " ".join(str(error).split())
        raise UserError(f"{folder / 'config.json'} cannot be understood: {said}") from error
    _require_supported(folder, architecture, hparams)
    return hparams


def _require_supported(folder: Path, architecture: str, hparams: Hparams) -> None:
    """Refuse what llama.cpp would compute differently."""
    for key in _COUNTS:
        require_count(folder / "config.json", key, hparams.get(key))
    require_number(folder / "config.json", "rms_norm_eps", hparams.get("rms_norm_eps"))
    require_rope(folder, architecture, hparams)
    if hparams.get("hidden_act") != "silu":
        raise UserError(f"{folder} uses the activation {hparams.get('hidden_act')!r}, not silu")
    if "sliding_attention" in (hparams.get("layer_types") or ()):
        raise UserError(f"{folder} uses sliding-window attention, which llama.cpp lacks for it")
    if architecture == "qwen2" and _query_width(hparams) != hparams["hidden_size"]:
        raise UserError(f"{folder} has a head_dim of its own, which llama.cpp lacks for Qwen2")


def _query_width(hparams: Hparams) -> int:
    return int(hparams["num_attention_heads"]) * head_width(hparams)


def context_length(hparams: Hparams) -> int:
    """Tokens; cut to Mistral's sliding window, which llama.cpp does not have for it."""
    longest = int(hparams["max_position_embeddings"])
    window = hparams.get("sliding_window") if hparams["model_type"] == "mistral" else None
    return min(longest, int(window)) if window else longest


# -- metadata -------------------------------------------------------------------------------


def write_hparams(writer: GGUFWriter, architecture: str, hparams: Hparams) -> None:
    """The architecture's numbers, under llama.cpp's keys."""
    writer.add_block_count(hparams["num_hidden_layers"])
    writer.add_context_length(context_length(hparams))
    writer.add_embedding_length(hparams["hidden_size"])
    writer.add_feed_forward_length(hparams["intermediate_size"])
    writer.add_head_count(hparams["num_attention_heads"])
    writer.add_head_count_kv(hparams["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(hparams["rms_norm_eps"])
    write_rope(writer, hparams)
    if hparams.get("head_dim"):
        writer.add_key_length(hparams["head_dim"])
        writer.add_value_length(hparams["head_dim"])
    if architecture == "llama":
        writer.add_vocab_size(hparams["vocab_size"])
        writer.add_rope_dimension_count(head_width(hparams))


# -- tensors --------------------------------------------------------------------------------


def plan(checkpoint: Checkpoint, architecture: str, hparams: Hparams) -> list[PlannedTensor]:
    """The tensors of the F16 file. Raises `UserError` when some are missing or misshapen."""
    import gguf

    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, int(hparams["num_hidden_layers"]))
    sources = _needed(checkpoint, hparams)
    tied = bool(hparams.get("tie_word_embeddings")) and HEAD not in sources
    hparams = {**hparams, "tie_word_embeddings": tied}
    _require_shapes(checkpoint.folder, architecture, hparams, sources)
    planned = list(_computed(hparams))
    for source in sources.values():
        name = names.get_name(source.name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(
                f"the checkpoint {checkpoint.folder} has a tensor {source.name}, which no "
                f"{architecture} model has"
            )
        planned.append(_planned(name, source, architecture, hparams))
    return planned


def _needed(checkpoint: Checkpoint, hparams: Hparams) -> dict[str, SourceTensor]:
    """The tensors to be written, by Hugging Face's names.

    "Tied" means to transformers: one matrix for embeddings and output where only
    one is stored, whichever it is, or where both are equal. Where they differ
    the weights are believed, not config.json.
    """
    found = {n: t for n, t in checkpoint.tensors.items() if not n.endswith(_NOT_NEEDED)}
    if not hparams.get("tie_word_embeddings") or HEAD not in found:
        return found
    if EMBEDDINGS not in found:
        return {EMBEDDINGS: replace(found.pop(HEAD), name=EMBEDDINGS), **found}
    if same_values(found[EMBEDDINGS], found[HEAD]):
        del found[HEAD]
    return found


def _planned(name: str, source: SourceTensor, architecture: str, hparams: Hparams) -> PlannedTensor:
    heads = 0
    if architecture == "llama":
        if ".q_proj." in source.name:
            heads = int(hparams["num_attention_heads"])
        elif ".k_proj." in source.name:
            heads = int(hparams["num_key_value_heads"])
    half = len(source.shape) > 1 and not name.endswith("_norm.weight")
    return PlannedTensor(name, source.shape, half, source, heads)


def _require_shapes(
    folder: Path, architecture: str, hparams: Hparams, sources: Mapping[str, SourceTensor]
) -> None:
    """llama.cpp ends the process where a tensor is not what the numbers say; this explains."""
    for name, shape in expected_shapes(architecture, hparams):
        found = sources.get(name)
        if found is None:
            raise UserError(f"the checkpoint {folder} is not complete: it lacks the tensor {name}")
        if found.shape != shape:
            raise UserError(
                f"the checkpoint {folder} is damaged: config.json wants {name} to be "
                f"{shape} and it is {found.shape}"
            )


def expected_shapes(architecture: str, hparams: Hparams) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Hugging Face's names and shapes (rows first) of the tensors that must be there."""
    width, ffn = int(hparams["hidden_size"]), int(hparams["intermediate_size"])
    head = head_width(hparams)
    query = _query_width(hparams)
    key = int(hparams["num_key_value_heads"]) * head
    yield EMBEDDINGS, (int(hparams["vocab_size"]), width)
    for layer in range(int(hparams["num_hidden_layers"])):
        block = {
            "input_layernorm.weight": (width,),
            "self_attn.q_proj.weight": (query, width),
            "self_attn.k_proj.weight": (key, width),
            "self_attn.v_proj.weight": (key, width),
            "self_attn.o_proj.weight": (width, query),
            "post_attention_layernorm.weight": (width,),
            "mlp.gate_proj.weight": (ffn, width),
            "mlp.up_proj.weight": (ffn, width),
            "mlp.down_proj.weight": (width, ffn),
        }
        if architecture == "qwen2":
            block |= {"self_attn.q_proj.bias": (query,), "self_attn.k_proj.bias": (key,)}
            block |= {"self_attn.v_proj.bias": (key,)}
        if architecture == "qwen3":
            block |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
        for name, shape in block.items():
            yield f"model.layers.{layer}.{name}", shape
    yield "model.norm.weight", (width,)
    if not hparams.get("tie_word_embeddings"):
        yield HEAD, (int(hparams["vocab_size"]), width)


def _computed(hparams: Hparams) -> Iterator[PlannedTensor]:
    """Llama 3's rope scaling goes into the file as one divisor a frequency."""
    if rope_type(hparams) == "llama3":
        factors = llama3_rope_factors(hparams)
        yield PlannedTensor("rope_freqs.weight", factors.shape, half=False, values=factors)
