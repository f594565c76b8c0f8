"""What goes wrong, in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from edge_router.agent.chat import ContextFullError
from edge_router.errors import UserError
from edge_router.server.bodies import ErrorBody
from edge_router.server.events import GONE

INVALID = "invalid_request_error"


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message, self.kind, self.code, self.param = message, kind, code, param
        self.headers = dict(headers or {})

    def body(self) -> ErrorBody:
        """What is sent."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """As an HTTP response."""
        return JSONResponse(self.body(), self.status, self.headers)


class GoneError(Exception):
    """Nobody waits for the answer any longer."""


class LateError(Exception):
    """The answer took longer than a request may."""


def api_error(error: Exception) -> ApiError:
    """What a client is told of an error; of our own mistakes no more than that it was one."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextFullError):
        return ApiError(400, str(error), code="context_length_exceeded", param="messages")
    if isinstance(error, UserError):
        return ApiError(400, str(error))
    if isinstance(error, LateError):
        return ApiError(504, str(error), kind="timeout_error", code="timeout")
    if isinstance(error, GoneError | ClientDisconnect):
        return ApiError(499, GONE, kind="server_error")
    what = "the server hit an error it did not expect; its terminal says which"
    return ApiError(500, what, kind="server_error")


def invalid(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request."""
    found = error.errors(include_url=False, include_context=False)
    place = _place(found[0]["loc"])
    # Of a value that may be of several kinds: what is wrong with the kind that it is of.
    there = [wrong for wrong in found if _place(wrong["loc"]).startswith(place)]
    told = next((wrong for wrong in there if not wrong["type"].endswith("_type")), found[0])
    place, said = _place(told["loc"]), told["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{place}: {said}" if place else said, param=place or None)


def _place(loc: tuple[int | str, ...]) -> str:
    """`messages[0].content`; the names of a union's branches are ours alone."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and part.islower() and part not in ("str", "int", "list"):
            text += f".{part}" if text else part
    return text
