"""Which ladder a router for prompts is trained for, and what an answer depends on besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edge_router.agent.messages import USUAL_STEPS, prompt_of
from edge_router.agent.template import ChatTemplate
from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import Ladder
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.tier_spec import DEFAULT_CONTEXT
from edge_router.errors import UserError
from edge_router.work.progress import Progress
from train.router.decoder import Decoder
from train.router.prompts.lines import PromptGame
from train.router.prompts.reading import PromptDecoder, PromptExplorer
from train.router.setting import LadderSetting
from train.router.tree import Explorer, GameTree


@dataclass(frozen=True)
class PromptSetting(LadderSetting):
    """A ladder and what answers depend on; `context` is enough for every prompt and its answer.

    `threads` are the most that one process uses: models that answer prompts are worth them.
    """

    max_steps: int = USUAL_STEPS
    max_tokens: int = 128  # of an answer
    context: int = DEFAULT_CONTEXT

    @cached_property
    def n_ctx(self) -> int:
        """Tokens that a prompt and its answer may have."""
        return self.context

    def conditions(self) -> dict[str, object]:
        return {**super().conditions(), "answers": ["prompts/1", self.max_tokens]}

    def load(self) -> Ladder:
        return self._load(thread_limit=self.threads)

    def decoder(self) -> Decoder:
        """What reads chats, with the ladder loaded."""
        return PromptDecoder(self.load(), self.prompt, self.max_tokens)

    def explorer(self, tree: GameTree, decoder: Decoder) -> Explorer:
        """What adds the steps of a chat to its tree."""
        assert isinstance(decoder, PromptDecoder)
        return PromptExplorer(tree, decoder)


def context_for(
    low: Path, games: Sequence[PromptGame], file: Path, max_tokens: int, progress: Progress
) -> int:
    """Tokens of context that the longest prompt and its answer need, in steps that stay.

    Raises `UserError` for a prompt that the model's template refuses, or that is too long for it.
    """
    header = read_header(low)
    vocab = LlamaModel.load(low, vocab_only=True)
    template = ChatTemplate.of(vocab)
    trained = header.metadata.get(f"{header.architecture}.context_length", "")
    most = int(trained) if trained.isdecimal() else DEFAULT_CONTEXT
    longest, step = 0, progress("prompts checked", len(games))
    for game in games:
        longest = max(longest, _tokens(game, file, vocab, template))
        if longest + max_tokens > most:
            raise UserError(
                f"{file}, line {game.line}: the prompt has {longest} tokens, and the model's "
                f"context of {most} leaves less than {max_tokens} for the answer; shorten it, "
                "leave it out, or give a smaller --max-tokens"
            )
        step()
    context = DEFAULT_CONTEXT
    while context < longest + max_tokens:
        context *= 2
    return min(context, most)


def _tokens(game: PromptGame, file: Path, vocab: LlamaModel, template: ChatTemplate) -> int:
    """Tokens before the last answer."""
    try:
        prompt = prompt_of(game.messages[: game.steps[-1]], game.tools, vocab, template)
    except UserError as error:
        raise UserError(f"{file}, line {game.line}: {error}") from error
    return len(prompt.tokens)
