"""What escalating came to: did the higher tier give another command than the low tier's draft?"""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.agent.events import Escalations, StepFinished


def count(steps: Sequence[StepFinished]) -> Escalations:
    """Count the escalated steps of an episode."""
    escalated = [step for step in steps if step.tier_index > 0]
    known = [step.changed for step in escalated if step.changed is not None]
    return Escalations(len(escalated), len(known), sum(known))


def step_sentence(step: StepFinished) -> str:
    """ "q8_0 changed `go to desk 1` to `open drawer 2`"; "" where there was nothing to compare."""
    if step.changed is None:
        return ""
    if not step.changed:
        return f"{step.tier} wrote the same command"
    return f"{step.tier} changed {_quoted(step.draft_action)} to {_quoted(step.action)}"


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
