"""Print an episode for people, live: who wrote each step and why, what it said, what it cost.

The text is coloured by rich on a terminal, and the plain characters anywhere else.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from edge_router.agent.escalation import draft_summaries, step_sentence, summary
from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Latency,
    Noted,
    Routed,
    StepFinished,
    TextDecoded,
    TurnsDropped,
    score_text,
)
from edge_router.agent.listeners.slowness import SpeedWatch
from edge_router.ladders.costs import CostProfile
from edge_router.screen.printable import clean

if TYPE_CHECKING:
    from rich.console import Console


def wants_colour(file: TextIO) -> bool:
    """Whether `file` is a terminal that shows colours and nobody objects (no-color.org)."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen:
    """Writes at once, never wraps. `colour` None looks at the file."""

    def __init__(self, file: TextIO | None = None, colour: bool | None = None) -> None:
        self._file = sys.stdout if file is None else file
        self._encoding = getattr(self._file, "encoding", None) or "utf-8"
        self._console: Console | None = None
        if wants_colour(self._file) if colour is None else colour:
            from rich.console import Console

            self._console = Console(file=self._file, highlight=False, force_terminal=True)

    def write(self, text: str, style: str = "") -> None:
        """Write `text` as it is, in a rich style ("bold red") where there is colour."""
        safe = clean(text).encode(self._encoding, "replace").decode(self._encoding)
        if self._console is not None:
            self._console.out(safe, style=style or None, end="")
            return
        self._file.write(safe)
        self._file.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """Write `text` and end the line."""
        self.write(text, style)
        self.write("\n")


class IndentedStream:
    """Indents a text that arrives in pieces; how it is cut into pieces does not show.

    White space at both ends of the text is left out.
    """

    def __init__(self, indent: str) -> None:
        self._indent = indent
        self._held = ""
        self.begun = False

    def feed(self, piece: str) -> str:
        """What can be shown now that `piece` has arrived."""
        self._held += piece
        if not self.begun:
            self._held = self._held.lstrip()
        body = self._held.rstrip()
        if not body:
            return ""
        self._held = self._held[len(body) :]
        first = "" if self.begun else self._indent
        self.begun = True
        return first + body.replace("\n", "\n" + self._indent)


# -- the episode ----------------------------------------------------------------------------------

_INDENT = "    "
_TIER_STYLES = ("cyan", "yellow", "magenta", "red")  # low to high; the last for all above
_FAINT = "dim"


class PlainPrinter:
    """The listener behind `edge-router play` and `edge-router replay`.

    `file` is stdout unless given; `colour` None means: on a terminal that wants it; `profile`
    is how fast this machine was before.
    """

    def __init__(
        self,
        file: TextIO | None = None,
        *,
        colour: bool | None = None,
        profile: CostProfile | None = None,
    ) -> None:
        self._screen = Screen(file, colour)
        self._text = IndentedStream(_INDENT)
        self._open_line = False  # a step's text is being written
        self._watch = SpeedWatch(profile)

    def __call__(self, event: Event) -> None:
        if isinstance(event, TextDecoded):
            self._screen.write(self._text.feed(event.text))
        elif isinstance(event, Routed):
            self._begin_step(event)
        elif isinstance(event, StepFinished):
            self._end_step(event)
        elif isinstance(event, TurnsDropped):
            self._drop(event)
        elif isinstance(event, EpisodeStarted):
            self._begin(event)
        elif isinstance(event, EpisodeFinished):
            self._end(event)
        note = event.text if isinstance(event, Noted) else self._watch(event)
        if note:
            self._screen.line(f"\n(note: {note})", "yellow")

    def _begin(self, event: EpisodeStarted) -> None:
        tiers = ", ".join(f"{t.name} ({t.size_bytes / 1e6:.1f} MB)" for t in event.tiers)
        mood = "greedy" if event.temperature == 0 else f"temperature {event.temperature:g}"
        limits = ", only admissible actions" if event.constrained else ""
        screen = self._screen
        screen.line(f"game    {event.task} {event.game}")
        screen.line(f"goal    {event.goal}", "bold")
        screen.line(f"tiers   {tiers}")
        screen.line(
            f"run     router {event.router}, kv {event.kv}, prompt {event.prompt},"
            f" seed {event.seed}, {mood}, at most {event.max_steps} steps{limits}"
        )
        screen.line()
        screen.line(event.observation)

    def _begin_step(self, event: Routed) -> None:
        self._screen.write(f"\n[{event.step + 1}] ", "bold")
        self._screen.write(event.tier, f"bold {_tier_style(event.tier_index)}")
        self._screen.line(f"  {event.reason}", _FAINT)
        self._text = IndentedStream(_INDENT)
        self._open_line = True

    def _end_step(self, event: StepFinished) -> None:
        self._close_line()
        said = event.text.strip().rpartition("\n")[2]
        if event.action not in said or not event.action:
            self._screen.line(f"{_INDENT}(action: {event.action or 'none'})", _FAINT)
        if compared := step_sentence(event):
            self._screen.line(f"{_INDENT}({compared})", _FAINT)
        reply = event.observation.replace("\n", f"\n{_INDENT}  ")
        self._screen.line(f"{_INDENT}< {reply}", "red" if event.refused else "green")
        self._screen.line(f"{_INDENT}{costs(event.latency)}", _FAINT)

    def _close_line(self) -> None:
        if self._open_line and self._text.begun:
            self._screen.write("\n")
        self._open_line = False

    def _drop(self, event: TurnsDropped) -> None:
        what = "turn left" if event.turns == 1 else "turns left"
        self._screen.line(
            f"\n(the context is full: {event.turns} old {what} the prompt, {event.tokens} tokens)",
            _FAINT,
        )

    def _end(self, event: EpisodeFinished) -> None:
        self._close_line()
        self._screen.line()
        self._screen.line(outcome(event), "bold green" if event.won else "bold red")
        width = max(map(len, event.steps_by_tier), default=0)
        for index, (tier, steps) in enumerate(event.steps_by_tier.items()):
            share = 100 * steps / event.steps if event.steps else 0.0
            self._screen.write(f"{_INDENT}{tier:{width}}", _tier_style(index))
            self._screen.line(f"  {steps:3d} {'step ' if steps == 1 else 'steps'}  {share:3.0f} %")
        for said in filter(None, (summary(event.escalations), *draft_summaries(event))):
            self._screen.line(f"{_INDENT}{said}")
        self._screen.line(f"{_INDENT}{costs(event.latency)}")
        model, game = event.latency.model_ms / 1000, event.latency.env_ms / 1000
        self._screen.line(f"{_INDENT}model {model:.2f} s, game {game:.2f} s")


def _tier_style(index: int) -> str:
    return _TIER_STYLES[min(index, len(_TIER_STYLES) - 1)]


def outcome(event: EpisodeFinished) -> str:
    """How the episode ended, in one line."""
    steps = "1 step" if event.steps == 1 else f"{event.steps} steps"
    refused = f", {event.refused} refused" if event.refused else ""
    score = score_text(event.score, event.max_score)
    beside = refused + (f", {score}" if score else "")
    if event.won:
        return f"won in {steps}{beside}"
    if event.reason == "out of steps":
        return f"not won in {steps}{beside}"
    return f"{event.reason} after {steps}{beside}"


def costs(latency: Latency) -> str:
    """Where the time went, stage by stage, with the tokens behind it."""
    stages = [
        _stage("load", latency.load_ms, latency.load_tokens),
        _stage("prefill", latency.prefill_ms, latency.prefill_tokens),
        _stage("draft", latency.draft_ms, latency.draft_tokens),
        f"route {latency.route_ms:.2f} ms",
        _stage("handoff", latency.handoff_ms, latency.handoff_tokens),
        _stage("catch-up", latency.catchup_ms, latency.catchup_tokens),
        _stage("verify", latency.verify_ms, latency.verify_tokens),
        _stage("decode", latency.decode_ms, latency.decode_tokens),
    ]
    return " | ".join(s for s in stages if s) + f", {latency.tokens_per_second:.1f} tok/s"


def _stage(name: str, ms: float, tokens: int) -> str:
    return f"{name} {tokens} tok {ms:.1f} ms" if tokens else ""
