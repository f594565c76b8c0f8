"""What is drawn of a server: where it is and what it is doing, and its transcript.

The transcript has a block a request: what was asked, who answered, what stayed of a draft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.text import Text

from edge_router.agent.escalation import lookup_sentence, tokens_sentence
from tui.draw.lines import CURSOR, TranscriptBlock, badge, both_ends, line, spoken
from tui.draw.look import sign
from tui.draw.words import because, milliseconds
from tui.state.screenful import Screenful, Service
from tui.state.traffic import RequestView


def place(s: Screenful, service: Service) -> Text:
    """What clients are pointed at, or the conversation that is shown alone."""
    if service.talk is None:
        name = (service.name, f"bold {s.look.strong}")
        return line(name, (" on ", s.look.soft), (service.url, s.look.strong))
    name = (f"Conversation {service.talk}", f"bold {s.look.strong}")
    return line(name, (f" of {service.talks} with {service.name}", s.look.soft))


def brief(service: Service) -> str:
    """ "12 answered, 2 waiting"."""
    waiting = f", {service.waiting} waiting" if service.waiting else ""
    return f"{service.answered} answered{waiting}"


def counts(service: Service, width: int) -> str:
    """ "12 answered, 1 not; 3 conversations", the end of it where there is room."""
    failed = f", {service.failed} not" if service.failed else ""
    talks = "1 conversation" if service.talks == 1 else f"{service.talks} conversations"
    said = f"{service.answered} answered{failed}"
    longer = f"{said}; {talks}"
    return longer if len(longer) <= width else said


def headline(s: Screenful, service: Service) -> Text:
    """What the server is doing, in one sentence."""
    step = s.episode.current
    if s.forced is not None:
        return line(("Next request: ", "bold"), badge(s, s.forced), (", forced by you.", "bold"))
    if step is None or s.episode.started is None:
        return line((f"No request yet; clients take {service.url} as their base URL.", "bold"))
    assert isinstance(step, RequestView)
    name = f"request {step.number + 1}"
    if step.failed:
        return line((f"There is no answer to {name}: {step.failed}.", f"bold {s.look.bad}"))
    if step.routed is None:
        return line((f"The low tier reads {name}; then the router decides.", "bold"))
    does = "wrote" if step.finished else "writes"
    why = because(step.routed, s.episode.started)
    return Text.assemble(
        badge(s, step.routed.tier_index),
        (f" {does} the answer to {name}: {why}.", "bold"),
    )


# -- the transcript -------------------------------------------------------------------------------

_QUESTION_LINES = 4  # of a question; programs send whole documents


def request_blocks(s: Screenful) -> list[TranscriptBlock]:
    """A block a request, from the top."""
    made = []
    for view in s.episode.steps:
        assert isinstance(view, RequestView)
        theme = (s.look.dark, s.count)
        state = (view.routed is None, view.finished is None, view.over, view.failed)
        key = (view.number, len(view.text), state, view.tier, theme)
        made.append(TranscriptBlock(key, _drawer(s, view)))
    return made


def _drawer(s: Screenful, view: RequestView) -> Callable[[int], list[Text]]:
    return lambda width: _request(s, view, width)


def _request(s: Screenful, view: RequestView, width: int) -> list[Text]:
    colour = s.look.soft if view.tier is None else s.colour(view.tier)
    asked = Text(view.asked.strip() or "(nothing)", s.look.soft)
    took = milliseconds(view.finished.latency.model_ms) if view.finished else ""
    right = line((took or ("" if view.failed else "..."), s.look.soft))
    title = _title(s, view, colour, width - right.cell_len - 1)
    lines = [both_ends(title, right, width)]
    lines += _shortened(spoken(s, "asked", asked, width, colour), s)
    if view.routed is not None and view.routed.draft and view.routed.tier_index > 0:
        draft = " / ".join(view.routed.draft.split("\n")).strip()
        drafted = Text(f"{s.episode.tiers[0]} drafted: {draft}", s.look.soft)
        lines += spoken(s, "draft", drafted, width, colour)
    lines += _answer(s, view, colour, width)
    if tokens := "; ".join(filter(None, _tokens(view))):
        lines += spoken(s, "", Text(tokens, s.look.soft), width, colour)
    if view.failed:
        lines += spoken(s, "", Text(f"✗ {view.failed}", s.look.bad), width, colour)
    return [*lines, line()]


def _title(s: Screenful, view: RequestView, colour: str, width: int) -> Text:
    """Number, tier, conversation and turn, in as many words as have room."""
    title = line((f"{view.number + 1:3d} ", "bold"))
    if view.routed is not None:
        who = f" {sign(view.routed.tier_index, s.count)} {view.routed.tier} "
        title.append(who, f"bold reverse {colour}")
        if view.routed.forced:
            title.append(" forced", "bold")
    where = [f"conversation {view.talk}, turn {view.turn}", f"conv. {view.talk}, turn {view.turn}"]
    if s.service and s.service.talk:
        where = [f"turn {view.turn}"]
    room = width - title.cell_len - 1
    title.append(f" {next((text for text in where if len(text) <= room), where[-1])}", s.look.soft)
    return title


def _tokens(view: RequestView) -> Iterator[str]:
    """What was read and written, and what stayed of a draft, as far as it is known."""
    if view.answered is not None:
        response = view.answered.response
        read = response.prompt_tokens - response.cached_tokens
        written = response.completion_tokens
        yield f"{read} of {response.prompt_tokens} tokens read, {written} written"
    if view.finished is not None:
        yield tokens_sentence(view.finished.latency)
        yield lookup_sentence(view.finished.latency)


def _answer(s: Screenful, view: RequestView, colour: str, width: int) -> list[Text]:
    """What was written, as it stands; a cursor while it is."""
    written = view.text.strip().split("\n") if view.text.strip() else []
    lines: list[Text] = []
    writes = view.finished is None and not view.failed
    for number, raw in enumerate(written):
        shown = Text(raw.rstrip(), s.look.strong)
        if writes and number == len(written) - 1:
            shown.append(CURSOR, colour)
        lines += spoken(s, "" if number else "answer", shown, width, colour)
    if writes and not written:
        waits = "reading ..." if view.routed is None else CURSOR
        lines += spoken(s, "answer", Text(waits, colour), width, colour)
    return lines


def _shortened(lines: list[Text], s: Screenful) -> list[Text]:
    if len(lines) <= _QUESTION_LINES:
        return lines
    kept = lines[:_QUESTION_LINES]
    kept[-1].append(" …", s.look.soft)
    return kept
