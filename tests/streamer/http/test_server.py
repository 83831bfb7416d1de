from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout
from aiohttp.web import Request, Response, StreamResponse

from streamer.http import server as web
from streamer.http.server import GuardedWeb, serve
from streamer.kafka.faust_app import faust_app
from streamer.settings import Settings

TOKEN = "a-token-of-the-web-pages"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
Get = Callable[..., Awaitable[tuple[int, str, Any]]]


async def well() -> list[str]:
    return []


@asynccontextmanager
async def serving(
    token: str | None = None, ready: Any = well, **pages: Any
) -> AsyncIterator[tuple[int, Get]]:
    """The port of a server with the worker's pages and further ones, and what gets pages."""
    app = faust_app(Settings())
    server = GuardedWeb(app, "127.0.0.1", 0, token)
    serve(server, well, ready, lambda: b"clv_scores_total 1.0\n")
    for name, page in pages.items():
        server.add_page(f"/{name}", page)
    server.init_server()
    await server.start_server()
    assert server.bound is not None
    port = server.bound[1]
    async with ClientSession(timeout=ClientTimeout(10)) as session:

        async def get(path: str, method: str = "GET", **options: Any) -> tuple[int, str, Any]:
            url = f"http://127.0.0.1:{port}{path}"
            async with session.request(method, url, **options) as answer:
                return answer.status, answer.content_type, await answer.read()

        yield port, get
    await server.stop_server()


async def test_the_pages_answer_with_what_was_found() -> None:
    complaints: list[str] = []

    async def ready() -> list[str]:
        return complaints

    async with serving(ready=ready) as (_, get):
        assert await get("/healthz") == (200, "application/json", b'{"ok":true,"reasons":[]}')
        assert (await get("/readyz"))[0] == 200
        complaints.append("store: no answer")
        status, _, body = await get("/readyz")
        assert (status, body) == (503, b'{"ok":false,"reasons":["store: no answer"]}')
        assert (await get("/metrics"))[:2] == (200, "text/plain")


@pytest.mark.parametrize("path", ["/", "/router", "/table", "/stats", "/graph", "/metrics/x"])
async def test_fausts_own_pages_are_not_there(path: str) -> None:
    async with serving() as (_, get):
        for slash in ("", "/"):
            status, kind, body = await get(path.rstrip("/") + (slash or "/" * (path == "/")))
            assert (status, kind) == (404, "application/problem+json")
            assert msgspec.json.decode(body)["title"] == "Not Found"


@pytest.mark.parametrize(
    "path", ["/readyz", "/metrics", "/", "/nothing", "/%2e%2e/healthz/x", "/healthz%00"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"bearer {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \u00e4"},
    ],
)
async def test_with_a_token_every_page_but_healthz_asks_for_it(
    path: str, headers: dict[str, str]
) -> None:
    async with serving(TOKEN) as (_, get):
        status, kind, body = await get(path, headers=headers)
        assert (status, kind) == (401, "application/problem+json")
        told = msgspec.json.decode(body)
        assert (told["status"], told["title"]) == (401, "Unauthorized")
        assert TOKEN not in body.decode()
        assert (await get("/healthz", headers=headers))[0] == 200


async def test_who_shows_the_token_is_answered() -> None:
    async with serving(TOKEN) as (_, get):
        assert (await get("/readyz", headers=BEARER))[0] == 200
        assert (await get("/metrics", headers=BEARER))[0] == 200
        assert (await get("/nothing", headers=BEARER))[0] == 404


async def test_other_methods_are_refused_by_name() -> None:
    async with serving() as (_, get):
        status, kind, body = await get("/metrics", "POST", data=b"x")
        assert (status, kind) == (405, "application/problem+json")
        assert msgspec.json.decode(body)["title"] == "Method Not Allowed"


async def test_a_body_too_large_is_not_read() -> None:
    async def echo(request: Request) -> StreamResponse:
        return Response(body=await request.read())

    async with serving(echo=echo) as (port, get):
        assert (await get("/echo", data=b"small"))[2] == b"small"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield bytes(100_000)

        # Without a length, what is read is counted.
        assert (await get("/echo", data=chunks()))[0] == 413


async def test_a_page_that_breaks_says_nothing_of_why() -> None:
    async def breaks(request: Request) -> StreamResponse:
        raise KeyError("alice")

    async with serving(breaks=breaks) as (_, get):
        status, kind, body = await get("/breaks")
        assert (status, kind) == (500, "application/problem+json")
        assert b"alice" not in body


async def test_a_client_that_is_slow_on_purpose_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CONNECTION_S", 0.1)
    monkeypatch.setattr(web, "_SWEEP_S", 0.05)
    async with serving() as (port, get):
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        connections[1][1].write(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        for reader, writer in connections:
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        assert (await get("/healthz"))[0] == 200


async def test_one_connection_too_many_is_closed_and_the_rest_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 3)
    async with serving() as (port, get):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        for _, other in held:
            other.close()
            await other.wait_closed()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert (await get("/healthz"))[0] == 200
                    break
                except OSError:
                    await asyncio.sleep(0.01)


async def test_a_connection_carries_one_request() -> None:
    async with serving() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.count(b"HTTP/1.1 200 OK") == 1
        assert b"Connection: close" in answer
        writer.close()
