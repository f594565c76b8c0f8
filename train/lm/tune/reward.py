"""GRPO's numbers: what an episode returns, how much better that is than its group, and KL.

Nothing here knows of models or files.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_router.tasks.household.generator import STEP_LIMIT
from train.lm.watched import WatchedGame

Doubles = NDArray[np.float64]

# Added to a group's standard deviation. A game lost among seven won ones spreads the returns by
# 0.4, two steps more or less by 0.01 to 0.02: without it both would weigh the same.
EPSILON: Final = 0.1


def returned(game: WatchedGame, step_cost: float) -> float:
    """Success less the cost of the steps. A lost game costs all steps there are, however it ended:
    else giving up early would pay.
    """
    steps = game.steps if game.won else STEP_LIMIT
    return float(game.won) - step_cost * steps


def advantages(returns: Doubles) -> Doubles:
    """(return - mean) / (standard deviation + EPSILON) in each group; (groups, group size)."""
    centred = returns - returns.mean(1, keepdims=True)
    return np.asarray(centred / (returns.std(1, keepdims=True) + EPSILON))


def all_equal(returns: Doubles) -> NDArray[np.bool_]:
    """Which groups teach nothing: (groups, group size) -> (groups,)."""
    return np.asarray((returns == returns[:, :1]).all(1))


def kl_estimate(log_p: Tensor, reference: Tensor) -> Tensor:
    """Of KL(policy || reference) from ln p of tokens that the policy drew, one value each.

    Schulman's estimator r - 1 - ln r with r = p_reference / p: right on average, never negative.
    """
    difference = reference - log_p
    return difference.exp() - 1.0 - difference
