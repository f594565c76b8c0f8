"""Episodes and conversations begin with what was read before, and end as if it had not been."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.agent.chat import Asked, Conversation, Response
from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import EpisodeFinished, Event, Latency, Listener, Noted, StepFinished
from edge_router.agent.listeners.json_printer import JsonPrinter
from edge_router.agent.listeners.printer import PlainPrinter, costs
from edge_router.agent.trace import TraceWriter, read_trace
from edge_router.engine.ladder import Ladder
from edge_router.engine.openings import LEAST_TOKENS, OpeningStore
from edge_router.engine.sampling import Sampler
from edge_router.router.registry import make_router
from edge_router.tasks import registry
from edge_router.tasks.protocol import Message, Opening
from tests.engine_fixtures import LadderMaker, make_ladder, tiny_paths
from tests.tasks.test_second_task import CountingTask, PlainStyle

__all__ = ["make_ladder", "tiny_paths"]

RULES = "Count up to the number that you are told. Write add and a number. " * 4
LOW, HIGH = "q3_k_m", "q8_0"


class RuledStyle(PlainStyle):
    """Rules, then the game."""

    def opening(self, opening: Opening) -> list[Message]:
        return [{"role": "user", "content": f"{RULES}{opening.goal} {opening.observation}"}]

    def shared(self, opening: Opening) -> list[Message]:
        return [{"role": "user", "content": RULES}]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingTask:
    for number in (3, 20):
        (tmp_path / f"{number}.txt").write_text(str(number))
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    made = CountingTask(tmp_path)
    made.styles = {"plain": RuledStyle()}
    registry.register(made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> OpeningStore:
    return OpeningStore(tmp_path / "openings", 10**9)


def play(ladder: Ladder, task: CountingTask, game: int, router: str = "high") -> list[Event]:
    heard: list[Event] = []
    opened = task.open(task.games().games[game])
    play_episode(opened, ladder, make_router(router), Options(max_steps=2), [heard.append])
    return heard


def latencies(events: list[Event]) -> list[Latency]:
    return [event.latency for event in events if isinstance(event, StepFinished)]


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, StepFinished)]


@pytest.mark.parametrize(("kv", "files"), [("handoff", 1), ("exact", 2)])
def test_the_next_process_loads_the_opening_and_plays_the_same(
    make_ladder: LadderMaker, task: CountingTask, store: OpeningStore, kv: str, files: int
) -> None:
    first = play(make_ladder(LOW, HIGH, kv=kv, openings=store), task, 0)
    second = play(make_ladder(LOW, HIGH, kv=kv, openings=store), task, 0)
    without = play(make_ladder(LOW, HIGH, kv=kv), task, 0)
    assert texts(first) == texts(second) == texts(without)
    assert [x.load_tokens for x in latencies(first)] == [0, 0]
    read, later = latencies(second)
    assert read.load_tokens >= files * LEAST_TOKENS
    assert later.load_tokens == 0
    before = latencies(first)[0]
    assert read.load_tokens + read.prefill_tokens + read.catchup_tokens == (
        before.prefill_tokens + before.catchup_tokens
    )
    assert read.load_ms > 0
    assert read.model_ms > read.load_ms
    assert store.kept().files == files


def test_the_second_game_of_a_process_reads_only_what_is_its_own(
    make_ladder: LadderMaker, task: CountingTask
) -> None:
    ladder = make_ladder(LOW, HIGH)
    first, second = (latencies(play(ladder, task, game))[0] for game in (0, 1))
    assert first.prefill_tokens - second.prefill_tokens > LEAST_TOKENS
    assert first.handoff_tokens - second.handoff_tokens > LEAST_TOKENS
    fresh = play(make_ladder(LOW, HIGH), task, 1)
    assert texts(play(ladder, task, 1)) == texts(fresh)


def test_what_was_loaded_is_printed_and_in_the_trace(
    make_ladder: LadderMaker, task: CountingTask, store: OpeningStore, tmp_path: Path
) -> None:
    play(make_ladder(LOW, openings=store), task, 0)
    with make_ladder(LOW, openings=store) as ladder, TraceWriter(tmp_path / "t.jsonl") as trace:
        game = task.open(task.games().games[0])
        screen = io.StringIO()
        listeners: list[Listener] = [trace, PlainPrinter(screen)]
        end = play_episode(game, ladder, make_router("low"), Options(max_steps=1), listeners)
    loaded = end.latency.load_tokens
    assert f"load {loaded} tok" in screen.getvalue()
    read = read_trace(tmp_path / "t.jsonl").finished
    assert isinstance(read, EpisodeFinished)
    assert read.latency.load_tokens == loaded > 0
    assert "load" not in costs(replace(end.latency, load_tokens=0))


def test_a_store_that_fails_is_told_once_and_the_game_goes_on(
    make_ladder: LadderMaker, task: CountingTask, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    ladder = make_ladder(LOW, openings=OpeningStore(tmp_path / "file" / "openings", 10**9))
    heard = [*play(ladder, task, 0, "low"), *play(ladder, task, 1, "low")]
    (note,) = (event for event in heard if isinstance(event, Noted))
    assert "cannot be kept" in note.text
    assert len(latencies(heard)) == 4
    for listener_of in (PlainPrinter, lambda file: JsonPrinter(io.StringIO(), file)):
        screen = io.StringIO()
        listener = listener_of(screen)
        for event in heard:
            listener(event)
        assert screen.getvalue().count("cannot be kept") == 1


def answer(conversation: Conversation, *messages: Message) -> Response:
    return conversation.answer(messages, make_router("low"), Asked(Sampler(), max_tokens=8))


def test_a_conversation_begins_with_the_systems_message(
    make_ladder: LadderMaker, store: OpeningStore
) -> None:
    system = {"role": "system", "content": RULES}
    first, second = ({"role": "user", "content": text} for text in ("count to 3", "what is 2?"))
    computed = answer(Conversation(make_ladder(LOW, openings=store)), system, first)
    ladder = make_ladder(LOW, openings=store)
    loaded = answer(Conversation(ladder), system, first)
    assert loaded.text == computed.text
    assert loaded.latency.load_tokens > LEAST_TOKENS
    again = answer(Conversation(ladder), system, second)
    assert again.latency.load_tokens == 0
    assert again.prompt_tokens - again.latency.prefill_tokens >= loaded.latency.load_tokens
    assert store.kept().files == 1


def test_a_conversation_without_a_systems_message_keeps_nothing(
    make_ladder: LadderMaker, store: OpeningStore
) -> None:
    answer(Conversation(make_ladder(LOW, openings=store)), {"role": "user", "content": RULES})
    assert store.kept().files == 0
