"""What both trainings by reward share: the router's and the language model's."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """PPO's objective of each choice: the smaller of the plain and the clipped product.

    `ratio` is pi_new / pi_old of what was chosen; all shapes are the same.
    """
    bounded = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return torch.minimum(ratio * advantage, bounded * advantage)
