"""The library: a routed model for other programs. `import edge_router` offers all of it.

with edge_router.load("household") as model:
    response = model.chat([{"role": "user", "content": "..."}])
    print(response.tier, response.reason, response.text)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypedDict, Unpack

from edge_router.agent.chat import Asked, ChatMessage, Response
from edge_router.agent.conversations import Conversations
from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import EpisodeFinished, Listener
from edge_router.agent.tool_calls import Tool
from edge_router.arguments import require_layers, require_numbers, require_router, require_texts
from edge_router.engine.constrain import Constraint
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.stop_flag import asking
from edge_router.engine.tier_spec import AUTO as AUTO_LAYERS
from edge_router.engine.tier_spec import GpuLayers, ModelRuntime
from edge_router.errors import UserError
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import DEFAULT_MODEL, resolve, router_for
from edge_router.ladders.scores import keep
from edge_router.router.base import Router
from edge_router.router.budget import BudgetRouter
from edge_router.router.rules import NEUTRAL
from edge_router.router.spec import AUTO
from edge_router.tasks.games import pick
from edge_router.tasks.protocol import Task, chosen_games
from edge_router.tasks.registry import DEFAULT, add, find_task

_ROUTERS: Final = 64  # that are remembered; a server's clients may name any


def load(
    model: str | Path | LadderFile = DEFAULT_MODEL,
    *,
    tiers: Mapping[str, str | Path] | None = None,
    kv: str | None = None,
    context: int | None = None,
    threads: int | None = None,
    gpu_layers: GpuLayers = AUTO_LAYERS,
    opening_store: bool = True,
    slots: int = 1,
) -> RoutedModel:
    """Load a ladder: a model's name, a folder with ladder.toml, or GGUFs by tier, lowest first.

    `kv` is how a higher tier comes by its KV cache: handoff, handoff:N or
    exact, by default as the ladder suggests. `context` is in tokens, by default up to 4096;
    `threads` follows the machine by default. `gpu_layers` is how many layers a GPU computes, "auto"
    as many as fit, if llama.cpp was built for one. So many conversations as `slots` are kept in
    memory while they take turns. `opening_store` keeps the KV of what prompts begin with on disk.
    Raises `UserError` for whatever cannot be loaded.
    """
    require_numbers(context=context, threads=threads, slots=slots)
    require_layers(gpu_layers)
    named = [f"{name}={path}" for name, path in (tiers or {}).items()]
    described = model if isinstance(model, LadderFile) else _resolve(model, named)
    machine = ModelRuntime(threads, gpu_layers, context, no_opening_store=not opening_store)
    ladder = Ladder.load_on(machine, described.tiers, kv=kv or described.kv)
    return RoutedModel(described, ladder, slots)


def _resolve(model: str | Path, tiers: Sequence[str]) -> LadderFile:
    return resolve(None if tiers else str(model), tiers)


def play(
    task: str | Task = "alfworld",
    game: str | int | None = None,
    *,
    model: str | Path | RoutedModel = DEFAULT_MODEL,
    **options: Any,
) -> EpisodeFinished:
    """Play one game, as `edge-router play` does; `options` are those of `RoutedModel.play`.

    A model by name is loaded for this game only. Raises `UserError`.
    """
    if isinstance(model, RoutedModel):
        return model.play(task, game, **options)
    with load(model) as loaded:
        return loaded.play(task, game, **options)


class RoutedModel:
    """A loaded ladder whose every answer is written by the tier that a router chooses.

    Not for several threads at once: it writes one text at a time.
    """

    def __init__(self, described: LadderFile, ladder: Ladder, slots: int = 1) -> None:
        self.name = described.name
        self.ladder = ladder
        self._described = described
        self.slots = slots  # conversations that are kept in memory
        self._routers: dict[tuple[str | Router, float | None], Router] = {}
        self._conversations = Conversations(ladder, slots, prompt=described.prompt)
        self._alones: dict[str, RoutedModel] = {}
        self._writing = threading.Lock()
        self._writer = 0  # the thread that holds it
        self._closed = False

    @property
    def tiers(self) -> tuple[str, ...]:
        """The names of the tiers, lowest first."""
        return self.ladder.names

    def alone(self, tier: str) -> RoutedModel:
        """One tier without the others: its weights are shared, its KV cache is its own.

        Raises `UserError` when there is no such tier.
        """
        self._require_open()
        if self.tiers == (tier,):
            return self
        if tier not in self._alones:
            self._alones[tier] = RoutedModel(self._described, self.ladder.alone(tier), self.slots)
        return self._alones[tier]

    def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        router: str | Router = AUTO,
        budget: float | None = None,
        tools: Sequence[Tool] = (),
        on_text: Callable[[str], None] | None = None,
        listeners: Sequence[Listener] = (),
        **options: Unpack[AnswerOptions],
    ) -> Response:
        """Answer a conversation: `[{"role": "user", "content": "..."}, ...]`.

        `router` is what `--router` takes, or a `Router`; `budget` is the share of all answers
        that it may escalate, `dial` goes from cost (0) to quality (1). `tools` are functions
        that the answer may call, in OpenAI's form. `on_text` gets the text in pieces as it grows,
        `listeners` the events of the step (`edge_router.agent.events`), and the rest is as in
        `AnswerOptions`. Messages that go on where the last ones ended are
        not read again. Raises `UserError` for bad input, and while another text is being written.
        """
        asked = replace(_asked(options), tools=tuple(tools))
        chosen = self._router(router, budget)
        with self._alone():
            return self._conversations.answer(messages, chosen, asked, on_text, listeners)

    def complete(
        self,
        text: str,
        *,
        router: str | Router = AUTO,
        on_text: Callable[[str], None] | None = None,
        listeners: Sequence[Listener] = (),
        **options: Unpack[AnswerOptions],
    ) -> Response:
        """How the model goes on after `text`, without a chat template.

        Options and errors are those of `chat`.
        """
        asked, chosen = _asked(options), self._router(router)
        with self._alone():
            return self._conversations.complete(text, chosen, asked, on_text, listeners)

    def stream(self, messages: Sequence[ChatMessage], **options: Any) -> Stream:
        """The answer of `chat` piece by piece; `options` are those of `chat`."""
        return Stream(lambda show: self.chat(messages, on_text=show, **options))

    def play(
        self,
        task: str | Task = DEFAULT,
        game: str | int | None = None,
        *,
        split: str | None = None,
        games: str | Path | None = None,
        router: str | Router = AUTO,
        budget: float | None = None,
        dial: float = NEUTRAL,
        max_steps: int = 50,
        seed: int = 0,
        lookup: int = 0,
        listeners: Sequence[Listener] = (),
    ) -> EpisodeFinished:
        """Play one game of a task (a name or an object): an index, an id, a file, or "random".

        What is random follows from `seed`.

        `listeners` get every event of the episode (`edge_router.agent.events`).
        Raises `UserError`.
        """
        require_numbers(max_steps=max_steps, seed=seed, lookup=lookup)
        _require_dial(dial)
        family = find_task(task) if isinstance(task, str) else add(task)
        found, asked = chosen_games(family, game, split, games)
        chosen = pick(found.games, asked, seed)
        style = self._described.prompt
        options = Options(max_steps, seed, dial=dial, prompt=style, lookup=lookup)
        with self._alone(), closing(family.open(chosen)) as environment:
            return play_episode(
                environment, self.ladder, self._router(router, budget), options, listeners
            )

    def _router(self, router: str | Router, budget: float | None = None) -> Router:
        """The router, or the one that a spec names, made once; with a budget held to it."""
        require_router(router)
        require_numbers(budget=budget)
        if router == AUTO and len(self.tiers) == 1:  # the ladder's own router knows more tiers
            router, budget = "low", None
        known = self._routers.get((router, budget))
        if known is None:
            if isinstance(router, str):
                known = router_for(self._described, router, budget)
            else:
                known = router if budget is None else BudgetRouter(router, budget)
            while len(self._routers) >= _ROUTERS:
                del self._routers[next(iter(self._routers))]
            self._routers[router, budget] = known
        return known

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the caches for one text or one game. Raises `UserError` when they are in use."""
        if not self._writing.acquire(blocking=False):
            self._require_open()
            raise UserError("this model is writing another text; finish or close that stream first")
        self._writer = threading.get_ident()
        try:
            self._require_open()
            with asking(self._require_open):
                yield
        finally:
            self._writer = 0
            self._writing.release()

    def _require_open(self) -> None:
        if self._closed:
            raise UserError("this model is closed; load it again")

    def close(self) -> None:
        """Free the memory; the model cannot be used afterwards.

        A text that another thread writes, a stream's among them, ends before its next batch, and
        its reader gets a `UserError`. What budgets have learnt of the scores is kept for the next
        process. Raises `UserError` where the text's own listener asks for it.
        """
        if self._closed:
            return
        models = [self, *self._alones.values()]
        if threading.get_ident() in [model._writer for model in models]:
            raise UserError("this model is writing; close it when the text has ended")
        for model in models:
            model._closed = True
        for model in models:  # nobody may compute with what is freed
            model._writing.acquire()
        for router in self._routers.values():
            keep(router, self._described)
        for alone in self._alones.values():
            alone.ladder.tiers[0].context.close()
        self.ladder.close()
        for model in models:
            model._writing.release()

    def __enter__(self) -> RoutedModel:
        self._require_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AnswerOptions(TypedDict, total=False):
    """How an answer is drawn, what it may be, and where it ends at the latest."""

    dial: float  # cost (0) or quality (1)
    max_tokens: int  # 256 where nobody says
    temperature: float  # 0, greedy, where nobody says
    top_p: float
    min_p: float
    top_k: int  # only so many of the likeliest tokens may be drawn; 0: all
    seed: int
    stop: str | Sequence[str]
    constraint: Constraint | None  # what the text has to be: a `Grammar`, say
    lookup: int  # tokens guessed at a time from the text itself and read in one batch; 0: none
    likely: int | None  # tell each token's probability, and so many likely ones beside it


def _asked(options: AnswerOptions) -> Asked:
    unknown = sorted(set(options) - set(AnswerOptions.__annotations__))
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}")
    numbers = {name: value for name, value in options.items() if name not in ("stop", "constraint")}
    require_numbers(**numbers)
    dial, stop = options.get("dial", NEUTRAL), options.get("stop", ())
    _require_dial(dial)
    require_texts("stop", stop)
    sampler = Sampler(
        options.get("temperature", 0.0),
        top_p=options.get("top_p", 1.0),
        min_p=options.get("min_p", 0.0),
        top_k=options.get("top_k", 0),
        seed=options.get("seed", 0),
    )
    return Asked(
        sampler,
        dial,
        options.get("max_tokens", 256),
        (stop,) if isinstance(stop, str) else tuple(stop),
        constraint=options.get("constraint"),
        lookup=options.get("lookup", 0),
        likely=options.get("likely"),
    )


def _require_dial(dial: float) -> None:
    require_numbers(dial=dial)
    if not 0.0 <= dial <= 1.0:
        raise UserError(f"the dial goes from 0 to 1; it cannot be {dial}")


class _ClosedError(Exception):
    """Nobody reads the stream any longer."""


class Stream:
    """An answer in pieces: iterate over it once. `response` is there when all of it was read."""

    def __init__(self, write: Callable[[Callable[[str], None]], Response]) -> None:
        self._write = write
        self.response: Response | None = None

    def __iter__(self) -> Iterator[str]:
        """Write in a thread of its own, which ends when the reader does."""
        pieces: SimpleQueue[str | None] = SimpleQueue()
        closed = threading.Event()

        def show(text: str) -> None:
            if closed.is_set():
                raise _ClosedError
            pieces.put(text)

        with ThreadPoolExecutor(1) as thread:
            writing = thread.submit(self._write, show)
            writing.add_done_callback(lambda _: pieces.put(None))
            try:
                while (piece := pieces.get()) is not None:
                    yield piece
            finally:
                closed.set()
        self.response = writing.result()
