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
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from edge_router.agent.chat import Conversation, Response
from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import EpisodeFinished, Listener
from edge_router.engine.ladder import Ladder, default_context
from edge_router.engine.openings import usual_store
from edge_router.engine.sampling import Sampler
from edge_router.errors import UserError
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import AUTO, DEFAULT_MODEL, resolve, router_for
from edge_router.router.base import Router
from edge_router.router.rules import NEUTRAL
from edge_router.tasks.games import pick
from edge_router.tasks.protocol import Message
from edge_router.tasks.registry import DEFAULT, find_task


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    tiers: Mapping[str, str | Path] | None = None,
    kv: str = "handoff",
    context: int | None = None,
    threads: int | None = None,
    gpu_layers: int = 0,
    opening_store: bool = True,
) -> RoutedModel:
    """Load a ladder: a model's name, a folder with ladder.toml, or GGUFs by tier, lowest first.

    `kv` is how a higher tier comes by its KV cache: handoff, handoff:N or
    exact. `context` is in tokens, by default up to 4096; `threads` follows
    the machine by default. `opening_store` keeps the KV of what prompts begin with on disk.
    Raises `UserError` for whatever cannot be loaded.
    """
    named = [f"{name}={path}" for name, path in (tiers or {}).items()]
    described = resolve(None if named else str(model), named)
    ladder = Ladder.load(
        described.tiers,
        kv=kv,
        n_ctx=context if context is not None else default_context(described.tiers),
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        openings=usual_store() if opening_store else None,
    )
    return RoutedModel(described, ladder)


def play(
    task: str = "alfworld",
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

    def __init__(self, described: LadderFile, ladder: Ladder) -> None:
        self.name = described.name
        self.ladder = ladder
        self._described = described
        self._routers: dict[str, Router] = {}
        self._conversation = Conversation(ladder, prompt=described.prompt)
        self._writing = threading.Lock()

    @property
    def tiers(self) -> tuple[str, ...]:
        """The names of the tiers, lowest first."""
        return self.ladder.names

    def chat(
        self,
        messages: Sequence[Message],
        *,
        router: str | Router = AUTO,
        dial: float = NEUTRAL,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> Response:
        """Answer a conversation: `[{"role": "user", "content": "..."}, ...]`.

        `router` is what `--router` takes, or a `Router`; `dial` goes from cost (0) to quality
        (1). `on_text` gets the text in pieces as it grows. Messages that go on
        where the last ones ended are not read again. Raises `UserError` for
        bad input, and while another text is being written.
        """
        if not 0.0 <= dial <= 1.0:
            raise UserError(f"the dial goes from 0 to 1; it cannot be {dial}")
        if max_tokens < 1:
            raise UserError(f"an answer has at least one token, not {max_tokens}")
        sampler = Sampler(temperature, top_p=top_p, min_p=min_p, seed=seed)
        chosen = self._router(router)
        with self._alone():
            return self._conversation.answer(
                messages,
                chosen,
                sampler,
                dial=dial,
                max_tokens=max_tokens,
                stop=stop,
                on_text=on_text,
            )

    def stream(self, messages: Sequence[Message], **options: Any) -> Stream:
        """The answer of `chat` piece by piece; `options` are those of `chat`."""
        return Stream(lambda show: self.chat(messages, on_text=show, **options))

    def play(
        self,
        task: str = DEFAULT,
        game: str | int | None = None,
        *,
        split: str | None = None,
        games: str | Path | None = None,
        router: str | Router = AUTO,
        dial: float = NEUTRAL,
        max_steps: int = 50,
        seed: int = 0,
        listeners: Sequence[Listener] = (),
    ) -> EpisodeFinished:
        """Play one game: an index, an id, or "random" (drawn with `seed`).

        `listeners` get every event of the episode (`edge_router.agent.events`).
        Raises `UserError`.
        """
        family = find_task(task)
        found = family.games(split, games).games
        chosen = pick(found, family.first_game(found) if game is None else game, seed)
        options = Options(max_steps, seed, dial=dial, prompt=self._described.prompt)
        with self._alone(), closing(family.open(chosen)) as environment:
            return play_episode(environment, self.ladder, self._router(router), options, listeners)

    def _router(self, router: str | Router) -> Router:
        """The router itself, or the one that a spec names, made once."""
        if not isinstance(router, str):
            return router
        if router not in self._routers:
            self._routers[router] = router_for(self._described, router)
        return self._routers[router]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the caches for one text or one game. Raises `UserError` when they are in use."""
        if not self._writing.acquire(blocking=False):
            raise UserError("this model is writing another text; finish or close that stream first")
        try:
            yield
        finally:
            self._writing.release()

    def close(self) -> None:
        """Free the memory; the model cannot be used afterwards."""
        self.ladder.close()

    def __enter__(self) -> RoutedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
