"""The app on a server: requests as steps while they are answered, and keys that steer the router.

The server runs in threads of its own; the app is a listener of `edge_router.server.events`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Protocol

from textual.binding import Binding, BindingType

from edge_router.agent.events import TextDecoded
from edge_router.router.steered import SteeredRouter
from edge_router.server.events import RequestEvent, ServerEvent, ServerListener
from tui.apps.frame import Key
from tui.apps.help import SERVER
from tui.apps.listening import ListeningApp
from tui.draw.panels import PrecisionStrip
from tui.draw.transcript import Transcript
from tui.state.episode import Episode
from tui.state.screenful import Ahead, Screenful, Status
from tui.state.traffic import RequestView, Traffic

_STOPPING = "The server ends after the requests in hand; q again ends it at once."


class Watched(Protocol):
    """See `edge_router.server.run.WatchedServer`."""

    router: SteeredRouter
    dial: float
    error: BaseException | None

    def start(self) -> None: ...

    def stop(self, *, at_once: bool = False) -> None: ...

    def join(self, timeout: float | None = None) -> bool: ...


class ServerApp(ListeningApp):
    """Shows a server from its start on, and stops it when it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "hold", "Hold the screen, or go on"),
        Binding("c", "talk(1)", "The next conversation alone, or all"),
        Binding("C", "talk(-1)", "The conversation before", show=False),
    ]
    KEYS: ClassVar[list[Key]] = [
        ("space", "hold", "app.hold"),
        ("[]", "back/on", "app.look(-1)"),
        ("c", "conversation", "app.talk(1)"),
        ("l", "low", "app.force(0)"),
        ("h", "high", "app.force(-1)"),
        ("a", "auto", "app.auto"),
        ("←→", "dial", "app.dial(1)"),
    ]
    HELP = (
        "c shows one conversation alone, the newest first, and in the end all of them again. [ and"
        " ], or a click on the strip, show an earlier request as it was; space holds the screen and"
        " goes back to the newest. The server answers meanwhile. l and h have the low or the high"
        " tier write the next answer, the digits 1 to 9 any tier, a leaves it to the router again."
        " The arrows turn the dial towards cost or quality. l, h, a and the arrows change nothing"
        " for requests whose model's name has a tier, a router or a dial in it. q ends the server:"
        " requests in hand are answered first; q again does not wait for them."
    )
    ABOUT = SERVER
    PLACE = "on a server"
    UNIT = "request"

    def __init__(self, serve: Callable[[ServerListener], Watched]) -> None:
        super().__init__()
        self.traffic = Traffic()
        self.talk: int | None = None  # the conversation that is shown alone
        self.held: RequestView | None = None  # the last request on screen, where it is held
        self._leaving = False
        self.server = serve(self.happened.append)

    def on_mount(self) -> None:  # Textual calls those of the classes above by itself
        self.query_one(
            PrecisionStrip
        ).border_title = "Which precision answered each request, and how much doubt there was"
        self.query_one(Transcript).border_title = "What was asked and answered"
        self.server.start()
        self.run_worker(self._leave_when_it_ends())
        self.show()

    # -- what is shown -----------------------------------------------------------------

    @property
    def steered(self) -> Watched:
        return self.server

    @property
    def now(self) -> Episode:
        return self.traffic.episode(self._views())

    def _views(self) -> list[RequestView]:
        """The requests that are shown when nothing is held."""
        return self.traffic.of_talk(self.talk)

    def take_in(self, event: ServerEvent) -> None:
        self.traffic.apply(event)

    def is_text(self, event: ServerEvent) -> bool:
        return isinstance(event, RequestEvent) and isinstance(event.event, TextDecoded)

    def screenful(self) -> Screenful:
        views, held = self._views(), self._held_at()
        shown = views if held is None else views[: held + 1]
        tiers = tuple(view.tier or 0 for view in views)
        return Screenful(
            episode=self.traffic.episode(shown),
            look=self.look,
            status=self.status,
            phase="starting",
            ahead=None if held is None else Ahead(tiers),
            forced=self.server.router.forced if held is None else None,
            dial=self.server.dial,
            heeds_dial=self.server.router.heeds_dial,
            service=self.traffic.service(self.talk),
        )

    @property
    def status(self) -> Status:
        if self._leaving:
            return Status.STOPPING
        if self.traffic.opened is None:
            return Status.LOADING
        return Status.RUNNING if self.held is None else Status.BACK

    @property
    def result(self) -> list[str]:
        """Lines for the terminal when the app is gone."""
        traffic = self.traffic
        if traffic.opened is None:
            return []
        failed = f", {traffic.failed} not" if traffic.failed else ""
        noun = "request" if traffic.answered == 1 else "requests"
        return [f"{traffic.opened.name}: {traffic.answered} {noun} answered{failed}"]

    # -- looking back ------------------------------------------------------------------

    def _held_at(self) -> int | None:
        """Where the held request stands among those shown; forgotten ones are held no more."""
        at = next((i for i, view in enumerate(self._views()) if view is self.held), None)
        if at is None:
            self.held = None
        return at

    def look_at(self, step: int) -> None:
        views = self._views()
        if step >= len(views):
            if not self.back_to_newest():
                self.say("This is the newest request; [ goes back.")
        elif step < 0:
            self.say("This is the first request." if views else "There is no request yet.")
        else:
            if self.held is None:
                self.say("Looking back: [ and ] move, space returns. The server answers meanwhile.")
            self.held = views[step]
            self.show()

    def back_to_newest(self) -> bool:
        was_held, self.held = self.held is not None, None
        if was_held:
            self.show()
        return was_held

    def action_look(self, direction: int) -> None:
        """Show the request before (-1) or after (1) the one on screen."""
        if self.may("look"):
            held, newest = self._held_at(), len(self._views()) - 1
            self.look_at((newest if held is None else held) + direction)

    def action_hold(self) -> None:
        """Let the screen stand as it is, or go back to the newest request."""
        if self.may("hold") and not self.back_to_newest():
            self.look_at(max(0, len(self._views()) - 1))

    def action_talk(self, direction: int) -> None:
        """Show the next conversation (1), the one before (-1), and after the last one all."""
        if not self.may("talk"):
            return
        rounds: list[int | None] = [None, *self.traffic.talks]
        if len(rounds) == 1:
            self.say("There is no conversation yet.")
            return
        at = rounds.index(self.talk) if self.talk in rounds else 0
        self.talk, self.held = rounds[(at + direction) % len(rounds)], None
        self.say(f"Conversation {self.talk} alone." if self.talk else "All conversations.")
        self.show()

    # -- the end -----------------------------------------------------------------------

    def may(self, action: str) -> bool:
        refusal = "" if self.traffic.opened is not None else "The server is not there yet."
        if self._leaving:
            refusal = _STOPPING
        if refusal:
            self.say(refusal)
        return not refusal

    def finish_work(self) -> None:
        self.server.stop()
        self.server.join()

    def leave(self, code: int) -> None:
        """Let requests in hand finish, then go; a second time, go at once. The code is 0, as it
        is when a server without an app is told to stop.
        """
        self.server.stop(at_once=self._leaving)
        if not self._leaving:
            self._leaving, self.held = True, None
            self.say(_STOPPING)
            self.show()

    async def _leave_when_it_ends(self) -> None:
        while not self.server.join(0.0):
            await asyncio.sleep(0.1)
        self.catch_up()
        self.exit(0)
