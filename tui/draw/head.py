"""The top of the screen: the goal, what the tiers are, and in one sentence what is happening."""

from __future__ import annotations

from rich.text import Text

from edge_router.agent.events import score_text
from tui.draw import served
from tui.draw import time as draw_time
from tui.draw.lines import badge, block, both_ends, line, wrapped
from tui.draw.look import word
from tui.draw.words import because, megabytes, outcome, wrote
from tui.state.screenful import Screenful, Status


def draw_head(s: Screenful, width: int, height: int) -> Text:
    """Goal and status, the tiers, the headline; with room, also what it is all about."""
    top = both_ends(_goal(s), _status(s), width)
    intro = [about(s, width)] if height >= 5 else []
    begins = s.episode.started is not None and not s.episode.steps and not s.service
    story = [about(s, width)] if begins and not intro else wrapped(headline(s), width)
    tiers = [] if s.shares_legend else [legend(s, width)]
    room = max(1, height - 1 - len(tiers) - len(intro))
    return block([top, *intro, *tiers, *story[:room]], width, height)


def draw_legend(s: Screenful, width: int, height: int) -> Text:
    """For two runs: what circles and patterns mean, once."""
    tiers = [legend(s, width)] if s.shares_legend else []
    return block([*tiers, draw_time.legend(s, width)], width, height)


def draw_note(s: Screenful, width: int, height: int) -> Text:
    """What slows the run down."""
    return block([line((f"! {s.note}", f"bold {s.look.bad}"))], width, height)


def _goal(s: Screenful) -> Text:
    started = s.episode.started
    if s.title:
        return line((s.title, "bold"))
    if s.service:
        return served.place(s, s.service)
    if started is None:
        return line(("edge-router", "bold"))
    return line(("Goal: ", s.look.soft), (started.goal, f"bold {s.look.strong}"))


def _status(s: Screenful) -> Text:
    style = {
        Status.FAILED: f"bold {s.look.bad}",
        Status.PAUSED: f"bold reverse {s.look.strong}",
        Status.BACK: f"bold reverse {s.look.strong}",
        Status.RUNNING: f"bold {s.look.good}",
    }.get(s.status, "bold")
    shown = f" {s.status.value} " if s.status in (Status.PAUSED, Status.BACK) else s.status.value
    if s.status is Status.LOADING and s.phase:
        shown = f"◌ {s.phase.lower()}"
    started = s.episode.started
    if s.service:
        shown = shown.replace("running", "serving")
        return line((f"{served.brief(s.service)}  ", s.look.soft), (shown, style))
    if started is None:
        return line((shown, style))
    score = score_text(s.episode.score, started.max_score)
    step = f"step {len(s.episode.steps)} of {started.max_steps}  "
    return line((score and f"{score}  ", s.look.soft), (step, s.look.soft), (shown, style))


def about(s: Screenful, width: int) -> Text:
    """For the first ten seconds of somebody who knows nothing of all this."""
    count = s.count
    if count < 2 and s.service:
        return line(("A language model answers other programs.", s.look.soft))
    if count < 2:
        return line(
            ("A language model plays a game in which it must find and carry things.", s.look.soft)
        )
    tiers = {2: "two", 3: "three", 4: "four", 5: "five"}.get(count, str(count))
    does = "answers" if s.service else "plays"
    longest = (
        f"One language model {does}, stored at {tiers} precisions (tiers): a low one is smaller and"
        f" rougher, a high one larger and better. For every {s.unit} a router picks the tier."
    )
    long = (
        f"One model at {tiers} precisions (tiers), from small and rough to large and precise;"
        f" a router picks one for each {s.unit}."
    )
    short = f"One model, {tiers} tiers, small to precise; a router picks one for each {s.unit}."
    fits = [text for text in (longest, long, short) if len(text) <= width]
    return line((fits[0] if fits else short, s.look.soft))


def legend(s: Screenful, width: int) -> Text:
    """Sign, name and size of every tier, and what it is where there is room."""
    started = s.episode.started
    if started is None:
        return line()
    for described in (range(s.count), (0, s.count - 1), (), None):  # None: the names alone
        pieces: list[str | tuple[str, str]] = []
        for index, tier in enumerate(started.tiers):
            what = f" {word(index, s.count)}," if index in (described or ()) else ""
            size = "  " if described is None else f"{what} {megabytes(tier.size_bytes)}    "
            pieces += [badge(s, index), (size, s.look.soft)]
        drawn = line(*pieces)
        drawn.rstrip()
        if drawn.cell_len <= width:
            break
    return drawn


def headline(s: Screenful) -> Text:
    """What is happening, in one sentence."""
    started, step = s.episode.started, s.episode.current
    if s.status is Status.FAILED:
        return line((s.problem, f"bold {s.look.bad}"))
    if s.service:
        return served.headline(s, s.service)
    if started is None:
        return line(("Loading the model ...", s.look.soft))
    if s.episode.finished is not None:
        won = s.episode.finished.won
        said = outcome(s.episode.finished, s.episode)
        if s.dial is not None and s.status is Status.ENDED:
            first, dot, rest = said.partition(". ")
            said = f"{first.rstrip('.')}. ⏎ next, v view.{dot and f' {rest}'}"
        return line((said, f"bold {s.look.good if won else s.look.bad}"))
    if s.forced is not None:
        return line(("Next step: ", "bold"), badge(s, s.forced), (", forced by you.", "bold"))
    if step is None:
        return line(("The game begins; the low tier reads what there is to see.", "bold"))
    if step.routed is None:
        return line((f"Step {step.number + 1}: the router decides who writes it.", "bold"))
    return Text.assemble(
        badge(s, step.routed.tier_index),
        (f" {wrote(step)}: {because(step.routed, started)}.", "bold"),
    )
