"""Whole episodes: real llama.cpp, the real ALFWorld engine, tiny random models."""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Latency,
    Routed,
    StepFinished,
    StepStarted,
    TextDecoded,
    TurnsDropped,
)
from edge_router.agent.listeners.printer import PlainPrinter
from edge_router.agent.trace import TraceWriter, read_trace, replay
from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.errors import UserError
from edge_router.ladders.resolve import find_ladder
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import ALL_NAMES, NAMES, DecideAt
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import SHIPPED, find_games
from edge_router.tasks.parse import parse_step
from edge_router.tasks.protocol import Game, Opening, Reply
from edge_router.work.processes import interrupts_held
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")
LOW, HIGH = "q3_k_m", "q8_0"
GAME = min((g.path for g in find_games(SHIPPED)), key=lambda p: p.stat().st_size)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tier name -> GGUF of a tiny model that is prompted in the short household format."""
    return write_tiny_ladder(tmp_path_factory.mktemp("household"), SHORT, (LOW, HIGH))


@pytest.fixture(scope="module")
def game() -> Iterator[AlfworldGame]:
    played = AlfworldGame(GAME)
    yield played
    played.close()


class Planned:
    """A real game that plays its own winning plan, whatever the agent says."""

    def __init__(self, game: AlfworldGame) -> None:
        self._game = game
        self.task, self.id, self.kind = game.task, game.id, game.kind
        self.plan: list[str] = json.loads(game.path.read_text())["walkthrough"]

    def reset(self) -> Opening:
        self._left = list(self.plan)
        return self._game.reset()

    def step(self, action: str) -> Reply:
        return self._game.step(self._left.pop(0))

    def admissible(self) -> tuple[str, ...]:
        return self._game.admissible()

    def close(self) -> None:
        pass


class Turns(Router):
    """A router that goes through a list of tiers and keeps what it was asked with."""

    spec = RouterSpec("turns")

    def __init__(self, tiers: Sequence[int]) -> None:
        self._tiers = tiers
        self.seen: list[Features] = []

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        self.seen = []

    def decide(self, features: Features) -> Decision:
        self.seen.append(features)
        return Decision(self._tiers[(len(self.seen) - 1) % len(self._tiers)], "it is its turn")


def ladder(paths: dict[str, Path], *names: str, kv: str = "handoff", n_ctx: int = 1024) -> Ladder:
    specs = [TierSpec(name, paths[name]) for name in names or (LOW, HIGH)]
    return Ladder.load(specs, kv=kv, n_ctx=n_ctx, n_threads=1)


def play(
    loaded: Ladder, task: Game, router: str = "low", options: Options | None = None
) -> list[Event]:
    events: list[Event] = []
    with loaded:
        play_episode(
            task, loaded, make_router(router), options or Options(max_steps=3), [events.append]
        )
    return events


def steps(events: Sequence[Event]) -> list[StepFinished]:
    return [e for e in events if isinstance(e, StepFinished)]


def untimed(events: Sequence[Event]) -> list[Event]:
    """Events without what differs from run to run."""
    return [
        replace(e, latency=Latency()) if isinstance(e, StepFinished | EpisodeFinished) else e
        for e in events
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_high_and_exact_equals_the_high_tier_alone(
    paths: dict[str, Path], game: AlfworldGame, temperature: float
) -> None:
    options = Options(max_steps=4, temperature=temperature, seed=3)
    both = play(ladder(paths, kv="exact"), game, "high", options)
    alone = play(ladder(paths, HIGH), game, "low", options)
    low = play(ladder(paths, LOW), game, "low", options)
    said = [s.text for s in steps(both)]
    assert said == [s.text for s in steps(alone)]
    assert said != [s.text for s in steps(low)]
    assert [s.tier for s in steps(both)] == [HIGH] * 4


@pytest.mark.parametrize("router", ["low", "high", "random:0.5"])
def test_greedy_runs_are_deterministic(
    paths: dict[str, Path], game: AlfworldGame, router: str
) -> None:
    first = play(ladder(paths), game, router)
    assert untimed(first) == untimed(play(ladder(paths), game, router))


def test_another_seed_samples_another_text(paths: dict[str, Path], game: AlfworldGame) -> None:
    texts = [
        [s.text for s in steps(play(ladder(paths), game, "low", Options(2, seed, 1.0)))]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_an_episode_does_not_depend_on_what_was_played_before(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    events: list[list[Event]] = [[], []]
    with ladder(paths) as loaded:
        for heard in events:
            play_episode(game, loaded, Turns([0, 1, 0]), Options(3), [heard.append])
    assert untimed(events[0]) == untimed(events[1])


def test_events_come_in_the_order_of_the_contract(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    names: list[str] = []
    for event in play(ladder(paths), game, "high", Options(max_steps=2)):
        name = type(event).__name__
        if name != "TextDecoded" or names[-1] != name:
            names.append(name)
    step = ["StepStarted", "Routed", "TextDecoded", "StepFinished"]
    assert names == ["EpisodeStarted", *step, *step, "EpisodeFinished"]


def test_the_pieces_of_text_add_up_to_the_steps_text(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    events = play(ladder(paths), game)
    for told in steps(events):
        pieces = [e.text for e in events if isinstance(e, TextDecoded) and e.step == told.step]
        assert len(pieces) > 1
        assert "".join(pieces) == told.text


def test_a_replay_prints_a_real_episode_again_byte_for_byte(
    paths: dict[str, Path], game: AlfworldGame, tmp_path: Path
) -> None:
    live, again, path = io.StringIO(), io.StringIO(), tmp_path / "episode.jsonl"
    with ladder(paths) as loaded, TraceWriter(path) as writer:
        options = Options(max_steps=4, temperature=1.0)
        play_episode(game, loaded, make_router("random:0.5"), options, [PlainPrinter(live), writer])
    replay(read_trace(path), [PlainPrinter(again)])
    assert again.getvalue() == live.getvalue()
    assert "[4]" in live.getvalue()


def test_a_won_game_ends_the_episode(paths: dict[str, Path], game: AlfworldGame) -> None:
    task = Planned(game)
    events = play(ladder(paths, n_ctx=2048), task, "random:0.5", Options())
    finished = events[-1]
    assert isinstance(finished, EpisodeFinished)
    assert (finished.won, finished.reason, finished.steps) == (True, "won", len(task.plan))
    assert [s.won for s in steps(events)] == [False] * (len(task.plan) - 1) + [True]
    tiers = [s.tier for s in steps(events)]
    assert finished.steps_by_tier == {LOW: tiers.count(LOW), HIGH: tiers.count(HIGH)}
    assert finished.latency.decode_tokens == sum(s.latency.decode_tokens for s in steps(events))


def test_the_step_limit_ends_the_episode(paths: dict[str, Path], game: AlfworldGame) -> None:
    finished = play(ladder(paths), game)[-1]
    assert isinstance(finished, EpisodeFinished)
    assert (finished.won, finished.reason, finished.steps, finished.refused) == (
        *(False, "out of steps"),
        *(3, 3),
    )


def test_constrained_actions_are_admissible_and_the_results_say_so(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    options = Options(max_steps=3, temperature=1.5, constrain=True)
    events = play(ladder(paths), game, "high", options)
    assert isinstance(events[0], EpisodeStarted)
    assert events[0].constrained
    game.reset()
    for told in steps(events):
        assert told.action in game.admissible()
        assert game.step(told.action).observation == told.observation
        assert not told.refused


def test_only_what_is_new_is_prefilled(paths: dict[str, Path], game: AlfworldGame) -> None:
    first, *others = steps(play(ladder(paths), game, "low"))
    assert first.latency.prefill_tokens > 100
    assert all(s.latency.prefill_tokens < 60 for s in others)


def test_a_full_context_drops_turns_and_says_so(paths: dict[str, Path], game: AlfworldGame) -> None:
    options = Options(max_steps=8)
    events = play(ladder(paths, n_ctx=768), game, "low", options)
    drops = [e for e in events if isinstance(e, TurnsDropped)]
    assert drops
    assert all(e.turns >= 1 and e.tokens > 0 for e in drops)
    after = [events[events.index(e) + 1] for e in drops]
    assert all(isinstance(e, StepStarted) and e.prompt_tokens < 0.75 * 768 for e in after)
    assert len(steps(events)) == 8


def test_a_context_that_cannot_hold_the_opening_is_told(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    with pytest.raises(UserError, match="--ctx"):
        play(ladder(paths, n_ctx=128), game)


def test_the_router_learns_what_happened_before(paths: dict[str, Path], game: AlfworldGame) -> None:
    router, events = Turns([1, 0, 1]), list[Event]()
    with ladder(paths) as loaded:
        play_episode(game, loaded, router, Options(max_steps=3, dial=0.25), [events.append])
    first, second, third = router.seen
    assert (first["last_tier"], second["last_tier"], third["last_tier"]) == (-1, 1, 0)
    assert [seen["escalated_share"] for seen in (first, second, third)] == [0, 1, 0.5]
    assert (first["last_refused"], second["last_refused"]) == (0, 1)
    assert third["refused_run"] > second["refused_run"] > 0
    assert second["last_entropy"] == pytest.approx(first["entropy"])
    assert first["dial"] == 0.25
    told = [e for e in events if isinstance(e, StepStarted)]
    lengths = [0, *(step.prompt_tokens for step in told)]
    for seen, (before, length) in zip(router.seen, pairwise(lengths), strict=True):
        assert seen["prompt_tokens"] == pytest.approx(length / 1000)
        assert seen["new_tokens"] == pytest.approx((length - before) / 100)
    assert (first["last_min_p"], first["last_nll"]) == (1, 0)
    assert 0 < second["last_min_p"] < 1
    assert second["last_nll"] > 0
    assert [seen["escalated_steps"] for seen in router.seen] == pytest.approx([0, 0.1, 0.1])


class AtDraft(Turns):
    """Asked when the low tier has drafted the step."""

    decide_at: DecideAt = "draft"


def test_a_draft_is_kept_or_verified(paths: dict[str, Path], game: AlfworldGame) -> None:
    router, events = AtDraft([0, 1, 0]), list[Event]()
    # Sampled, as both tiers of a tiny random model may write the same greedy text.
    options = Options(max_steps=3, temperature=1.0, seed=1)
    with ladder(paths) as loaded:
        play_episode(game, loaded, router, options, [events.append])
    asked = [e for e in events if isinstance(e, Routed)]
    played = steps(events)
    assert [e.decide_at for e in asked] == ["draft"] * 3
    assert played[0].text == asked[0].draft
    assert played[2].text == asked[2].draft
    assert played[1].text != asked[1].draft != ""
    assert [e.draft_action for e in played] == [parse_step(e.draft).action for e in asked]
    assert [e.changed for e in played] == [None, played[1].action != played[1].draft_action, None]
    kept, again = played[0].latency, played[1].latency
    assert (kept.draft_tokens, kept.draft_ms) == (0, 0)
    assert again.draft_tokens > 0
    assert again.draft_ms > 0
    assert again.model_ms > again.draft_ms + again.verify_ms + again.decode_ms
    assert (kept.drafted, kept.verify_batches) == (0, 0)
    assert 0 <= again.accepted < again.drafted
    assert again.verify_tokens > 0
    assert again.verify_ms > 0 < again.rewritten
    for seen in router.seen:
        assert seen.names == ALL_NAMES
        assert 0 < seen["draft_min_p"] <= seen["action_min_p"] <= 1
    shown = "".join(e.text for e in events if isinstance(e, TextDecoded) and e.step == 1)
    assert shown == played[1].text  # the draft itself is told in `Routed`, not as decoded text


def test_a_kept_draft_changes_nothing(paths: dict[str, Path], game: AlfworldGame) -> None:
    """Asked before or after the draft: the same episode, and the same features before it."""
    before, after = Turns([0]), AtDraft([0])
    played = []
    for router in (before, after):
        events: list[Event] = []
        with ladder(paths) as loaded:
            play_episode(game, loaded, router, Options(max_steps=3), [events.append])
        played.append([(s.text, s.observation) for s in steps(events)])
    assert played[0] == played[1]
    for one, other in zip(before.seen, after.seen, strict=True):
        assert np.array_equal(one.vector, other.vector[: len(NAMES)])


@pytest.mark.parametrize(
    ("router", "constrain"),
    [
        *(("verify", True), ("verify:3", False)),
        pytest.param("verify", False, marks=pytest.mark.slow),
        pytest.param("verify:3", True, marks=pytest.mark.slow),
    ],
)
def test_every_step_verified_is_an_episode_of_the_high_tier(router: str, constrain: bool) -> None:
    """On the embedded model, which is sure of what it writes: rounding decides nothing."""
    options, specs = Options(max_steps=12, constrain=constrain), find_ladder("household").tiers
    path = next(g.path for g in find_games(SHIPPED) if "Bowl-None-DeskLamp" in g.id)
    played = {}
    with closing(AlfworldGame(path)) as game:
        for name in ("high", router):
            with Ladder.load(specs, n_ctx=1024, n_threads=1) as loaded:
                played[name] = play(loaded, game, name, options)
    high, verified = (steps(played[name]) for name in ("high", router))
    assert [s.text for s in verified] == [s.text for s in high]
    assert {s.tier_index for s in verified} == {1}
    ended = played[router][-1]
    assert isinstance(ended, EpisodeFinished)
    total = ended.latency
    assert 0 < total.accepted <= total.drafted
    assert total.acceptance == total.accepted / total.drafted
    assert 0 < total.verify_ms < total.model_ms
    assert total.verify_batches >= len(verified)
    known = {step.draft_action is not None for step in verified}
    assert known == {router == "verify"}  # a chunk is no whole draft
    for step in verified:
        shown = [
            e.text for e in played[router] if isinstance(e, TextDecoded) and e.step == step.step
        ]
        assert "".join(shown) == step.text


def test_a_higher_tier_rewrites_after_a_draft_what_it_writes_without(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    texts = []
    for router in (Turns([1]), AtDraft([1])):
        events: list[Event] = []
        with ladder(paths) as loaded:
            options = Options(max_steps=3, temperature=1.0, seed=5, escalate="rewrite")
            play_episode(game, loaded, router, options, [events.append])
        texts.append([s.text for s in steps(events)])
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "router",
    [
        *("low", "verify", "draft:0.9"),
        *(pytest.param(r, marks=pytest.mark.slow) for r in ("high", "verify:3")),
    ],
)
def test_lookup_changes_no_step_and_tells_what_was_guessed(router: str) -> None:
    specs = find_ladder("household").tiers
    path = next(g.path for g in find_games(SHIPPED) if "Bowl-None-DeskLamp" in g.id)
    played = {}
    with closing(AlfworldGame(path)) as game:
        for lookup in (0, 7):
            with Ladder.load(specs, n_ctx=1024, n_threads=1) as loaded:
                options = Options(max_steps=8, lookup=lookup)
                played[lookup] = play(loaded, game, router, options)
    texts = [[step.text for step in steps(played[lookup])] for lookup in (0, 7)]
    assert texts[0] == texts[1]
    plain, guessing = (played[lookup][-1] for lookup in (0, 7))
    assert isinstance(plain, EpisodeFinished)
    assert isinstance(guessing, EpisodeFinished)
    assert plain.latency.lookup_tokens == 0
    assert 0 < guessing.latency.lookup_accepted < guessing.latency.lookup_tokens
    for tokens in ("decode_tokens", "draft_tokens", "drafted", "accepted"):
        assert getattr(guessing.latency, tokens) == getattr(plain.latency, tokens)


def test_the_router_learns_how_often_an_action_was_repeated(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    router, events = Turns([0]), list[Event]()
    with ladder(paths) as loaded:
        options = Options(max_steps=6, constrain=True)
        play_episode(game, loaded, router, options, [events.append])
    actions = [s.action for s in steps(events)]
    before = [actions[: i + 1].count(actions[i]) - 1 for i in range(5)]
    assert max(before) > 0
    repeats = [seen["repeats"] * 5 for seen in router.seen]
    assert repeats == pytest.approx([0, *before])


def test_a_slow_listener_does_not_count_as_decoding(
    paths: dict[str, Path], game: AlfworldGame
) -> None:
    slept, events = 0.0, list[Event]()

    def slow(event: Event) -> None:
        nonlocal slept
        if isinstance(event, TextDecoded):
            slept += 40.0
            time.sleep(0.04)

    with ladder(paths) as loaded:
        play_episode(game, loaded, make_router("low"), Options(max_steps=1), [slow, events.append])
    (told,) = steps(events)
    assert slept > 2000
    assert told.latency.decode_ms < slept / 2


@pytest.mark.parametrize("where", [Routed, TextDecoded, StepFinished])
def test_ctrl_c_ends_the_episode_and_leaves_a_whole_trace(
    paths: dict[str, Path], game: AlfworldGame, tmp_path: Path, where: type
) -> None:
    """Whatever the loop is doing in its third step when Ctrl-C comes."""

    def press(event: Event) -> None:
        if isinstance(event, where) and getattr(event, "step", 0) == 2:
            raise KeyboardInterrupt

    path = tmp_path / "episode.jsonl"
    with ladder(paths) as loaded, TraceWriter(path) as writer:
        finished = play_episode(
            game, loaded, make_router("high"), Options(max_steps=9), [writer, press]
        )
        assert finished.reason == "interrupted"
        trace = read_trace(path)
        assert trace.finished == finished
        assert len(trace.steps) == finished.steps == (3 if where is StepFinished else 2)
        # the ladder is as good as new afterwards
        again = play_episode(game, loaded, make_router("high"), Options(max_steps=1), [])
        assert again.steps == 1


def test_a_ctrl_c_waits_for_the_end_of_what_must_be_whole() -> None:
    done = []

    def work() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest")

    for _ in range(2):  # and the handler is back in its place afterwards
        with pytest.raises(KeyboardInterrupt):
            work()
    assert done == ["the rest"] * 2
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
