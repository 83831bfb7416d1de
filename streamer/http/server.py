"""The worker's pages: health, readiness and metrics, and the prediction API's
(`streamer.http.predict`); on Faust's web server, and guarded.

With a token, every page but /healthz asks for it. What is not a page is told as a problem
(RFC 9457). A connection carries one request and lives for seconds, so that clients that are slow on
purpose hold nothing up; Faust's own pages (/, /table, /router, ...) are not there.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import (
    AppRunner,
    HTTPException,
    Request,
    Response,
    StreamResponse,
    middleware,
)
from faust.types import AppT
from faust.web.base import BlueprintManager
from faust.web.drivers.aiohttp import Web
from yarl import URL

from streamer import log
from streamer.settings.fields import is_loopback

_log = log.get(__name__)

PROBLEM_CONTENT_TYPE: Final = "application/problem+json"
MAX_BODY_BYTES: Final = 1 << 20
# From being accepted to being cut off, whoever is slow.
CONNECTION_S: Final = 20.0
MAX_CONNECTIONS: Final = 64
_SWEEP_S: Final = 1.0
# Asked by whoever restarts the worker, and says nothing but that it goes on.
_OPEN_PATH: Final = "/healthz"

Check = Callable[[], Awaitable[list[str]]]


class GuardedWeb(Web):
    """Faust's web server with a token, limits and no page but those that are added to it."""

    def __init__(self, app: AppT, bind: str, port: int, token: str | None) -> None:
        """`token` None: whoever reaches the port is answered. Port 0: a free one."""
        super().__init__(app)
        # Also drops Faust's index page, which no setting switches off.
        self.blueprints = BlueprintManager([])
        self.bound: tuple[str, int] | None = None
        self._bind, self._port = bind, port
        self._guarded_runner: AppRunner | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self.open_to_all = token is None
        self._most_bytes: dict[str, int] = {}
        self.web_app.middlewares.append(_tells_problems(self._most_bytes))
        if token is not None:
            self.web_app.middlewares.append(_asks_for(token))

    def add_page(self, path: str, handler: Handler) -> None:
        """Answers GET; before the server starts."""
        self.web_app.router.add_get(path, handler)

    def add_form(self, path: str, handler: Handler, max_body_bytes: int) -> None:
        """Answers POST, of a body of so many bytes at most; before the server starts.

        The handler reads the body by `body_of`, since aiohttp's own limit is one for all pages."""
        self._most_bytes[path] = max_body_bytes
        self.web_app.router.add_post(path, handler)

    async def start_server(self) -> None:
        """Listens. Raises OSError where the address is taken."""
        runner = AppRunner(
            self.web_app,
            access_log=None,
            handle_signals=False,
            lingering_time=1.0,
            # A small body may be a large one, compressed.
            auto_decompress=False,
        )
        self._guarded_runner = runner
        await runner.setup()
        accept = runner.server
        assert accept is not None

        def connect() -> asyncio.BaseProtocol:
            return _Busy() if len(accept.connections) >= MAX_CONNECTIONS else accept()

        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(connect, self._bind, self._port)
        found: socket.socket = self._listener.sockets[0]
        self.bound = found.getsockname()[:2]
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop_server(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._listener.close()
        if self._guarded_runner is not None:
            await self._guarded_runner.cleanup()

    async def _sweep(self) -> None:
        """Cuts off whoever has been connected for too long; there is no keeping alive here."""
        loop = asyncio.get_running_loop()
        born: dict[object, float] = {}
        while True:
            await asyncio.sleep(_SWEEP_S)
            server = self._guarded_runner and self._guarded_runner.server
            if not server:
                continue
            now, old = loop.time(), born
            born = {one: old.get(one, now) for one in server.connections}
            for one in server.connections:
                if now - born[one] > CONNECTION_S and one.transport is not None:
                    one.transport.abort()  # close() would wait for who does not read


class _Busy(asyncio.Protocol):
    """For the one connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def serve(web: GuardedWeb, healthy: Check, ready: Check, metrics: Callable[[], bytes]) -> None:
    """Adds /healthz and /readyz (200 without complaints, else 503 with them) and /metrics."""
    from streamer.metrics import CONTENT_TYPE

    def page(check: Check) -> Handler:
        async def answer(request: Request) -> StreamResponse:
            complaints = await check()
            return Response(
                body=msgspec.json.encode({"ok": not complaints, "reasons": complaints}),
                status=503 if complaints else 200,
                content_type="application/json",
            )

        return answer

    async def exposition(request: Request) -> StreamResponse:
        return Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE})

    web.add_page(_OPEN_PATH, page(healthy))
    web.add_page("/readyz", page(ready))
    web.add_page("/metrics", exposition)


def answering(document: Callable[[], bytes]) -> Handler:
    """A page that shows a JSON document as it is when it is asked for."""

    async def answer(request: Request) -> StreamResponse:
        return Response(body=document(), content_type="application/json")

    return answer


def problem(
    status: int,
    detail: str,
    *,
    retry_after_s: int | None = None,
    errors: Sequence[msgspec.Struct] = (),
) -> Response:
    """An answer that says what is wrong, as RFC 9457 has it; `errors` says it in detail."""
    title = HTTPStatus(status).phrase
    body: dict[str, object] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    answer = Response(
        body=msgspec.json.encode(body), status=status, content_type=PROBLEM_CONTENT_TYPE
    )
    if retry_after_s is not None:
        answer.headers["Retry-After"] = str(retry_after_s)
    return answer


class BodyTooLarge(Exception):
    """The body has more bytes than the page takes: send less at a time."""


async def body_of(request: Request, max_bytes: int) -> bytes:
    """The body of a request, as it was sent. Raises BodyTooLarge."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge
        chunks.append(chunk)
    return b"".join(chunks)


def is_from_here(request: Request) -> bool:
    """Whether the request asks for this machine by a name that only it can mean."""
    try:
        host = URL(f"http://{request.host}").host
    except ValueError:
        return False
    return host is not None and is_loopback(host)


def _tells_problems(most_bytes: Mapping[str, int]) -> Middleware:
    """The outermost: whatever is raised below becomes an answer, and every answer the last."""

    @middleware
    async def tells(request: Request, handler: Handler) -> StreamResponse:
        answer: StreamResponse
        limit = most_bytes.get(request.path, MAX_BODY_BYTES)
        try:
            if (request.content_length or 0) > limit:
                raise BodyTooLarge
            answer = await handler(request)
        except BodyTooLarge:
            answer = problem(413, f"send at most {limit:,} bytes")
        except HTTPException as error:
            answer = problem(error.status, error.reason)
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
        except Exception as error:
            _log.exception("web.failed", error)
            answer = problem(500, "the worker's log says more")
        answer.headers["Cache-Control"] = "no-store"
        answer.force_close()
        return answer

    return tells


def _asks_for(token: str) -> Middleware:
    expected = _digest(f"Bearer {token}")

    @middleware
    async def asks(request: Request, handler: Handler) -> StreamResponse:
        given = _digest(request.headers.get("Authorization", ""))
        if request.path != _OPEN_PATH and not hmac.compare_digest(given, expected):
            answer = problem(401, "send the header Authorization: Bearer, with CLV_WEB_TOKEN")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return await handler(request)

    return asks


def _digest(text: str) -> bytes:
    """Of one length for all texts, so that comparing two takes the same time for all."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
