"""Tiny Hugging Face checkpoints with random weights, made by transformers itself.

Each has the features of a published family in small: its configuration, its
kind of tokenizer (trained here on a few lines), its chat template. 256 wide, so
that K-quants fit, unless a test asks for another width.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_router.agent.template import CHATML
from edge_router.convert.tokens import CORPUS
from edge_router.convert.vocabulary import PATTERNS

VOCABULARY: Final = 1000
SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
INST: Final = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}"
    " [/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """`model_type` is transformers'; `tokenizer` one of ours; the rest goes into the config."""

    model_type: str
    tokenizer: str
    config: dict[str, Any]


_LLAMA3_ROPE: Final = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
FAMILIES: Final[dict[str, Family]] = {
    "llama2": Family("llama", "sentencepiece", {"tie_word_embeddings": False}),
    "llama2-json": Family("llama", "sentencepiece-json", {}),
    "llama3": Family(
        "llama", "llama-bpe", {"rope_parameters": _LLAMA3_ROPE, "max_position_embeddings": 2048}
    ),
    "llama32": Family(
        "llama",
        "llama-bpe",
        {
            "rope_parameters": {**_LLAMA3_ROPE, "factor": 32.0},
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
            "head_dim": 64,
        },
    ),
    "smollm2": Family("llama", "smollm", {"tie_word_embeddings": True}),
    "mistral": Family("mistral", "sentencepiece-first", {"sliding_window": None, "head_dim": 32}),
    "qwen2": Family("qwen2", "qwen2", {"tie_word_embeddings": True}),
    "qwen2-untied": Family("qwen2", "gpt-2", {"tie_word_embeddings": False}),
    "qwen3": Family("qwen3", "qwen2", {"tie_word_embeddings": True, "head_dim": 64}),
    "qwen3-yarn": Family(
        "qwen3",
        "qwen2",
        {
            "head_dim": 64,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 256,
            },
        },
    ),
    "llama-linear": Family(
        "llama",
        "llama-bpe",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
    ),
    "llama-biased": Family("llama", "llama-bpe", {"attention_bias": True, "mlp_bias": True}),
}


def write_checkpoint(
    folder: Path,
    family: str = "qwen3",
    *,
    width: int = 256,
    dtype: str = "bfloat16",
    shard: str = "100GB",
    seed: int = 0,
) -> Path:
    """Write the checkpoint into `folder`; `shard` ("1MB") is the size of a safetensors file."""
    write_tokenizer(folder, FAMILIES[family].tokenizer)
    return write_model(folder, family, width=width, dtype=dtype, shard=shard, seed=seed)


def write_model(
    folder: Path,
    family: str,
    *,
    width: int,
    vocabulary: int = VOCABULARY,
    dtype: str = "bfloat16",
    shard: str = "100GB",
    seed: int = 0,
) -> Path:
    """Configuration and random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    made = FAMILIES[family]
    settings = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "max_position_embeddings": 512,
        "initializer_range": 0.08,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = AutoConfig.for_model(made.model_type, **(settings | made.config))
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():  # transformers begins with biases 0 and norms 1, which prove nothing
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0.0, 0.3)
            elif "norm" in name:
                weight.normal_(1.0, 0.2)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
    return folder


def write_tokenizer(folder: Path, kind: str) -> None:
    """Train a tokenizer of a kind and save it as a published checkpoint has it."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind.startswith("sentencepiece"):
        _train_sentencepiece(folder)
        save_sentencepiece(folder, legacy=kind != "sentencepiece-first")
        if kind != "sentencepiece":
            _add_tokenizer_json(folder)
        if kind == "sentencepiece-json":
            (folder / "tokenizer.model").unlink()
    else:
        save_byte_level(folder, _train_byte_level(kind), kind, bos=SPECIALS[0], eos=SPECIALS[2])


def _lines() -> list[str]:
    return [*CORPUS, *(f"{word} {number}" for word in CORPUS[1].split() for number in range(40))]


def _train_byte_level(kind: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    tokenizer.pre_tokenizer = _cut(kind)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 20,  # embeddings are padded beyond the tokenizer
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(), trainer)
    return tokenizer


def _cut(kind: str) -> Any:
    """The pre-tokeniser that llama.cpp calls `kind`."""
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel
    if kind == "gpt-2":
        return byte_level(add_prefix_space=False)
    if kind == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, byte_level(add_prefix_space=False)])
    (pattern,) = [p for p, name in PATTERNS.items() if name == kind]
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, byte_level(add_prefix_space=False, use_regex=False)])


def save_byte_level(folder: Path, tokenizer: Any, kind: str, *, bos: str | None, eos: str) -> None:
    """Save a byte-level `tokenizers.Tokenizer` with what goes with its kind."""
    from tokenizers import decoders, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer.pre_tokenizer = _cut(kind)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    if kind == "llama-bpe":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=bos or eos,
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens(["<tool_call>", "<think>"])  # added, and not special
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


def _train_sentencepiece(folder: Path) -> None:
    """A tokenizer.model as Llama 2 and Mistral come with."""
    import sentencepiece

    text = folder / "corpus.txt"
    text.write_text("\n".join(" ".join(line.split()) for line in _lines()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.Train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCABULARY - 20,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        bos_id=1,
        eos_id=2,
        unk_id=0,
        minloglevel=2,
    )
    text.unlink()
    (folder / "tokenizer.vocab").unlink()


def save_sentencepiece(folder: Path, *, legacy: bool) -> None:
    """The settings beside a tokenizer.model."""
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": legacy,
        "clean_up_tokenization_spaces": False,
        "chat_template": INST,
        "added_tokens_decoder": {
            str(i): {"content": text, "special": True, "normalized": False}
            | {"lstrip": False, "rstrip": False, "single_word": False}
            for i, text in enumerate(("<unk>", "<s>", "</s>"))
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _add_tokenizer_json(folder: Path) -> None:
    """The fast tokenizer beside tokenizer.model, as published checkpoints have both."""
    from transformers import LlamaTokenizer

    LlamaTokenizer.from_pretrained(folder).save_pretrained(folder)


def write_f16(source: Path, target: Path, *, check: bool = True, **how: Any) -> tuple[str, ...]:
    """The F16 GGUF of a source that is none; returns what the user is told."""
    from edge_router.convert.gguf_source import GgufSource
    from edge_router.convert.source import open_source

    opened = open_source(source, **how)
    assert not isinstance(opened, GgufSource)
    return opened.write(target, lambda n_bytes: None, check=check)


Edit = Callable[[dict[str, Any]], None]


def edit_json(path: Path, change: Edit) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
