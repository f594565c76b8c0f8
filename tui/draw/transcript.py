"""The transcript as blocks of lines: the opening, every step, the end."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text

from edge_router.agent.escalation import step_sentence
from tui.draw.lines import CURSOR, TranscriptBlock, both_ends, line, spoken, wrapped
from tui.draw.look import sign
from tui.draw.requests import request_blocks
from tui.draw.words import milliseconds, outcome
from tui.state.episode import StepView
from tui.state.screenful import Screenful, Status


def blocks(s: Screenful) -> list[TranscriptBlock]:
    """The transcript of what `s` shows, from the top."""
    started = s.episode.started
    if s.service:
        return request_blocks(s)
    problem = _problem(s)
    if started is None:
        return problem
    theme = (s.look.dark, s.count)
    made = [TranscriptBlock(("opening", started.game, theme), lambda width: _opening(s, width))]
    for step in s.episode.steps:
        marked = s.ahead is not None and s.ahead.marked == step.number
        key = (
            *(step.number, len(step.text), step.routed is None, step.finished is None),
            *(marked, step.finished and step.finished.action, step.tier, theme),
        )
        made.append(TranscriptBlock(key, _step_drawer(s, step, marked)))
    if s.episode.finished is not None:
        made.append(
            TranscriptBlock(("end", s.episode.finished, theme), lambda width: _end(s, width))
        )
    return made + problem


def _problem(s: Screenful) -> list[TranscriptBlock]:
    if s.status is not Status.FAILED:
        return []
    sentence = Text(f"✗ {s.problem}", f"bold {s.look.bad}")
    advice = Text("Pick another game (g), try again (r), or quit (q).", s.look.soft)
    return [
        TranscriptBlock(
            ("problem", s.problem, s.look.dark),
            lambda width: [*wrapped(sentence, width), line(), *wrapped(advice, width)],
        )
    ]


def _opening(s: Screenful, width: int) -> list[Text]:
    assert s.episode.started is not None
    started = s.episode.started
    return [
        *spoken(s, "goal", Text(started.goal, "bold"), width, ""),
        *spoken(s, "game", Text(started.observation, s.look.soft), width, ""),
        line(),
    ]


def _step_drawer(s: Screenful, step: StepView, marked: bool) -> Callable[[int], list[Text]]:
    return lambda width: [*_dropped(s, step, width), *_step(s, step, marked, width)]


def _dropped(s: Screenful, step: StepView, width: int) -> list[Text]:
    if step.dropped is None:
        return []
    note = f"(the context is full: {step.dropped.turns} old turns are forgotten)"
    return [*wrapped(Text(note, s.look.soft), width), line()]


def _step(s: Screenful, step: StepView, marked: bool, width: int) -> list[Text]:
    if step.routed is None:
        return [line((f"{step.number + 1:3d}  ", "bold"), ("reading ...", s.look.soft)), line()]
    colour = s.colour(step.routed.tier_index)
    who = f" {sign(step.routed.tier_index, s.count)} {step.routed.tier} "
    left = line((f"{step.number + 1:3d} ", "bold"), (who, f"bold reverse {colour}"))
    if step.routed.forced:
        left.append(" forced", "bold")
    if marked:
        left.append(" ≠ here the runs part", f"bold {s.look.bad}")
    took = milliseconds(step.finished.latency.model_ms) if step.finished else "..."
    lines = [both_ends(left, line((took, s.look.soft)), width)]
    if step.routed.draft and step.routed.tier_index > 0:
        draft = " / ".join(step.routed.draft.split("\n")).strip()
        drafted = Text(f"{s.episode.tiers[0]} drafted: {draft}", s.look.soft)
        lines += spoken(s, "draft", drafted, width, colour)
    lines += _said(s, step, colour, width)
    if step.finished is not None and (compared := step_sentence(step.finished)):
        lines += spoken(s, "", Text(compared, s.look.strong), width, colour)
    if step.finished is not None:
        reply = step.finished.observation
        style = s.look.bad if step.finished.refused else s.look.soft
        shown = f"✗ {reply}" if step.finished.refused else reply
        lines += spoken(s, "game", Text(shown, style), width, colour)
    return [*lines, line()]


def _said(s: Screenful, step: StepView, colour: str, width: int) -> list[Text]:
    """What the model wrote, as it stands; a cursor while it writes."""
    text = step.text.strip()
    lines: list[Text] = []
    written = text.split("\n") if text else []
    for number, raw in enumerate(written):
        is_action = raw.lstrip().startswith(">")
        shown = Text(raw.strip(), f"bold {s.look.strong}" if is_action else "italic")
        if step.finished is None and number == len(written) - 1:
            shown.append(CURSOR, colour)
        lines += spoken(s, "does" if is_action else "thinks", shown, width, colour)
    if step.finished is None and not written:
        lines += spoken(s, "thinks", Text(CURSOR, colour), width, colour)
    action = step.finished.action if step.finished else None
    if action is not None and (not action or action not in text.rpartition("\n")[2]):
        given = Text(f"(command: {action or 'none'})", s.look.soft)
        lines += spoken(s, "does", given, width, colour)
    return lines


def _end(s: Screenful, width: int) -> list[Text]:
    assert s.episode.finished is not None
    good = s.episode.finished.won
    style = f"bold {s.look.good if good else s.look.bad}"
    mark = "✓ " if good else "✗ "
    return wrapped(Text(mark + outcome(s.episode.finished, s.episode), style), width)
