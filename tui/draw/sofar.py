"""Meters: share of each tier, memory, KV handed over, games won, and the dial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from edge_router.agent.events import total
from tui.draw.lines import badge, block, line, pad
from tui.draw.look import sign
from tui.draw.served import counts
from tui.draw.words import in_words, megabytes, milliseconds
from tui.state.estimate import handed_over
from tui.state.screenful import Screenful

LABEL = 10
_ON_BAR = "░▒▓█"  # patterns of the share's parts, so that colour is not alone


def draw_sofar(s: Screenful, width: int, height: int) -> Text:
    """The meters, the most telling first."""
    started = s.episode.started
    if started is None:
        return block([line(("nothing yet", s.look.soft))], width, height)
    lines = [shares(s, width)]
    if s.dial is not None:
        lines.append(dial(s, width))
    if any(step.latency.drafted for step in s.episode.done_steps):
        lines.append(_drafts(s, width))
    if any(step.latency.lookup_tokens for step in s.episode.done_steps):
        lines.append(_lookups(s))
    lines.append(_saved(s, width))
    if s.service:
        lines.append(_meter(s, "requests", counts(s.service, width - LABEL)))
    if s.played:
        games = "game" if s.played == 1 else "games"
        lines.append(_meter(s, "success", f"{s.won} of {s.played} {games} won"))
    lines.append(_memory(s, width))
    if s.dial is not None:
        lines.append(_next(s))
    if s.service:
        run = f"kv {started.kv}, KV of {s.service.slots} conversations kept"
        return block([*lines, _meter(s, "server", run)], width, height)
    if s.dial is not None:
        lines.append(_meter(s, "pace", in_words(s.pace)))
    lines.append(_meter(s, "run", f"kv {started.kv}, prompt {started.prompt}, seed {started.seed}"))
    return block(lines, width, height)


def _meter(s: Screenful, name: str, *pieces: str | tuple[str, str]) -> Text:
    return line((pad(name, LABEL), s.look.soft), *pieces)


def shares(s: Screenful, width: int) -> Text:
    """A bar of all finished steps by tier, and the share of the most precise one."""
    steps = s.episode.done_steps
    counts = [sum(x.tier_index == tier for x in steps) for tier in range(s.count)]
    signs = [(f" {sign(t, s.count)} {n}", s.colour(t)) for t, n in enumerate(counts)]
    last = f"  {100 * counts[-1] / len(steps):.0f} % {sign(s.count - 1, s.count)}" if steps else ""
    taken = LABEL + sum(len(text) for text, _ in signs) + len(last)
    room = max(0, min(24, width - taken))
    text = line((pad("wrote", LABEL), s.look.soft))
    end = 0
    for tier, count in enumerate(counts):
        begin, end = end, end + count
        cells = round(end / max(1, len(steps)) * room) - round(begin / max(1, len(steps)) * room)
        pattern = _ON_BAR[round(tier * (len(_ON_BAR) - 1) / max(1, s.count - 1))]
        text.append(pattern * cells, s.colour(tier))
    text.append_text(line(*signs, (last, "bold")))
    return text


def dial(s: Screenful, width: int) -> Text:
    """The dial as a slider; clicking on it sets it."""
    assert s.dial is not None
    if not s.heeds_dial:
        return _meter(s, "dial", ("this router has none", s.look.soft))
    room = dial_cells(width)
    at = round(s.dial * (room - 1))
    track = "─" * at + "●" + "─" * (room - 1 - at)
    return _meter(
        s,
        "dial",
        ("cost ", s.look.soft),
        (track, s.look.strong),
        (" quality", s.look.soft),
        f" {s.dial:.2f}",
    )


def dial_cells(width: int) -> int:
    """Length of the slider in a panel of this width; it begins at LABEL + 5."""
    return max(3, min(21, width - LABEL - len("cost  quality 0.00")))


def _saved(s: Screenful, width: int) -> Text:
    saved = handed_over(s.episode.done_steps)
    if not saved.tokens:
        return _meter(s, "handover", ("none of the context yet", s.look.soft))
    if saved.saved_ms <= 0:
        return _meter(s, "handover", f"{saved.tokens} tokens, nothing saved")
    ms = milliseconds(saved.saved_ms)
    saving = f"{saved.tokens} tokens copied, about {ms} saved (estimate)"
    if LABEL + len(saving) > width:
        saving = f"{saved.tokens} tok, ~{ms} saved"
    return _meter(s, "handover", saving)


def _drafts(s: Screenful, width: int) -> Text:
    """How much of the verified drafts was accepted."""
    latencies = [step.latency for step in s.episode.done_steps]
    drafted, accepted, rewritten = (
        sum(getattr(x, field) for x in latencies) for field in ("drafted", "accepted", "rewritten")
    )
    said = f"{accepted} of {drafted} tokens accepted ({100 * accepted / drafted:.0f} %)"
    longer = f"{said}, {rewritten} rewritten"
    return _meter(s, "drafts", longer if LABEL + len(longer) <= width else said)


def _lookups(s: Screenful) -> Text:
    """How much of what was guessed from the text itself was accepted."""
    found = total(step.latency for step in s.episode.done_steps)
    share = 100 * found.lookup_accepted / found.lookup_tokens
    said = f"{found.lookup_accepted} of {found.lookup_tokens} guesses accepted ({share:.0f} %)"
    return _meter(s, "lookup", said)


def _memory(s: Screenful, width: int) -> Text:
    """What each tier takes: its weights and the KV cache of its context."""
    assert s.episode.started is not None
    tiers = s.episode.started.tiers
    cache = max((tier.kv_bytes for tier in tiers), default=0)  # of one shape, so all alike
    sizes = [megabytes(tier.size_bytes + tier.kv_bytes) for tier in tiers]
    unit = sizes[-1].rpartition(" ")[2]
    if all(size.endswith(unit) for size in sizes):  # named once
        sizes[:-1] = [size.rpartition(" ")[0] for size in sizes[:-1]]
    parts = [(f"{sign(i, s.count)} {size}", s.colour(i)) for i, size in enumerate(sizes)]
    drawn = _meter(s, "memory", *separated(parts))
    if cache:
        room = width - drawn.cell_len
        of, each = (" of it", "") if s.count == 1 else (" of each", " each")
        long = f", {megabytes(cache)}{of} to remember the text"
        short = f", {megabytes(cache)}{each} for the text"
        drawn.append(next((x for x in (long, short, ", text incl.") if len(x) <= room), ""))
    return drawn


def separated(parts: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The parts with two spaces between them."""
    for number, part in enumerate(parts):
        if number:
            yield "  ", ""
        yield part


def _next(s: Screenful) -> Text:
    name = "next" if s.service else "next step"
    if s.forced is None:
        return _meter(s, name, "the router decides")
    return _meter(s, name, badge(s, s.forced), " forced")
