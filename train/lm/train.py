"""Train the household LM by imitation, resumable at any moment.

    python -m train.lm.train --run runs/lm
    python -m train.lm.train --run runs/lm            # goes on where it was
    python -m train.lm.train --run runs/lm2 --start runs/lm --corrections runs/lm/corrections.npz

Muon on the matrices, AdamW on embeddings and norms, a constant rate with a
linear decay over the last third. bf16 autocast and torch.compile, on CUDA when
it is there: one core of a server CPU trains the 3-million-parameter shape at
about 3,700 tokens/s. A checkpoint is written every few minutes and at Ctrl-C;
the batches of a resumed run are those an unbroken one would have seen.
`log.jsonl` in the run's folder holds a line a report: loss, and now and then
the share of held-out generated games won in the simulator.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_router.errors import UserError
from train import saved
from train.lm.batches import Batch, load_corrected, stream
from train.lm.model import HouseholdLM, LmConfig, LmShape, load_model, rotary
from train.lm.rollout import held_out, play
from train.lm.threads import StepThreads
from train.lm.watched import summary

REPORT_EVERY = 50
EVALUATE_EVERY = 400
EVALUATE_GAMES = 100
CHECKPOINT_SECONDS = 180


def rate_at(step: int, config: LmConfig) -> float:
    """Multiplier of the learning rates: warm-up, plateau, linear decay to 0."""
    decay = config.decay_share * config.steps
    return min((step + 1) / config.warmup, 1.0, max(config.steps - step, 1) / decay)


def optimizers(model: HouseholdLM, config: LmConfig) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if n.endswith("proj.weight")]
    others = [p for n, p in model.named_parameters() if not n.endswith("proj.weight")]
    muon = torch.optim.Muon(
        matrices,
        lr=config.muon_learning_rate,
        weight_decay=config.weight_decay,
        momentum=0.95,
    )
    adam = torch.optim.AdamW(
        others, lr=config.adam_learning_rate, betas=(0.9, 0.95), weight_decay=0.0
    )
    return [muon, adam]


class LmTrainer:
    """The state of a run: weights, optimizers, and where in the stream of batches it is."""

    def __init__(
        self,
        run: Path,
        config: LmConfig,
        *,
        start: Path | None = None,
        corrections: Path | None = None,
        threads: int | None = None,
    ) -> None:
        self.run, self.config = run, config
        self.corrected = load_corrected(corrections) if corrections else []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        self.model = HouseholdLM(config.shape).to(self.device)
        if start is not None:
            self.model.load_state_dict(load_model(start).state_dict())
        self.optimizers = optimizers(self.model, config)
        self.step = self.chunk = self.batch = 0
        self.seconds = 0.0
        self.tables: dict[int, tuple[Tensor, Tensor]] = {}
        size = sum(p.numel() for p in self.model.parameters())
        self.threads = StepThreads(size, threads)
        for layer in self.model.layers:
            layer.compile(dynamic=False)  # one compilation serves all layers of a batch shape

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "recipe": asdict(self.config),
            "at": [self.step, self.chunk, self.batch, self.seconds],
        }
        saved.save(state, self.run / "checkpoint.pt")

    def resume(self) -> bool:
        path = self.run / "checkpoint.pt"
        if not path.exists():
            return False
        with saved.loaded(path, self.device) as state:
            self.model.load_state_dict(state["model"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.step, self.chunk, self.batch, self.seconds = state["at"]
        return True

    def log(self, **values: Any) -> None:
        line = {"step": self.step, "seconds": round(self.seconds), **values}
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print("  ".join(f"{k} {v}" for k, v in line.items()), flush=True)

    def learn(self, batch: Batch) -> Tensor:
        """One optimiser step; the loss, not yet read back."""
        rate = rate_at(self.step, self.config)
        for optimizer, base in zip(
            self.optimizers,
            (self.config.muon_learning_rate, self.config.adam_learning_rate),
            strict=True,
        ):
            optimizer.param_groups[0]["lr"] = base * rate
        ids, weights = batch.ids.to(self.device), batch.weights.to(self.device)
        cos, sin = self._rotary(ids.shape[1] - 1)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = self.model.loss(ids, weights, cos, sin)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss.detach()

    def _rotary(self, length: int) -> tuple[Tensor, Tensor]:
        if length not in self.tables:
            positions = torch.arange(length, device=self.device)
            self.tables[length] = rotary(positions, self.config.shape)
        return self.tables[length]

    def evaluate(self) -> None:
        games = play(self.model, held_out(EVALUATE_GAMES))
        self.log(**{k: round(v, 4) for k, v in summary(games).items()})

    def train(self, until: int | None = None) -> None:
        """Go on to step `until` (the configuration's last when None)."""
        last = self.config.steps if until is None else until
        kept = started = time.monotonic()
        losses, tokens, already = [], 0, self.seconds
        chunks = stream(self.config.seed, self.chunk, self.config.tokens, self.corrected)
        while self.step < last:
            batches = next(chunks)
            while self.batch < len(batches) and self.step < last:
                batch = batches[self.batch]
                self.batch += 1
                with self.threads.step(batch.ids.numel(), batch.ids.shape[1]):
                    losses.append(self.learn(batch))
                tokens += int((batch.ids > 0).sum())
                self.seconds = already + time.monotonic() - started
                if self.step % REPORT_EVERY == 0:
                    loss = float(torch.stack(losses).mean())
                    self.log(loss=round(loss, 4), tokens=tokens)
                    losses = []
                if self.step % EVALUATE_EVERY == 0:
                    self.evaluate()
                if time.monotonic() - kept > CHECKPOINT_SECONDS:
                    self.save()
                    kept = time.monotonic()
            if self.batch >= len(batches):
                self.chunk, self.batch = self.chunk + 1, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/lm"), help="folder of the run")
    defaults = LmConfig()
    for name in ("steps", "tokens", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    for name in ("muon_learning_rate", "adam_learning_rate"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name)
        )
    parser.add_argument("--layers", type=int, default=defaults.shape.layers)
    parser.add_argument("--width", type=int, default=defaults.shape.width)
    parser.add_argument(
        "--threads", type=int, help="PyTorch threads; by default as the machine allows"
    )
    parser.add_argument("--start", type=Path, help="begin with the weights of this run")
    parser.add_argument("--corrections", type=Path, help="episodes from train.lm.corrections")
    args = vars(parser.parse_args())
    run, start, corrections = args.pop("run"), args.pop("start"), args.pop("corrections")
    threads = args.pop("threads")
    if threads is not None and threads < 1:
        parser.error("--threads must be at least 1")
    width = args.pop("width")
    shape = LmShape(width=width, layers=args.pop("layers"), feedforward=3 * width)
    run.mkdir(parents=True, exist_ok=True)
    config = LmConfig(**args, shape=shape)
    try:
        trainer = LmTrainer(run, config, start=start, corrections=corrections, threads=threads)
        resumed = trainer.resume()
    except UserError as error:
        sys.exit(str(error))
    size = sum(p.numel() for p in trainer.model.parameters())
    print(
        f"{size / 1e6:.1f}M parameters, {'resumed at' if resumed else 'from'} step {trainer.step}"
    )
    try:
        trainer.train()
    except KeyboardInterrupt:
        print("interrupted; the checkpoint holds everything up to here")
    trainer.save()
    trainer.evaluate()


if __name__ == "__main__":
    main()
