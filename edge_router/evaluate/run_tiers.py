"""`edge-router bench tiers`: how well each tier plays alone, and how far it is from the best.

The high tier plays a game alone (greedy, free generation). Each of its steps is then scored by
every other tier, alone as well: KL(high || tier) per token along the step's text, in nats, and
whether the tier would have written another text, and another action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from edge_router.agent.episode import Options, play_episode
from edge_router.engine.generate import Limits
from edge_router.engine.ladder import Ladder, Tier, TierSpec
from edge_router.engine.sampling import Sampler, kl_divergence, log_softmax
from edge_router.engine.tier import Generation, common_prefix
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.evaluate.choices import EpisodeChoice, GameSet, WorkPlace, settings_of
from edge_router.evaluate.jobs import LadderShelf, file_key, options_key
from edge_router.evaluate.policies import Policies
from edge_router.evaluate.rows import Row
from edge_router.evaluate.run_policies import described, interrupted
from edge_router.evaluate.summary import summaries
from edge_router.ladders.ladder_file import LadderFile
from edge_router.results.file import results
from edge_router.results.outputs import Outputs
from edge_router.results.statistics import ratio
from edge_router.router.rules import LowRouter
from edge_router.router.spec import RouterSpec
from edge_router.screen.printable import say
from edge_router.tasks.games import GameRef
from edge_router.tasks.protocol import PromptStyle
from edge_router.tasks.registry import find_task, style_for
from edge_router.work.store import key_of


def run_tiers(
    ladder: LadderFile,
    asked: GameSet,
    episode: EpisodeChoice,
    machine: ModelRuntime,
    place: WorkPlace,
    outputs: Outputs,
) -> int:
    """Play and compare what is not yet in the store, show the table; returns the exit code."""
    outputs.check({"--store": place.store})
    games, specs = asked.chosen(), tuple(ladder.tiers)
    settings = settings_of(ladder, asked.task, episode, machine)
    place.check()
    greedy = replace(settings.options, temperature=0.0)
    with place.opened() as work:
        policies = Policies(specs, games, settings, work)
        try:
            played = policies.play([Row("alone", RouterSpec("tier", spec.name)) for spec in specs])
            jobs = [DistanceJob(g, specs, greedy, settings.machine, place.jobs) for g in games]
            found = work.results(jobs, measure_distance, GameDistance, crashed)
            work.crew.close()  # a Ctrl-C while processes end is handled like any other
        except KeyboardInterrupt:
            say(f"edge-router: {interrupted(work)}", err=True)
            return 130
    rows = summaries(played, policies.names, None, reference=played[-1])
    table = [{**row, "distance": _distance(row["router"], found)} for row in rows]
    settled = described(ladder, asked, games, settings, place.jobs)
    threads = settings.machine.threads or 0
    outputs.write(results("tiers", settled, {"tiers": table}, threads=threads))
    return 0


def _distance(tier: str, games: Sequence[GameDistance]) -> Mapping[str, Any] | None:
    """A tier's distance from the high tier over all games, None for the high tier itself."""
    found = [d for game in games for d in game.tiers if d.tier == tier]
    if not found:
        return None
    return {
        "kl_per_token": _ratio([d.kl for d in found], [d.tokens for d in found]),
        "text_differs": _of_steps(found, "texts"),
        "action_differs": _of_steps(found, "actions"),
        "games": len(found),
    }


def _of_steps(found: Sequence[TierDistance], what: str) -> Any:
    return _ratio([getattr(d, what) for d in found], [d.steps for d in found])


def _ratio(top: Sequence[float], bottom: Sequence[float]) -> Any:
    estimate = ratio(top, bottom)
    return None if estimate is None else asdict(estimate)


# -- the distance from the high tier --------------------------------------------------------------

RECORDS: Final = "edge-router/distance/1"
Written = tuple[list[int], list[int], str]  # prompt, tokens and text of a step


@dataclass(frozen=True)
class TierDistance:
    """One tier along one game of the high tier."""

    tier: str
    steps: int
    tokens: int  # predictions compared
    kl: float  # nats, summed over them
    texts: int  # steps whose text differs
    actions: int  # steps whose action differs


@dataclass(frozen=True)
class GameDistance:
    """Every tier but the high one along one game, low to high."""

    game: str
    tiers: tuple[TierDistance, ...] = ()
    crash: str = ""


@dataclass(frozen=True)
class DistanceJob:
    """A game and the tiers to compare along it, low to high."""

    game: GameRef
    specs: tuple[TierSpec, ...]
    options: Options
    machine: ModelRuntime  # with a context of its own
    jobs: int = 1  # games that are played at once

    @property
    def title(self) -> str:
        return f"distance {self.game.id}"

    @property
    def lacks_files(self) -> bool:
        return False  # it leaves none

    def key(self) -> str:
        return key_of(
            {
                "records": RECORDS,
                "game": file_key(self.game.path),
                "model": [(spec.name, file_key(spec.path)) for spec in self.specs],
                **options_key(self.options, verifies=False),
                "n_ctx": self.machine.ctx,
            }
        )


def measure_distance(job: DistanceJob) -> GameDistance:
    """Play the game with the high tier and have the others score its steps."""
    with _shelf.lock:
        others = [_alone(job, spec, Ladder) for spec in job.specs[:-1]]
        best = _alone(job, job.specs[-1], RecordingLadder)
        assert isinstance(best, RecordingLadder)
        best.record = []
        task = find_task(job.game.task)
        with closing(task.open(job.game)) as game:
            play_episode(game, best, LowRouter(), job.options, [])
        style = style_for(task, best.vocab.metadata, job.options.prompt)
        tiers = tuple(_compare(best, other, style) for other in others)
    return GameDistance(job.game.id, tiers)


def crashed(job: DistanceJob, reason: str) -> GameDistance:
    return GameDistance(job.game.id, crash=reason)


class RecordingLadder(Ladder):
    """Remembers every prompt and what was written after it."""

    record: list[Written]

    def generate(
        self,
        tier_index: int,
        sampler: Sampler,
        *,
        on_text: Callable[[str], None] | None = None,
        keep: bool = False,
        lookup: int = 0,
        **limits: Unpack[Limits],
    ) -> Generation:
        prompt = list(self._prompt)
        generation = super().generate(
            tier_index, sampler, on_text=on_text, keep=keep, lookup=lookup, **limits
        )
        self.record.append((prompt, list(generation.tokens), generation.text))
        return generation


_shelf = LadderShelf(room=8)


def _alone(job: DistanceJob, spec: TierSpec, kind: type[Ladder]) -> Ladder:
    return _shelf.ladder(kind, (spec,), "handoff", job.machine, job.jobs)


def _compare(best: RecordingLadder, other: Ladder, style: PromptStyle) -> TierDistance:
    kl, tokens, texts, actions = 0.0, 0, 0, 0
    # Both read the same spans in the same order: a cache that was filled in other spans differs
    # by rounding, and a tier would then be some way from itself.
    best.clear()
    other.clear()
    for prompt, written, text in best.record:
        p, q = _along(best.tiers[0], prompt, written), _along(other.tiers[0], prompt, written)
        kl += float(kl_divergence(p, q).sum())
        tokens += len(p)
        if _surely_alike(other, q, written):
            continue
        theirs = _text_of(other, prompt, style)
        texts += theirs != text
        actions += style.parse(theirs).action != style.parse(text).action
    name = other.tiers[0].name
    return TierDistance(name, len(best.record), tokens, kl, texts, actions)


def _surely_alike(other: Ladder, q: NDArray[np.float64], written: list[int]) -> bool:
    """Whether the tier, asked token by token, would have written the same and ended there."""
    same = np.array_equal(q[: len(written)].argmax(1), written)
    return bool(same and other.vocab.is_eog(int(q[-1].argmax())))


def _along(tier: Tier, prompt: list[int], written: list[int]) -> NDArray[np.float64]:
    """Log-probabilities (len(written) + 1, n_vocab) at every position of a step."""
    kept = min(common_prefix(tier.held, prompt), len(prompt) - 1)
    tier.truncate(kept)
    tier.decode(prompt[kept:])
    rows = [log_softmax(tier.context.logits())]
    for token in written:
        tier.decode([token])
        rows.append(log_softmax(tier.context.logits()))
    return np.stack(rows)


def _text_of(ladder: Ladder, prompt: list[int], style: PromptStyle) -> str:
    """What the tier writes after `prompt`, greedily."""
    ladder.prefill(prompt)
    return ladder.generate(0, Sampler(), max_tokens=style.max_tokens, stop=style.stop).text
