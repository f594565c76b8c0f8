"""A server for the tests of its app: recorded, with the same figures every time, or a real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from textual.pilot import Pilot

from edge_router import RoutedModel
from edge_router.agent.events import (
    Event,
    Latency,
    Routed,
    StepFinished,
    StepStarted,
    TextDecoded,
    TierInfo,
)
from edge_router.agent.response import Response
from edge_router.ladders.resolve import resolve, router_for
from edge_router.router.registry import make_router
from edge_router.router.steered import SteeredRouter
from edge_router.server.answering import Served
from edge_router.server.events import (
    GONE,
    RequestAnswered,
    RequestAsked,
    RequestEvent,
    RequestFailed,
    ServerEvent,
    ServerListener,
    ServerOpened,
)
from edge_router.server.run import Listening, watched
from tests.recorded import until
from tests.serving import user
from tui.apps.server import ServerApp

TIERS = ("q4_k_m", "q8_0")
OPENED = ServerOpened(
    name="qwen3-0.6b",
    url="http://127.0.0.1:8080/v1",
    tiers=(
        TierInfo("q4_k_m", "q4_k_m.gguf", "", 396_705_472, 469_762_048),
        TierInfo("q8_0", "q8_0.gguf", "", 639_446_688, 469_762_048),
    ),
    router="draft:0.5",
    kv="handoff",
    slots=4,
)


class RecordedServer:
    """Tells a listener what a server told once; its router is real, and may be steered."""

    def __init__(self, events: list[ServerEvent], hear: ServerListener) -> None:
        self._events, self._hear = events, hear
        self.router = SteeredRouter(make_router("entropy:0.5"))
        self.router.reset(TIERS, 0)
        self.dial = 0.5
        self.error: BaseException | None = None
        self.stops: list[bool] = []  # `at_once` of each call of `stop`
        self.last_stop = 1  # it ends after so many

    def start(self) -> None:
        for event in self._events:
            self._hear(event)

    def stop(self, *, at_once: bool = False) -> None:
        self.stops.append(at_once)

    def join(self, timeout: float | None = None) -> bool:
        return len(self.stops) >= self.last_stop


def recorded(events: list[ServerEvent]) -> ServerApp:
    """The app on a recorded server."""
    return ServerApp(partial(RecordedServer, [OPENED, *events]))


@contextmanager
def live(model: RoutedModel, router: str = "auto") -> Iterator[ServerApp]:
    """The app on a real server, which listens on a free port when the app has started."""
    described = resolve("household", [])
    served = Served("household", model, router_for(described, router), 0.5)
    listening = Listening(port=0)
    with listening.open() as opened:
        app = ServerApp(partial(watched, served, listening, opened))
        try:
            yield app
        finally:
            app.finish_work()


async def answered(pilot: Pilot[int], count: int) -> ServerApp:
    """Wait until so many requests were answered and are on the screen."""
    app = pilot.app
    assert isinstance(app, ServerApp)
    await until(pilot, lambda: app.traffic.answered >= count and not app.happened)
    return app


# -- what a server told once -----------------------------------------------------------------------


def busy() -> list[ServerEvent]:
    """Three conversations: seven answers, a client that went, one being written, one waiting."""
    weather = "What will the weather be like in Bergen tomorrow, and do I need an umbrella?"
    code = "def mean(values):\n    return sum(values) / len(values)\n\nWhat is wrong with this?"
    events: list[ServerEvent] = []
    events += answer(1, [weather], 0, "I need to look it up.", 0.12)
    events += answer(2, [code], 1, "It fails for an empty list: the length is 0.", 0.71)
    events += answer(3, [weather, "Look it up."], 0, "Rain, 7 degrees. Take one.", 0.08)
    events += answer(4, ["Translate 'snow'."], 0, "Schnee.", 0.02, model="qwen3-0.6b:q4_k_m")
    events += answer(5, [code, "Mend it."], 1, "return sum(values) / max(1, len(values))", 0.64)
    events += [_asked(6, ["Write a long story."]), RequestFailed(6, "/v1/x", 499, GONE)]
    events += answer(7, [weather, "Look it up.", "Thanks."], 0, "You are welcome.", 0.31)
    events += begun(8, [code, "Mend it.", "And a test?"], "def test_the_mean_of_nothing")
    return [*events, _asked(9, ["Who are you?"])]


def answer(
    number: int,
    said: list[str],
    tier: int,
    text: str,
    score: float,
    *,
    model: str = OPENED.name,
) -> list[ServerEvent]:
    """A request that was asked and answered; `said` are the user's messages."""
    tokens, prompt = len(text.split()) + 3, 40 + 30 * len(said)
    latency = Latency(
        prefill_ms=4.0 * 30,
        route_ms=0.4,
        draft_ms=22.0 * tokens if tier else 0.0,
        handoff_ms=9.5 if tier else 0.0,
        verify_ms=88.0 if tier else 0.0,
        decode_ms=30.0 * tokens if not tier else 95.0,
        prefill_tokens=30,
        handoff_tokens=prompt if tier else 0,
        decode_tokens=tokens if not tier else 2,
        drafted=tokens if tier else 0,
        accepted=tokens - 2 if tier else 0,
        rewritten=2 if tier else 0,
    )
    response = Response(
        text=text,
        tier=TIERS[tier],
        tier_index=tier,
        reason="",
        latency=latency,
        prompt_tokens=prompt,
        stop_reason="eog",
        completion_tokens=tokens,
        cached_tokens=prompt - 30,
    )
    finished = StepFinished(
        0, TIERS[tier], tier, text, "", text, "", False, False, False, latency, text
    )
    return [
        *begun(number, said, text, tier, score, model),
        RequestEvent(number, finished),
        RequestAnswered(number, model, said[-1], response, 1.0),
    ]


def begun(
    number: int,
    said: list[str],
    text: str,
    tier: int = 1,
    score: float = 0.6,
    model: str = OPENED.name,
) -> list[ServerEvent]:
    """A request of which so much text has been written."""
    draft = "The draft of it, which was a little shorter."
    reason = f"doubt {score:.2f} {'>=' if score >= 0.5 else '<'} 0.50"
    routed = Routed(
        step=0,
        tier=TIERS[tier],
        tier_index=tier,
        reason=reason,
        probability=None,
        features={"draft_min_p": 1 - score, "action_min_p": 0.9, "draft_nll": 0.2, "dial": 0.5},
        score=score,
        thresholds=(0.5,),
        decide_at="draft",
        draft=draft,
    )
    events: list[Event] = [StepStarted(0, 40 + 30 * len(said), 30), routed, TextDecoded(0, text)]
    return [_asked(number, said, model), *(RequestEvent(number, event) for event in events)]


def _asked(number: int, said: list[str], model: str = OPENED.name) -> RequestAsked:
    messages = [user(said[0])]
    for text in said[1:]:
        messages += [{"role": "assistant", "content": "..."}, user(text)]
    return RequestAsked(number, model, "draft:0.5", messages)
