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

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.checkpoint import Checkpoint, SourceTensor
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

Hparams = Mapping[str, Any]


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the F16 file; `shape` is rows first, `half` whether it is to be F16.

    It comes from `source`, its rows rearranged for rotation in pairs when
    `rotated_heads` is not 0, or is `values` themselves.
    """

    name: str
    shape: tuple[int, ...]
    half: bool
    source: SourceTensor | None = None
    rotated_heads: int = 0
    values: NDArray[np.float32] | None = None

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * (2 if self.half else 4)


def architecture_of(checkpoint: Checkpoint) -> str:
    """llama.cpp's name of the architecture. Raises `UserError` for one that is not supported."""
    named = checkpoint.config.get("architectures") or ["nothing"]
    found = ARCHITECTURES.get(str(named[0]))
    if found is None:
        raise UserError(
            f"{checkpoint.folder} is a {named[0]}, which cannot be converted; supported are "
            f"{SUPPORTED}"
        )
    if "quantization_config" in checkpoint.config:
        method = checkpoint.config["quantization_config"].get("quant_method", "unknown")
        raise UserError(
            f"{checkpoint.folder} is quantised already ({method}); take the original checkpoint"
        )
    return found


def read_hparams(folder: Path) -> dict[str, Any]:
    """The configuration with the architecture's defaults filled in. Raises `UserError`."""
    from transformers import AutoConfig

    try:
        hparams: dict[str, Any] = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ).to_dict()
    except Exception as error:  # transformers raises whatever its parts raise
        told = " ".join(str(error).split())
        raise UserError(f"{folder / 'config.json'} cannot be understood: {told}") from error
    _require_supported(folder, hparams)
    return hparams


def _require_supported(folder: Path, hparams: Hparams) -> None:
    """Refuse what llama.cpp would compute differently."""
    kind = rope_type(hparams)
    if kind not in ("default", "linear", "llama3", "yarn"):
        raise UserError(
            f"{folder} scales its rope by {kind!r}, which cannot be converted; supported are "
            "default, linear, llama3 and yarn"
        )
    if hparams.get("hidden_act") != "silu":
        raise UserError(f"{folder} uses the activation {hparams.get('hidden_act')!r}, not silu")
    if rope(hparams).get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{folder} rotates only a part of each head, which cannot be converted")
    if "sliding_attention" in (hparams.get("layer_types") or ()):
        raise UserError(f"{folder} uses sliding-window attention, which llama.cpp lacks for it")


def rope(hparams: Hparams) -> Mapping[str, Any]:
    """The rope's parameters, wherever this version of transformers keeps them."""
    found: Mapping[str, Any] = hparams.get("rope_parameters") or hparams.get("rope_scaling") or {}
    return found


def rope_type(hparams: Hparams) -> str:
    return str(rope(hparams).get("rope_type") or rope(hparams).get("type") or "default")


def rope_base(hparams: Hparams) -> float:
    return float(rope(hparams).get("rope_theta") or hparams.get("rope_theta") or 10_000.0)


def head_width(hparams: Hparams) -> int:
    return int(hparams.get("head_dim") or hparams["hidden_size"] // hparams["num_attention_heads"])


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
    writer.add_rope_freq_base(rope_base(hparams))
    _write_rope_scaling(writer, hparams)
    if hparams.get("head_dim"):
        writer.add_key_length(hparams["head_dim"])
        writer.add_value_length(hparams["head_dim"])
    if architecture == "llama":
        writer.add_vocab_size(hparams["vocab_size"])
        writer.add_rope_dimension_count(head_width(hparams))


def _write_rope_scaling(writer: GGUFWriter, hparams: Hparams) -> None:
    from gguf import RopeScalingType

    scaling, kind = rope(hparams), rope_type(hparams)
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind != "yarn":
        return
    writer.add_rope_scaling_orig_ctx_len(
        scaling.get("original_max_position_embeddings") or hparams["max_position_embeddings"]
    )
    optional = {
        "attention_factor": writer.add_rope_scaling_yarn_attn_factor,
        "beta_fast": writer.add_rope_scaling_yarn_beta_fast,
        "beta_slow": writer.add_rope_scaling_yarn_beta_slow,
    }
    for key, add in optional.items():
        if scaling.get(key) is not None:
            add(scaling[key])


# -- tensors --------------------------------------------------------------------------------


def plan(checkpoint: Checkpoint, architecture: str, hparams: Hparams) -> list[PlannedTensor]:
    """The tensors of the F16 file. Raises `UserError` when some are missing or misshapen."""
    import gguf

    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, int(hparams["num_hidden_layers"]))
    sources = dict(_needed(checkpoint, hparams))
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


def _needed(checkpoint: Checkpoint, hparams: Hparams) -> Iterator[tuple[str, SourceTensor]]:
    """The tensors to be written; an output matrix tied to the embeddings is not."""
    for name, source in checkpoint.tensors.items():
        if name.endswith(_NOT_NEEDED):
            continue
        if name == "lm_head.weight" and hparams.get("tie_word_embeddings"):
            continue
        yield name, source


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
    query = int(hparams["num_attention_heads"]) * head
    key = int(hparams["num_key_value_heads"]) * head
    yield "model.embed_tokens.weight", (int(hparams["vocab_size"]), width)
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
        yield "lm_head.weight", (int(hparams["vocab_size"]), width)


def _computed(hparams: Hparams) -> Iterator[PlannedTensor]:
    """Llama 3's rope scaling goes into the file as one divisor a frequency."""
    if rope_type(hparams) == "llama3":
        factors = llama3_rope_factors(hparams)
        yield PlannedTensor("rope_freqs.weight", factors.shape, half=False, values=factors)


def llama3_rope_factors(hparams: Hparams) -> NDArray[np.float32]:
    """What each frequency is divided by, shape (head width / 2,).

    Llama 3.1 stretches wavelengths beyond the original context by `factor`,
    leaves the short ones alone and blends in between (transformers,
    modeling_rope_utils, "llama3"). In float32 throughout, as there and in
    llama.cpp's converter, so that the numbers are the same to the last bit.
    """
    scaling, width, single = rope(hparams), head_width(hparams), np.float32
    exponents = np.arange(0, width, 2, dtype=single) / single(width)
    frequencies = single(1.0) / single(rope_base(hparams)) ** exponents
    wavelengths = single(2 * math.pi) / frequencies
    original = float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    factor = single(scaling["factor"])
    blend = (single(original) / wavelengths - single(low)) / single(high - low)
    stretched = single(1.0) / ((single(1.0) - blend) / factor + blend)
    stretched = np.where(wavelengths > original / low, factor, stretched)
    factors: NDArray[np.float32] = np.where(wavelengths < original / high, single(1.0), stretched)
    return factors
