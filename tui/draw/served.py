"""What is said of a server: where it is, how many have asked, and what it is doing."""

from __future__ import annotations

from rich.text import Text

from tui.draw.lines import badge, line
from tui.draw.words import because
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
