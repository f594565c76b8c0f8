"""The household LM's model, batches, rollouts and training loop, on small shapes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.ladders.resolve import find_ladder
from edge_router.tasks.household.world import listing_key
from train.lm import batches
from train.lm.batches import chunk_batches, pad
from train.lm.episodes import draw_transcript, record, scatter_numbers
from train.lm.export import read_gguf, write_gguf
from train.lm.model import HouseholdLM, LmConfig, LmShape, rotary
from train.lm.plot import plot, read_log
from train.lm.reference import disagreements, hf_model, written_steps
from train.lm.rollout import CachedModel, held_out, play
from train.lm.train import LmTrainer, rate_at
from train.lm.vocabulary import AGENT, vocabulary
from train.lm.watched import summary

SMALL = LmShape(layers=2)


def random_model(shape: LmShape = SMALL, seed: int = 0) -> HouseholdLM:
    """A model whose every weight is random (a fresh one starts with zeroed projections)."""
    torch.manual_seed(seed)
    model = HouseholdLM(shape)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    return model


def forward(model: HouseholdLM, ids: list[int]) -> torch.Tensor:
    cos, sin = rotary(torch.arange(len(ids)), model.shape)
    logits: torch.Tensor = model(torch.tensor([ids]), cos, sin)[0]
    return logits


def test_the_loss_lies_on_the_experts_steps_and_not_on_mistakes() -> None:
    transcript, won = record(held_out(1)[0], random.Random(0), carelessness=0.0)
    assert won
    text = vocabulary().decode([i for i, w in zip(transcript.ids, transcript.weights, strict=True)
                                if w == 1.0])  # fmt: skip
    assert text.startswith(" plan:")
    assert text.endswith("<|end|>")
    careless, _ = record(held_out(1)[0], random.Random(0), carelessness=1.0)
    steps = careless.ids.count(vocabulary().ids[AGENT])
    learnt = vocabulary().decode([i for i, w in zip(careless.ids, careless.weights, strict=True)
                                  if w == 1.0])  # fmt: skip
    assert steps > 10
    assert learnt.count("<|end|>") == 1


def test_a_chunk_of_batches_depends_on_its_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK", 64)
    first, again, other = (chunk_batches(1, 5, 1024), chunk_batches(1, 5, 1024),
                           chunk_batches(1, 6, 1024))  # fmt: skip
    assert len(first) == len(again) > 0
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.ids, b.ids) for a, b in zip(first, other, strict=False)
                   if a.ids.shape == b.ids.shape)  # fmt: skip


def test_padding_carries_no_loss() -> None:
    ids, weights = draw_transcript(random.Random(0)).arrays()
    batch = pad([(ids, weights), (ids[:10], weights[:10])], len(ids))
    assert float(batch.weights[1, 10:].sum()) == 0.0
    np.testing.assert_array_equal(batch.ids[0].numpy(), ids)


@torch.inference_mode()
def test_the_cached_rollout_model_equals_the_whole_forward_pass() -> None:
    model = random_model()
    ids = draw_transcript(random.Random(2)).ids[:60]
    cached = CachedModel(model, rows=2)
    first = [cached.step(torch.tensor([7, i]))[1] for i in ids[:30]]
    cached.keep(torch.tensor([1]))
    logits = torch.stack(first + [cached.step(torch.tensor([i]))[0] for i in ids[30:]])
    torch.testing.assert_close(logits, forward(model, ids), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_transformers_and_llama_cpp_compute_what_we_compute(tmp_path: Path) -> None:
    model = random_model()
    ids = draw_transcript(random.Random(4)).ids[:80]
    ours = forward(model, ids)
    theirs = hf_model(model)(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    write_gguf(model, tmp_path / "model.gguf", half=False)
    llama = LlamaModel.load(tmp_path / "model.gguf", use_mmap=False)
    context = LlamaContext(llama, n_ctx=256, n_threads=1)
    context.decode(ids, 0)
    # llama.cpp keeps K and V in F16, hence the wider tolerance
    np.testing.assert_allclose(context.logits(), ours[-1].numpy(), atol=2e-2)
    context.close()
    llama.close()


@pytest.mark.slow
def test_transformers_and_llama_cpp_write_the_same_text_with_the_shipped_weights(
    tmp_path: Path,
) -> None:
    high = find_ladder("household").tiers[-1].path
    layers = int(LlamaModel.load(high).n_layer)
    model = read_gguf(high, LmShape(layers=layers))
    write_gguf(model, tmp_path / "f16.gguf")
    steps = written_steps(tmp_path / "f16.gguf", 200)
    assert sum(len(written) for _, written in steps) > 1000
    assert disagreements(hf_model(model), steps) == 0


def test_weights_come_back_from_a_gguf(tmp_path: Path) -> None:
    model = random_model()
    write_gguf(model, tmp_path / "f32.gguf", half=False)
    ids = list(range(300, 320))
    again = read_gguf(tmp_path / "f32.gguf", SMALL)
    with torch.inference_mode():
        torch.testing.assert_close(forward(again, ids), forward(model, ids))


def test_scattered_numbers_leave_a_world_as_winnable_as_it_was() -> None:
    rng = random.Random(5)
    changed = 0
    for world in held_out(30):
        scattered = scatter_numbers(world, rng)
        changed += scattered.items.keys() != world.items.keys()
        assert list(scattered.items) == sorted(scattered.items, key=listing_key)
        assert [i.kind for i in scattered.items.values()] == [i.kind for i in world.items.values()]
        assert all(name in scattered.items for i in scattered.items.values() for name in i.contents)
        assert record(scattered, rng, 0.0)[1], "the expert wins it"
    assert changed == 30


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that writes nonsense ends no step by itself."""
    monkeypatch.setattr("train.lm.rollout.MAX_STEP_TOKENS", 8)


@pytest.mark.usefixtures("short_steps")
def test_a_model_that_knows_nothing_wins_nothing_and_rollouts_end() -> None:
    games = play(random_model(), held_out(2))
    result = summary(games)
    assert result["won"] == 0.0
    assert all(g.over for g in games)


@pytest.mark.usefixtures("short_steps")
def test_corrected_rollouts_hold_the_experts_steps() -> None:
    """With every wrong step corrected, any model plays the expert's episode and wins."""
    games = play(random_model(), held_out(2), correct=1.0)
    assert all(g.won for g in games)
    for game in games:
        alone, _ = record(game.world, random.Random(0), carelessness=0.0)
        assert game.transcript.ids == alone.ids


def test_the_rate_warms_up_stays_and_decays_to_nothing() -> None:
    config = LmConfig(steps=1000, warmup=10, decay_share=0.4)
    assert rate_at(0, config) == pytest.approx(0.1)
    assert rate_at(500, config) == 1.0
    assert rate_at(800, config) == pytest.approx(0.5)
    assert rate_at(999, config) < 0.01


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "CHUNK", 32)
    monkeypatch.setattr("train.lm.train.REPORT_EVERY", 1)
    config = LmConfig(steps=6, tokens=1024, warmup=2, shape=SMALL)

    def run(name: str, stops: list[int]) -> HouseholdLM:
        folder = tmp_path / name
        folder.mkdir()
        for stop in stops:
            trainer = LmTrainer(folder, config)
            trainer.resume()
            trainer.train(until=stop)
            trainer.save()
        return trainer.model

    unbroken, resumed = run("unbroken", [6]), run("resumed", [2, 4, 6])
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    losses = [json.loads(line)["loss"] for line in
              (tmp_path / "resumed" / "log.jsonl").read_text().splitlines()]  # fmt: skip
    assert losses[-1] < losses[0]
    plot(read_log(tmp_path / "resumed"), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
