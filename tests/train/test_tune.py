"""Fine-tuning a chat checkpoint: what is learnt, from where a run goes on, and what it leaves.

On tiny checkpoints with random weights, made by transformers.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.prompt import Prompt
from edge_router.agent.template import ChatTemplate
from edge_router.convert.vocabulary import load_tokenizer
from edge_router.engine.ladder import Ladder
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.tier import TierSpec
from edge_router.errors import UserError
from edge_router.router.registry import make_router
from edge_router.tasks.alfworld.game import SimulatedGame
from edge_router.tasks.alfworld.tuned_prompt import TunedStyle
from edge_router.work.progress import ShownProgress
from tests.checkpoints import edit_json, write_checkpoint
from train.lm.tune.commands import base_folder, corrections, start
from train.lm.tune.dialogues import STYLE, Dialogue, draw_dialogue
from train.lm.tune.finish import ADAPTER, make_ladder, save_adapter, save_merged
from train.lm.tune.measure import TierResult, measured, verdict
from train.lm.tune.model import losses, trained
from train.lm.tune.packing import IGNORED, Rows, chunk_rows, pack
from train.lm.tune.players import CachedRows, held_out, play
from train.lm.tune.sequences import ChatTokens, Sequence, sequences
from train.lm.tune.trainer import TuneConfig, Tuner
from train.lm.vocabulary import vocabulary

CPU = torch.device("cpu")
HOUSEHOLD = Path(__file__).resolve().parents[2] / "models/household"
SMALL = TuneConfig(
    episodes=128, lora=4, length=1024, rows=2, at_once=1, evaluations=0, learning_rate=1e-2
)
QWEN3_LIKE = (  # an answer's empty reasoning is no longer shown once it is history
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_checkpoint(folder, "smollm2", width=64, dtype="float32")
    edit_json(folder / "config.json", lambda c: c.update(max_position_embeddings=4096))
    return folder


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return load_tokenizer(base)


@pytest.fixture(scope="module")
def tokens(tokenizer: Any) -> ChatTokens:
    return ChatTokens(tokenizer)


def dialogue(mistakes: bool = False) -> Dialogue:
    """A short episode; with `mistakes`, one that has some."""
    rng = random.Random(3)
    while True:
        found = draw_dialogue(rng)
        if any(not turn.learnt for turn in found.turns) == mistakes and len(found.turns) < 12:
            return found


def tuner(base: Path, tokenizer: Any, run: Path, config: TuneConfig = SMALL) -> Tuner:
    run.mkdir(exist_ok=True)
    return Tuner(run, config, base, tokenizer, CPU, workers=0)


@pytest.fixture(autouse=True)
def _little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few episodes, short answers of models that write nonsense, float32 on every processor."""
    monkeypatch.setattr("train.lm.tune.packing.CHUNK", 4)
    monkeypatch.setattr("train.lm.tune.trainer.CHUNK", 4)
    monkeypatch.setattr(TunedStyle, "max_tokens", 8)
    monkeypatch.setattr("train.lm.tune.model.has_bf16", lambda device: False)


# -- what is learnt -------------------------------------------------------------------------


@pytest.mark.parametrize("mistakes", [False, True])
def test_exactly_the_experts_steps_and_their_ends_are_learnt(
    tokens: ChatTokens, mistakes: bool
) -> None:
    episode = dialogue(mistakes)
    (found,) = sequences(episode, STYLE, tokens)
    expected: list[int] = []
    for turn in episode.turns:
        expected += [*tokens.tokenize(turn.text), tokens.end] if turn.learnt else []
    learnt = [i for i, marked in zip(found.ids, found.learnt, strict=True) if marked]
    assert learnt == expected


def test_a_sequence_is_what_the_agent_feeds_and_writes(tokens: ChatTokens) -> None:
    episode = dialogue()
    (found,) = sequences(episode, STYLE, tokens)
    prompt = Prompt(tokens.template, tokens, STYLE.opening(episode.opening))
    for turn in episode.turns:
        written = tokens.tokenize(turn.text)
        at = len(prompt.tokens)
        assert list(found.ids[: at + len(written)]) == [*prompt.tokens, *written]
        prompt.add(written, turn.text, STYLE.reply(turn.observation))


def test_where_answers_look_different_later_each_is_learnt_as_it_is_written(
    tokenizer: Any, tokens: ChatTokens
) -> None:
    other = ChatTokens(tokenizer)
    other.template = ChatTemplate(QWEN3_LIKE)
    episode = dialogue()
    found = list(sequences(episode, STYLE, other))
    assert len(found) == len(episode.turns)
    lead = other.tokenize("<think>\n\n</think>\n\n")
    for sequence, turn in zip(found, episode.turns, strict=True):
        begins = sequence.learnt.index(True)
        assert list(sequence.ids[begins:]) == [*other.tokenize(turn.text), other.end]
        assert list(sequence.ids[begins - len(lead) : begins]) == lead
        assert tokenizer.decode(sequence.ids[:begins]).count("</think>") == 1


def test_packed_rows_hold_every_target_once_and_no_other(tokens: ChatTokens) -> None:
    rng = random.Random(0)
    found = [s for _ in range(5) for s in sequences(draw_dialogue(rng), STYLE, tokens)]
    rows = pack(found, 2048)
    wanted = sorted(
        token
        for s in found
        for token, learnt in zip(s.ids[:2048], s.learnt[:2048], strict=True)
        if learnt
    )
    assert sorted(rows.targets[rows.targets != IGNORED].tolist()) == wanted
    at = rows.targets[:, :-1] != IGNORED
    assert torch.equal(rows.ids[:, 1:][at], rows.targets[:, :-1][at])
    assert torch.equal(rows.parts[:, 1:][at], rows.parts[:, :-1][at])


def test_sequences_in_a_row_do_not_see_each_other(
    base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    model = tuner(base, tokenizer, tmp_path / "run").model.eval()
    rng = np.random.default_rng(0)
    one, two = (
        Sequence(tuple(map(int, rng.integers(3, 900, 20))), (False, *[True] * 19)) for _ in range(2)
    )

    def loss(*found: Sequence) -> float:
        rows = pack(found, 48)
        with torch.inference_mode():
            each = losses(model, rows.ids, rows.mask(), rows.positions, rows.targets)
            return float(each.sum())

    assert loss(one, two) == pytest.approx(loss(one) + loss(two), rel=1e-5)


# -- a run ----------------------------------------------------------------------------------


def test_the_loss_falls(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    run = tuner(base, tokenizer, tmp_path / "run", replace(SMALL, episodes=4, lora=0))
    rows = chunk_rows(0, 0, 1024, STYLE, run.tokens).cut(0, 1)
    run.done = 0.5

    def loss() -> float:
        total, count = run.learn(rows)
        return float(total) / count

    losses = [loss() for _ in range(8)]
    assert losses[-1] < 0.7 * losses[1]


@pytest.mark.parametrize(
    ("lora", "episodes"), [(4, 8), pytest.param(0, 12, marks=pytest.mark.slow)]
)
def test_a_run_that_was_killed_goes_on_to_the_weights_of_an_unbroken_one(
    base: Path,
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lora: int,
    episodes: int,
) -> None:
    config = replace(SMALL, episodes=episodes, lora=lora)
    whole = tuner(base, tokenizer, tmp_path / "whole", config)
    whole.train()
    broken = tuner(base, tokenizer, tmp_path / "broken", config)
    monkeypatch.setattr("train.lm.tune.trainer.SAVE_SECONDS", -1.0)
    learn = broken.learn

    def killed_in_the_second_chunk(rows: Rows) -> tuple[torch.Tensor, int]:
        if broken.chunk == 1 and broken.row > 0:
            raise RuntimeError("killed")
        return learn(rows)

    monkeypatch.setattr(broken, "learn", killed_in_the_second_chunk)
    with pytest.raises(RuntimeError, match="killed"):
        broken.train()
    again = tuner(base, tokenizer, tmp_path / "broken", config)
    assert again.resume()
    assert again.row > 0
    assert again.step < whole.step
    again.train()
    assert again.step == whole.step
    for name, weight in trained(whole.model).items():
        assert torch.equal(weight, trained(again.model)[name]), name


def test_a_folder_of_another_run_is_refused(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    tuner(base, tokenizer, tmp_path, replace(SMALL, episodes=4)).save()
    with pytest.raises(UserError, match="other settings"):
        tuner(base, tokenizer, tmp_path, replace(SMALL, episodes=8)).resume()


# -- playing --------------------------------------------------------------------------------


def test_the_cached_rows_compute_what_the_model_does(
    base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Rows of different lengths, one that is corrected, and one that is dropped."""
    model = tuner(base, tokenizer, tmp_path / "run").model.eval()
    rng = np.random.default_rng(1)
    texts = [list(map(int, rng.integers(3, 900, n))) for n in (30, 17, 24)]
    with torch.inference_mode():
        rows = CachedRows(model, 3)
        rows.feed([texts[0][:20], texts[1][:5], texts[2][:9]])
        rows.feed([[], texts[1][5:12], [7, 8]])
        rows.forget(2, 9)
        rows.keep([1, 2])
        logits = rows.feed([texts[1][12:], texts[2][9:]])
        for got, text in zip(logits, texts[1:], strict=True):
            wanted = model(torch.tensor([text])).logits[0, -1]
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_a_corrected_episode_holds_the_experts_steps_and_learns_no_mistake(
    base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    run = tuner(base, tokenizer, tmp_path / "run")
    (game,) = play(run.model, run.tokens, held_out(1), correct=1.0)
    assert game.won  # every step of a model that knows nothing was replaced
    assert all(turn.learnt for turn in game.turns)
    assert game.agreed < game.steps
    kept = corrections(run, 2, seed=0)
    assert len(kept) == 2
    assert any(turn.learnt for turn in kept[0].turns)


# -- what it leaves -------------------------------------------------------------------------


def test_the_merged_checkpoint_computes_what_base_and_adapter_do(
    base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    run = tuner(base, tokenizer, tmp_path, replace(SMALL, episodes=4))
    run.train()
    save_adapter(run.model, tmp_path / ADAPTER, "tiny")
    merged = save_merged(run.model, tokenizer, base, tmp_path)
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([list(range(5, 60))])
    whole: Any = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    with torch.inference_mode():
        wanted, got = run.model.eval()(ids).logits, whole(ids).logits
        plain = run.model.get_base_model()
        with run.model.disable_adapter():
            before = plain(ids).logits
    assert float((got - wanted).abs().max()) < 0.02 * float((wanted - before).abs().max())


def test_the_tiers_of_a_run_load_and_play(
    base: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tuner(base, tokenizer, tmp_path, replace(SMALL, episodes=4))
    save_adapter(run.model, tmp_path / ADAPTER, "tiny")
    merged = save_merged(run.model, tokenizer, base, tmp_path)
    with ShownProgress() as progress:
        made = make_ladder(merged, tmp_path / "ladder", "tiny", ("q4_0", "q8_0"), progress)
    tiers = [TierSpec(t.name, made.folder / t.file) for t in made.tiers]
    assert LlamaModel.load(tiers[0].path).metadata["edge_router.prompt_style"] == "tuned"
    with Ladder.load(tiers, n_ctx=2048) as ladder:
        game = SimulatedGame(held_out(1)[0])
        ended = play_episode(game, ladder, make_router("high"), Options(max_steps=1), [])
    assert ended.steps_by_tier["q8_0"] == 1
    monkeypatch.setattr("train.lm.tune.measure._options", lambda: Options(max_steps=2))
    with ShownProgress() as progress:
        low, high = measured(made, 1, progress)
    assert (low.name, high.name, high.steps) == ("q4_0", "q8_0", 2)


@pytest.mark.slow
def test_the_command_goes_all_the_way_and_keeps_what_is_done(
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(episodes: int, grpo: int = 0) -> int:
        return start(
            grpo=grpo, grpo_games=1, grpo_group_size=2, grpo_temperature=1.0, grpo_clip_range=0.2,
            grpo_kl_coefficient=0.0, grpo_learning_rate=None,
            base=str(base), task="alfworld", lora=4, learning_rate=None, episodes=episodes, rows=2,
            at_once=1, length=1024, evaluate_games=1, seed=1, out=tmp_path / "tiny-run",
            tiers="q4_0,q8_0", dagger=1, dagger_games=1, measure_games=1, workers=0, device="cpu",
        )  # fmt: skip

    assert run(8) == 0
    assert "q8_0 wins no game: train longer" in capsys.readouterr().out
    out = tmp_path / "tiny-run"
    made = ("adapter/adapter_model.safetensors", "merged/config.json", "ladder/ladder.toml")
    times = [(out / file).is_file() for file in (*made, "learning.png", "tiers.json", "log.jsonl")]
    assert all(times)
    assert run(8) == 0
    assert "q4_0 is there already" in capsys.readouterr().err
    with pytest.raises(UserError, match="other settings"):
        run(12)
    monkeypatch.setattr("train.lm.tune.grpo.returned", lambda game, cost: game.written[0].tokens[0])
    assert run(8, grpo=1) == 0
    assert "the ladder of the run as it was before is in" in capsys.readouterr().err
    assert (out / "ladder-1" / "ladder.toml").is_file()
    assert (out / "dagger-1" / "grpo.pt").is_file()


def test_the_verdict_says_whether_to_route() -> None:
    def tier(name: str, won: int) -> TierResult:
        return TierResult(name, 1, tuple(i < won for i in range(20)), 200, 0)

    assert verdict([tier("q4_0", 15), tier("q8_0", 19)]) == (
        "q4_0 loses 4 of the 19 games that q8_0 wins: there is something to route"
    )
    assert "nothing to route" in verdict([tier("q4_0", 19), tier("q8_0", 19)])
    assert "train longer" in verdict([tier("q4_0", 0), tier("q8_0", 0)])


def test_a_model_that_cannot_chat_is_refused(base: Path, tokenizer: Any) -> None:
    from train.lm.tune.commands import require_chat

    class Silent:
        chat_template = None

    with pytest.raises(UserError, match="no chat template"):
        require_chat(base, Silent())
    require_chat(base, tokenizer)


def test_the_shipped_household_model_can_be_tuned_further(tmp_path: Path) -> None:
    """Its GGUF names a merge whose result is no token, because llama.cpp insists on one."""
    folder = base_folder(str(HOUSEHOLD / "household-iq1_s.gguf"), tmp_path, lambda said: None)
    text = " go to cabinet 12\n> take apple 2 from fridge 1, quickly"
    assert ChatTokens(load_tokenizer(folder)).tokenize(text) == vocabulary().encode(text)


def test_rows_keep_their_order_on_the_device() -> None:
    rows = Rows(*(torch.arange(6).reshape(3, 2) + i for i in range(4)))
    assert torch.equal(rows.cut(1, 2).to(CPU).ids, torch.tensor([[2, 3]]))
