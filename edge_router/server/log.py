"""A line a request on the terminal; what was said in it only where that was asked for."""

from __future__ import annotations

import time

from edge_router.screen.printable import one_line, say, shortened
from edge_router.server.events import RequestAnswered, RequestFailed, ServerEvent, ServerOpened

_LONGEST = 60  # letters of a reason


class RequestLog:
    """A listener that prints on stderr."""

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
