"""The second player of the evaluation: rows of policies walk through the rollouts.

The first is the engine (`edge_router.evaluate.policies`). Both leave the same records, so the
same summary, sheets and pictures serve both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edge_router.engine.tier import KvMode, common_prefix
from edge_router.evaluate.policies import Outcome, PlayedRow
from edge_router.evaluate.records import LOST, GameRecord, StepRecord, classify_steps
from edge_router.evaluate.rows import Row
from edge_router.router.registry import make_router
from edge_router.router.rules import NEUTRAL
from edge_router.router.spec import RouterSpec
from train.router.charges import own_tokens
from train.router.forest import Expand, Forest, Ints, walk
from train.router.games import FileGame, KeyedGame
from train.router.labels import search, tier_weights
from train.router.node import Node
from train.router.policies import RouterPolicy
from train.router.rollouts import Rollouts
from train.router.setting import LadderSetting


@dataclass(frozen=True)
class WalkedRow:
    """A row of the table, and the actions of each of its episodes, in the order of the games."""

    played: PlayedRow
    actions: tuple[tuple[str, ...], ...]

    @property
    def records(self) -> list[GameRecord]:
        return [outcome.last for outcome in self.played.outcomes]


def compare(
    rollouts: Rollouts, games: Sequence[KeyedGame], rows: Sequence[Row], *, oracle: bool = True
) -> list[WalkedRow]:
    """Every row on the games, and the oracle's row at the end."""
    indices = rollouts.take(games)
    asked = [(_router(row), _dial(row)) for row in rows]
    rollouts.play(games, asked, f"{len(rows)} policies")
    walked = [
        walked_row(rollouts.forest, indices, rollouts.setting, row, rollouts.expand) for row in rows
    ]
    if oracle:
        walked.append(oracle_row(rollouts.forest, indices, rollouts.setting))
    return walked


def _router(row: Row) -> RouterSpec:
    assert row.router is not None  # only rows that play are asked for
    return row.router


def _dial(row: Row) -> float:
    return NEUTRAL if row.dial is None else row.dial


def walked_row(
    forest: Forest, games: Ints, setting: LadderSetting, row: Row, expand: Expand | None = None
) -> WalkedRow:
    """The episodes of one row, one for each of `games` (games,).

    `expand` makes histories known that are not in the forest.
    """
    policy = RouterPolicy(partial(make_router, _router(row)), setting.names, forest)
    walks = walk(forest, games, policy, dials=_dial(row), expand=expand)
    drafts = make_router(_router(row)).decide_at == "draft"
    outcomes, actions = [], []
    for episode, game in enumerate(games):
        steps = int(walks.steps[episode])
        nodes = [forest.nodes[at] for at in walks.rows[:steps, episode]]
        tiers = [int(tier) for tier in walks.tiers[:steps, episode]]
        nodes.append(forest.nodes[walks.ends[episode]])
        outcomes.append(_outcome(setting, forest.trees[game].game, nodes, tiers, drafts=drafts))
        actions.append(_actions(nodes, tiers))
    return WalkedRow(PlayedRow(replace(row, kv=setting.kv), tuple(outcomes)), tuple(actions))


def oracle_row(forest: Forest, games: Ints, setting: LadderSetting) -> WalkedRow:
    """The win of lowest cost known of each of `games` (games,); what no policy here can beat."""
    weights, sure = tier_weights(forest.tiers), 0
    outcomes, actions = [], []
    for game in games:
        tree = forest.trees[game]
        root = tree.root
        assert root is not None
        found = search(root, tree.known_child, weights)
        won = math.isfinite(found.best)
        sure += found.exact or (not won and math.isinf(found.at_least))
        nodes, tiers = [root], [tier for _, tier in found.path]
        for tier in tiers:
            following = tree.known_child(nodes[-1], tier)
            assert following is not None
            nodes.append(following)
        outcomes.append(_outcome(setting, tree.game, nodes, tiers, drafts=False))
        actions.append(_actions(nodes, tiers))
    note = f"exact in {sure} of {len(games)} games"
    return WalkedRow(PlayedRow(Row("oracle", kv=setting.kv), tuple(outcomes), note), tuple(actions))


def _actions(nodes: Sequence[Node], tiers: Sequence[int]) -> tuple[str, ...]:
    return tuple(n.writings[t].action for n, t in zip(nodes, tiers, strict=False))


# -- a path through the rollouts as the record of a game ----------------------------------------


def game_id(game: KeyedGame) -> str:
    """What results call a game: as the benchmark does where it lies in a file."""
    return game.id if isinstance(game, FileGame) else game.key


def _outcome(
    setting: LadderSetting,
    game: KeyedGame,
    nodes: Sequence[Node],
    tiers: Sequence[int],
    *,
    drafts: bool,
) -> Outcome:
    """The path `nodes`, one longer than the `tiers` that wrote its steps, as one attempt.

    Without a step, nobody has won: the oracle knows no win of the game.
    """
    steps = tuple(_steps(setting, nodes, tiers, drafts=drafts))
    won, actions = nodes[-1].won, _actions(nodes, tiers)
    over = nodes[-1].done and len(steps) < setting.max_steps
    reason = "won" if won else LOST if over else "out of steps"
    heard = [(action, step.refused) for action, step in zip(actions, steps, strict=True)]
    return Outcome(
        (
            GameRecord(
                *(game_id(game), game.kind, won, reason),
                failure=_failure(game.task, reason, nodes[0].reply, heard),
                reader=setting.names[0],
                steps=steps,
                threads=setting.threads,
            ),
        )
    )


def _failure(task: str, reason: str, goal: str, heard: Sequence[tuple[str, bool]]) -> str:
    """The class of a lost game, "" of one that was won."""
    if reason == "out of steps":
        return classify_steps(task, goal, heard)
    return LOST if reason == LOST else ""


def _steps(
    setting: LadderSetting, nodes: Sequence[Node], tiers: Sequence[int], *, drafts: bool
) -> list[StepRecord]:
    """The work of each step in tokens.

    An escalated step is handed what its tier lacks since it last wrote; where there is a draft
    it is verified.
    """
    kv, names = KvMode.parse(setting.kv), setting.names
    held = [0] * len(names)  # prompt tokens that each tier's cache holds
    before, steps = 0, []
    for node, following, tier in zip(nodes[:-1], nodes[1:], tiers, strict=True):
        prompt = node.prompt_tokens
        own = 0 if tier == 0 else own_tokens(kv, prompt, held[tier])
        steps.append(
            StepRecord(
                tier=names[tier],
                refused=following.refused,
                ms=0.0,
                prompt=prompt,
                prefill=max(1, prompt - before),
                handoff=0 if tier == 0 or kv.exact else max(0, prompt - own - held[tier]),
                **_writing(node, tier, own, drafts=drafts),
            )
        )
        held[tier] = prompt if kv.exact else prompt - own
        before = prompt
    return steps


def _writing(node: Node, tier: int, own: int, *, drafts: bool) -> dict[str, Any]:
    """The step's text in tokens, by the stage they are in; `own` are the prompt's that the tier
    reads itself.

    The text of a step that was verified is the tier's own, as if it had written alone.
    """
    text, draft = node.writings[tier], node.writings[0]
    if tier == 0 or not drafts:
        return {"catchup": own, "decode": text.decoded}
    common, drawn = common_prefix(text.tokens, draft.tokens), text.decoded + 1
    # Of texts that are the same the end is accepted too.
    accepted = drawn if text.tokens == draft.tokens else common
    return {
        "catchup": 0,
        "draft": draft.decoded,
        "verify": own + draft.decoded,
        "verify_batches": 1,
        "decode": max(0, text.decoded - accepted),
        "drafted": draft.decoded + 1,
        "accepted": accepted,
        "rewritten": drawn - accepted,
    }


def tiers_of(record: GameRecord, names: Sequence[str]) -> tuple[int, ...]:
    """The tier of each step of a game, as its place in the ladder."""
    return tuple(names.index(step.tier) for step in record.steps)


def oracle_is_beaten(rows: Sequence[WalkedRow], names: Sequence[str]) -> list[str]:
    """Policies that won a game the oracle does not, or at a lower cost: always empty."""
    weights, oracle = tier_weights(len(names)), rows[-1].records

    def cost(record: GameRecord) -> float:
        return sum(weights[tier] for tier in tiers_of(record, names))

    return [
        f"{row.played.row.label} on {record.game}"
        for row in rows[:-1]
        for record, best in zip(row.records, oracle, strict=True)
        if record.won and (not best.won or cost(record) < cost(best) - 1e-9)
    ]
