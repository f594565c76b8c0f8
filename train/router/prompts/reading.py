"""What every tier answers along a recorded chat: the low one drafts, the higher ones verify.

The numbers are those that a conversation in service shows its router (`agent.messages`), its
earlier answers taken for the low tier's; whoever walks the tree puts in who wrote them. An answer
is compared by the functions that it calls, where it calls some, and else by its text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge_router.agent.history import Past
from edge_router.agent.messages import history_of, prompt_of
from edge_router.agent.tool_calls import names_of, parse, text_of
from edge_router.engine.generate import Proposal
from edge_router.engine.ladder import Ladder
from edge_router.engine.tier import Generation
from edge_router.errors import UserError
from edge_router.router.feature_table import ALL_NAMES, column
from edge_router.router.rules import NEUTRAL
from edge_router.tasks.parse import Parsed
from edge_router.work.pool import StopRunError
from train.router.decoder import Decoder, LogitsRecorder, Reading
from train.router.node import ANY, Node, child_key, root_key
from train.router.prompts.lines import PromptGame
from train.router.tree import Explorer, GameTree

CALLS: Final = "calls "  # how the action of an answer begins that calls functions
_ENTROPY: Final = column("entropy")


def comes_to(text: str, names: Sequence[str]) -> str:
    """The calls in an answer, in one spelling; where it makes none, its text."""
    calls = parse(text.strip(), names)[1] if names else ()
    if not calls:
        return text.strip()
    plain = [[call.name, json.loads(call.arguments)] for call in calls]
    return CALLS + json.dumps(plain, sort_keys=True)


@dataclass(frozen=True)
class AnswerForm:
    """What an answer may be; `parse` finds thought and action in it, as it does in service."""

    parse: Callable[[str], Parsed]
    max_tokens: int
    stop: tuple[str, ...] = ()


class PromptDecoder(Decoder):
    """Reads recorded chats with a ladder, one after the other."""

    def __init__(self, ladder: Ladder, prompt: str, max_tokens: int) -> None:
        """`prompt` names the style, "" what the GGUF says; answers end after `max_tokens`."""
        super().__init__(ladder, prompt)
        self.form = AnswerForm(self.style.parse, max_tokens)
        self._names: tuple[str, ...] = ()
        self._draft: Proposal | None = None
        self._rendered: tuple[str, list[tuple[list[int], int]]] = ("", [])

    def answer(self, game: PromptGame, known: Mapping[int, Past]) -> Reading:
        """What the tiers answer next; `known` has how each earlier answer was written."""
        end = game.steps[len(known)]
        prompts = self._prompts_of(game, len(known) + 1)
        self._names = names_of(game.tools)
        history = history_of(game.messages[:end], NEUTRAL, self.form.parse, known)
        return self.answers([tokens for tokens, _ in prompts], prompts[0][1], history)

    def action(self, text: str) -> str:
        """The calls that the answer makes, or its text."""
        return comes_to(text, self._names)

    def write(self, index: int, sampler: LogitsRecorder) -> Generation:
        """The low tier drafts; the others verify the draft and write on where they part."""
        if index == 0 or self._draft is None or sampler.is_forced:
            written = super().write(index, sampler)
            if index == 0 and not sampler.is_forced:
                self._draft = written.proposal
            return written
        verified = self.ladder.verify(
            index, self._draft, sampler, max_tokens=self.form.max_tokens, stop=self.form.stop
        )
        # The tree tells what a text takes a tier that writes alone.
        return replace(verified, decode_tokens=len(verified.tokens))

    def _prompts_of(self, game: PromptGame, count: int) -> list[tuple[list[int], int]]:
        """(tokens, how many of them are the opening) before each of the first `count` answers."""
        key, done = self._rendered
        done = done[:count] if key == game.key else []
        for end in game.steps[len(done) : count]:
            vocab = self.ladder.vocab
            prompt = prompt_of(game.messages[:end], game.tools, vocab, self.template)
            done.append((prompt.tokens, prompt.opening))
        self._rendered = (game.key, done)
        return done


class PromptExplorer(Explorer):
    """Adds the steps of a recorded chat, which goes on as recorded, whoever answers."""

    def __init__(self, tree: GameTree, decoder: PromptDecoder) -> None:
        super().__init__(tree, decoder, max_steps=0)
        self._answers = decoder

    def child(self, node: Node, tier: int) -> Node:
        """The next step, which is the same after every tier."""
        known = self.tree.nodes.get(child_key(node.key, ()))
        return known if known is not None else self._add(self._read(self.tree.path(node), tier))

    def _read(self, path: list[Node], writer: int | None) -> Node:
        game = self.tree.game
        assert isinstance(game, PromptGame)
        done = len(path) == len(game.steps)
        try:
            reading = None if done else self._answers.answer(game, self._known(game, path))
        except UserError as error:
            raise StopRunError(f"the prompt of line {game.line}: {error}") from error
        return Node(
            key=child_key(path[-1].key, ()) if path else root_key(game.key),
            parent=path[-1].key if path else None,
            tier=ANY if path else 0,
            step=len(path),
            reply="",
            refused=False,
            done=done,
            won=done,
            prompt_tokens=reading.prompt_tokens if reading else 0,
            features=reading.features if reading else np.zeros(len(ALL_NAMES), np.float32),
            writings=reading.writings if reading else (),
        )

    def _known(self, game: PromptGame, path: Sequence[Node]) -> dict[int, Past]:
        """How the recorded answers would have been written, by their index in the messages."""
        known = {}
        for node, index in zip(path, game.steps, strict=False):
            text = text_of(game.messages[index])
            known[index] = Past(
                text=text,
                action=self._answers.form.parse(text).action,
                reply="",
                refused=False,
                tier=0,
                prompt_tokens=node.prompt_tokens,
                entropy=float(node.features[_ENTROPY]),
                min_p=1.0,
                nll=0.0,
            )
        return known
