"""The router's network: a small MLP, or the same with a GRU that remembers the episode.

    features -> lift -> normalise -> [GRU] -> ReLU layer -> ReLU layer -> a logit for each tier

The model is nearly always nearly sure: the difference between p = 0.9999 and
0.99 is what matters, so probabilities are read as -ln(1 - p) and entropies as
logarithms ("lift"). Everything up to the probabilities is part of the ONNX
file, which therefore takes the features as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_router.router.feature_table import DecideAt, feature, names_at

FLOOR = 1e-4  # where logarithms end: a certainty of 0.9999 counts as complete


@dataclass(frozen=True)
class NetworkShape:
    """What a network looks like; `state` 0 is a plain MLP."""

    tiers: int
    decide_at: DecideAt = "draft"
    hidden: int = 32
    state: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return names_at(self.decide_at)

    def plain(self) -> dict[str, int | str]:
        return asdict(self)


class RouterNet(nn.Module):
    """Logits for the tiers from features (n, >= len(shape.names)), read from the left."""

    mean: Tensor
    scale: Tensor
    certain: Tensor
    doubtful: Tensor

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        width = len(shape.names)
        kinds = np.array([feature(name).kind for name in shape.names])
        for mark, kind in (("certain", "certainty"), ("doubtful", "doubt")):
            self.register_buffer(mark, torch.from_numpy((kinds == kind).astype(np.float32)))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.gru = nn.GRUCell(width, shape.state) if shape.state else None
        self.first = nn.Linear(width + shape.state, shape.hidden)
        self.second = nn.Linear(shape.hidden, shape.hidden)
        self.last = nn.Linear(shape.hidden, shape.tiers)

    def fit_normalisation(self, features: NDArray[np.float32]) -> None:
        """Mean and spread of the lifted features (rows, width); constants keep a scale of 1."""
        lifted = self.lift(torch.from_numpy(features[:, : len(self.shape.names)]))
        spread = lifted.std(0)
        self.mean.copy_(lifted.mean(0))
        self.scale.copy_(torch.where(spread > 1e-3, 1.0 / spread.clamp_min(1e-3), 1.0))

    def lift(self, features: Tensor) -> Tensor:
        """Features (..., width) with probabilities near 0 or 1 spread out by their logarithm."""
        certain = -torch.log((1.0 - features).clamp_min(0.0) + FLOOR)
        doubtful = torch.log(features.clamp_min(0.0) + FLOOR)
        plain = features * (1.0 - self.certain - self.doubtful)
        return plain + certain * self.certain + doubtful * self.doubtful

    def read(self, features: Tensor) -> Tensor:
        """Features (..., width), lifted and normalised, within 5 spreads of the mean."""
        x = self.lift(features[..., : len(self.shape.names)])
        return ((x - self.mean) * self.scale).clamp(-5.0, 5.0)

    def forward(
        self, features: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits (n, tiers) and the state (n, shape.state) after this step."""
        x = self.read(features)
        if self.gru is not None:
            state = self.gru(x, state)
            x = torch.cat((x, state), -1)
        return self.head(x), state

    def head(self, x: Tensor) -> Tensor:
        """Logits (..., tiers) from what was read and the state, (..., width + shape.state)."""
        hidden = torch.relu(self.second(torch.relu(self.first(x))))
        out: Tensor = self.last(hidden)
        return out

    def sequence(self, features: Tensor) -> Tensor:
        """Logits (steps, episodes, tiers) of whole episodes (steps, episodes, width)."""
        if self.gru is None:
            return self.forward(features)[0]
        x = self.read(features)
        state = x.new_zeros(x.shape[1], self.shape.state)
        states = []
        for step in x:
            state = self.gru(step, state)
            states.append(state)
        return self.head(torch.cat((x, torch.stack(states)), -1))

    def start(self, episodes: int) -> Tensor | None:
        """The state (episodes, shape.state) before the first step; None without a GRU."""
        return torch.zeros(episodes, self.shape.state) if self.shape.state else None


class NetPolicy:
    """A network in a walk. Greedy: the lowest tier with P(a higher one) < `threshold`.

    With a generator it draws from the probabilities instead, and keeps ln p of what it drew
    in `drawn` (one array a step, for the episodes that were running).
    """

    def __init__(
        self,
        net: RouterNet,
        *,
        threshold: float = 0.5,
        generator: np.random.Generator | None = None,
    ) -> None:
        self._net, self._threshold, self._generator = net, threshold, generator
        self._state: Tensor | None = None

    def reset(self, games: NDArray[np.int64]) -> None:
        """Begin an episode of each of `games` (episodes,)."""
        self._state = self._net.start(len(games))

    @torch.inference_mode()
    def choose(
        self, features: NDArray[np.float32], episodes: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Tiers (n,) for features (n, width) of the episodes numbered `episodes` (n,)."""
        state = None if self._state is None else self._state[episodes]
        logits, after = self._net(torch.from_numpy(features), state)
        if self._state is not None and after is not None:
            self._state[episodes] = after
        probabilities = torch.softmax(logits, -1).double().numpy()
        # (n, tiers - 1): P(a tier higher than i), for every i but the highest
        higher = np.cumsum(probabilities[:, ::-1], 1)[:, ::-1][:, 1:]
        if self._generator is None:
            return np.asarray((higher >= self._threshold).cumprod(1).sum(1), np.int64)
        drawn = self._generator.random((len(rows), 1))
        return np.asarray((higher > drawn).sum(1), np.int64)
