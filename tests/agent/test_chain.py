"""A ladder of three tiers where each higher one verifies what the one below made of a draft."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.escalation import draft_summaries, step_sentence
from edge_router.agent.events import EpisodeFinished, Event, StepFinished
from edge_router.agent.listeners.printer import PlainPrinter
from edge_router.agent.trace import TraceWriter, read_trace
from edge_router.engine.ladder import Ladder
from edge_router.engine.tier import TierSpec
from edge_router.evaluate.records import Recorder
from edge_router.ladders.costs import CostProfile, TierCost
from edge_router.ladders.resolve import find_ladder
from edge_router.router.budget import BudgetRouter
from edge_router.router.registry import make_router
from edge_router.router.rules import DraftRouter
from edge_router.router.steered import SteeredRouter
from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import SHIPPED, find_games

MIDDLE = "q4_k_m"
TIERS = ("iq1_s", MIDDLE, "q8_0")


@pytest.fixture(scope="module")
def game() -> Iterator[AlfworldGame]:
    """One in which iq1_s goes astray, and q4_k_m once as well."""
    path = next(g.path for g in find_games(SHIPPED) if "KeyChain-None-DeskLamp" in g.id)
    with closing(AlfworldGame(path)) as played:
        yield played


def played(game: AlfworldGame, router: str, options: Options, *listeners: object) -> list[Event]:
    folder = find_ladder("household").tiers[0].path.parent
    specs = [TierSpec(name, folder / f"household-{name}.gguf") for name in TIERS]
    events: list[Event] = []
    with Ladder.load(specs, n_ctx=1024, n_threads=1) as ladder:
        heard = [events.append, *listeners]
        play_episode(game, ladder, make_router(router), options, heard)  # type: ignore[arg-type]
    return events


def steps(events: list[Event]) -> list[StepFinished]:
    return [event for event in events if isinstance(event, StepFinished)]


def end(events: list[Event]) -> EpisodeFinished:
    assert isinstance(events[-1], EpisodeFinished)
    return events[-1]


@pytest.mark.parametrize("constrain", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_chain_is_an_episode_of_the_high_tier(game: AlfworldGame, constrain: bool) -> None:
    options = Options(max_steps=8, constrain=constrain)
    high, chained = (steps(played(game, router, options)) for router in ("high", "chain"))
    assert [s.text for s in chained] == [s.text for s in high]
    assert {s.tier for s in chained} == {"q8_0"}
    for step in chained:
        (middle,) = step.passes
        assert (middle.tier, middle.tier_index) == (MIDDLE, 1)
        assert step.latency.drafted == middle.latency.accepted + middle.latency.rewritten


def test_every_tiers_part_is_told_and_adds_up(game: AlfworldGame, tmp_path: Path) -> None:
    path, file = tmp_path / "t.jsonl", io.StringIO()
    with TraceWriter(path) as writer:
        told = played(game, "chain", Options(max_steps=8), writer, PlainPrinter(file))
    ended, direct = end(told), end(played(game, "verify", Options(max_steps=8)))
    (middle,) = ended.passes
    assert direct.passes == ()
    assert 0 < middle.latency.accepted < middle.latency.drafted == direct.latency.drafted
    assert 0 < ended.latency.accepted < ended.latency.drafted > direct.latency.drafted
    assert ended.latency.draft_tokens == direct.latency.draft_tokens
    # the middle tier's time is the draft's, to the tier that takes its text over
    assert ended.latency.draft_ms > middle.latency.model_ms > middle.latency.verify_ms > 0
    for name in ("drafted", "accepted", "verify_tokens"):
        parts = [getattr(one.latency, name) for step in steps(told) for one in step.passes]
        assert getattr(middle.latency, name) == sum(parts)
    trace = read_trace(path)
    assert [step.finished for step in trace.steps] == steps(told)
    assert trace.finished == ended
    assert all(sentence in file.getvalue() for sentence in draft_summaries(ended))
    assert draft_summaries(ended)[0].startswith(f"{MIDDLE} first: ")
    said = [step_sentence(step) for step in steps(told)]
    assert all(sentence.startswith(f"{MIDDLE}: ") for sentence in said)


def test_every_tiers_part_is_paid_for(game: AlfworldGame) -> None:
    recorder = Recorder()
    played(game, "chain", Options(max_steps=3), recorder)
    record = recorder.record(game.id, game.kind, "iq1_s", 0)

    def seconds(slow: str) -> float:
        tiers = tuple(
            TierCost(name, 1, (1,), (0,), ((0.0,),), (float(name == slow),)) for name in TIERS
        )
        return record.seconds(CostProfile("m", "", tiers, 0.0, 0.0, 1))

    assert seconds("iq1_s") == sum(step.draft for step in record.steps) > 0
    assert seconds(MIDDLE) == sum(one.decode for s in record.steps for one in s.passes)
    assert seconds("q8_0") == sum(step.decode for step in record.steps)


def test_a_sampled_chain_is_the_same_for_the_same_seed(game: AlfworldGame) -> None:
    def texts(seed: int) -> list[str]:
        options = Options(max_steps=3, temperature=2.5, seed=seed)
        return [step.text for step in steps(played(game, "chain", options))]

    assert texts(1) == texts(1) != texts(2)


def test_routers_around_another_chain_as_it_does() -> None:
    class Chained(DraftRouter):
        chained = True

    assert SteeredRouter(make_router("chain")).chained
    assert BudgetRouter(Chained(0.5), 0.2).chained
    assert not SteeredRouter(make_router("verify")).chained
