"""Who may ask: whoever shows the token, or without one who asks for this machine by its name."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Final

from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import Request, StreamResponse, middleware
from yarl import URL

from streamer.settings.fields import is_loopback
from streamer.web.problems import problem

# Asked by whoever restarts the worker, and says nothing but that it goes on.
OPEN_PATH: Final = "/healthz"
# Asked by shops' platforms, who sign and have no token.
ORDERS_PATH: Final = "/orders"


class Token:
    """What whoever asks has to show; None: nobody can show it, since there is none."""

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)

    def shown(self, request: Request) -> bool:
        """Whether the request has it."""
        given = _digest(_given(request.headers.get("Authorization", "")))
        return self._digest is not None and hmac.compare_digest(given, self._digest)

    def guard(self) -> Middleware:
        """Asks for it; where there is none, for a name that only this machine can mean."""
        return _asks_for_loopback if self._digest is None else _asks_for(self.shown)


def is_from_here(request: Request) -> bool:
    """Whether the request asks for this machine by a name that only it can mean."""
    return _means_here(request.host)


@lru_cache
def _means_here(authority: str) -> bool:
    try:
        host = URL(f"http://{authority}").host
    except ValueError:
        return False
    return host is not None and is_loopback(host)


@middleware
async def _asks_for_loopback(request: Request, handler: Handler) -> StreamResponse:
    if not is_from_here(request):
        return problem(421, "ask for 127.0.0.1 or localhost, or set CLV_WEB_TOKEN")
    return await handler(request)


def but_for(signed: Collection[str], guard: Middleware) -> Middleware:
    @middleware
    async def guards(request: Request, handler: Handler) -> StreamResponse:
        return await (handler(request) if request.path in signed else guard(request, handler))

    return guards


def _asks_for(shown: Callable[[Request], bool]) -> Middleware:
    @middleware
    async def asks(request: Request, handler: Handler) -> StreamResponse:
        if request.path != OPEN_PATH and not shown(request):
            detail = (
                "send the header Authorization: Bearer, with CLV_WEB_TOKEN; in a browser, give it"
                " as the password of any user"
            )
            refused = problem(401, detail)
            refused.headers.add("WWW-Authenticate", "Bearer")
            refused.headers.add("WWW-Authenticate", 'Basic realm="clv-streamer", charset="UTF-8"')
            return refused
        return await handler(request)

    return asks


def _given(header: str) -> str:
    """The token in a header; what is none is the empty one, which no worker has."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(" "), validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return ""


def _digest(text: str) -> bytes:
    """Of one length for all texts, so that comparing two takes the same time for all."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
