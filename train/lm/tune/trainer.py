"""Supervised fine-tuning of a checkpoint on expert episodes: the loop, resumable at every save.

    tuner = Tuner(run, config, base, tokenizer, device)
    tuner.resume()
    tuner.train()

A run that was killed goes on from its last save with the same batches and the same optimiser, so
its weights are those of an unbroken run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from edge_router.errors import UserError
from edge_router.screen.printable import say
from edge_router.work.progress import Progress, silent
from train import saved
from train.lm.tune.dialogues import STYLE, Dialogue
from train.lm.tune.model import half, load, losses, trained
from train.lm.tune.packing import CHUNK, PackedChunks, Rows, stream
from train.lm.tune.players import held_out, play
from train.lm.tune.sequences import ChatTokens
from train.lm.watched import summary

SAVE_SECONDS: Final = 60.0
REPORT_EVERY: Final = 20  # optimiser steps


@dataclass(frozen=True)
class TuneConfig:
    """All that decides the weights. `rows` of `length` tokens make an optimiser step."""

    episodes: int = 20_000
    lora: int = 16  # the adapters' rank; 0 trains the whole model
    learning_rate: float = 1e-3
    length: int = 2048
    rows: int = 16
    at_once: int = 8  # rows computed at a time
    warmup: float = 0.03  # shares of the run
    decay: float = 0.3
    weight_decay: float = 0.0
    seed: int = 1
    corrected_share: float = 0.5  # of the episodes, where there are corrected ones
    evaluate_games: int = 100
    evaluations: int = 4  # in a run, the last at its end

    @property
    def chunks(self) -> int:
        return math.ceil(self.episodes / CHUNK)


def rate_at(done: float, config: TuneConfig) -> float:
    """The learning rate's share when `done` of the run (0 to 1) is over: up, level, down to 0."""
    up = done / config.warmup if config.warmup else 1.0
    down = (1.0 - done) / config.decay if config.decay else 1.0
    return max(0.0, min(1.0, up, down))


class Tuner:
    """A run in a folder.

    `corrected` are episodes that the model played and the expert corrected; `workers` processes
    draw the others.
    """

    def __init__(
        self,
        run: Path,
        config: TuneConfig,
        base: Path,
        tokenizer: Any,
        device: torch.device,
        *,
        workers: int = 1,
        corrected: Sequence[Dialogue] = (),
        progress: Progress = silent,
    ) -> None:
        self.run, self.config, self.device, self.workers = run, config, device, workers
        self.tokens, self.tokenizer = ChatTokens(tokenizer), tokenizer
        self.corrected, self.progress = corrected, progress
        self.model = load(base, config.lora, device, config.seed)
        self.parameters = list(trained(self.model).values())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=device.type == "cuda",
        )
        self.step, self.chunk, self.row = 0, 0, 0  # rows of the chunk that are learnt
        self.learnt, self.read, self.seconds = 0, 0, 0.0
        self.done = 0.0  # share of the run that is over at the middle of the current step

    # -- the run on disk --------------------------------------------------------------------

    def save(self) -> None:
        state = {
            "trained": {n: p.detach().cpu() for n, p in trained(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "config": asdict(self.config),
            "at": [self.step, self.chunk, self.row, self.learnt, self.read, self.seconds],
        }
        saved.save(state, self.run / "checkpoint.pt")

    def resume(self) -> bool:
        """Go on where the run's folder is. Raises `UserError` for one that is another run's."""
        path = self.run / "checkpoint.pt"
        if not path.exists():
            return False
        with saved.loaded(path) as state:
            if state["config"] != asdict(self.config):
                raise UserError(f"{self.run} holds a run with other settings; name another folder")
            self.take(state["trained"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.chunk, self.row, self.learnt, self.read, self.seconds = state["at"]
        return True

    def start_from(self, run: Path) -> None:
        """Begin with the weights of another run."""
        with saved.loaded(run / "checkpoint.pt") as state:
            self.take(state["trained"])

    @torch.no_grad()
    def take(self, weights: dict[str, Tensor]) -> None:
        """Put these values into what is trained."""
        for name, parameter in trained(self.model).items():
            parameter.copy_(weights[name])

    def log(self, **values: float) -> None:
        self.tell(step=self.step, seconds=round(self.seconds), **values)

    def tell(self, **line: float) -> None:
        """A line of the log, which is shown as well."""
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        say("  ".join(f"{key} {value}" for key, value in line.items()), err=True)

    # -- learning ---------------------------------------------------------------------------

    def train(self) -> None:
        """Go on to the last episode."""
        show = self.progress("chunks", total=self.config.chunks, done=self.chunk)
        kept = started = time.monotonic()
        already, losses = self.seconds, list[tuple[Tensor, int]]()
        for chunk, rows in self._chunks():
            for first in range(self.row, len(rows), self.config.rows):
                of_chunk = (first + self.config.rows / 2) / max(len(rows), self.config.rows)
                self.done = (chunk + of_chunk) / self.config.chunks
                losses.append(self.learn(rows.cut(first, first + self.config.rows)))
                self.row = first + self.config.rows
                self.seconds = already + time.monotonic() - started
                if self.step % REPORT_EVERY == 0:
                    self._report(losses)
                if time.monotonic() - kept > SAVE_SECONDS:
                    self.save()
                    kept = time.monotonic()
            self.chunk, self.row = chunk + 1, 0
            show()
            if self._evaluation_is_due():
                self.evaluate()
        self.save()

    def _chunks(self) -> Iterator[tuple[int, Rows]]:
        chunks = PackedChunks(
            self.chunk,
            self.config.chunks,
            seed=self.config.seed,
            length=self.config.length,
            style=STYLE,
            tokens=self.tokens,
            corrected=self.corrected,
            share=self.config.corrected_share,
        )
        return enumerate(stream(chunks, self.workers), start=self.chunk)

    def learn(self, rows: Rows) -> tuple[Tensor, int]:
        """One optimiser step; the sum of its losses, not yet read back, and of how many tokens."""
        count = int((rows.targets >= 0).sum())
        rate = self.config.learning_rate * rate_at(self.done, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.device)
        for first in range(0, len(rows), self.config.at_once):
            loss = self._loss(rows.cut(first, first + self.config.at_once))
            (loss / max(1, count)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.learnt += count
        self.read += int((rows.parts > 0).sum())
        return total, count

    def _loss(self, rows: Rows) -> Tensor:
        on = rows.to(self.device)
        with half(self.device):
            return losses(self.model, on.ids, on.mask(), on.positions, on.targets).sum()

    def _report(self, losses: list[tuple[Tensor, int]]) -> None:
        mean = float(torch.stack([loss for loss, _ in losses]).sum()) / sum(n for _, n in losses)
        losses.clear()
        self.log(loss=round(mean, 4), tokens=self.read, learnt=self.learnt)

    # -- judging ----------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        every = self.config.chunks / max(1, self.config.evaluations)
        now, before = int(self.chunk / every + 1e-9), int((self.chunk - 1) / every + 1e-9)
        return self.config.evaluations > 0 and now > before

    def evaluate(self) -> None:
        """Play held-out generated games, and log what came of it."""
        self.log(**self.played())

    def played(self) -> dict[str, float]:
        """What comes of held-out generated games."""
        games = play(self.model, self.tokens, held_out(self.config.evaluate_games))
        return {key: round(value, 4) for key, value in summary(games).items()}
