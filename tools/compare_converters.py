"""Compare our converter with llama.cpp's own: tensors bit for bit, metadata key by key.

    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
    tar xzf llama_cpp_python-0.3.36.tar.gz
    python -m tools.compare_converters llama_cpp_python-0.3.36 [CHECKPOINT ...]

llama.cpp's converter lies in that source distribution (vendor/llama.cpp); it is
run as it is, in a process of its own. Without CHECKPOINT small checkpoints of
every supported family are made. One thing llama.cpp's does not find by itself: it
knows a pre-tokeniser by a hash over one published vocabulary, and the small
ones are not published, so it is given the name that ours recognised
(--their-own-pre leaves it to its hashes, for published checkpoints).

Prints every difference with its reason and exits with 1 if one has none.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGUFReader

from edge_router.convert.source import CheckpointSource, open_source
from edge_router.convert.vocabulary import CONTROL, UNKNOWN, load_tokenizer, read_vocabulary
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError
from tests.checkpoints import FAMILIES, write_checkpoint

# Run in the other converter's folder; its arguments follow.
_THEIRS: Final = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/gguf-py"]
import conversion.base as base
if {pre!r}:
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: {pre!r}
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""


def theirs(root: Path, checkpoint: Path, target: Path, pre: str) -> str:
    """Run llama.cpp's converter; returns what it said when it failed, "" when it did not."""
    code = _THEIRS.format(root=str(root), pre=pre)
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), "--outtype", "f16", "--outfile", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


@cache
def metadata(reader: GGUFReader) -> dict[str, Any]:
    """Values by key, without the counts that every file has; seconds for a real vocabulary."""
    return {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}


def tensor_differences(ours: GGUFReader, their: GGUFReader) -> Iterator[tuple[str, str]]:
    """(what differs, why) in names, order, shapes, types and bytes."""
    a, b = {t.name: t for t in ours.tensors}, {t.name: t for t in their.tensors}
    for name in sorted(a.keys() ^ b.keys()):
        yield f"tensor {name} is only in {'ours' if name in a else 'theirs'}", ""
    for name in sorted(a.keys() & b.keys()):
        if a[name].shape.tolist() != b[name].shape.tolist():
            yield f"tensor {name} has another shape", ""
        elif a[name].tensor_type != b[name].tensor_type:
            yield f"tensor {name} is {a[name].tensor_type} in ours, {b[name].tensor_type}", ""
        elif not np.array_equal(a[name].data.view(np.uint8), b[name].data.view(np.uint8)):
            yield f"tensor {name} has other bytes", _rounding(name, a[name].data, b[name].data)
    if a.keys() == b.keys() and list(a) != list(b):
        yield "the tensors are in another order", ""


def _rounding(name: str, ours: Any, their: Any) -> str:
    furthest = float(np.abs(ours / their - 1).max())
    if name != "rope_freqs.weight" or furthest > 1e-6:
        return ""
    return f"numpy's and PyTorch's float32 powers differ in the last bit (by {furthest:.1e} of it)"


def metadata_differences(ours: GGUFReader, their: GGUFReader) -> Iterator[tuple[str, str]]:
    """(key, what differs)."""
    a, b = metadata(ours), metadata(their)
    for key in sorted(a.keys() | b.keys()):
        if key not in b:
            yield key, f"only in ours: {_short(a[key])}"
        elif key not in a:
            yield key, f"only in theirs: {_short(b[key])}"
        elif a[key] != b[key]:
            yield key, f"{_short(a[key])} in ours, {_short(b[key])} in theirs"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:56]} ..."


def reason(key: str, ours: GGUFReader, their: GGUFReader, file: Path) -> str:
    """Why a metadata value differs, "" when it must not."""
    a, b = metadata(ours), metadata(their)
    if key in ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"):
        return "ours always says what transformers does"
    if key == "tokenizer.ggml.add_sep_token" and not b.get(key):
        return "false is what llama.cpp takes without it"
    if key.endswith("_token_id") and key not in b:
        return "theirs looks for special tokens in tokenizer.json and config.json only"
    if key == "tokenizer.ggml.add_space_prefix":
        return "ours says what the tokenizer does, theirs copies a key of tokenizer_config.json"
    if not key.startswith("tokenizer.ggml."):
        return ""
    if key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type") and len(a[key]) > len(b[key]):
        return f"theirs has no tokens for ids beyond the tokenizer's{_refusal(file)}"
    types = a["tokenizer.ggml.token_type"]
    pairs = enumerate(zip(a.get(key, ()), b.get(key, ()), strict=False))
    if all(types[i] in (CONTROL, UNKNOWN) for i, (x, y) in pairs if x != y):
        return "only of control tokens, which are found by their text before scores are looked at"
    if key == "tokenizer.ggml.scores" and len(set(b[key])) < 10:
        return "there is no tokenizer.model: ours are the merges' ranks, theirs all the same"
    return ""


def _refusal(file: Path) -> str:
    try:
        LlamaModel.load(file).close()
    except UserError as error:
        return f"; llama.cpp refuses it ({str(error).rpartition(': ')[2]})"
    return ""


def compare(root: Path, checkpoint: Path, scratch: Path, *, their_own_pre: bool) -> int:
    """Convert with both and print what differs; returns the number of unexplained differences."""
    source = open_source(checkpoint)
    assert isinstance(source, CheckpointSource)
    ours, their = scratch / "ours.gguf", scratch / "theirs.gguf"
    source.write(ours, lambda n_bytes: None, check=True)
    pre = read_vocabulary(checkpoint, load_tokenizer(checkpoint), source.n_vocab).pre
    failed = theirs(root, checkpoint, their, "" if their_own_pre else pre)
    if failed:
        print(f"{checkpoint.name}: llama.cpp's converter failed: {failed}")
        return 1
    a, b = GGUFReader(ours), GGUFReader(their)
    wrong, other = list(tensor_differences(a, b)), list(metadata_differences(a, b))
    size = sum(int(t.n_bytes) for t in a.tensors) / 1e6
    print(f"{checkpoint.name} ({pre}): {len(a.tensors)} tensors, {size:.1f} MB")
    for line, why in wrong:
        print(f"    {line}\n        {why or 'NOT EXPLAINED'}")
    if not wrong:
        print("    names, order, shapes, types and bytes are the same")
    print(f"    {len(metadata(a)) - len(other)} of {len(metadata(a))} metadata keys are the same")
    unexplained = sum(not why for _, why in wrong)
    for key, what in other:
        why = reason(key, a, b, their)
        unexplained += not why
        print(f"    {key}: {what}\n        {why or 'NOT EXPLAINED'}")
    for file in (ours, their):
        file.unlink()
    return unexplained


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="the unpacked source distribution")
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--their-own-pre", action="store_true", help="leave theirs to its hashes")
    args = parser.parse_intermixed_args()
    root = (args.source / "vendor" / "llama.cpp").resolve()
    if not (root / "convert_hf_to_gguf.py").is_file():
        sys.exit(f"{root} holds no convert_hf_to_gguf.py")
    unexplained = 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        made = [write_checkpoint(scratch / f, f) for f in FAMILIES if not args.checkpoints]
        for checkpoint in args.checkpoints or made:
            unexplained += compare(root, checkpoint, scratch, their_own_pre=args.their_own_pre)
    print(f"{unexplained} differences without a reason")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
