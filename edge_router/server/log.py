"""A line a request on the terminal; what was said in it only where that was asked for."""

from __future__ import annotations

import time

from edge_router.agent.response import Response
from edge_router.screen.printable import one_line, say, shortened

_LONGEST = 60  # letters of a reason


class RequestLog:
    """Prints on stderr."""

    def __init__(self, *, texts: bool = False) -> None:
        """`texts` prints requests and answers too."""
        self._texts = texts

    def answered(self, model: str, response: Response, seconds: float, asked: str) -> None:
        """An answer was written."""
        reason = shortened(one_line(response.reason), _LONGEST)
        read = f"{response.prompt_tokens} tokens ({response.cached_tokens} cached)"
        self._line(
            f"{model}  {response.tier}  {reason}  {read} + {response.completion_tokens}"
            f"  {seconds:.2f} s"
        )
        if self._texts:
            say(f"    < {one_line(asked)}\n    > {one_line(response.text)}", err=True)

    def failed(self, path: str, status: int, message: str) -> None:
        """A request was not answered."""
        self._line(f"{path}  {status}  {message}")

    def _line(self, text: str) -> None:
        say(f"{time.strftime('%H:%M:%S')}  {one_line(text)}", err=True)
