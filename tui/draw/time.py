"""Where the time goes: a stacked bar a step, speed as a sparkline, totals and an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.text import Text

from edge_router.agent.events import Latency, StepFinished
from tui.draw.lines import block, line
from tui.draw.look import BARS, STAGES, Stage, sign
from tui.draw.words import milliseconds
from tui.state.estimate import always_high
from tui.state.screenful import Screenful

_RARE: Final = ("load_ms", "draft_ms", "verify_ms")
_AHEAD = 6  # cells before a bar: step number and sign
_AFTER = 9  # cells behind it: its milliseconds


def draw_time(s: Screenful, width: int, height: int) -> Text:
    """Legend, the newest steps' bars, speed and totals; few rows: the totals and one bar."""
    steps = s.episode.done_steps
    if not steps:
        return block([line((f"no {s.unit} has been timed yet", s.look.soft))], width, height)
    below = [speed(s, steps, width), *totals(s, steps, width)]
    head = [legend(s, width)] if height >= 4 and s.beside is None else []
    room = max(1, height - len(head) - len(below))
    shown = steps[-room:]
    slowest = max(x.latency.model_ms for x in (*shown, *_beside(s)[-room:]))
    return block([*head, *(bar(s, x, slowest, width) for x in shown), *below], width, height)


def _beside(s: Screenful) -> list[StepFinished]:
    """The steps of the run that shares the scales."""
    return s.beside.done_steps if s.beside else []


def legend(s: Screenful, width: int) -> Text:
    """Pattern and name of every stage; the usual names as well where there is room.

    What is rare is named only where it was: few routers have drafts written, and an opening is
    loaded once a game.
    """
    steps = (*s.episode.done_steps, *_beside(s))
    stages = [x for x in STAGES if x.field not in _RARE or _took(steps, x)]
    for form in ("{x.pattern} {x.plain} ({x.usual})  ", "{x.pattern} {x.usual}  ",
                 "{x.pattern}{x.short} "):  # fmt: skip
        pieces = [(form.format(x=x), s.look.stage(x, s.look.strong)) for x in stages]
        drawn = line(*pieces)
        drawn.rstrip()
        if drawn.cell_len <= width:
            break
    return drawn


def _took(steps: Iterable[StepFinished], stage: Stage) -> bool:
    return any(getattr(step.latency, stage.field) > 0 for step in steps)


def bar(s: Screenful, step: StepFinished, slowest: float, width: int) -> Text:
    """One step: number, sign, a bar of its stages as long as it took, milliseconds."""
    tier = s.colour(step.tier_index)
    text = line((f"{step.step + 1:3d} ", s.look.soft), (f"{sign(step.tier_index, s.count)} ", tier))
    room = max(1, width - _AHEAD - _AFTER)
    for stage, cells in zip(STAGES, _cells(step.latency, slowest, room), strict=True):
        text.append(stage.pattern * cells, s.look.stage(stage, tier))
    text.append(f" {milliseconds(step.latency.model_ms)}", s.look.soft)
    return text


def _cells(latency: Latency, slowest: float, room: int) -> list[int]:
    """How many cells each stage gets: what is there gets one, the rest goes by share."""
    times = [getattr(latency, stage.field) for stage in STAGES]
    if slowest <= 0:
        return [0] * len(times)
    ends, at, taken = [], 0.0, 0
    for ms in times:
        at += ms
        end = max(round(at / slowest * room), taken + (ms > slowest / room / 4))
        ends.append(min(end, room))
        taken = ends[-1]
    return [b - a for a, b in zip([0, *ends], ends, strict=False)]


def speed(s: Screenful, steps: list[StepFinished], width: int) -> Text:
    """Tokens a second of each step as a sparkline, and the newest in figures."""
    newest = f" {steps[-1].latency.tokens_per_second:.0f} tok/s"
    room = max(1, width - len("writes ") - len(newest))
    rates = [x.latency.tokens_per_second for x in steps][-room:]
    most = max(*rates, *(x.latency.tokens_per_second for x in _beside(s)[-room:]), 0.0) or 1.0
    text = line(("speed  ", s.look.soft))
    for step, rate in zip(steps[-room:], rates, strict=True):
        text.append(BARS[max(1, round(rate / most * 8))], s.colour(step.tier_index))
    text.append(newest, s.look.soft)
    return text


def totals(s: Screenful, steps: list[StepFinished], width: int) -> list[Text]:
    """The model's time up to now, and what the high tier alone would have taken."""
    spent = sum(x.latency.model_ms for x in steps)
    if s.count < 2 or s.service:  # no estimate of what others would have read of each conversation
        return [line((f"total  {milliseconds(spent)}", "bold"))]
    high = s.episode.tiers[-1]
    guess = always_high(steps, s.count - 1)
    if guess is None:
        other = f"{high} alone: no estimate yet"
    else:
        other = f"{high} alone: about {milliseconds(guess.ms)} (estimate)"
    mine = line(("total  ", s.look.soft), (milliseconds(spent), "bold"))
    together = Text.assemble(mine, f"; {other}")
    if together.cell_len <= width:
        return [together]
    return [mine, line((other, s.look.soft))]
