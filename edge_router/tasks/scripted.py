"""A scripted player plays: the one loop for proofs, training data and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_router.tasks.protocol import Reply, ScriptedPlayer


@dataclass(frozen=True)
class ScriptedStep:
    """What the player thought and did, and what came of it."""

    thought: str
    action: str
    reply: Reply


def scripted_steps(
    step: Callable[[str], Reply], player: ScriptedPlayer, limit: int
) -> Iterator[ScriptedStep]:
    """The steps of a game that has just been reset, to its end or for `limit` of them.

    `step` is the game's own. The player has seen a step when it is given out, so whoever reads
    on may ask it what it would do next.
    """
    for _ in range(limit):
        thought, action = player.act()
        reply = step(action)
        player.observe(reply.observation, action)
        yield ScriptedStep(thought, action, reply)
        if reply.done:
            return
