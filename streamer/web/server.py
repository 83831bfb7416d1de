"""The web server under the pages of the worker and of ingest: aiohttp's, guarded.

With a token, every page but /healthz asks for it, as a bearer or, for browsers, as the password of
any user; without one, every page has to be asked for at 127.0.0.1 or localhost, since a page in a
browser may have its own name resolved to 127.0.0.1. What is not a page is told as a problem (RFC
9457). A connection carries one request and lives for seconds, unless it is a stream, of which there
are so many at most; so clients that are slow on purpose hold nothing up. Pages may be answered by
another process (`relay`), which guards them itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
)
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion11
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import (
    Application,
    AppRunner,
    BaseRequest,
    HTTPException,
    Request,
    RequestHandler,
    Response,
    StreamResponse,
    middleware,
)

from streamer import log
from streamer.errors import StreamerError
from streamer.settings import Settings
from streamer.web.guards import OPEN_PATH, Token, but_for
from streamer.web.lobby import SAFE_HEADERS, SERVER, Lobby
from streamer.web.problems import problem
from streamer.web.relay import Relay

_log = log.get(__name__)

MAX_BODY_BYTES: Final = 1 << 20
# From being accepted to being cut off, whoever is slow.
CONNECTION_S: Final = 20.0
# A body of 4 MB comes so soon at 7 Mbit/s.
BODY_S: Final = 5.0
MAX_CONNECTIONS: Final = 256
# Only for who asks whether the worker lives: they are there when all others are taken.
MAX_LIVENESS: Final = 16
# Streams last, and have places of their own.
MAX_STREAMS: Final = 100
_SWEEP_S: Final = 1.0
# For requests that are under way when the server ends.
END_WITHIN_S: Final = 2.0
# Connections that the kernel holds for who is busy or being started again.
_BACKLOG: Final = 512
STREAM_PATH: Final = "/warnings/stream"
_APART: Final = (OPEN_PATH, STREAM_PATH)
_SEE_LOG: Final = "the worker's log says more"

Check = Callable[[], Awaitable[list[str]]]


class AddressTaken(StreamerError):
    """Set CLV_WEB_BIND and CLV_WEB_PORT to an address of this machine that nobody listens at."""


class GuardedWeb:
    """A web server with a token, limits and no page but those that are added to it."""

    def __init__(self, token: str | None) -> None:
        """`token` None: whoever reaches the port is answered."""
        self.bound: tuple[str, int] | None = None
        self._app = Application()
        self._runner: AppRunner | None = None
        self._second: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._most_bytes: dict[str, int] = {}
        # Who has a connection, by the path that has places of its own.
        self._taken: dict[str, set[asyncio.Protocol]] = {path: set() for path in ("", *_APART)}
        # Set when streams have to end.
        self.closing = asyncio.Event()
        # Paths whose handlers look themselves who asks: their senders sign, and have no token.
        self._signed: set[str] = set()
        # Paths that another process of this machine answers, and its port.
        self._relayed: Collection[str] = ()
        self._relay_port = 0
        self._token = Token(token)
        guards = [_tells_problems(self._most_bytes), but_for(self._signed, self._token.guard())]
        self._app.middlewares.extend(guards)

    def add_page(self, path: str, handler: Handler) -> None:
        """Answers GET; before the server starts."""
        self._app.router.add_get(path, handler, expect_handler=_expects)

    def add_form(
        self, path: str, handler: Handler, max_body_bytes: int, *, signed: bool = False
    ) -> None:
        """Answers POST, of a body of so many bytes at most; before the server starts. `signed`: the
        handler itself looks who asks, for it takes signatures as well as the token.

        The handler reads the body by `Bodies`, since aiohttp's own limit is one for all pages."""
        self._most_bytes[path] = max_body_bytes
        if signed:
            self._signed.add(path)
        self._app.router.add_post(path, handler, expect_handler=_expects)

    def add_removal(self, path: str, handler: Handler) -> None:
        """Answers DELETE; before the server starts."""
        self._app.router.add_delete(path, handler, expect_handler=_expects)

    def add_excuse(self, detail: str, signed: Collection[str] = ()) -> None:
        """Answers whatever is no page with 503; before the server starts, after all pages.
        `signed`: paths of which it does so without the token, since their senders have none."""
        self._signed.update(signed)

        async def excuse(request: Request) -> StreamResponse:
            return problem(503, detail, retry_after_s=1)

        self._app.router.add_route("*", "/{path:.*}", excuse, expect_handler=_expects)

    def relay(self, paths: Collection[str], port: int) -> None:
        """Has these paths answered by the server at a port of this machine, which guards them."""
        self._relayed, self._relay_port = paths, port

    def shows_token(self, request: Request) -> bool:
        """Whether the request has the token; False where the worker has none."""
        return self._token.shown(request)

    async def start_server(self, listener: socket.socket) -> None:
        """Answers who connects to a socket that is bound; see `listening`."""
        self._runner = AppRunner(
            self._app, access_log=None, handle_signals=False, shutdown_timeout=END_WITHIN_S
        )
        await self._runner.setup()
        self._lobby = Lobby(self._take)
        loop = asyncio.get_running_loop()
        guest = self._lobby.guest
        self._listener = await loop.create_server(guest, sock=listener, backlog=_BACKLOG)
        self.bound = listener.getsockname()[:2]
        self._sweeping = asyncio.create_task(self._sweep())

    async def stand_in(self, listener: socket.socket) -> None:
        """Answers who connects to another socket as well, which stays open, until `stand_back`."""
        if self._second is None:
            loop, guest = asyncio.get_running_loop(), self._lobby.guest
            self._second = await loop.create_server(guest, sock=listener.dup(), backlog=_BACKLOG)

    def stand_back(self) -> None:
        """Ends what `stand_in` began; who is being answered is answered."""
        if self._second is not None:
            self._second.close()
            self._second = None

    @property
    def stands_in(self) -> bool:
        """Whether it answers for another."""
        return self._second is not None

    async def stop_server(self) -> None:
        self.stand_back()
        self.closing.set()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._listener.close()
            self._lobby.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _take(self, head: bytes) -> asyncio.Protocol | None:
        """Who answers a request of this head; None where there is no place."""
        assert self._runner is not None
        assert self._runner.server is not None
        path = next((path for path in _APART if head.startswith(_asking(path))), "")
        taken = self._taken[path]
        if len(taken) >= _room(path):
            return None
        handler: asyncio.Protocol
        if any(head.startswith(_asking(relayed)) for relayed in self._relayed):
            handler = Relay(self._relay_port, CONNECTION_S, taken.discard)
        else:
            lingering_s = 0.0 if path == OPEN_PATH else 1.0
            handler = _Handler(self._runner.server, taken.discard, lingering_s)
        taken.add(handler)
        return handler

    async def _sweep(self) -> None:
        """Cuts off whoever has been connected for too long; there is no keeping alive here."""
        loop = asyncio.get_running_loop()
        born: dict[object, float] = {}
        while True:
            await asyncio.sleep(_SWEEP_S)
            server = self._runner and self._runner.server
            if not server:
                continue
            now, old = loop.time(), born
            born = {one: old.get(one, now) for one in server.connections}
            for one in server.connections:
                if one in self._taken[STREAM_PATH]:
                    continue  # who reads it too slowly is dropped by who writes it
                if now - born[one] > CONNECTION_S and one.transport is not None:
                    one.transport.abort()  # close() would wait for who does not read


def guarded(settings: Settings) -> GuardedWeb:
    """A server that asks for the token of the settings."""
    token = settings.web_token
    return GuardedWeb(None if token is None else token.get_secret_value())


def listening(bind: str, port: int) -> socket.socket:
    """A socket bound to an address, port 0: a free one. Raises AddressTaken."""
    try:
        places = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name that means both is meant as most people write it.
        family, _, _, _, address = min(places, key=lambda place: place[0] != socket.AF_INET)
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AddressTaken(f"CLV_WEB_BIND, CLV_WEB_PORT: {bind}:{port}: {reason}") from None


def _room(path: str) -> int:
    """How many connections there may be to a path that has places of its own; '': to all others."""
    places = {OPEN_PATH: MAX_LIVENESS, STREAM_PATH: MAX_STREAMS}
    return places.get(path, MAX_CONNECTIONS)


@cache
def _asking(path: str) -> tuple[bytes, ...]:
    return tuple(
        b"%s %s%s" % (method, path.encode(), end)
        for method in (b"GET", b"HEAD")
        for end in (b" ", b"?")
    )


class _Handler(RequestHandler):
    """One request; `gone` hears of its end. What is not HTTP is told as a problem too."""

    __slots__ = ("_gone",)

    def __init__(
        self, server: Any, gone: Callable[[asyncio.Protocol], None], lingering_s: float
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # none, as AppRunner has it
            lingering_time=lingering_s,
            # A small body may be a large one, compressed.
            auto_decompress=False,
        )
        self._gone = gone

    def connection_lost(self, exc: BaseException | None) -> None:
        self._gone(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status >= 500 and exc is not None:
            _log.exception("web.failed", exc)
        detail = "this is not a valid HTTP/1.1 request" if status < 500 else _SEE_LOG
        return _last(problem(status, detail))


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

    web.add_page(OPEN_PATH, page(healthy))
    web.add_page("/readyz", page(ready))
    web.add_page("/metrics", exposition)


def answering(document: Callable[[], bytes]) -> Handler:
    """A page that shows a JSON document as it is when it is asked for."""

    async def answer(request: Request) -> StreamResponse:
        return Response(body=document(), content_type="application/json")

    return answer


class BodyUnread(Exception):
    """The body was not read: send less at a time, or faster, or later, as it says."""

    def __init__(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.retry_after_s = status, retry_after_s

    def problem(self) -> Response:
        """The answer that says so."""
        return problem(self.status, str(self), retry_after_s=self.retry_after_s)


def _too_large(limit: int) -> BodyUnread:
    return BodyUnread(413, f"send at most {limit:,} bytes")


class Bodies:
    """The bodies of requests, of so many bytes at most, each and together."""

    def __init__(self, max_bytes: int, max_bytes_together: int) -> None:
        self._each, self._all = max_bytes, max_bytes_together
        self._held = 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, as it was sent. Raises BodyUnread."""
        chunks: list[bytes] = []
        size = 0
        try:
            try:
                async with asyncio.timeout(BODY_S):
                    async for chunk in request.content.iter_any():
                        size += len(chunk)
                        self._held += len(chunk)
                        if size > self._each:
                            raise _too_large(self._each)
                        if self._held > self._all:
                            raise BodyUnread(503, "busy; ask again in a second", 1)
                        chunks.append(chunk)
            except TimeoutError:
                raise BodyUnread(408, f"send the body within {BODY_S:g} seconds") from None
            yield b"".join(chunks)
        finally:
            self._held -= size


def _tells_problems(most_bytes: Mapping[str, int]) -> Middleware:
    """The outermost: whatever is raised below becomes an answer, and every answer the last."""

    @middleware
    async def tells(request: Request, handler: Handler) -> StreamResponse:
        response: StreamResponse
        limit = most_bytes.get(request.path, MAX_BODY_BYTES)
        try:
            if (request.content_length or 0) > limit:
                raise _too_large(limit)
            response = await handler(request)
        except BodyUnread as error:
            response = error.problem()
        except HTTPException as error:
            response = problem(error.status, error.reason)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        except Exception as error:
            _log.exception("web.failed", error)
            response = problem(500, _SEE_LOG)
        # Whose head is out already is a stream.
        return response if response.prepared else _last(response)

    return tells


def _last(response: StreamResponse) -> StreamResponse:
    """The answer as the only one of its connection, kept by nobody, and not saying who we are."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = SERVER
    for name, value in SAFE_HEADERS.items():
        response.headers.setdefault(name, value)
    response.force_close()
    return response


async def _expects(request: Request) -> StreamResponse | None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        return _last(problem(417, "of the header Expect, only 100-continue is understood"))
    if request.transport is not None and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # It does not count as the answer.
        request.writer.output_size = 0
    return None
