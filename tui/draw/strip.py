"""The precision strip: a column a step, as high as the router's doubt, in the colour of its tier.

doubt        █
limit ┄┄┄┄┄┄┄█┄┄┄┄┄┄┄
      ▁ ▂ ▁  █
by    ○ ○ ○  ●  · · ·
step  1      4
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from edge_router.agent.events import Routed
from tui.draw.lines import block, line, pad
from tui.draw.look import BARS, sign
from tui.state.screenful import Screenful

LABEL = 7
WIDEST = 4


@dataclass(frozen=True)
class Columns:
    """Which steps are shown and where: step `first + i` in the cells from LABEL + i * width."""

    first: int
    shown: int
    width: int

    def step_at(self, x: int) -> int | None:
        """The step drawn at column `x` of the strip."""
        index = (x - LABEL) // self.width
        return self.first + index if 0 <= index < self.shown and x >= LABEL else None


def columns(s: Screenful, width: int) -> Columns:
    """All steps up to the limit where they fit, else the newest ones.

    With a run beside it as many as the longer of the two needs, so that both have one scale.
    """
    runs = [s.episode, s.beside] if s.beside else [s.episode]
    total = max(max(run.started.max_steps if run.started else 1, len(run.steps)) for run in runs)
    room = max(1, width - LABEL)
    cell = max(1, min(WIDEST, room // total))
    shown = min(total, room // cell)
    newest = max(len(run.steps) for run in runs)
    if s.ahead is None and newest + shown // 4 > shown:  # keep some of the future in sight
        first = min(newest + shown // 4, total) - shown
    else:
        first = max(0, min(newest - shown // 2, total - shown))
    return Columns(first, shown, cell)


def height_of(routed: Routed) -> float | None:
    """Where a score stands between 0 and 1, None when the router has none.

    Probabilities stand where they are; other scores at x / (x + limit), so that
    a limit is always in the middle, however small its unit.
    """
    if routed.score is None:
        return routed.probability
    if routed.probability is not None or not routed.thresholds:
        return min(1.0, max(0.0, routed.score))
    return _share(routed.score, routed.thresholds[-1])


def limits_of(routed: Routed) -> list[float]:
    """Where the limits stand on the same scale, ascending."""
    if routed.score is None:
        return []
    if routed.probability is not None:
        return [min(1.0, max(0.0, limit)) for limit in routed.thresholds]
    return [_share(limit, routed.thresholds[-1]) for limit in routed.thresholds]


def _share(value: float, limit: float) -> float:
    if limit == float("inf"):
        return 0.0
    return value / (value + limit) if value + limit > 0 else 1.0


def draw_strip(s: Screenful, width: int, height: int) -> Text:
    """The strip in `height` rows: bars, who wrote, and (from four rows on) step numbers."""
    shape = columns(s, width)
    numbers = height >= 4
    rows = max(1, height - 1 - numbers)
    lines = [_bars(s, shape, row, rows) for row in range(rows)]
    lines.append(_writers(s, shape))
    if numbers:
        lines.append(_numbers(s, shape, width - LABEL))
    return block(lines, width, height)


def _bars(s: Screenful, shape: Columns, row: int, rows: int) -> Text:
    """Row `row` of the bars, counted from the top."""
    floor, ceiling = (rows - 1 - row) / rows, (rows - row) / rows
    last = next((x.routed for x in reversed(s.episode.steps) if x.routed), None)
    now = [] if last is None else limits_of(last)
    line_here = bool(now) and _in_row(now[-1], floor, ceiling)
    label = "limit" if line_here else "doubt" if row == 0 else ""
    pieces: list[str | tuple[str, str]] = [(pad(label, LABEL), s.look.soft)]
    for number in range(shape.first, shape.first + shape.shown):
        pieces.append(_cell(s, shape, number, floor, ceiling, rule=line_here))
    return line(*pieces)


def _cell(
    s: Screenful, shape: Columns, number: int, floor: float, ceiling: float, *, rule: bool
) -> tuple[str, str]:
    step = s.episode.steps[number] if number < len(s.episode.steps) else None
    empty = ("┄" if rule else " ") * shape.width
    if step is None or step.routed is None:
        return empty, s.look.faint
    height = height_of(step.routed)
    if height is None or height <= floor:
        bottom = floor == 0 and height is not None
        filled = "▁" if bottom else ""
    else:
        eighths = round((min(height, ceiling) - floor) / (ceiling - floor) * 8)
        filled = BARS[max(1, eighths)]
    if not filled:
        return empty, s.look.faint
    bar = filled * max(1, shape.width - 1)
    return bar + (" " if shape.width > 1 else ""), s.colour(step.routed.tier_index)


def _in_row(limit: float, floor: float, ceiling: float) -> bool:
    return floor <= limit < ceiling or (limit >= 1 and ceiling >= 1)


def _writers(s: Screenful, shape: Columns) -> Text:
    pieces: list[str | tuple[str, str]] = [(pad("by", LABEL), s.look.soft)]
    known = s.ahead.tiers if s.ahead else ()
    for number in range(shape.first, shape.first + shape.shown):
        step = s.episode.steps[number] if number < len(s.episode.steps) else None
        if step is not None and step.tier is not None:
            forced = step.routed is not None and step.routed.forced
            style = f"bold {s.colour(step.tier)}" + (" reverse" if forced else "")
            shown = sign(step.tier, s.count)
        elif number < len(known):
            shown, style = sign(known[number], s.count), s.look.faint
        else:
            shown, style = "·", s.look.faint
        pieces += [(shown, style), " " * (shape.width - 1)]
    return line(*pieces)


def _numbers(s: Screenful, shape: Columns, room: int) -> Text:
    """Step numbers where there is room for the whole of them; marks of a replay over them."""
    cells = [" "] * (shape.shown * shape.width + 4)

    def put(number: int, text: str) -> None:
        at = (number - shape.first) * shape.width
        if number < shape.first + shape.shown and 0 <= at <= room - len(text):
            cells[at : at + len(text)] = text

    every = 5 if shape.width > 1 else 10
    for number in range(shape.first, shape.first + shape.shown):
        if number == 0 or (number + 1) % every == 0:
            put(number, _name(s, number))
    for number, step in enumerate(s.episode.steps):
        if step.routed is not None and step.routed.forced:
            put(number, "!")
    newest = len(s.episode.steps) - 1
    if newest >= 0 and s.ahead is not None:
        put(newest, "▲")
    if s.ahead is not None and s.ahead.marked is not None:
        put(s.ahead.marked, "≠")
    text = "".join(cells)[:room]
    return line((pad("number" if s.service else "step", LABEL) + text, s.look.soft))


def _name(s: Screenful, number: int) -> str:
    """What a column is called: of a server's requests, some may be left out or forgotten."""
    if s.service is None:
        return str(number + 1)
    return str(s.episode.steps[number].number + 1) if number < len(s.episode.steps) else ""
