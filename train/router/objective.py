"""GRPO's arithmetic: advantages of groups of episodes, and the terms of the loss.

Nothing here knows of games or files: numbers in, numbers out. What each term is
for, and where this departs from the textbook, stands in `stages.grpo`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.router.options import GrpoConfig

Doubles = NDArray[np.float64]


def lambda_at(dial: NDArray[np.floating] | float, config: GrpoConfig) -> Doubles:
    """lambda at dials (episodes,): from `lambda_max` at 0 to `lambda_min` at 1, geometrically."""
    ratio = config.lambda_min / config.lambda_max
    return np.asarray(config.lambda_max * ratio ** np.asarray(dial, np.float64))


def advantages(
    rewards: Doubles, normalise_by: str = "batch", valid: NDArray[np.bool_] | None = None
) -> Doubles:
    """Rewards (groups, group_size) centred in their group and scaled, same shape.

    "group" divides by each group's own standard deviation, "batch" by the root mean square of
    all centred rewards. Groups without a difference get 0. Episodes that are not `valid`
    (groups, group_size) count for nothing and get 0.
    """
    weight = np.ones(rewards.shape) if valid is None else valid.astype(np.float64)
    count = np.maximum(1.0, weight.sum(1, keepdims=True))
    centred = (rewards - (rewards * weight).sum(1, keepdims=True) / count) * weight
    if normalise_by == "group":
        scale = np.sqrt((centred**2).sum(1, keepdims=True) / count)
    else:
        every = math.sqrt(float((centred**2).sum() / max(1.0, weight.sum())))
        scale = np.full((len(rewards), 1), every)
    return np.asarray(np.where(scale > 1e-8, centred / np.maximum(scale, 1e-8), 0.0))


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) of each step, nats; logits (..., tiers) -> (...)."""
    p, q = torch.log_softmax(logits, -1), torch.log_softmax(reference, -1)
    return (p.exp() * (p - q)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Of each step's choice, nats; logits (..., tiers) -> (...)."""
    p = torch.log_softmax(logits, -1)
    return -(p.exp() * p).sum(-1)


def log_probability(logits: Tensor, tiers: Tensor) -> Tensor:
    """ln p of the tier that was chosen; logits (..., tiers), chosen (...) -> (...)."""
    return torch.log_softmax(logits, -1).gather(-1, tiers[..., None])[..., 0]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (steps, episodes) where `mask`, of that shape, is True.

    What is masked may hold anything finite.
    """
    return (values * mask).sum() / mask.sum().clamp_min(1)
