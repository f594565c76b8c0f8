"""The router panel: what it knew before this step, what it decided, in words."""

from __future__ import annotations

from rich.text import Text

from edge_router.agent.events import Routed
from edge_router.router.spec import RouterSpec
from tui.draw.lines import badge, block, line, wrapped
from tui.draw.strip import height_of, limits_of
from tui.draw.words import (
    because,
    certainty,
    comparison,
    draft_certainty,
    number,
    percent,
    troubles,
    wording,
)
from tui.state.screenful import Screenful


def draw_why(s: Screenful, width: int, height: int) -> Text:
    """The decision first, then its gauge and what it rests on; the least telling lines go first."""
    started, step = s.episode.started, s.episode.current
    if started is None or step is None or step.routed is None:
        return block([line(("no decision yet", s.look.soft))], width, height)
    routed = step.routed
    lines: list[Text] = []
    if height >= 7:  # with fewer lines the headline has to do
        lines.append(line(badge(s, routed.tier_index), f" for {s.unit} {step.number + 1}"))
        lines += wrapped(Text(because(routed, started) + "."), width)
    lines += gauge(s, routed, width)
    if routed.features:
        lines += wrapped(Text(_certainty(started.tiers[0].name, routed)), width)
        lines += [line((f"! {trouble}", s.look.bad)) for trouble in troubles(routed.features)]
    if routed.forced:
        lines += wrapped(Text(routed.reason.partition("; ")[2], s.look.soft), width)
    lines += wrapped(
        Text(f"router {RouterSpec.parse(started.router).short}: {_decided(routed)}", s.look.soft),
        width,
    )
    if step.started is not None:
        prompt = (
            f"prompt {step.started.prompt_tokens} tokens, {step.started.new_tokens} of them new"
        )
        lines.append(line((prompt, s.look.soft)))
    if routed.features:
        if routed.decide_at == "prompt":  # of the draft, many tokens count and not the first
            chances = _chances(s, routed, width)
            lines += chances if len(lines) + len(chances) <= height else []
        lines += _numbers(s, routed)
    return block(lines, width, height)


def _certainty(low: str, routed: Routed) -> str:
    """How sure the low tier was of what the router looked at."""
    if routed.decide_at == "draft":
        return draft_certainty(routed.features)
    return f"{low} is {certainty(routed.features)}"


def _decided(routed: Routed) -> str:
    return "overruled" if routed.forced else routed.reason


def gauge(s: Screenful, routed: Routed, width: int) -> list[Text]:
    """Doubt as a bar with the limits on it; nothing for routers that compare no number."""
    share = height_of(routed)
    if share is None or routed.score is None:
        return []
    cells = max(4, width - 6)
    bar = ["─"] * cells
    filled = min(cells, max(1, round(share * cells)))
    bar[:filled] = "━" * filled
    for limit in limits_of(routed):
        bar[min(cells - 1, round(limit * cells))] = "┃"
    text = Text("doubt ", s.look.soft)
    for index, char in enumerate(bar):
        style = s.colour(routed.tier_index) if index < filled else s.look.faint
        text.append(char, f"bold {s.look.strong}" if char == "┃" else style)
    compared = comparison(routed)
    indent = " " * 6 if len(compared) + 6 <= width else ""
    return [text, *wrapped(Text(indent + compared, s.look.soft), width)]


def _chances(s: Screenful, routed: Routed, width: int) -> list[Text]:
    """The four likeliest next tokens as bars."""
    lines = [line(), line(("probability of its four likeliest next tokens", s.look.soft))]
    room = max(1, width - 8)
    for name in ("p1", "p2", "p3", "p4"):
        chance = routed.features.get(name, 0.0)
        cells = max(1, round(chance * room)) if chance > 0 else 0
        lines.append(line((f"  {chance:.2f} ", s.look.soft), ("▬" * cells, s.colour(0))))
    return [*lines, line()]


def _numbers(s: Screenful, routed: Routed) -> list[Text]:
    """The rest of what the router knows, for those who want it."""
    features = routed.features
    of = "conversation" if s.service else "steps"
    used = f"{100 * features.get('step', 0.0):.0f} %"
    rows = [
        *(_of_the_draft(features) if routed.decide_at == "draft" else _of_the_prompt(features)),
        ("escalated up to now", f"{100 * features.get('escalated_share', 0.0):.0f} % of the {of}"),
        *([] if s.service else [("steps used of the limit", used)]),
        ("dial", f"{features.get('dial', 0.0):.2f}"),
    ]
    return [line((f"{name}: {value}", s.look.soft)) for name, value in rows]


def _of_the_prompt(features: dict[str, float]) -> list[tuple[str, str]]:
    return [
        ("entropy", f"{number(features.get('entropy', 0.0))} nats"),
        ("margin of the best token", number(features.get("margin", 0.0))),
        ("as unsure as between", f"{features.get('effective_tokens', 0.0):.2f} equal tokens"),
    ]


def _of_the_draft(features: dict[str, float]) -> list[tuple[str, str]]:
    return [
        ("least sure word of its command", percent(features.get("action_min_p", 0.0))),
        ("mean -ln p of its tokens", f"{number(features.get('draft_nll', 0.0))} nats"),
        ("largest entropy", f"{number(features.get('draft_entropy', 0.0))} nats"),
        ("least margin", number(features.get("draft_margin", 0.0))),
        *wording(features),
    ]
