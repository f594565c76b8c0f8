"""The stages of a training run, each of which can be run alone and goes on where it stopped.

    collect   explore the games' trees                        rollouts.sqlite
    sft       supervise networks on KL labels, ablate         sft.json, sft-*.pt
    grpo      improve them on the trees                       grpo.json, grpo-*.pt
    export    choose one, calibrate its dial, write it        router.onnx, sft.onnx, export.json
    evaluate  compare with everything else                    evaluation.json, *.png

All choices are made on the "select" games; the "test" games and the official
ones are only played when all is settled.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_router.bench.results import write_json
from edge_router.costs import CostProfile
from edge_router.errors import UserError
from edge_router.progress import Progress, silent
from edge_router.router.base import DecideAt
from edge_router.router.features import ALL_NAMES
from edge_router.tasks.game_files import find_games
from train.router import front, grpo, sft
from train.router.charges import by_seconds, by_share
from train.router.explore import Plan
from train.router.forest import Forest, Ints, walk
from train.router.games import Game, drawn, from_files
from train.router.network import NetPolicy, RouterNet, Shape
from train.router.policies import FixedPolicy
from train.router.rollouts import Rollouts
from train.router.setting import Setting

STAGES = ("collect", "sft", "grpo", "export", "evaluate")
PARTS = (4, 1, 1)  # of a folder of games: train, select, test


@dataclass(frozen=True)
class Options:
    """What a run is made of; the defaults train the shipped router."""

    train_games: int = 1200
    select_games: int = 500
    test_games: int = 400
    folder: Path | None = None  # games to use instead of generated ones
    plan: Plan = field(default_factory=Plan)
    states: tuple[int, ...] = (0, 24)  # GRU widths to try; 0 is the MLP
    decide_at: tuple[DecideAt, ...] = ("draft", "prompt")
    sft: sft.Recipe = field(default_factory=sft.Recipe)
    grpo: grpo.Recipe = field(default_factory=grpo.Recipe)
    profile: CostProfile | None = None  # costs in seconds; None: share of dear steps
    jobs: int = 2
    ablate: bool = True


@dataclass(frozen=True)
class Sets:
    """The games of a run."""

    train: Sequence[Game]
    select: Sequence[Game]
    test: Sequence[Game]


class Run:
    """A run in its folder. `say` gets a line for people now and then."""

    def __init__(
        self,
        folder: Path,
        setting: Setting,
        options: Options,
        progress: Progress = silent,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        torch.set_num_threads(1)  # networks of a few thousand weights gain nothing from more
        self.folder, self.setting, self.options = folder, setting, options
        self.progress, self.say = progress, say
        self.sets = game_sets(options)
        folder.mkdir(parents=True, exist_ok=True)
        self._rollouts: Rollouts | None = None

    @property
    def rollouts(self) -> Rollouts:
        if self._rollouts is None:
            path = self.folder / "rollouts.sqlite"
            self._rollouts = Rollouts(self.setting, path, self.options.jobs, self.progress)
        return self._rollouts

    @property
    def seed_shapes(self) -> list[Shape]:
        """The networks to train."""
        tiers = len(self.setting.tiers)
        return [
            Shape(tiers, at, state=state)
            for at in self.options.decide_at
            for state in self.options.states
        ]

    def close(self) -> None:
        if self._rollouts is not None:
            self._rollouts.close()
            self._rollouts = None

    # -- collect -------------------------------------------------------------------------

    def collect(self) -> None:
        """Explore every training game as planned, and what the judges need of the others."""
        started, rollouts = time.monotonic(), self.rollouts
        rollouts.collect(self.sets.train, self.options.plan, "training games")
        judged = replace(self.options.plan, random=(), search=0)
        rollouts.collect(self.sets.select, judged, "games to select on")
        games = self._collected()
        low, high = (self.alone(games, tier) for tier in (0, len(self.setting.tiers) - 1))
        self.keep_note(
            "collect",
            {
                "histories": rollouts.store.count(),
                "decoded_now": rollouts.decoded,
                "train_games": len(games),
                "success_low": low,
                "success_high": high,
            },
            started,
        )
        self.say(
            f"{rollouts.store.count()} histories; on the training games {self.setting.names[0]}"
            f" alone wins {100 * low:.1f} %, {self.setting.names[-1]} alone {100 * high:.1f} %"
        )

    def _collected(self) -> Ints:
        """The training games; UserError where they have not been explored."""
        done = self.rollouts.store.finished(self.options.plan.what)
        missing = sum(game.key not in done for game in self.sets.train)
        if missing:
            raise UserError(
                f"{missing} of {len(self.sets.train)} training games are not explored for this"
                f" ladder in {self.folder}; run the stage collect first"
            )
        return self.rollouts.take(self.sets.train)

    def select_games(self) -> Ints:
        return self.rollouts.take(self.sets.select)

    def statistic(self, name: str) -> NDArray[np.float32]:
        """A feature at every step that the cheapest tier plays alone on the select games."""
        walks = walk(
            self.rollouts.forest,
            self.select_games(),
            FixedPolicy(0),
            expand=self.rollouts.expand,
        )
        return walks.features[walks.taken][:, ALL_NAMES.index(name)]

    def won_alone(self, games: Ints, tier: int) -> NDArray[np.bool_]:
        """(games,): which of them one tier wins that writes every step."""
        policy, expand = FixedPolicy(tier), self.rollouts.expand
        return walk(self.rollouts.forest, games, policy, expand=expand).won

    def alone(self, games: Ints, tier: int) -> float:
        """Success of one tier that writes every step."""
        return float(self.won_alone(games, tier).mean())

    # -- sft -----------------------------------------------------------------------------

    def supervise(self) -> None:
        """Supervise every network; then, for the first, other labels and other tau."""
        started, games, select = time.monotonic(), self._collected(), self.select_games()
        table = []
        for shape in self.seed_shapes:
            net = sft.train(self.rollouts.forest, games, shape, self.options.sft)
            _save(net, self.folder / f"sft-{name_of(shape)}.pt")
            table.append(self._judged(net, select, name_of(shape)))
        if self.options.ablate:
            for what, recipe in ablations(self.options.sft):
                net = sft.train(self.rollouts.forest, games, self.seed_shapes[0], recipe)
                table.append(self._judged(net, select, what, by_threshold=recipe.tau is not None))
        self.keep_note("sft", {"networks": table}, started)

    def _judged(
        self, net: RouterNet, select: Ints, what: str, *, by_threshold: bool = False
    ) -> dict[str, Any]:
        """A network on the select games: at five dials, or at many thresholds."""
        forest, expand = self.rollouts.forest, self.rollouts.expand
        if by_threshold:
            policies = [NetPolicy(net, threshold=t) for t in THRESHOLDS]
            points = [front.point(forest, select, p, 0.5, expand) for p in policies]
        else:
            points = front.front(forest, select, net, expand=expand)
        score = front.score(points, self.alone(select, 0))
        shown = ", ".join(f"{100 * p.success:.1f} % at {100 * p.share:.0f} %" for p in points)
        self.say(f"{what}: score {score:.4f} ({shown})")
        return {"what": what, "score": score, "points": [asdict(p) for p in points]}

    # -- grpo ----------------------------------------------------------------------------

    def improve(self) -> None:
        """Improve every supervised network."""
        started, games, select = time.monotonic(), self._collected(), self.select_games()
        found = []
        for shape in self.seed_shapes:
            name = name_of(shape)
            supervised = _load(self.folder / f"sft-{name}.pt")
            trainer = grpo.Trainer(
                self.rollouts.forest,
                games,
                select,
                supervised,
                self.options.grpo,
                self.rollouts.expand,
                self._charge(shape),
            )
            state = trainer.run(self.folder / f"grpo-{name}.checkpoint", self._teller(name))
            _save(state.net.eval(), self.folder / f"grpo-{name}.pt")
            found.append({"what": name, "score": state.best_score, "log": state.log})
            self.say(f"{name}: best score {state.best_score:.4f}")
        self.keep_note("grpo", {"networks": found, "recipe": asdict(self.options.grpo)}, started)

    def _charge(self, shape: Shape) -> Callable[[Forest], NDArray[np.float64]]:
        """By share, or in seconds where the options name a profile."""
        profile = self.options.profile
        if profile is None:
            return by_share
        return partial(
            by_seconds, profile=profile, names=self.setting.names, decide_at=shape.decide_at
        )

    def _teller(self, name: str) -> grpo.Tell:
        step: Callable[[], None] | None = None

        def tell(state: grpo.State, total: int) -> None:
            nonlocal step
            if step is None:
                step = self.progress(f"grpo {name}", total, state.iteration - 1)
            step()

        return tell

    # -- shared --------------------------------------------------------------------------

    def note(self, stage: str) -> dict[str, Any]:
        """What a stage has left behind; UserError where it was not run."""
        path = self.folder / f"{stage}.json"
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"the stage {stage} has not been run in {self.folder}; run it first"
            ) from error
        if data.get("ladder") != self.setting.identity():
            raise UserError(
                f"{path} belongs to another ladder or KV mode; name another folder with --run"
            )
        return data

    def keep_note(self, stage: str, data: dict[str, Any], started: float) -> None:
        told = {
            "ladder": self.setting.identity(),
            "tiers": list(self.setting.names),
            "kv": self.setting.kv,
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(self.folder / f"{stage}.json", {**told, **data})


THRESHOLDS = (0.05, 0.2, 0.5, 0.8, 0.95)


def ablations(recipe: sft.Recipe) -> Iterable[tuple[str, sft.Recipe]]:
    """Other labels, other measures of the KL, and tau fixed at several quantiles."""
    for label in ("kl", "oracle"):
        yield f"label: {label}, by dial", replace(recipe, label=label)
    for tau in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98):
        yield f"label: kl sum, tau {tau:g}", replace(recipe, label="kl", tau=tau)
    for measure in ("mean", "max"):
        yield f"label: kl {measure}, tau 0.9", replace(recipe, label="kl", measure=measure, tau=0.9)


def name_of(shape: Shape) -> str:
    """ "draft-gru24", "prompt-mlp"."""
    return f"{shape.decide_at}-{f'gru{shape.state}' if shape.state else 'mlp'}"


def game_sets(options: Options) -> Sets:
    """Generated games, or those of a folder, dealt out in turn. Raises UserError."""
    if options.folder is None:
        return Sets(
            drawn("train", options.train_games),
            drawn("select", options.select_games),
            drawn("test", options.test_games),
        )
    found = from_files(find_games(options.folder))
    turns = [part for part, count in enumerate(PARTS) for _ in range(count)]
    if len(found) < len(turns):
        raise UserError(
            f"{options.folder} holds {len(found)} games; at least {len(turns)} are needed to train,"
            " select and test on"
        )
    dealt: list[list[Game]] = [[], [], []]
    for index, game in enumerate(found):
        dealt[turns[index % len(turns)]].append(game)
    return Sets(*dealt)


def _save(net: RouterNet, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    torch.save({"shape": net.shape.plain(), "weights": net.state_dict()}, partial)
    os.replace(partial, path)


def _load(path: Path) -> RouterNet:
    """A network that was saved. Raises UserError where there is none."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stages before this one first")
    kept = torch.load(path, weights_only=True)
    net = RouterNet(Shape(**kept["shape"]))
    net.load_state_dict(kept["weights"])
    return net.eval()


load_network = _load


def real_episodes(run: Run) -> NDArray[np.float32]:
    """Features of real episodes (steps, episodes, width), for comparing two networks."""
    forest, expand = run.rollouts.forest, run.rollouts.expand
    return walk(forest, run.select_games(), FixedPolicy(0), expand=expand).features
