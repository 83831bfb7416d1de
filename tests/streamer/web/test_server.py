from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout
from aiohttp.web import Request, Response, StreamResponse

from streamer.web import lobby
from streamer.web import server as web
from streamer.web.server import GuardedWeb, listening, serve

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
    server = GuardedWeb(token)
    serve(server, well, ready, lambda: b"clv_scores_total 1.0\n")
    for name, page in pages.items():
        server.add_page(f"/{name}", page)
    await server.start_server(listening("127.0.0.1", 0))
    assert server.bound is not None
    port = server.bound[1]
    async with ClientSession(timeout=ClientTimeout(10)) as session:

        async def get(path: str, method: str = "GET", **options: Any) -> tuple[int, str, Any]:
            url = f"http://127.0.0.1:{port}{path}"
            async with session.request(method, url, **options) as answer:
                return answer.status, answer.content_type, await answer.read()

        yield port, get
    await server.stop_server()


async def test_it_answers_for_another_at_a_socket_that_stays_open() -> None:
    server = GuardedWeb("a token that a shop's platform has not")
    serve(server, well, well, lambda: b"")
    server.add_excuse("not yet", signed=["/orders"])
    await server.start_server(listening("127.0.0.1", 0))
    with listening("127.0.0.1", 0) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        async with ClientSession(timeout=ClientTimeout(10)) as session:
            for _ in range(2):
                await server.stand_in(other)
                async with session.get(f"{url}/healthz") as answer:
                    assert (server.stands_in, answer.status) == (True, 200)
                async with session.post(f"{url}/orders", data=b"{}") as answer:
                    told = await answer.json(content_type="application/problem+json")
                    assert (told["status"], told["detail"]) == (503, "not yet")
                    assert answer.headers["Retry-After"] == "1"
                async with session.get(f"{url}/warnings") as answer:
                    assert answer.status == 401
                server.stand_back()
                # Who connects now waits for the one whose place it is.
                with pytest.raises(TimeoutError):
                    await session.get(f"{url}/healthz", timeout=ClientTimeout(0.05))
        assert not server.stands_in
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
async def test_pages_that_nobody_added_are_not_there(path: str) -> None:
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
        {"Authorization": f"Bearer{TOKEN}"},
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
        for scheme in ("Bearer", "bearer", "BEARER "):
            shown = {"Authorization": f"{scheme} {TOKEN}"}
            assert (await get("/readyz", headers=shown))[0] == 200
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
        writer.write(b"GET /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield bytes(100_000)

        # A second of the event loop for 4 MB of chunks of a byte each.
        assert (await get("/echo", data=chunks()))[0] == 411
        for name in (b"Transfer-Encoding:", b"TRANSFER-ENCODING :\t"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n" + name + b" chunked\r\n\r\n")
            assert b" 411 " in await asyncio.wait_for(reader.readline(), 5)
            writer.close()


async def test_a_page_that_breaks_says_nothing_of_why() -> None:
    async def breaks(request: Request) -> StreamResponse:
        raise KeyError("alice")

    async with serving(breaks=breaks) as (_, get):
        status, kind, body = await get("/breaks")
        assert (status, kind) == (500, "application/problem+json")
        assert b"alice" not in body


# --- clients that are slow, many, or no clients ---------------------------------------------------


async def opened(port: int, sent: bytes = b"") -> tuple[asyncio.StreamReader, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def rest_of(connection: tuple[asyncio.StreamReader, Any]) -> bytes:
    """What is still sent on a connection, until the other side ends it."""
    try:
        return await asyncio.wait_for(connection[0].read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        connection[1].close()


def answered(raw: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, msgspec.json.decode(body)


HALF = b"GET /healthz HTTP/1.1\r\nHost: loc"


async def test_connections_that_are_half_open_keep_nobody_out() -> None:
    async with serving() as (port, get):
        held = [await opened(port, HALF) for _ in range(web.MAX_CONNECTIONS + 6)]
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await get(path))[0] == 200
        for connection in held:
            connection[1].close()


@pytest.mark.parametrize("sent", [b"", HALF, b"\r\n\r\n\r\n", b"\x16\x03\x01"])
async def test_a_head_that_is_not_whole_in_time_is_cut_off(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lobby, "HEAD_S", 0.05)
    async with serving() as (port, get):
        assert await rest_of(await opened(port, sent)) == b""
        assert (await get("/healthz"))[0] == 200


async def test_where_too_many_wait_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lobby, "MAX_UNREAD", 3)
    async with serving() as (port, get):
        held = [await opened(port, HALF) for _ in range(4)]
        assert await rest_of(held[0]) == b""
        for reader, writer in held[2:]:
            writer.write(b"alhost\r\n\r\n")
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
        assert (await get("/healthz"))[0] == 200
        for connection in held:
            connection[1].close()


async def test_whoever_asks_for_liveness_shares_places_with_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 2)
    done = asyncio.Event()
    asked: list[Request] = []

    async def waits(request: Request) -> StreamResponse:
        asked.append(request)
        await done.wait()
        return Response()

    async with serving(waits=waits) as (_, get):
        held = [asyncio.create_task(get("/waits")) for _ in range(2)]
        async with asyncio.timeout(5):
            while len(asked) < 2:
                await asyncio.sleep(0)
        assert (await get("/healthz"))[0] == 200
        status, kind, body = await get("/metrics")
        assert (status, kind) == (503, "application/problem+json")
        assert "ask again" in msgspec.json.decode(body)["detail"]
        done.set()
        assert [found[0] for found in await asyncio.gather(*held)] == [200, 200]
        async with asyncio.timeout(5):
            while (await get("/metrics"))[0] != 200:
                await asyncio.sleep(0)


async def test_a_request_that_lasts_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CONNECTION_S", 0.1)
    monkeypatch.setattr(web, "_SWEEP_S", 0.05)
    monkeypatch.setattr(web, "END_WITHIN_S", 0.1)

    async def waits(request: Request) -> StreamResponse:
        await asyncio.Event().wait()
        return Response()

    async with serving(waits=waits) as (port, get):
        held = await opened(port, b"GET /waits HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await rest_of(held) == b""
        assert (await get("/healthz"))[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NOT HTTP\r\n\r\n", 400),
        (b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: foo\r\n\r\n", 417),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 40_000, 431),
    ],
)
async def test_what_is_not_http_is_told_as_a_problem_and_not_by_whom(
    sent: bytes, status: int
) -> None:
    async with serving() as (port, _):
        found, headers, body = answered(await rest_of(await opened(port, sent)))
        assert (found, body["status"]) == (status, status)
        assert headers["content-type"] == "application/problem+json"
        assert headers.get("connection", "close") == "close"
        assert headers["server"] == "clv-streamer"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/page", "/nothing"])
async def test_without_a_token_every_page_is_asked_for_at_this_machine(path: str) -> None:
    async def page(request: Request) -> StreamResponse:
        return Response()

    async with serving(page=page) as (_, get):
        for host in ("evil.example", "127.0.0.1.evil.example", "[::2]", "10.0.0.1", "\u00e4"):
            status, kind, _ = await get(path, headers={"Host": host})
            assert (status, kind) == (421, "application/problem+json")
        for host in ("localhost:6066", "127.0.0.1", "[::1]:80"):
            assert (await get(path, headers={"Host": host}))[0] != 421
    async with serving(TOKEN) as (_, get):
        answer = await get("/readyz", headers={**BEARER, "Host": "worker.shop.example"})
        assert answer[0] == 200


async def test_a_connection_carries_one_request() -> None:
    async with serving() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.count(b"HTTP/1.1 200 OK") == 1
        assert b"Connection: close" in answer
        writer.close()
