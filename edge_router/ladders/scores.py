"""How unsure a ladder's low tier has been: the scores that a budget begins with.

A budget compares a step's score with the latest ones of the same ladder and router. A new process
has none, so the last one leaves the quantiles of its own, and `calibrate` those of a game. They
are numbers without any text. What is damaged, or belongs to something else, is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_router.engine.fingerprint import file_sha256
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.files.folders import cache_folder, if_any
from edge_router.files.whole import write_text
from edge_router.ladders.ladder_file import LadderFile
from edge_router.router.base import Router
from edge_router.router.budget import BudgetRouter, quantiles

OFF: Final = "EDGE_ROUTER_NO_SCORES"
SCHEMA: Final = "edge-router/scores/1"
LEAST: Final = 20  # scores, below which they say little
_MOST: Final = 200  # that a file may hold


def are_kept() -> bool:
    """Whether there is a place for them, and the user lets them be kept."""
    return not os.environ.get(OFF) and if_any(cache_folder) is not None


def begin(router: Router, ladder: LadderFile) -> None:
    """Let a budget begin with the scores that are known of this ladder and router, if any are."""
    if isinstance(router, BudgetRouter) and (path := _path(router, ladder)):
        router.running.begin_with(_read(path))


def keep(router: Router, ladder: LadderFile) -> None:
    """Leave a budget's scores for the next process; what cannot be written is not."""
    if not isinstance(router, BudgetRouter) or not router.running.steps:
        return
    keep_scores(router, ladder, router.running.scores)


def keep_scores(router: BudgetRouter, ladder: LadderFile, scores: Sequence[float]) -> None:
    """Leave scores that were measured otherwise."""
    if len(scores) < LEAST or not (path := _path(router, ladder)):
        return
    told = {"schema": SCHEMA, "router": str(router.inner.spec), "quantiles": quantiles(scores)}
    with contextlib.suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(told), durable=False)


def _path(router: BudgetRouter, ladder: LadderFile) -> Path | None:
    """The file of this low tier and router: a threshold changes no score, a dial may.

    None where there is no place for it; what is wrong with a tier's file, loading it will tell.
    """
    if not are_kept() or not ladder.tiers:
        return None
    spec = router.inner.spec
    with contextlib.suppress(OSError, UserError):
        key = [gguf_sha256(ladder.tiers[0].path), spec.kind, f"{router.dial:.3f}"]
        if spec.file is not None:
            key.append(file_sha256(spec.file))
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return cache_folder() / "scores" / f"{name}.json"
    return None


def _read(path: Path) -> list[float]:
    with contextlib.suppress(UserError):
        told = read_object(path, "known scores")
        found = told.get("quantiles")
        if told.get("schema") == SCHEMA and isinstance(found, list) and len(found) <= _MOST:
            scores = [float(x) for x in found if isinstance(x, int | float)]
            if len(scores) == len(found) and all(map(math.isfinite, scores)):
                return scores
    return []
