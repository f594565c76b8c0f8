"""Who may ask: before a request reaches a route.

A page in a browser may send requests to any port of its user's own machine. It cannot send JSON
there without asking first, which is not answered, and it cannot hide the name that it used.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import Final

from starlette.requests import Request

from edge_router.server.errors import ApiError

MOST_BYTES: Final = 4 << 20  # of a body


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks requests against the key and the name of the server."""

    def __init__(self, key: str | None, host: str) -> None:
        self._key = key
        self._local_only = is_loopback(host) and not key

    @property
    def needs_key(self) -> bool:
        """Whether requests have to carry a key."""
        return self._key is not None

    def check(self, request: Request) -> None:
        """Raises `ApiError` for a request from somebody who may not ask."""
        if self._local_only and not is_loopback(_name_of(request.headers.get("host", ""))):
            raise ApiError(
                403, "this server answers to localhost alone; start it with --api-key", code="host"
            )
        if self._key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            raise ApiError(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


async def read_body(request: Request) -> bytes:
    """The body, if it is JSON and not too large. Raises `ApiError`."""
    form = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if form != "application/json":
        raise ApiError(415, "send JSON, with Content-Type: application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise ApiError(413, f"a request may have {MOST_BYTES} bytes")
    return bytes(body)


def _name_of(host: str) -> str:
    """The name without the port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
