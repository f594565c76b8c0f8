"""How long converting takes and how much memory, for a checkpoint of a real shape.

    python -m tools.measure_convert FOLDER [--shape qwen3-1.7b] [--tiers q3_k_m,q4_k_m,q8_0]

writes a checkpoint of that shape with random BF16 weights in shards of 1 GB (kept in
FOLDER for the next time), converts it in a process of its own and watches that
process and its children: anonymous memory (what must be there) and resident
memory with mapped files (what the system may take back). Results go to the
screen and to FOLDER/measured.json. Needs the machine for itself, and on disk 11 GB for
qwen3-1.7b with three tiers; each phase is printed as it ends. Interrupted, the checkpoint
is not written again, but a ladder is: remove its folder first, because half a conversion
has no time to tell.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_router.agent.template import CHATML
from edge_router.bench.synthetic import SHAPES, SPECIALS, Shape, byte_level_bpe
from edge_router.convert.architecture import expected_shapes
from edge_router.convert.vocabulary import PATTERNS
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.work.processes import python_module

SHARD: Final = 1_000_000_000
POOL: Final = 16_777_213  # random values, used again and again
HUGGING_FACE: Final = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
ENDED: Final = re.compile(r"(.+): \S+(?: MB)?, [\d:]+ gone$")  # "q4_k_m: 107.1/107.1 MB, 0:12 gone"
TOLD: Final = re.compile(r"(?:^|, )([^,]+) ([\d.]+) s")  # "F16 1.2 s, q4_k_m 3.4 s"
STATUS: Final = re.compile(r"^(RssAnon|VmRSS):\s+(\d+) kB", re.MULTILINE)


def write_checkpoint(shape: Shape, folder: Path) -> None:
    """Random weights in shards, a configuration, and a tokenizer of the true size."""
    from transformers import AutoConfig

    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "tie_word_embeddings": True,
        "architectures": [
            "Qwen3ForCausalLM" if shape.architecture == "qwen3" else "LlamaForCausalLM"
        ],
    }
    config = AutoConfig.for_model(shape.architecture, **settings)
    config.save_pretrained(folder)
    _write_tokenizer(shape, folder)
    weight_map: dict[str, str] = {}
    for number, part in enumerate(_parts(shape, config.to_dict())):
        name = f"model-{number:05}.safetensors"
        weight_map |= dict.fromkeys(part, name)
        _write_shard(folder / name, part, number)
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _parts(shape: Shape, hparams: dict[str, Any]) -> Iterator[dict[str, tuple[int, ...]]]:
    """The tensors of each shard."""
    part: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, dims in expected_shapes(shape.architecture, hparams):
        n_bytes = 2 * int(np.prod(dims))
        if part and size + n_bytes > SHARD:
            yield part
            part, size = {}, 0
        part[name] = dims
        size += n_bytes
    yield part


def _write_shard(path: Path, part: dict[str, tuple[int, ...]], seed: int) -> None:
    """Safetensors by hand: BF16 is the upper half of a float32."""
    header: dict[str, object] = {}
    at = 0
    for name, dims in part.items():
        end = at + 2 * int(np.prod(dims))
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    pool = np.random.default_rng(seed).standard_normal(POOL, dtype=np.float32) * np.float32(0.02)
    halves = (pool.view(np.uint32) >> 16).astype("<u2")
    ones = np.full(65_536, 0x3F80, dtype="<u2")
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for dims in part.values():
            count, source = int(np.prod(dims)), halves if len(dims) > 1 else ones
            for start in range(0, count, source.size):
                source[: min(source.size, count - start)].tofile(file)


def _write_tokenizer(shape: Shape, folder: Path) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens, merges = byte_level_bpe(shape.vocabulary - 200)
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs))
    kind = "qwen2" if shape.architecture == "qwen3" else "llama-bpe"
    (pattern,) = [p for p, name in PATTERNS.items() if name == kind]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=SPECIALS[2], bos_token=SPECIALS[0]
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


class Watch:
    """Peaks of a process and its children, in bytes, from /proc."""

    def __init__(self, pid: int) -> None:
        self.pid, self.phase = pid, "starting"
        self.by_phase: dict[str, tuple[int, int]] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.05):
            anonymous = resident = 0
            for pid in [self.pid, *_children(self.pid)]:
                found = _status(pid)
                anonymous += found.get("RssAnon", 0)
                resident += found.get("VmRSS", 0)
            before = self.by_phase.get(self.phase, (0, 0))
            self.by_phase[self.phase] = (max(before[0], anonymous), max(before[1], resident))


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def _status(pid: int) -> dict[str, int]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return {name: int(kilobytes) * 1024 for name, kilobytes in STATUS.findall(text)}


def convert(checkpoint: Path, out: Path, tiers: str) -> dict[str, Any]:
    """Run the command; seconds and peaks of each phase, and of all."""
    started = time.perf_counter()
    command = ["convert", str(checkpoint), "--tiers", tiers, "--out", str(out)]
    process = subprocess.Popen(
        python_module("edge_router.cli", *command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process.pid)
    phases: dict[str, dict[str, float]] = {}
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", file=sys.stderr)
        if found := ENDED.match(line):
            peak = watch.by_phase.get(watch.phase, (0, 0))
            phases[found[1]] = {"anonymous_bytes": peak[0], "resident_bytes": peak[1]}
            watch.phase = f"after {found[1]}"
    table = process.stdout.read() if process.stdout else ""
    watch.stop()
    code = process.wait()
    if code != 0:
        sys.exit(code)
    print(table)
    told = " ".join(table.partition("time: ")[2].partition("\n\n")[0].split())
    seconds = {match[1]: float(match[2]) for match in TOLD.finditer(told)}
    for phase, figures in phases.items():
        figures["seconds"] = seconds[phase]
    peaks = list(watch.by_phase.values())
    return {
        "seconds": time.perf_counter() - started,
        "peak_anonymous_bytes": max(p[0] for p in peaks),
        "peak_resident_bytes": max(p[1] for p in peaks),
        "phases": phases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="qwen3-1.7b", choices=sorted(SHAPES))
    parser.add_argument("--tiers", default="q3_k_m,q4_k_m,q8_0")
    args = parser.parse_args()
    checkpoint = args.folder / args.shape
    if not (checkpoint / "model.safetensors.index.json").is_file():
        print(f"writing {checkpoint}", file=sys.stderr)
        write_checkpoint(SHAPES[args.shape], checkpoint)
    out = args.folder / f"{args.shape}-ladder"
    if out.exists():
        sys.exit(f"{out} is there already; remove it to measure again")
    measured = convert(checkpoint, out, args.tiers)
    measured |= {"shape": args.shape, "tiers": args.tiers, "cpu": cpu_model()}
    measured |= {"cores": physical_cores(), "parameters": SHAPES[args.shape].parameters}
    (args.folder / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    print(f"{measured['seconds']:.0f} s in all on {cpu_model()}, {physical_cores()} cores")
    for name, phase in measured["phases"].items():
        print(f"  {name:24}{phase['seconds']:8.1f} s   {_memory(phase)}")
    print(f"peak {_memory(measured, 'peak_')}")


def _memory(found: dict[str, Any], prefix: str = "") -> str:
    anonymous = found[f"{prefix}anonymous_bytes"] / 1e9
    resident = found[f"{prefix}resident_bytes"] / 1e9
    return f"{anonymous:.2f} GB, {resident:.2f} GB with mapped files"


if __name__ == "__main__":
    main()
