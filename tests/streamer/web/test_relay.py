"""Pages that another process of the machine answers, as if they were of the server that was
asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import ClientSession
from aiohttp.web import Request, Response, StreamResponse

from streamer.web.server import AddressTaken, GuardedWeb, listening, serve

TOKEN = "a-token-of-the-web-pages"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SAID = b"x" * 300_000


async def well() -> list[str]:
    return []


async def own(request: Request) -> StreamResponse:
    return Response(body=b"own")


@asynccontextmanager
async def in_front_of(token: str | None = None) -> AsyncIterator[tuple[str, GuardedWeb]]:
    """The address of a server with a page of its own, and the server behind it."""
    behind, front = GuardedWeb(token), GuardedWeb(token)
    serve(behind, well, well, lambda: SAID)
    await behind.start_server(listening("127.0.0.1", 0))
    assert behind.bound is not None
    front.relay(("/healthz", "/metrics"), behind.bound[1])
    front.add_page("/own", own)
    await front.start_server(listening("127.0.0.1", 0))
    assert front.bound is not None
    yield f"http://127.0.0.1:{front.bound[1]}", behind
    await front.stop_server()
    await behind.stop_server()


async def test_what_is_relayed_is_answered_there_and_all_else_here() -> None:
    async with in_front_of() as (url, _), ClientSession() as session:
        for path, body in (("/metrics", SAID), ("/metrics?x=1", SAID), ("/own", b"own")):
            async with session.get(url + path) as answer:
                assert (answer.status, await answer.read()) == (200, body)
        async with session.head(url + "/healthz") as answer:
            assert answer.status == 200
        for path in ("/readyz", "/metricsx", "/metrics/"):
            async with session.get(url + path) as answer:
                assert answer.status == 404


async def test_the_token_is_asked_for_there() -> None:
    async with in_front_of(TOKEN) as (url, _), ClientSession() as session:
        async with session.get(url + "/metrics") as answer:
            assert answer.status == 401
        async with session.get(url + "/metrics", headers=BEARER) as answer:
            assert await answer.read() == SAID
        async with session.get(url + "/healthz") as answer:
            assert answer.status == 200


async def test_who_is_not_there_to_answer_is_told_as_a_problem() -> None:
    async with in_front_of() as (url, behind), ClientSession() as session:
        await behind.stop_server()
        async with session.get(url + "/healthz") as answer:
            assert (answer.status, answer.content_type) == (503, "application/problem+json")
            told = msgspec.json.decode(await answer.read())
            assert told["detail"] == "the worker does not answer"
        async with session.get(url + "/own") as answer:
            assert answer.status == 200


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    async with in_front_of() as (url, _), ClientSession() as session:
        port = int(url.rpartition(":")[2])
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            writer.transport.abort()
        async with session.get(url + "/healthz") as answer:
            assert answer.status == 200


def test_an_address_that_is_taken_is_named() -> None:
    with listening("127.0.0.1", 0) as one, pytest.raises(AddressTaken, match="CLV_WEB_PORT"):
        listening("127.0.0.1", one.getsockname()[1])
    with pytest.raises(AddressTaken, match=r"no\.such\.host\.invalid"):
        listening("no.such.host.invalid", 0)
