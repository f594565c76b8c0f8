"""GRPO on a tuned model: numbers by hand, what is learnt of an episode, a run that is killed.

On a tiny checkpoint with random weights, which writes nonsense and wins nothing: where a test
needs episodes that differ, their returns are set.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_router.convert.vocabulary import load_tokenizer
from edge_router.errors import UserError
from edge_router.tasks.alfworld.tuned_prompt import TunedStyle
from tests.checkpoints import edit_json, write_checkpoint
from train.lm.plot import plot, read_log
from train.lm.tune.grpo import GrpoTuner, Scored, SimulatorGrpo
from train.lm.tune.model import trained
from train.lm.tune.players import ChatGame, _chosen, held_out, play
from train.lm.tune.reward import advantages, all_equal, kl_estimate, returned
from train.lm.tune.sequences import ChatTokens
from train.lm.tune.trainer import TuneConfig, Tuner

CPU = torch.device("cpu")
TUNED = TuneConfig(lora=4, length=1024, at_once=2, evaluate_games=1, evaluations=0)
SMALL = SimulatorGrpo(games=2, group_size=2, learning_rate=1e-3, temperature=0.7)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_checkpoint(folder, "smollm2", width=64, dtype="float32")
    edit_json(folder / "config.json", lambda c: c.update(max_position_embeddings=4096))
    return folder


@pytest.fixture(autouse=True)
def _little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three short steps an episode, float32 on every processor."""
    monkeypatch.setattr(TunedStyle, "max_tokens", 8)
    monkeypatch.setattr("train.lm.watched.STEP_LIMIT", 3)
    monkeypatch.setattr("train.lm.tune.model.has_bf16", lambda device: False)


def grpo(base: Path, run: Path, config: SimulatorGrpo = SMALL, lora: int = 4) -> GrpoTuner:
    run.mkdir(exist_ok=True)
    tuner = Tuner(run, replace(TUNED, lora=lora), base, load_tokenizer(base), CPU, workers=0)
    return GrpoTuner(tuner, config)


def by_length(game: ChatGame, step_cost: float) -> float:
    """A return that differs between the episodes of a group."""
    return sum(sum(step.tokens) for step in game.written) % 1000 / 1000


# -- numbers --------------------------------------------------------------------------------


def test_a_return_is_success_less_what_the_steps_cost() -> None:
    class Ended(ChatGame):
        def __init__(self, won: bool, steps: int) -> None:
            self.won, self.steps = won, steps

    assert returned(Ended(True, 12), 0.01) == pytest.approx(0.88)
    assert returned(Ended(False, 50), 0.01) == pytest.approx(-0.5)
    assert returned(Ended(False, 3), 0.01) == pytest.approx(-0.5)  # giving up does not pay


def test_an_advantage_is_measured_against_its_group() -> None:
    returns = np.array([[1.0, 0.0, 0.0, 1.0], [0.9, 0.8, 0.9, 0.8], [-0.5, -0.5, -0.5, -0.5]])
    found = advantages(returns)
    assert found[0] == pytest.approx([0.5 / 0.6, -0.5 / 0.6, -0.5 / 0.6, 0.5 / 0.6])
    assert found[1] == pytest.approx([0.05 / 0.15, -0.05 / 0.15, 0.05 / 0.15, -0.05 / 0.15])
    assert found[2].tolist() == [0.0] * 4
    assert all_equal(returns).tolist() == [False, False, True]


def test_the_kl_estimate_is_the_kl_on_average_and_never_negative() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.2, 0.6]).log()
    each = kl_estimate(p, q)
    assert each[0].item() == pytest.approx(0.4 - 1 - math.log(0.4))
    assert bool((each > 0).all())
    assert (p.exp() * each).sum().item() == pytest.approx(
        (p.exp() * (p - q)).sum().item(), abs=1e-6
    )
    assert kl_estimate(p, p).tolist() == [0.0] * 3


# -- playing --------------------------------------------------------------------------------


def test_tokens_are_drawn_with_the_probabilities_of_the_temperature(
    base: Path, tmp_path: Path
) -> None:
    game = ChatGame(held_out(1)[0], ChatTokens(load_tokenizer(base)), 0.0, "draws")
    logits = torch.tensor([[0.5, 0.3, 0.2, 0.0]]).log()
    for temperature, wanted in ((1.0, (0.5, 0.3, 0.2)), (0.5, (0.658, 0.237, 0.105))):
        drawn = Counter(_chosen(logits, [game], {0}, temperature)[0] for _ in range(3000))
        assert set(drawn) <= {0, 1, 2}
        assert [drawn[i] / 3000 for i in range(3)] == pytest.approx(wanted, abs=0.035)
    assert _chosen(logits, [game], {0}, 0.0) == [0]


def test_what_a_game_draws_depends_on_its_seed_alone(base: Path, tmp_path: Path) -> None:
    found = grpo(base, tmp_path / "run")
    worlds, tokens = held_out(3), found.tuner.tokens

    def written(which: list[int], seeds: list[str]) -> list[list[list[int]]]:
        games = play(found.model, tokens, [worlds[i] for i in which], temperature=0.7, seeds=seeds)
        return [[step.tokens for step in game.written] for game in games]

    together = written([0, 1, 2], ["a", "b", "c"])
    assert written([1], ["b"]) == [together[1]]
    assert written([1], ["other"]) != [together[1]]


# -- what is learnt -------------------------------------------------------------------------


def test_masks_and_probabilities_are_those_of_a_plain_forward_pass(
    base: Path, tmp_path: Path
) -> None:
    found = grpo(base, tmp_path / "run")
    games = found.play()
    end = found.tuner.tokens.end
    wanted = [
        [*step.tokens, end] if step.ended else step.tokens for g in games for step in g.written
    ]
    scored = found.scored(games, np.array([[1.0, 0.0], [0.4, 0.5]]))
    learnt = [i for s in scored for i, marked in zip(s.ids, s.learnt, strict=True) if marked]
    assert learnt == [token for step in wanted for token in step]

    batches = found.batches(scored)
    got: dict[int, list[tuple[float, float]]] = {}
    for batch in batches:
        at = (batch.rows.targets >= 0).nonzero().tolist()
        for (row, i), log_p, gain in zip(at, batch.before, batch.advantage, strict=True):
            part = int(batch.rows.parts[row, i])
            key = hash(tuple(batch.rows.ids[row][batch.rows.parts[row] == part].tolist()))
            got.setdefault(key, []).append((float(log_p), float(gain)))
        torch.testing.assert_close(batch.before, batch.reference)
    for s in scored:
        with torch.inference_mode():
            logits = found.model(torch.tensor([s.ids])).logits[0] / SMALL.temperature
        plain = torch.log_softmax(logits, -1)
        places = [i for i in range(1, len(s.ids)) if s.learnt[i]]
        expected = [float(plain[i - 1, s.ids[i]]) for i in places]
        pairs = got[hash(s.ids)]
        assert [p for p, _ in pairs] == pytest.approx(expected, abs=1e-4)
        assert [gain for _, gain in pairs] == pytest.approx([s.advantage] * len(pairs))


@pytest.mark.parametrize(("advantage", "sign"), [(1.0, 1), (-1.0, -1)])
def test_a_step_makes_likelier_what_went_well_and_rarer_what_went_badly(
    base: Path, tmp_path: Path, advantage: float, sign: int
) -> None:
    found = grpo(base, tmp_path / "run", replace(SMALL, kl_coefficient=0.0))
    batches = found.batches(one(found, advantage))
    found.learn(batches)
    with torch.no_grad():
        after = found.log_probabilities(batches[0].rows)
    assert sign * float((after - batches[0].before).mean()) > 0.01


@pytest.mark.parametrize(
    ("advantage", "times", "moves"),
    [
        (1.0, 1.5, False),
        pytest.param(1.0, 0.5, True, marks=pytest.mark.slow),
        pytest.param(-1.0, 0.5, False, marks=pytest.mark.slow),
        (-1.0, 1.5, True),
    ],
)
def test_beyond_the_clip_range_nothing_is_gained(
    base: Path, tmp_path: Path, advantage: float, times: float, moves: bool
) -> None:
    """Tokens that are 1.5 or 0.5 times as likely as when they were drawn; the range is 0.2."""
    found = grpo(base, tmp_path / "run", replace(SMALL, kl_coefficient=0.0, epochs=1))
    (batch,) = found.batches(one(found, advantage))
    before = [p.detach().clone() for p in found.parameters]
    seen = found.learn([replace(batch, before=batch.before - math.log(times))])
    assert seen["outside"] == 1.0
    moved = any(not torch.equal(a, b) for a, b in zip(before, found.parameters, strict=True))
    assert moved == moves


def one(found: GrpoTuner, advantage: float) -> list[Scored]:
    """The first episode that is played, with an advantage."""
    scored = found.scored(found.play(), np.array([[1.0, 0.0], [0.0, 0.0]]))
    return [replace(scored[0], advantage=advantage)]


def test_the_reference_stays_the_model_as_it_was_tuned(base: Path, tmp_path: Path) -> None:
    found = grpo(base, tmp_path / "run", replace(SMALL, learning_rate=1e-2))
    scored = one(found, 1.0)
    first = found.batches(scored)
    found.learn(first)
    (then,) = found.batches(scored)
    assert torch.equal(then.reference, first[0].before)
    assert not torch.equal(then.before, then.reference)


# -- a run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("lora", "games"), [(4, 1), pytest.param(0, 2, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_to_the_weights_of_an_unbroken_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: int, games: int
) -> None:
    monkeypatch.setattr("train.lm.tune.grpo.returned", by_length)
    config = replace(SMALL, games=games)
    whole = grpo(base, tmp_path / "whole", config, lora)
    untouched = [p.detach().clone() for p in whole.parameters]
    whole.train(2, evaluations=1)
    assert any(not torch.equal(a, b) for a, b in zip(untouched, whole.parameters, strict=True))
    broken = grpo(base, tmp_path / "broken", config, lora)
    learn = broken.learn

    def killed_in_the_second_iteration(batches: Any) -> dict[str, float]:
        if broken.iteration == 1:
            raise KeyboardInterrupt
        return learn(batches)

    monkeypatch.setattr(broken, "learn", killed_in_the_second_iteration)
    with pytest.raises(KeyboardInterrupt):
        broken.train(2, evaluations=0)
    again = grpo(base, tmp_path / "broken", config, lora)
    assert again.resume(2)
    assert again.iteration == 1
    again.train(2, evaluations=0)
    for name, weight in trained(whole.model).items():
        assert torch.equal(weight, trained(again.model)[name]), name

    lines = read_log(tmp_path / "whole")
    assert [(line["iteration"], "won" in line) for line in lines] == [
        (0, True), (1, False), (2, False), (2, True),
    ]  # fmt: skip
    assert lines[1]["kl"] == 0 < lines[2]["kl"]
    plot(lines, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_groups_that_are_all_lost_are_counted_and_teach_nothing(base: Path, tmp_path: Path) -> None:
    found = grpo(base, tmp_path / "run")
    before = [p.detach().clone() for p in found.parameters]
    found.train(1, evaluations=0)
    (line,) = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert (line["skipped"], line["success"], line["return"]) == (1.0, 0.0, -0.5)
    assert "kl" not in line
    assert all(torch.equal(a, b) for a, b in zip(before, found.parameters, strict=True))


def test_a_run_with_other_settings_or_further_on_is_refused(base: Path, tmp_path: Path) -> None:
    found = grpo(base, tmp_path / "run")
    found.iteration = 3
    found.save()
    with pytest.raises(UserError, match="other settings of GRPO"):
        grpo(base, tmp_path / "run", replace(SMALL, clip_range=0.1)).resume(5)
    with pytest.raises(UserError, match="give --grpo 3 or more"):
        grpo(base, tmp_path / "run").resume(2)
    assert grpo(base, tmp_path / "run").resume(5)
