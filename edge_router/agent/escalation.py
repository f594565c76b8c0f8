"""What escalating came to: another command than the low tier's draft? How much of it stayed?"""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.agent.events import (
    DraftPass,
    EpisodeFinished,
    Escalations,
    Latency,
    StepFinished,
    total,
)


def count(steps: Sequence[StepFinished]) -> Escalations:
    """Count the escalated steps of an episode."""
    escalated = [step for step in steps if step.tier_index > 0]
    known = [step.changed for step in escalated if step.changed is not None]
    return Escalations(len(escalated), len(known), sum(known))


def passes_by_tier(steps: Sequence[StepFinished]) -> tuple[DraftPass, ...]:
    """What each tier between the low and the chosen one verified in all, low to high."""
    passes = [one for step in steps for one in step.passes]
    tiers = sorted({(one.tier_index, one.tier) for one in passes})
    return tuple(
        DraftPass(name, index, total(one.latency for one in passes if one.tier_index == index))
        for index, name in tiers
    )


def step_sentence(step: StepFinished) -> str:
    """ "q8_0 changed `go to desk 1` to `open drawer 2`"; "" where there was nothing to compare.

    With what it accepted of the draft, where it verified: "q8_0 wrote the same command; 12 of 13
    drafted tokens accepted, 1 rewritten". Tiers that verified before it come first.
    """
    tokens = tokens_sentence(step.latency)
    if step.changed is None:
        said = f"{step.tier}: {tokens}" if tokens else ""
    else:
        said = "; ".join(filter(None, (_compared(step), tokens)))
    before = [f"{one.tier}: {tokens_sentence(one.latency)}" for one in step.passes]
    return "; ".join(filter(None, (*before, said)))


def _compared(step: StepFinished) -> str:
    if step.changed:
        return f"{step.tier} changed {_quoted(step.draft_action)} to {_quoted(step.action)}"
    return f"{step.tier} wrote the same command"


def tokens_sentence(latency: Latency) -> str:
    """ "12 of 13 drafted tokens accepted, 1 rewritten"; "" where nothing was verified."""
    if not latency.drafted:
        return ""
    accepted = f"{latency.accepted} of {latency.drafted} drafted tokens accepted"
    return f"{accepted}, {latency.rewritten or 'none'} rewritten"


def tokens_summary(latency: Latency) -> str:
    """ "20 of 25 drafted tokens accepted (80 %), 5 rewritten"; "" where nothing was verified."""
    if latency.acceptance is None:
        return ""
    rate = f"accepted ({100 * latency.acceptance:.0f} %),"
    return tokens_sentence(latency).replace("accepted,", rate)


def lookup_sentence(latency: Latency) -> str:
    """ "17 of 54 looked-up tokens accepted"; "" where nothing was looked up."""
    if not latency.lookup_tokens:
        return ""
    return f"{latency.lookup_accepted} of {latency.lookup_tokens} looked-up tokens accepted"


def draft_summaries(episode: EpisodeFinished) -> list[str]:
    """A sentence a tier that verified drafts of others before the chosen one, and one of this.

    And one of what was guessed from the text itself.
    """
    before = [f"{one.tier} first: {tokens_summary(one.latency)}" for one in episode.passes]
    own = tokens_summary(episode.latency), lookup_sentence(episode.latency)
    return [*before, *filter(None, own)]


def summary(found: Escalations) -> str:
    """ "2 steps escalated, 1 changed the command"; "" where no draft is known."""
    if not found.compared:
        return ""
    escalated = f"{found.steps} {'step' if found.steps == 1 else 'steps'} escalated"
    changed = f"{found.changed or 'none'} changed the command"
    if found.compared < found.steps:
        changed = f"{changed} of the {found.compared} whose draft is known"
    return f"{escalated}, {changed}"


def _quoted(action: str | None) -> str:
    return f"`{action}`" if action else "no command"
