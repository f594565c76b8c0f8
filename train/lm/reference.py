"""The model as a Hugging Face Qwen3 checkpoint, to check everything else against.

    python -m train.lm.reference --run runs/lm --out runs/lm/hf --steps 200

transformers' own Qwen3 code runs these weights in float32. `--steps` lets
llama.cpp write that many steps with the F16 GGUF and puts each to transformers:
would it, greedily, have written the same text? The tests do so with the
weights that are shipped.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.sampling import Sampler
from edge_router.screen.printable import say
from train.lm.episodes import MAX_TOKENS, draw_transcript
from train.lm.export import CONTEXT, NAME
from train.lm.model import HouseholdLM, load_model
from train.lm.vocabulary import AGENT, CHAT_TEMPLATE, CONTROL, END, PAD, vocabulary

STEP_TOKENS = 96


def hf_model(model: HouseholdLM) -> Qwen3ForCausalLM:
    """The same weights in transformers' Qwen3, float32."""
    shape, v = model.shape, vocabulary()
    config = Qwen3Config(
        vocab_size=len(v.tokens),
        hidden_size=shape.width,
        intermediate_size=shape.feedforward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_dim,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=shape.eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=True,
        eos_token_id=v.ids[END],
        pad_token_id=v.ids[PAD],
        bos_token_id=None,
    )
    reference = Qwen3ForCausalLM(config)
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("embed_tokens."):
            continue
        for matrix in ("gate_proj", "up_proj", "down_proj"):
            name = name.replace(f".{matrix}.", f".mlp.{matrix}.")
        weights[f"model.{name}"] = tensor
    weights["model.embed_tokens.weight"] = model.embed_tokens().detach()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    reference.load_state_dict(weights)
    reference.train(False)
    return reference


def hf_tokenizer() -> PreTrainedTokenizerFast:
    """The vocabulary as a byte-level BPE without merges, words and entities as added tokens."""
    v = vocabulary()
    table = {token: i for i, token in enumerate(v.tokens[: v.first_word])}
    tokenizer = Tokenizer(models.BPE(vocab=table, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in CONTROL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in v.tokens[v.first_word :]])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def disagreements(reference: Qwen3ForCausalLM, steps: Sequence[tuple[list[int], list[int]]]) -> int:
    """How many of the (prompt, written) token pairs transformers would have written otherwise."""
    end, different = vocabulary().ids[END], 0
    for prompt, written in steps:
        with torch.inference_mode():
            logits = reference(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 :]
        different += logits.argmax(-1).tolist() != [*written, end]
    return different


def written_steps(f16: Path, count: int) -> list[tuple[list[int], list[int]]]:
    """What a GGUF writes greedily at the first `count` steps of episodes drawn for training."""
    rng, agent = random.Random("reference"), vocabulary().ids[AGENT]
    steps: list[tuple[list[int], list[int]]] = []
    with Ladder.load([TierSpec("f16", f16)], n_ctx=CONTEXT) as ladder:
        while len(steps) < count:
            ids = draw_transcript(rng).ids[:MAX_TOKENS]
            for prompt in (ids[: i + 1] for i, token in enumerate(ids) if token == agent):
                ladder.prefill(prompt)
                written = ladder.generate(0, Sampler(), max_tokens=STEP_TOKENS).tokens
                steps.append((prompt, list(written)))
    return steps[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/lm"))
    parser.add_argument("--out", type=Path, default=Path("runs/lm/hf"))
    parser.add_argument("--steps", type=int, default=0, help="compare this many greedy steps")
    args = parser.parse_args()
    reference = hf_model(load_model(args.run))
    reference.save_pretrained(args.out)
    hf_tokenizer().save_pretrained(args.out)
    say(f"wrote {args.out}")
    if args.steps:
        steps = written_steps(args.run / f"{NAME}-f16.gguf", args.steps)
        print(f"{disagreements(reference, steps)} of {len(steps)} greedy steps differ")


if __name__ == "__main__":
    main()
