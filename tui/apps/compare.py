"""Two traces side by side: the same game under two routers, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from edge_router.agent.trace import Trace
from edge_router.router.spec import RouterSpec
from edge_router.screen.printable import one_line
from tui.apps.frame import Key, draw_in
from tui.apps.replay import ReplayApp
from tui.draw.panels import Head, KeyBar, Legend, PrecisionStrip, Times, Why
from tui.draw.transcript import Transcript
from tui.draw.words import milliseconds
from tui.state.episode import Episode, first_difference
from tui.state.screenful import Ahead


class CompareApp(ReplayApp):
    """Both runs move together, step by step."""

    BINDINGS: ClassVar[list[BindingType]] = []
    KEYS: ClassVar[list[Key]] = [*ReplayApp.KEYS]
    HELP = "The arrows, or a click on a strip, move both runs to the same step."

    def __init__(
        self,
        traces: Sequence[Trace],
        names: Sequence[str],
        *,
        speed: float = 1.0,
        pace: float = 1.5,
        paused: bool = False,
    ) -> None:
        super().__init__(list(traces), speed=speed, pace=pace, paused=paused)
        self._names = names
        whole = [complete(trace) for trace in traces]
        self._parts_at = first_difference(*whole) if is_same_game(traces) else None
        self._verdict = verdict(traces, whole, self._parts_at)

    def compose(self) -> ComposeResult:
        yield Static(self._verdict, id="verdict", markup=False)
        yield Legend(id="legend")
        with Horizontal(id="runs"):
            for number in range(2):
                with Vertical(id=f"run{number}", classes="run"):
                    yield Head(classes="head")
                    strip = PrecisionStrip(classes="strip")
                    strip.border_title = "Which precision wrote each step"
                    yield strip
                    yield Transcript(classes="transcript")
                    yield Why(classes="why")
                    yield Times(classes="times")
        yield KeyBar([*self.KEYS, *self.COMMON_KEYS], id="keys")

    def show(self, *, text_only: bool = False) -> None:
        base = self.screen_stack[0] if self.screen_stack else None
        if base is None:
            return
        for number, timeline in enumerate(self.timelines):
            s = self.screenful_of(timeline)
            s.beside = self.timelines[1 - number].episode
            for legend in base.query(Legend):
                legend.show(s)
            router = RouterSpec.parse(timeline.trace.started.router).short
            s.title = one_line(f"{self._names[number]}  ·  router {router}")
            s.ahead = Ahead(timeline.tiers, self._parts_at)
            for run in base.query(f"#run{number}"):
                draw_in(run, s)


def complete(trace: Trace) -> Episode:
    """The episode at its end."""
    episode = Episode()
    episode.apply(trace.started)
    for step in trace.steps:
        episode.apply(step.routed)
        episode.apply(step.finished)
    if trace.finished is not None:
        episode.apply(trace.finished)
    return episode


def is_same_game(traces: Sequence[Trace]) -> bool:
    return len({(trace.started.task, trace.started.game) for trace in traces}) == 1


def verdict(traces: Sequence[Trace], episodes: Sequence[Episode], parts_at: int | None) -> str:
    """In words: the same game? where do the runs part? what did each take?"""
    if not is_same_game(traces):
        where = "These are two different games."
    elif parts_at is None:
        where = "Both runs give the same commands from beginning to end."
    else:
        same = f"give the same commands up to step {parts_at} and " if parts_at else ""
        where = f"The runs {same}part at step {parts_at + 1} (≠)."
    return f"{where} Left {_took(episodes[0])}; right {_took(episodes[1])}."


def _took(episode: Episode) -> str:
    steps = episode.done_steps
    how = episode.finished.reason if episode.finished else "cut short"
    escalated = sum(step.tier_index > 0 for step in steps)
    ms = milliseconds(sum(step.latency.model_ms for step in steps))
    return f"{how} in {len(steps)} steps, {escalated} escalated, model {ms}"
