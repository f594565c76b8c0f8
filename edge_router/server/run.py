"""What `edge-router serve` does: listen, answer, and at the end let requests in hand finish."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import uvicorn

from edge_router.agent.episode import tier_infos
from edge_router.errors import UserError
from edge_router.router.steered import SteeredRouter
from edge_router.screen.printable import one_line, say, shortened
from edge_router.server.answering import Served
from edge_router.server.app import Api, RequestLimits
from edge_router.server.events import (
    RequestAnswered,
    RequestFailed,
    ServerEvent,
    ServerListener,
    ServerOpened,
)
from edge_router.server.guard import Guard, is_loopback

_LONGEST = 60  # letters of a reason


class RequestLog:
    """A listener that prints a line a request on stderr."""

    def __init__(self, *, texts: bool = False) -> None:
        """`texts` prints requests and answers too."""
        self._texts = texts

    def __call__(self, event: ServerEvent) -> None:
        """Print what is worth a line."""
        if isinstance(event, ServerOpened):
            say(f"{event.name} on {event.url}  (Ctrl-C ends)", err=True)
        elif isinstance(event, RequestAnswered):
            self._answered(event)
        elif isinstance(event, RequestFailed):
            self._line(f"{event.path}  {event.status}  {event.message}")

    def _answered(self, event: RequestAnswered) -> None:
        response = event.response
        reason = shortened(one_line(response.reason), _LONGEST)
        read = f"{response.prompt_tokens} tokens ({response.cached_tokens} cached)"
        self._line(
            f"{event.model}  {response.tier}  {reason}  {read} + {response.completion_tokens}"
            f"  {event.seconds:.2f} s"
        )
        if self._texts:
            say(f"    < {one_line(event.asked)}\n    > {one_line(response.text)}", err=True)

    def _line(self, text: str) -> None:
        say(f"{time.strftime('%H:%M:%S')}  {one_line(text)}", err=True)


_LEAST_KEY = 8  # letters


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and who may ask."""

    host: str = "127.0.0.1"
    port: int = 8080
    key: str | None = None
    log_texts: bool = False
    limits: RequestLimits = field(default_factory=RequestLimits)

    def check(self) -> None:
        """Raises `UserError` for what would be unsafe. Quick: before anything is loaded."""
        if self.key is not None and len(self.key) < _LEAST_KEY:
            raise UserError(f"the API key is too short; at least {_LEAST_KEY} letters keep it safe")
        if self.key is None and not is_loopback(self.host):
            raise UserError(
                f"on {self.host} others can reach the server: give it a key with --api-key (or "
                "EDGE_ROUTER_SERVE_API_KEY), which every request has to carry"
            )

    def open(self) -> socket.socket:
        """The socket. Raises `UserError` where nobody can listen."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        opened = socket.socket(family)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((self.host.strip("[]"), self.port))
        except OSError as error:
            opened.close()
            raise UserError(
                f"cannot listen on {self.host}, port {self.port}: {error.strerror or error}; "
                "choose another with --port"
            ) from error
        return opened


class HttpServer:
    """A ladder behind HTTP, before and while it runs; in any thread."""

    def __init__(
        self,
        served: Served,
        listening: Listening,
        opened: socket.socket,
        listeners: Sequence[ServerListener] = (),
    ) -> None:
        """`opened` is what `listening.open` returned; `listeners` as in `server.events`."""
        self._served, self._listening, self._opened = served, listening, opened
        self._listeners = listeners
        guard = Guard(listening.key, listening.host)
        self.api = Api(served, guard, listening.limits, listeners)
        config = uvicorn.Config(
            self.api.app(),
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            h11_max_incomplete_event_size=64 << 10,
        )
        self._uvicorn = uvicorn.Server(config)

    @property
    def started(self) -> bool:
        """Whether requests are taken."""
        return self._uvicorn.started

    @property
    def url(self) -> str:
        """What clients take as their base URL."""
        host, port = self._listening.host, self._opened.getsockname()[1]
        return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"

    def run(self) -> None:
        """Answer until `stop`, in the main thread also until SIGTERM or Ctrl-C."""
        model, router = self._served.model, self._served.router
        told = ServerOpened(
            name=self._served.name,
            url=self.url,
            tiers=tier_infos(model.ladder, fingerprints=False),
            router=str(router.spec),
            kv=str(model.ladder.kv),
            slots=model.slots,
        )
        for listener in self._listeners:
            listener(told)
        try:
            self._uvicorn.run(sockets=[self._opened])
        except KeyboardInterrupt:
            pass  # uvicorn has drained, and passes the signal on
        finally:
            self.api.worker.close()

    def stop(self, *, at_once: bool = False) -> None:
        """Take no further requests; those in hand finish, unless `at_once`."""
        self._uvicorn.should_exit = True
        self._uvicorn.force_exit = self._uvicorn.force_exit or at_once


class WatchedServer:
    """A server in a thread of its own, beside an app that shows it and may steer its router."""

    def __init__(self, http: HttpServer, served: Served, router: SteeredRouter) -> None:
        """`served` is what `http` serves, under this `router`."""
        self._http, self._served, self.router = http, served, router
        self.error: BaseException | None = None  # that ended it
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, *, at_once: bool = False) -> None:
        """As `HttpServer.stop`."""
        self._http.stop(at_once=at_once)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end after `stop`; False when the time was too short."""
        if self._thread.ident is not None:  # else it was never started
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def dial(self) -> float:
        """For requests that say nothing of it."""
        return self._served.dial

    @dial.setter
    def dial(self, value: float) -> None:
        self._served.dial = value

    def _run(self) -> None:
        try:
            self._http.run()
        except BaseException as error:
            self.error = error


def serve(served: Served, listening: Listening, opened: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C; a second Ctrl-C does not wait for requests in hand."""
    HttpServer(served, listening, opened, [RequestLog(texts=listening.log_texts)]).run()


def watched(
    served: Served, listening: Listening, opened: socket.socket, hear: ServerListener
) -> WatchedServer:
    """A server that has not started yet, with one listener and a router that may be steered."""
    router = SteeredRouter(served.router)
    steered = replace(served, router=router)
    return WatchedServer(HttpServer(steered, listening, opened, [hear]), steered, router)
