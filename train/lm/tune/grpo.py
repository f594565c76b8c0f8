"""GRPO in the simulator: the tuned model plays each game several times, and what went better than
its group's mean becomes likelier.

    return    = won - step_cost * steps                    (of a whole episode)
    advantage = (return - group's mean) / (group's standard deviation + EPSILON)
    objective = min(ratio * advantage, clip(ratio) * advantage) - kl_coefficient * KL

It follows DeepSeekMath (arXiv 2402.03300): no value network, the group's mean is the baseline, and
the KL to the model as it was tuned is part of the loss. Where it departs:

- An episode has many steps, and its return is known at its end: every token that the model wrote
  in it (thoughts, actions, ends of turns) has the episode's advantage. What the game said has none.
- All tokens of an iteration weigh the same. DeepSeekMath divides by each answer's length, which
  makes the tokens of a long failure weigh less (arXiv 2503.20783); ours are the longest.
- EPSILON is large (see `reward`): a group that only differs by a step or two should not weigh
  like one in which games were lost.
- Groups in which all returns are equal are left out (as in DAPO, arXiv 2503.14476) and counted.
- Two passes over an iteration's episodes, one optimiser step each: playing takes longer than
  learning. The clipping bears on the second.

A run is saved after every iteration; one that was killed goes on to the weights of an unbroken
one, and a larger number of iterations goes on from where a smaller one ended.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from edge_router.errors import UserError
from edge_router.tasks.household.generator import draw_world
from edge_router.training import (
    GRPO_CLIP_RANGE,
    GRPO_GAMES,
    GRPO_GROUP_SIZE,
    GRPO_KL_COEFFICIENT,
    GRPO_TEMPERATURE,
)
from edge_router.work.progress import Step
from train import saved
from train.lm.tune.dialogues import STYLE
from train.lm.tune.model import half, losses, trained
from train.lm.tune.packing import Rows, filled, placed
from train.lm.tune.players import AT_ONCE, ChatGame, play
from train.lm.tune.reward import Doubles, advantages, all_equal, kl_estimate, returned
from train.lm.tune.sequences import Sequence as Tokens
from train.lm.tune.sequences import sequences
from train.lm.tune.trainer import Tuner
from train.lm.watched import summary
from train.objective import clipped

STATE: Final = "grpo.pt"


@dataclass(frozen=True)
class SimulatorGrpo:
    """All that decides the weights after an iteration."""

    group_size: int = GRPO_GROUP_SIZE  # episodes of a game
    games: int = GRPO_GAMES  # of an iteration
    temperature: float = GRPO_TEMPERATURE  # at which it plays, and its probabilities are taken
    clip_range: float = GRPO_CLIP_RANGE
    kl_coefficient: float = GRPO_KL_COEFFICIENT  # of KL(model || model as it was tuned)
    learning_rate: float = 1e-4
    step_cost: float = 0.01  # half a success for all 50 steps
    epochs: int = 2  # over the episodes of an iteration
    seed: int = 1


@dataclass(frozen=True)
class Scored(Tokens):
    """A sequence that the model wrote parts of, and the advantage of its episode."""

    advantage: float


@dataclass(frozen=True)
class ScoredRows:
    """Rows that are computed together, and a value for each of their targets, row by row.

    `before` and `reference` are ln p under the model that played and under the tuned one.
    """

    rows: Rows
    advantage: Tensor
    before: Tensor
    reference: Tensor


class GrpoTuner:
    """GRPO on the model of a finished `tuner`, in its folder and its log.

    The checkpoint is a file of the folder, so that each stage of tuning has one of its own.
    """

    def __init__(self, tuner: Tuner, config: SimulatorGrpo) -> None:
        self.tuner, self.config = tuner, config
        self.model, self.device = tuner.model, tuner.device
        self.parameters = list(trained(self.model).values())
        self.reference = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            fused=self.device.type == "cuda",
        )
        self.iteration, self.seconds = 0, 0.0

    # -- the run on disk --------------------------------------------------------------------

    def save(self) -> None:
        state = {
            "trained": {n: p.detach().cpu() for n, p in trained(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "config": asdict(self.config),
            "at": [self.iteration, self.seconds],
        }
        saved.save(state, self.tuner.run / STATE)

    def resume(self, iterations: int) -> bool:
        """Go on where the folder is. Raises `UserError` where that is not on the way."""
        path = self.tuner.run / STATE
        if not path.exists():
            return False
        with saved.loaded(path) as state:
            if state["config"] != asdict(self.config):
                raise UserError(
                    f"{path} was made with other settings of GRPO; give those, or name another "
                    "folder"
                )
            if state["at"][0] > iterations:
                raise UserError(
                    f"{path} is {state['at'][0]} iterations on already; give --grpo "
                    f"{state['at'][0]} or more, or name another folder"
                )
            self.tuner.take(state["trained"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.iteration, self.seconds = state["at"]
        return True

    # -- iterations -------------------------------------------------------------------------

    def train(self, iterations: int, evaluations: int = 4) -> None:
        """Go on to the last iteration; the model plays held-out games `evaluations` times."""
        episodes = self.config.games * self.config.group_size
        show = self.tuner.progress(
            "GRPO, episodes", total=iterations * episodes, done=self.iteration * episodes
        )
        if not self.iteration and evaluations:
            self._evaluate()
        while self.iteration < iterations:
            self._iterate(show)
            now, every = self.iteration, iterations / max(1, evaluations)
            if evaluations and int(now / every + 1e-9) > int((now - 1) / every + 1e-9):
                self._evaluate()

    def _iterate(self, show: Step) -> None:
        started = time.monotonic()
        games = self.play(show)
        returns = np.array([returned(g, self.config.step_cost) for g in games])
        grouped = returns.reshape(self.config.games, self.config.group_size)
        learnt = self.learn(self.batches(self.scored(games, grouped)))
        self.iteration += 1
        self.seconds += time.monotonic() - started
        seen = summary(games)
        told = {"return": float(returns.mean()), "success": seen["won"], "steps": seen["steps"]}
        self._log(told | {"skipped": float(all_equal(grouped).mean())} | learnt)
        self.save()

    def play(self, show: Step = lambda: None) -> list[ChatGame]:
        """The episodes of the next iteration, group by group."""
        config, at = self.config, f"tune grpo {self.config.seed} {self.iteration}"
        worlds = [draw_world(random.Random(f"{at} {game}")) for game in range(config.games)]
        every = [
            (w, f"{at} {i} {j}") for i, w in enumerate(worlds) for j in range(config.group_size)
        ]
        played: list[ChatGame] = []
        for first in range(0, len(every), AT_ONCE):
            drawn, seeds = zip(*every[first : first + AT_ONCE], strict=True)
            played += play(
                self.model,
                self.tuner.tokens,
                drawn,
                told=_steps(show),
                temperature=config.temperature,
                seeds=seeds,
            )
        return played

    def scored(self, games: Sequence[ChatGame], returns: Doubles) -> list[Scored]:
        """What was written in groups that differ in their returns (groups, group size)."""
        kept = np.broadcast_to(~all_equal(returns)[:, None], returns.shape)
        every = zip(games, kept.ravel(), advantages(returns).ravel(), strict=True)
        return [
            Scored(s.ids, s.learnt, float(advantage))
            for game, is_kept, advantage in every
            if is_kept
            for s in sequences(game.own, STYLE, self.tuner.tokens)
        ]

    # -- learning ---------------------------------------------------------------------------

    @torch.no_grad()
    def batches(self, found: Sequence[Scored]) -> list[ScoredRows]:
        """The sequences in rows, with ln p of the model as it is and as it was tuned."""
        length, at_once = self.tuner.config.length, self.tuner.config.at_once
        rows = placed(found, length)
        made = []
        for first in range(0, len(rows), at_once):
            chosen = rows[first : first + at_once]
            packed = filled(chosen, length).to(self.device)
            before = self.log_probabilities(packed)
            with self._as_tuned():
                reference = self.log_probabilities(packed)
            made.append(ScoredRows(packed, _advantages(chosen).to(self.device), before, reference))
        return made

    def learn(self, batches: Sequence[ScoredRows]) -> dict[str, float]:
        """A few optimiser steps on an iteration's episodes; for the log, what was seen."""
        count = sum(len(batch.before) for batch in batches)
        if not count:
            return {}
        clip, at_once = self.config.clip_range, []
        for _ in range(self.config.epochs):
            for batch in batches:
                log_p = self.log_probabilities(batch.rows)
                ratio = (log_p - batch.before).exp()
                gained = clipped(ratio, batch.advantage, clip)
                kl = kl_estimate(log_p, batch.reference)
                loss = (self.config.kl_coefficient * kl - gained).sum() / count
                loss.backward()  # type: ignore[no-untyped-call]
                at_once.append(((ratio.detach() - 1.0).abs() > clip).sum())
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        kl_before = sum(float(kl_estimate(b.before, b.reference).sum()) for b in batches)
        outside = sum(int(n) for n in at_once[-len(batches) :])
        return {"kl": kl_before / count, "outside": outside / count, "tokens": count}

    def log_probabilities(self, rows: Rows) -> Tensor:
        """ln p of every target, row by row, at the temperature that is played at."""
        inputs = (rows.ids, rows.mask(), rows.positions, rows.targets)
        with half(self.device):
            return -losses(self.model, *inputs, temperature=self.config.temperature)

    @contextmanager
    def _as_tuned(self) -> Iterator[None]:
        """The model as GRPO found it: its trained weights change places with the copies.

        With adapters the copies are a few megabytes; switching the adapters off instead would
        give the base, which cannot play.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for at, parameter in enumerate(self.parameters):
            parameter.data, self.reference[at] = self.reference[at], parameter.data

    # -- telling ----------------------------------------------------------------------------

    def _evaluate(self) -> None:
        self._log(self.tuner.played())

    def _log(self, values: dict[str, float]) -> None:
        rounded = {key: round(value, 4) for key, value in values.items()}
        self.tuner.tell(iteration=self.iteration, seconds=round(self.seconds), **rounded)


def _advantages(rows: Sequence[Sequence[Scored]]) -> Tensor:
    """The advantage of every target, in the order in which `filled` puts them."""
    values = [s.advantage for row in rows for s in row for learnt in s.learnt[1:] if learnt]
    return torch.tensor(values, dtype=torch.float32)


def _steps(show: Step) -> Callable[[int], None]:
    """Show every game that is over: a player tells how many are."""
    known = 0

    def told(over: int) -> None:
        nonlocal known
        for _ in range(over - known):
            show()
        known = over

    return told
