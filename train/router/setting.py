"""Which ladder is trained for, and under which conditions a step's outcome is fixed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import Ladder
from edge_router.engine.loading import default_context
from edge_router.engine.openings import usual_store
from edge_router.engine.tier import TierSpec
from edge_router.engine.trust import gguf_sha256
from edge_router.router.feature_table import ALL_NAMES, SAME_NUMBERS_SINCE
from edge_router.tasks.registry import DEFAULT, find_task, prompt_override
from train.router.decoder import Decoder
from train.router.tree import Explorer, GameTree


@dataclass(frozen=True)
class LadderSetting:
    """A ladder's files, lowest tier first, the KV mode, and the limits of an episode.

    One thread a process: the embedded model is too small to share, and two processes then
    explore two games at once.
    """

    tiers: tuple[TierSpec, ...]
    kv: str = "handoff"
    max_steps: int = 50
    threads: int = 1
    task: str = DEFAULT
    prompt: str = ""  # the prompt style, as ladder.toml names it; "" is what the GGUF says

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tier.name for tier in self.tiers)

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of each file."""
        return tuple(gguf_sha256(tier.path) for tier in self.tiers)

    @cached_property
    def n_ctx(self) -> int:
        """What the model was trained for, but no more than an episode needs (as `play` does)."""
        return default_context(self.tiers)

    def conditions(self) -> dict[str, object]:
        """All that a step's outcome depends on besides its history."""
        style = prompt_override(
            find_task(self.task),
            self.prompt,
            [read_header(tier.path).metadata for tier in self.tiers],
        )
        return {
            "tiers": [list(pair) for pair in zip(self.names, self.fingerprints, strict=True)],
            "kv": self.kv,
            "context": self.n_ctx,
            "max_steps": self.max_steps,
            "features": [SAME_NUMBERS_SINCE, len(ALL_NAMES)],
            **({"prompt": style} if style else {}),  # only where it is not the model's own
            **({"task": self.task} if self.task != DEFAULT else {}),
        }

    def identity(self) -> str:
        text = json.dumps(self.conditions(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self) -> Ladder:
        return self._load(n_threads=self.threads)

    def _load(self, *, n_threads: int | None = None, thread_limit: int | None = None) -> Ladder:
        return Ladder.load(
            self.tiers,
            kv=self.kv,
            n_ctx=self.n_ctx,
            n_threads=n_threads,
            thread_limit=thread_limit,
            reread=True,
            openings=usual_store(),
        )

    def decoder(self) -> Decoder:
        """What reads histories, with the ladder loaded."""
        return Decoder(self.load(), self.prompt, self.task)

    def explorer(self, tree: GameTree, decoder: Decoder) -> Explorer:
        """What adds histories to a tree; `decoder` is one of this setting."""
        return Explorer(tree, decoder, self.max_steps)


def results_stem(games: str, kv: str) -> str:
    """What the files about a set of games under a KV mode are called: "valid_seen-handoff-16"."""
    return f"{games}-{kv.replace(':', '-')}"
