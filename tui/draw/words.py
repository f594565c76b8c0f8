"""Features and decisions in words that need little knowledge of models."""

from __future__ import annotations

from edge_router.agent.escalation import summary, tokens_summary
from edge_router.agent.events import EpisodeFinished, EpisodeStarted, Routed, score_text
from edge_router.router.feature_table import feature
from edge_router.router.spec import RouterSpec
from tui.state.episode import Episode, StepView

SURE = 0.9  # probability of the likeliest token from which the model is called sure
WORTH_TELLING = 0.05  # tokens less likely than this are not counted as a choice


def number(value: float) -> str:
    """Two significant digits without an exponent; what is next to nothing says so."""
    if value == 0:
        return "0"
    if value < 0.0001:
        return "under 0.0001"
    digits = 2
    while digits < 5 and float(f"{value:.{digits}f}") < value * 0.95:
        digits += 1
    return f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share in percent, with as many nines as it takes not to read 100."""
    for digits in (0, 1, 2, 3):
        shown = f"{100 * share:.{digits}f}"
        if share == 1 or float(shown) < 100:
            return f"{shown} %"
    return "over 99.999 %"


def milliseconds(ms: float) -> str:
    """A duration in the unit that suits it."""
    if ms >= 10_000:
        return f"{ms / 1000:.1f} s"
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


def megabytes(size: int) -> str:
    """A size in MB or GB."""
    if size >= 10**9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size < 10**8 else f"{size / 1e6:.0f} MB"


def certainty(features: dict[str, float]) -> str:
    """How sure the low tier was of its next token."""
    chances = [features.get(name, 0.0) for name in ("p1", "p2", "p3", "p4")]
    if chances[0] >= SURE:
        return f"{percent(chances[0])} sure of its next token"
    choice = [p for p in chances if p >= WORTH_TELLING] or chances[:1]
    if len(choice) == 1:
        return f"unsure: its best token has only {chances[0]:.2f}"
    more = " and more" if len(choice) == len(chances) and sum(chances) < SURE else ""
    return f"unsure between {len(choice)} tokens{more}: " + " / ".join(f"{p:.2f}" for p in choice)


def draft_certainty(features: dict[str, float]) -> str:
    """How sure the low tier was of its draft."""
    return f"the draft's least sure word: {percent(features.get('draft_min_p', 0.0))}"


def troubles(features: dict[str, float]) -> list[str]:
    """What went wrong just before, or was tried before, as far as the router knows it."""
    found = []
    run = _times(features, "refused_run")
    if run == 1:
        found.append("the last command was refused")
    elif run > 1:
        more = " or more" if run == feature("refused_run").most else ""
        found.append(f"{run}{more} commands in a row were refused")
    for key, what in (
        ("repeats", "the last command had been given"),
        ("draft_repeats", "the draft's command has been given"),
        ("draft_refused", "the draft's command has been refused"),
    ):
        if times := _times(features, key):
            found.append(f"{what} {'once' if times == 1 else f'{times} times'} before")
    return found


def _times(features: dict[str, float], name: str) -> int:
    """A feature that counts, back from its scale; 0 where it is not known."""
    return round(feature(name).decode(features.get(name, 0.0)))


def wording(features: dict[str, float]) -> list[tuple[str, str]]:
    """How the draft's command sits with what was said before; nothing in older traces."""
    if "target_age" not in features:
        return []
    target_age = feature("target_age")
    age, most = round(target_age.decode(features["target_age"])), round(target_age.most)
    named = f"{age} word{'' if age == 1 else 's'} back" if age < most else "never or long ago"
    order = "yes" if features.get("follows") else "no"
    return [
        ("what its command is about was named", named),
        ("and stood next to what the last one was about", order),
    ]


def because(routed: Routed, started: EpisodeStarted) -> str:
    """Why this tier, in one plain sentence that goes on after "... writes this step: "."""
    count, tier = len(started.tiers), routed.tier_index
    if routed.forced:
        return "you forced it"
    if count == 1:
        return "there is only one tier"
    if RouterSpec.parse(started.router).kind == "verify":
        return routed.reason
    if routed.decide_at == "draft":
        return "the router doubts the low tier's draft" if tier else "the router trusts its draft"
    if routed.score is not None and routed.thresholds:
        if tier == 0:
            return "the low tier's doubt is under the limit"
        return "the low tier's doubt is over the limit"
    if RouterSpec.parse(started.router).kind == "random":
        return "it was drawn by lot"
    if routed.probability is not None:
        return f"the router sees {percent(routed.probability)} need for more precision"
    always, _, what = routed.reason.partition("always ")
    return f"the router always takes {what}" if what and not always else routed.reason


def wrote(step: StepView) -> str:
    """What the step's tier does or did, and what escalating came to where that is known."""
    name = f"step {step.number + 1}"
    if step.finished is None:
        return f"writes {name}"
    if step.finished.changed is None:
        return f"wrote {name}"
    same = "changed the command of" if step.finished.changed else "wrote the same command in"
    return f"{same} {name}"


def comparison(routed: Routed) -> str:
    """The numbers behind the decision: doubt and limit, or the router's own words."""
    if routed.score is None or not routed.thresholds:
        return routed.reason
    # On more than two tiers: the last limit that was reached, or the first that was not.
    limits = routed.thresholds
    reached = sum(routed.score >= limit for limit in limits)
    limit = limits[reached - 1] if reached else limits[0]
    relation = "over" if reached else "under"
    return f"{number(routed.score)}, {relation} the limit {number(limit)}"


def outcome(finished: EpisodeFinished, episode: Episode) -> str:
    """How it ended and how much precision it took."""
    steps = "1 step" if finished.steps == 1 else f"{finished.steps} steps"
    if finished.won:
        said = f"Won in {steps}"
    elif finished.reason == "out of steps":
        said = f"Not won: the limit of {steps} is reached"
    elif finished.reason == "lost":
        said = f"Lost after {steps}"
    else:
        said = f"Stopped after {steps}"
    if scored := score_text(finished.score, finished.max_score):
        said += f", {scored}"
    low = sum(s.tier_index == 0 for s in episode.done_steps)
    if finished.steps and len(episode.tiers) > 1:
        if low == finished.steps:
            said += f"; {episode.tiers[0]}, the low tier, wrote all of them"
        else:
            said += f"; {episode.tiers[0]}, the low tier, wrote {low} of them"
    escalated = summary(finished.escalations) or tokens_summary(finished.latency)
    return f"{said}. {escalated[:1].upper()}{escalated[1:]}." if escalated else f"{said}."


def in_words(pace: float) -> str:
    """The pace, for a panel."""
    return f"at least {pace:g} s a step on screen" if pace else "full speed"
