"""A quantised GGUF as a Hugging Face checkpoint, for those who have nothing else of a model.

    to_checkpoint(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), Path("base"))

The weights are what llama.cpp computes with: the values of the quantised blocks, rounded to F16.
What quantising lost does not come back. It is the way of `convert.architecture` and
`convert.vocabulary` backwards, for the same architectures; tokenizers that are byte-level BPE.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.architecture import ARCHITECTURES, EMBEDDINGS, HEAD, expected_shapes
from edge_router.convert.f16 import rotated_in_halves
from edge_router.convert.vocabulary import CONTROL, NORMAL, PATTERNS, USER_DEFINED
from edge_router.engine.gguf_file import EMBEDDING, OUTPUT, GgufHeader, read_header
from edge_router.engine.tensor_values import tensor_values
from edge_router.errors import UserError
from edge_router.files.whole import make_folder

_MODEL_CLASSES: Final = {ours: theirs for theirs, ours in reversed(list(ARCHITECTURES.items()))}
_PRES: Final = ("gpt-2", "smollm", *PATTERNS.values())
_OTHERS: Final = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def to_checkpoint(file: Path, folder: Path) -> None:
    """Write the model of a GGUF as a checkpoint folder. Raises `UserError`."""
    header = read_header(file)
    _require_known(header)
    config = hf_config(header)
    make_folder(folder)
    _write_tokenizer(header, folder)
    _write_weights(header, config, folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _require_known(header: GgufHeader) -> None:
    """Refuse what the way back is not known of."""
    pre = header.metadata.get("tokenizer.ggml.pre", "")
    if header.architecture not in _MODEL_CLASSES:
        why = f"its architecture is {header.architecture or 'not named'}"
    elif header.metadata.get("tokenizer.ggml.model") != "gpt2" or pre not in _PRES:
        why = f"its tokenizer is none of {', '.join(_PRES)}"
    elif "rope_freqs.weight" in header.tensors or _number(header, "rope.scaling.factor", 0.0):
        why = "its rope is scaled"
    elif len(header.parts) > 1:
        why = "it comes in several files"
    else:
        return
    raise UserError(
        f"{header.path} cannot be made a checkpoint: {why}; give the model's own checkpoint"
    )


def _number(header: GgufHeader, key: str, default: float | None = None) -> float:
    found = header.metadata.get(f"{header.architecture}.{key}", default)
    if found is None:
        raise UserError(f"{header.path} does not say its {key}")
    return float(found)


def hf_config(header: GgufHeader) -> dict[str, Any]:
    """config.json, of an architecture that is supported."""
    heads = int(_number(header, "attention.head_count"))
    width = int(_number(header, "embedding_length"))
    name = _MODEL_CLASSES[header.architecture]
    config: dict[str, Any] = {
        "architectures": [name],
        "model_type": header.architecture,
        "hidden_size": width,
        "intermediate_size": int(_number(header, "feed_forward_length")),
        "num_hidden_layers": int(_number(header, "block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(_number(header, "attention.head_count_kv", heads)),
        "head_dim": int(_number(header, "attention.key_length", width // heads)),
        "max_position_embeddings": int(_number(header, "context_length")),
        "rms_norm_eps": float(f"{_number(header, 'attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": _number(header, "rope.freq_base", 10_000.0),
        },
        "hidden_act": "silu",
        "tie_word_embeddings": OUTPUT not in header.tensors,
        "vocab_size": header.tensors[EMBEDDING].shape[1],
        "dtype": "float16",
    }
    ids = {f"{ours}_token_id": _token_id(header, theirs) for ours, theirs in _OTHERS.items()}
    return config | {key: token for key, token in ids.items() if token is not None}


def _token_id(header: GgufHeader, kind: str) -> int | None:
    found = header.metadata.get(f"tokenizer.ggml.{kind}_token_id")
    return None if found is None else int(found)


# -- weights --------------------------------------------------------------------------------


def _write_weights(header: GgufHeader, config: dict[str, Any], folder: Path) -> None:
    from safetensors.numpy import save_file

    values = dict(_weights(header, config))
    for name, shape in expected_shapes(header.architecture, config):
        if name not in values or values[name].shape != shape:
            raise UserError(f"{header.path} is damaged: it lacks {name} in the shape {shape}")
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})


def _weights(
    header: GgufHeader, config: dict[str, Any]
) -> Iterator[tuple[str, NDArray[np.float16] | NDArray[np.float32]]]:
    """Hugging Face's name and values of every tensor."""
    names = hf_names(header)
    values: Any
    for ours, tensor in header.tensors.items():
        theirs, values = names[ours], tensor_values(tensor)
        if header.architecture == "llama" and ".q_proj." in theirs:
            values = rotated_in_halves(values, config["num_attention_heads"])
        if header.architecture == "llama" and ".k_proj." in theirs:
            values = rotated_in_halves(values, config["num_key_value_heads"])
        yield theirs, values.astype(np.float16) if values.ndim > 1 else values


def hf_names(header: GgufHeader) -> dict[str, str]:
    """Hugging Face's name of every tensor that such a model has, by llama.cpp's."""
    import gguf

    layers = int(_number(header, "block_count"))
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[header.architecture]
    names = gguf.get_tensor_name_map(arch, layers)
    config = {**hf_config(header), "tie_word_embeddings": False}
    theirs = [name for name, _ in expected_shapes(header.architecture, config)]
    found = {names.get_name(n, try_suffixes=(".weight", ".bias")) or "": n for n in theirs}
    strange = sorted(set(header.tensors) - set(found))
    if strange or EMBEDDINGS not in found.values() or HEAD not in found.values():
        raise UserError(f"{header.path} has a tensor {strange[0]}, which is not known here")
    return found


# -- the tokenizer --------------------------------------------------------------------------


def _write_tokenizer(header: GgufHeader, folder: Path) -> None:
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    fields = gguf.GGUFReader(header.path).fields
    tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
    types: list[int] = fields["tokenizer.ggml.token_type"].contents()
    pre = header.metadata["tokenizer.ggml.pre"]
    vocabulary = {t: i for i, t in enumerate(tokens) if types[i] in (NORMAL, CONTROL, USER_DEFINED)}
    pairs = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    merges = [pair for pair in pairs if "".join(pair) in vocabulary]  # others never happen
    backend: Any = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
    backend.pre_tokenizer = cut(pre)
    backend.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    for kind, add in ((CONTROL, backend.add_special_tokens), (USER_DEFINED, backend.add_tokens)):
        texts = [t for t, its in zip(tokens, types, strict=True) if its == kind]
        add([AddedToken(t, special=kind == CONTROL, normalized=False) for t in texts])
    named = {f"{k}_token": _token_id(header, theirs) for k, theirs in _OTHERS.items()}
    if header.metadata.get("tokenizer.ggml.add_bos_token") == "true":
        _put_before(backend, tokens, named["bos_token"])
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        **{key: tokens[token] for key, token in named.items() if token is not None},
    )
    tokenizer.chat_template = header.metadata.get("tokenizer.chat_template")
    tokenizer.save_pretrained(folder)


def _put_before(backend: Any, tokens: list[str], bos: int | None) -> None:
    from tokenizers import processors

    if bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A", special_tokens=[(tokens[bos], bos)]
        )


def cut(pre: str) -> Any:
    """The pre-tokeniser that llama.cpp calls `pre`."""
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel
    if pre == "gpt-2":
        return byte_level(add_prefix_space=False)
    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, byte_level(add_prefix_space=False)])
    (pattern,) = [p for p, name in PATTERNS.items() if name == pre]
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, byte_level(add_prefix_space=False, use_regex=False)])
