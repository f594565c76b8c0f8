"""What `edge-router serve` does: listen, answer, and at the end let requests in hand finish."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import uvicorn

from edge_router.errors import UserError
from edge_router.screen.printable import say
from edge_router.server.answering import Served
from edge_router.server.app import Api, RequestLimits
from edge_router.server.guard import Guard, is_loopback
from edge_router.server.log import RequestLog

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


def serve(served: Served, listening: Listening, opened: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C; a second Ctrl-C does not wait for requests in hand."""
    log = RequestLog(texts=listening.log_texts)
    api = Api(served, Guard(listening.key, listening.host), log, listening.limits)
    config = uvicorn.Config(
        api.app(),
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        h11_max_incomplete_event_size=64 << 10,
    )
    port = opened.getsockname()[1]
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    say(f"{served.name} on http://{host}:{port}/v1  (Ctrl-C ends)", err=True)
    try:
        uvicorn.Server(config).run(sockets=[opened])
    except KeyboardInterrupt:
        pass  # uvicorn has drained, and passes the signal on
    finally:
        api.worker.close()
