"""A training run in its folder: its games, its rollouts, and the notes that stages leave.

What the stages share. Every stage (`stages/`) reads what the ones before it left in the
folder, by way of `Run`, and leaves its own note there; the order is in `commands`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.files.whole import make_folder
from edge_router.results.file import write_json
from edge_router.router.feature_table import column
from edge_router.tasks.registry import DEFAULT, find_task
from edge_router.work.progress import Progress, silent
from train import saved
from train.router.forest import Floats, Ints, walk
from train.router.games import KeyedGame, drawn, from_files
from train.router.network import NetworkShape, RouterNet
from train.router.options import RunOptions
from train.router.policies import FixedPolicy
from train.router.rollouts import Rollouts
from train.router.setting import LadderSetting

PARTS = (4, 1, 1)  # of a folder of games: train, select, test


@dataclass(frozen=True)
class Sets:
    """The games of a run."""

    train: Sequence[KeyedGame]
    select: Sequence[KeyedGame]
    test: Sequence[KeyedGame]


class Run:
    """A run in its folder. `say` gets a line for people now and then."""

    def __init__(
        self,
        folder: Path,
        setting: LadderSetting,
        options: RunOptions,
        progress: Progress = silent,
        say: Callable[[str], None] = lambda line: None,
        sets: Sets | None = None,
    ) -> None:
        """`sets` None: generated games, or those of the folder that the options name."""
        torch.set_num_threads(1)  # networks of a few thousand weights gain nothing from more
        self.folder, self.setting, self.options = folder, setting, options
        self.progress, self.say = progress, say
        self.sets = game_sets(options, setting.task) if sets is None else sets
        options.backend.check()
        make_folder(folder)
        self._rollouts: Rollouts | None = None

    @property
    def rollouts(self) -> Rollouts:
        if self._rollouts is None:
            path = self.folder / "rollouts.sqlite"
            self._rollouts = Rollouts(self.setting, path, self.options.backend, self.progress)
        return self._rollouts

    @property
    def shapes(self) -> list[NetworkShape]:
        """The networks to train."""
        tiers = len(self.setting.tiers)
        return [
            NetworkShape(tiers, at, state=state)
            for at in self.options.decide_at
            for state in self.options.states
        ]

    def close(self) -> None:
        if self._rollouts is not None:
            self._rollouts.close()
            self._rollouts = None

    # -- games ---------------------------------------------------------------------------

    def training_games(self) -> Ints:
        """(games,) indices of the training games; UserError where they are not explored."""
        done = self.rollouts.store.finished(self.options.plan.what)
        missing = sum(game.key not in done for game in self.sets.train)
        if missing:
            raise UserError(
                f"{missing} of {len(self.sets.train)} training games are not explored for this"
                f" ladder in {self.folder}; run the stage collect first"
            )
        return self.rollouts.take(self.sets.train)

    def select_games(self) -> Ints:
        """(games,) indices of the games on which networks and thresholds are chosen."""
        return self.rollouts.take(self.sets.select)

    def won_alone(self, games: Ints, tier: int) -> NDArray[np.bool_]:
        """(games,): which of them one tier wins that writes every step."""
        policy, expand = FixedPolicy(tier), self.rollouts.expand
        return walk(self.rollouts.forest, games, policy, expand=expand).won

    def success_alone(self, games: Ints, tier: int) -> float:
        """Success on `games` (games,) of one tier that writes every step, 0 to 1."""
        return float(self.won_alone(games, tier).mean())

    def low_episodes(self) -> tuple[Floats, NDArray[np.bool_]]:
        """The low tier alone on the select games.

        Features (steps, episodes, features), and where a step was taken (steps, episodes).
        """
        forest, expand = self.rollouts.forest, self.rollouts.expand
        walks = walk(forest, self.select_games(), FixedPolicy(0), expand=expand)
        return walks.features, walks.taken

    def statistic(self, name: str) -> Floats:
        """(steps,): a feature at every step that the low tier plays alone on the select games."""
        features, taken = self.low_episodes()
        return features[taken][:, column(name)]

    # -- notes ---------------------------------------------------------------------------

    def note(self, stage: str) -> dict[str, Any]:
        """What a stage has left behind; UserError where it was not run."""
        data = read_note(self.folder, stage)
        if data is None:
            raise UserError(f"the stage {stage} has not been run in {self.folder}; run it first")
        if data.get("ladder") != self.setting.identity():
            raise UserError(
                f"{self.folder / stage}.json belongs to another ladder or KV mode; name another"
                " folder with --run"
            )
        return data

    def keep_note(self, stage: str, data: dict[str, Any], started: float) -> None:
        """Leave what a stage found; `started` is the monotonic clock when it began."""
        about = {
            "schema": SCHEMA,
            "ladder": self.setting.identity(),
            "tiers": list(self.setting.names),
            "kv": self.setting.kv,
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(self.folder / f"{stage}.json", {**about, **data})


def name_of(shape: NetworkShape) -> str:
    """ "draft-gru24", "prompt-mlp"."""
    return f"{shape.decide_at}-{f'gru{shape.state}' if shape.state else 'mlp'}"


def game_sets(options: RunOptions, name: str = DEFAULT) -> Sets:
    """Games that the task draws, or those of a folder, dealt out in turn. Raises UserError."""
    task = find_task(name)
    if options.folder is None:
        if not task.drawn_kinds:
            raise UserError(
                f"{name} cannot draw games as they are needed; give a folder of them with --games"
                f" (edge-router games generate --task {name} may write one)"
            )
        return Sets(
            drawn("train", options.train_games, name),
            drawn("select", options.select_games, name),
            drawn("test", options.test_games, name),
        )
    found = from_files(task.games(folder=options.folder).games)
    return dealt(found, f"{options.folder} holds", "games")


def dealt(found: Sequence[KeyedGame], holds: str, what: str) -> Sets:
    """Games dealt out to the three sets in turn. Raises UserError for too few."""
    turns = [part for part, count in enumerate(PARTS) for _ in range(count)]
    if len(found) < len(turns):
        raise UserError(
            f"{holds} {len(found)} {what}; at least {len(turns)} are needed to train,"
            " select and test on"
        )
    parts: list[list[KeyedGame]] = [[], [], []]
    for index, game in enumerate(found):
        parts[turns[index % len(turns)]].append(game)
    return Sets(*parts)


def save_network(net: RouterNet, path: Path) -> None:
    """Write a network so that its file is whole or not there."""
    saved.save({"shape": net.shape.plain(), "weights": net.state_dict()}, path)


def load_network(path: Path) -> RouterNet:
    """A network that was saved. Raises UserError where there is none."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stages before this one first")
    with saved.loaded(path) as kept:
        net = RouterNet(NetworkShape(**kept["shape"]))
        net.load_state_dict(kept["weights"])
    return net.eval()


# -- the notes that stages leave -----------------------------------------------------------------
# One JSON file for each stage: {"schema": ..., "ladder": ..., "tiers": [...], "kv": ..., ...}.
# Notes of version 1 name no schema. They are read as if written today: an evaluation's rows have
# the form of `bench policies` now.

SCHEMA = "edge-router/router-run/2"


def read_note(folder: Path, stage: str) -> dict[str, Any] | None:
    """What a stage has left behind, None where it was not run. Raises UserError.

    A damaged file counts as none: the stage that wrote it has to be run again.
    """
    path = folder / f"{stage}.json"
    try:
        note = read_object(path, "the note of a stage")
    except UserError:
        return None
    if "schema" not in note:
        return _from_version_1(note)
    if note["schema"] != SCHEMA:
        raise UserError(
            f"{path} has the schema {note['schema']!r}, not {SCHEMA!r}: it was written by another"
            " version of edge-router; name another folder with --run"
        )
    return note


def _from_version_1(note: dict[str, Any]) -> dict[str, Any]:
    for table in note.get("tables", ()):
        for row in table["rows"]:
            row["row"] = row.pop("name").replace("dearest after", "high after")
            ends = (row.pop("success"), row.pop("success_low"), row.pop("success_high"))
            row["success"] = dict(zip(("value", "low", "high"), ends, strict=True))
            row["share"] = {"low": {"value": 1 - row.pop("share_dear")}}
    return {"schema": SCHEMA, **note}
