"""From a checkpoint to the shipped ladders: F16 GGUF, its tiers, and a `ladder.toml` each.

    python -m train.lm.export --run runs/lm --out models

The F16 file and the importance matrix that the tiers below four bits are made
with stay in the run's folder. All tiers go to models/household, which is the
ladder of the lowest and the highest; models/household-3 names three of them.
Nothing is imported from transformers here: the GGUF is written tensor by
tensor with the gguf package, under llama.cpp's names for Qwen3.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from numpy.typing import NDArray
from torch import Tensor

from edge_router.engine.fingerprint import file_sha256
from edge_router.engine.gguf_file import read_header
from edge_router.engine.imatrix import CHUNK, ImportanceMatrix, collect, write_imatrix
from edge_router.engine.quantise import quantise
from edge_router.engine.tensor_values import tensor_values
from edge_router.files.whole import whole
from edge_router.ladders.ladder_file import LADDER_FILE, TierEntry, read_ladder, write_ladder
from edge_router.screen.printable import say
from train.lm.episodes import draw_transcript
from train.lm.model import HouseholdLM, LmShape, load_model
from train.lm.vocabulary import CHAT_TEMPLATE, CONTROL, END, PAD, vocabulary

NAME = "household"
# Two tiers: the one that plays visibly worse and the one that does not. Of the three of
# household-3 each plays as well as the next.
LADDERS = {"household": ("iq1_s", "q8_0"), "household-3": ("q3_k_m", "q4_k_m", "q8_0")}
# The model is sure of nearly everything: on games of the train kind one step in seven has an
# entropy of 0.001 nats or more before it.
ROUTER = "entropy:0.002"
IMPORTANCE_EPISODES = 200  # some 45,000 tokens
CONTEXT = 1024  # sequences in training are at most 768 tokens long

# llama.cpp's name of a block's tensor -> ours
BLOCK_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
}


def tensors(model: HouseholdLM) -> Iterator[tuple[str, Tensor]]:
    """(llama.cpp name, weight) of every tensor; the composed embedding as a plain matrix."""
    state = model.state_dict()
    yield "token_embd.weight", model.embed_tokens().detach()
    yield "output_norm.weight", state["norm.weight"]
    for i in range(model.shape.layers):
        for theirs, ours in BLOCK_TENSORS.items():
            yield f"blk.{i}.{theirs}.weight", state[f"layers.{i}.{ours}.weight"]


def write_gguf(model: HouseholdLM, path: Path, half: bool = True) -> None:
    """Write the model as one GGUF, matrices in F16 (or F32), norms in F32."""
    with whole(path) as partial:
        writer = GGUFWriter(partial, "qwen3")
        _write_header(writer, model)
        _write_vocabulary(writer)
        for name, tensor in tensors(model):
            array: NDArray[np.float32] = tensor.float().numpy()
            if half and array.ndim == 2:
                writer.add_tensor(name, array.astype(np.float16))
            else:
                writer.add_tensor(name, array, raw_dtype=GGMLQuantizationType.F32)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf(path: Path, shape: LmShape) -> HouseholdLM:
    """A model with the weights of a GGUF of this shape, dequantised if need be."""
    model = HouseholdLM(shape)
    found = {
        name: torch.from_numpy(np.array(tensor_values(tensor)))
        for name, tensor in read_header(path).tensors.items()
    }
    state = {name: torch.zeros_like(w) for name, w in model.state_dict().items()}
    state["embed_tokens.own"] = found["token_embd.weight"]
    state["norm.weight"] = found["output_norm.weight"]
    for i in range(shape.layers):
        for theirs, ours in BLOCK_TENSORS.items():
            state[f"layers.{i}.{ours}.weight"] = found[f"blk.{i}.{theirs}.weight"]
    model.load_state_dict(state)
    return model


def _write_header(writer: GGUFWriter, model: HouseholdLM) -> None:
    shape = model.shape
    writer.add_name("edge-router household LM")
    writer.add_description("plays ALFWorld's text games; see models/household/README.md")
    writer.add_license("mit")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feedforward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_string("edge_router.prompt_style", NAME)


def _write_vocabulary(writer: GGUFWriter) -> None:
    v = vocabulary()
    first_byte = len(CONTROL)
    kinds = [
        TokenType.CONTROL if i < first_byte
        else TokenType.NORMAL if i < v.first_word
        else TokenType.USER_DEFINED
        for i in range(len(v.tokens))
    ]  # fmt: skip
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(v.tokens))
    writer.add_token_types(kinds)
    # llama.cpp insists on merges; this one can never apply, its result is no token
    writer.add_token_merges([f"{v.tokens[first_byte]} {v.tokens[first_byte]}"])
    writer.add_eos_token_id(v.ids[END])
    writer.add_pad_token_id(v.ids[PAD])
    writer.add_bos_token_id(v.ids[END])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def importance(f16: Path) -> ImportanceMatrix:
    """Which columns matter, measured on fresh episodes of the training kind."""
    rng = random.Random("imatrix")
    return collect(f16, (draw_transcript(rng).ids[:CHUNK] for _ in range(IMPORTANCE_EPISODES)))


def write_tiers(f16: Path, folder: Path, tiers: Sequence[str]) -> None:
    """Quantise `f16` to every tier."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix = importance(f16)
    write_imatrix(matrix, f16.with_name(f"{NAME}-imatrix.gguf"))
    for tier in tiers:
        path = folder / f"{NAME}-{tier}.gguf"
        few_bits = int(tier.lstrip("iq")[0]) < 4
        report = quantise(f16, path, tier, importance=matrix if few_bits else None)
        for fallback in report.fallbacks:
            say(f"{tier}: {fallback.tensor} became {fallback.got}, not {fallback.wanted}")
        say(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


def describe(name: str, out: Path, tiers: Sequence[str]) -> None:
    """Describe the ladder `out/name` of tiers, low to high, whose files lie in `out/NAME`.

    New weights get the threshold router: an older one was trained for other weights.
    """
    folder = out / name
    entries = []
    for tier in tiers:
        path = out / NAME / f"{NAME}-{tier}.gguf"
        file = os.path.relpath(path, folder)
        entries.append(TierEntry(tier, file, file_sha256(path), path.stat().st_size))
    write_ladder(folder, {"name": name, "prompt": NAME, "router": ROUTER}, entries)
    say(f"{folder / LADDER_FILE} suggests the router {read_ladder(folder).router}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/lm"))
    parser.add_argument("--out", type=Path, default=Path("models"))
    args = parser.parse_args()
    f16 = args.run / f"{NAME}-f16.gguf"
    with torch.inference_mode():
        write_gguf(load_model(args.run), f16)
    write_tiers(f16, args.out / NAME, sorted({t for tiers in LADDERS.values() for t in tiers}))
    for name, tiers in LADDERS.items():
        describe(name, args.out, tiers)


if __name__ == "__main__":
    main()
