"""`import edge_router` as a library: load, chat, stream, play, and what that costs to import."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edge_router
from edge_router import Response, RoutedModel, UserError
from edge_router.agent.events import (
    EpisodeStarted,
    Event,
    Routed,
    StepFinished,
    StepStarted,
    TextDecoded,
)
from edge_router.ladders.resolve import resolve, router_for
from tests.engine_fixtures import tiny_paths
from tests.project.test_imports import HEAVY, modules_after

__all__ = ["tiny_paths"]

OPENING = "task: put a clean mug in cabinet.\nroom: cabinet 2 cabinet 1 countertop 1 sinkbasin 1"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="module")
def shared_model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1) as loaded:
        yield loaded


@pytest.fixture
def model(shared_model: RoutedModel) -> RoutedModel:
    """The embedded model, which remembers nothing of other tests."""
    shared_model.ladder.clear()
    return shared_model


def test_importing_the_package_loads_nothing_that_a_run_needs() -> None:
    loaded = modules_after("import edge_router")
    assert "edge_router" in loaded
    assert not loaded & {*HEAVY, "numpy", "click", "rich", "jinja2", "joblib", "psutil"}


def test_every_name_that_is_offered_is_there() -> None:
    assert {"load", "play", "Ladder", "Router", "Task"} <= set(edge_router.__all__)
    assert all(getattr(edge_router, name) for name in edge_router.__all__)
    assert set(edge_router.__all__) <= set(dir(edge_router))


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = edge_router.no_such_thing


def test_a_model_is_loaded_with_the_kv_mode_that_it_suggests_unless_another_is_asked_for() -> None:
    suggests = replace(resolve("household", []), kv="exact")
    with edge_router.load(suggests, threads=1) as model:
        assert str(model.ladder.kv) == "exact"
    with edge_router.load(suggests, kv="handoff:8", threads=1) as model:
        assert str(model.ladder.kv) == "handoff:8"


def test_one_tier_alone_needs_no_router(model: RoutedModel) -> None:
    answer = model.alone("q8_0").chat([user(OPENING)])
    assert answer.text
    assert answer.tier == "q8_0"


def test_a_model_that_was_closed_says_so() -> None:
    with edge_router.load("household", threads=1) as closed:
        alone = closed.alone("q8_0")
    for model in (closed, alone):
        with pytest.raises(UserError, match="this model is closed"):
            model.chat([user(OPENING)], router="low")
    closed.close()


def test_a_model_may_be_closed_while_a_stream_of_it_is_half_read() -> None:
    """Going on, llama.cpp would compute with memory that is freed, which ends the process."""

    def hold(event: Event) -> None:
        """Write no further until the model is being closed."""
        while isinstance(event, TextDecoded):
            try:
                closed.__enter__()
            except UserError:
                return
            time.sleep(0.001)

    with edge_router.load("household", threads=1) as closed:
        pieces = iter(closed.stream([user(OPENING)], router="high", listeners=[hold]))
        assert next(pieces)
    with pytest.raises(UserError, match="this model is closed"):
        list(pieces)


def test_a_model_that_was_closed_gives_no_tier_alone() -> None:
    closed = edge_router.load("household", threads=1)
    closed.close()
    with pytest.raises(UserError, match="this model is closed"):
        closed.alone("q8_0")
    with pytest.raises(UserError, match="this model is closed"):
        closed.__enter__()


def test_a_text_does_not_close_the_model_that_writes_it(model: RoutedModel) -> None:
    with pytest.raises(UserError, match="close it when the text has ended"):
        model.chat([user(OPENING)], on_text=lambda _: model.close())
    assert model.chat([user(OPENING)], max_tokens=2).text


def test_a_stop_string_is_not_taken_for_its_letters(model: RoutedModel) -> None:
    whole = model.chat([user(OPENING)], router="low")
    assert (
        model.chat([user(OPENING)], router="low", stop="\n>").text
        == whole.text.split("\n>")[0].strip()
    )


@pytest.mark.parametrize("messages", ["hello", {"role": "user", "content": "hello"}, [5]])
def test_what_are_no_messages_is_said(model: RoutedModel, messages: Any) -> None:
    with pytest.raises(UserError, match="a message is"):
        model.chat(messages)


@pytest.mark.parametrize(("router", "tier"), [("low", "iq1_s"), ("high", "q8_0")])
def test_a_reply_names_the_tier_that_the_router_chose(
    model: RoutedModel, router: str, tier: str
) -> None:
    reply = model.chat([user(OPENING)], router=router)
    assert (reply.tier, reply.escalated) == (tier, router == "high")
    assert "> go to" in reply.text
    assert reply.reason.startswith("always")
    assert reply.latency.prefill_tokens == reply.prompt_tokens
    assert reply.latency.decode_ms > 0
    assert reply.stop_reason == "eog"


def test_a_router_is_given_as_an_object(model: RoutedModel) -> None:
    high = router_for(resolve("household", []), "high")
    assert model.chat([user(OPENING)], router=high).tier == "q8_0"
    assert model.play(router=high, max_steps=1).steps_by_tier["q8_0"] == 1


def test_auto_is_the_router_that_the_model_suggests(model: RoutedModel) -> None:
    reply = model.chat([user(OPENING)])
    assert reply.reason.startswith("p(")  # the shipped network's


def test_the_dial_moves_a_threshold(model: RoutedModel) -> None:
    save, spend = (model.chat([user(OPENING)], router="entropy:0.5", dial=d) for d in (0.0, 1.0))
    assert (save.tier, spend.tier) == model.tiers


def test_an_answer_that_goes_on_is_not_read_again(model: RoutedModel) -> None:
    first = model.chat([user(OPENING)], router="low")
    messages = [user(OPENING), assistant(first.text), user("at countertop 1: mug 1 bread 1")]
    second = model.chat(messages, router="low")
    already = first.prompt_tokens + first.latency.decode_tokens
    assert second.prompt_tokens - second.latency.prefill_tokens >= already
    assert "mug 1" in second.text


def test_a_router_hears_how_earlier_answers_were_written(model: RoutedModel) -> None:
    """`retry` escalates after a refused command, which the next message tells."""
    first = model.chat([user(OPENING)], router="retry")
    assert first.tier == "iq1_s"
    refused = [user(OPENING), assistant(first.text), user("Nothing happens.")]
    assert model.chat(refused, router="retry").tier == "q8_0"


def test_the_same_conversation_gets_the_same_answer(model: RoutedModel) -> None:
    def respond() -> Response:
        model.ladder.clear()
        return model.chat([user(OPENING)], temperature=0.8, seed=3)

    assert respond().text == respond().text


def test_listeners_hear_how_an_answer_is_written(model: RoutedModel) -> None:
    heard: list[Event] = []
    answer = model.chat([user(OPENING)], router="verify", listeners=[heard.append])
    assert [type(event) for event in heard[:2]] == [StepStarted, Routed]
    pieces = [event.text for event in heard if isinstance(event, TextDecoded)]
    assert "".join(pieces).strip() == answer.text
    finished = heard[-1]
    assert isinstance(finished, StepFinished)
    assert (finished.tier, finished.latency) == (answer.tier, answer.latency)
    assert finished.draft_action, "the low tier's draft was there to be compared with"


def test_a_stream_is_the_reply_in_pieces(model: RoutedModel) -> None:
    stream = model.stream([user(OPENING)], router="high")
    pieces = list(stream)
    assert len(pieces) > 5
    assert stream.response is not None
    assert "".join(pieces).strip() == stream.response.text
    assert stream.response.text == model.chat([user(OPENING)], router="high").text


def test_a_stream_that_is_left_early_frees_the_model(model: RoutedModel) -> None:
    for piece in model.stream([user(OPENING)], router="high"):
        assert piece
        break
    assert model.chat([user(OPENING)], router="high").text


def test_a_model_writes_one_text_at_a_time(model: RoutedModel) -> None:
    heard = []

    def interrupt(piece: str) -> None:
        with pytest.raises(UserError, match="writing another text"):
            model.chat([user(OPENING)])
        with pytest.raises(UserError, match="writing another text"):
            model.play()
        heard.append(piece)

    assert model.chat([user(OPENING)], router="high", on_text=interrupt).text
    assert heard


def test_a_mistake_in_a_stream_reaches_its_reader(model: RoutedModel) -> None:
    with pytest.raises(UserError, match="no router 'fast'"):
        list(model.stream([user(OPENING)], router="fast"))


@pytest.mark.parametrize(
    ("messages", "options", "sentence"),
    [
        ([], {}, "at least one message"),
        ([user("a"), assistant("b")], {}, "the last message is the assistant's"),
        ([{"role": "user"}], {}, "a message is"),
        ([user(OPENING)], {"dial": 2.0}, "the dial goes from 0 to 1"),
        ([user(OPENING)], {"max_tokens": 0}, "max_tokens is a whole number, at least 1"),
        ([user(OPENING)], {"budget": "x"}, "budget is a number, not 'x'"),
        ([user(OPENING)], {"budget": [0.2]}, "budget is a number"),
        ([user(OPENING)], {"budget": 1.5}, "a share between 0 and 1"),
        ([user(OPENING)], {"dial": "x"}, "dial is a number"),
        ([user(OPENING)], {"max_tokens": 2.5}, "max_tokens is a whole number"),
        ([user(OPENING)], {"temperature": "hot"}, "temperature is a number"),
        ([user(OPENING)], {"seed": None}, "seed is a whole number"),
        ([user(OPENING)], {"likely": -1}, "likely is a whole number"),
        ([user(OPENING)], {"stop": [3]}, "stop is a text or several"),
        ([user(OPENING)], {"stop": 3}, "stop is a text or several"),
        ([user(OPENING)], {"router": 3}, "a router is named"),
        ([user(OPENING)], {"router": "fast"}, "there is no router 'fast'"),
        ([user("mug 1 " * 2000)], {}, "leave old messages out"),
    ],
)
def test_bad_input_is_one_sentence(
    model: RoutedModel, messages: list[dict[str, str]], options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        model.chat(messages, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"context": "x"}, "context is a whole number"),
        ({"threads": 0}, "threads is a whole number, at least 1"),
        ({"slots": 0}, "slots is a whole number"),
        ({"gpu_layers": "many"}, 'gpu_layers is "auto"'),
    ],
)
def test_a_model_is_not_loaded_with_what_is_no_number(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        edge_router.load(**options)


@pytest.mark.parametrize(
    "options", [{"budget": "x"}, {"dial": "x"}, {"dial": 3}, {"max_steps": 0}, {"seed": "x"}]
)
def test_a_game_is_not_played_with_what_is_no_number(
    model: RoutedModel, options: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        model.play(**options)


def test_an_option_that_is_not_there_is_no_option(model: RoutedModel) -> None:
    with pytest.raises(TypeError, match="no option 'budgets'"):
        model.chat([user(OPENING)], budgets=0.2)  # type: ignore[call-arg]


def test_a_budget_of_nothing_never_escalates_not_even_the_first_answer(
    tiny_paths: dict[str, Path],
) -> None:
    tiers = {"low": tiny_paths["q3_k_m"], "high": tiny_paths["q8_0"]}
    with edge_router.load(tiers=tiers, context=256, threads=1) as model:
        for share, tier in ((0.0, "low"), (1.0, "high")):
            for router in ("draft:0", "draft:1"):  # by itself it always or never escalates
                response = model.chat([user("Hello!")], router=router, budget=share, max_tokens=3)
                assert response.tier == tier


def test_an_answer_ends_after_max_tokens_and_before_a_stop_string(model: RoutedModel) -> None:
    assert model.chat([user(OPENING)], router="low", max_tokens=3).latency.decode_tokens <= 3
    stopped = model.chat([user(OPENING)], router="low", stop=["\n>"])
    assert ">" not in stopped.text
    assert stopped.stop_reason == "stop"


def test_a_game_is_played_and_heard(model: RoutedModel) -> None:
    heard: list[Event] = []
    finished = edge_router.play(model=model, router="low", max_steps=2, listeners=[heard.append])
    assert finished.steps == 2
    assert finished.steps_by_tier["iq1_s"] == 2
    assert isinstance(heard[0], EpisodeStarted)


def test_a_task_that_is_not_there_is_one_sentence(model: RoutedModel) -> None:
    with pytest.raises(UserError, match="there is no task 'chess'"):
        edge_router.play("chess", model=model)


def test_tiers_are_given_as_files() -> None:
    tiers = {spec.name: spec.path for spec in resolve("household", []).tiers}
    with edge_router.load(tiers=tiers, threads=1) as model:
        assert model.tiers == ("iq1_s", "q8_0")


def test_a_general_model_chats_by_the_doubt_of_its_drafts(tiny_paths: dict[str, Path]) -> None:
    tiers = {"low": tiny_paths["q3_k_m"], "high": tiny_paths["q8_0"]}
    messages = [{"role": "system", "content": "Be brief."}, user("Hello!")]
    with edge_router.load(tiers=tiers, context=256, threads=1) as model:
        response = model.chat(messages, max_tokens=5)
    assert "least sure token" in response.reason, "the first answer is the draft's own threshold"
    assert response.latency.decode_tokens <= 5
