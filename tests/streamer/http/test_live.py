"""Warnings and their outcomes, how the stream stands, a customer's past: as any worker tells."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, ClientTimeout
from yarl import URL

from features.events.orders import Order, OrderRules
from streamer.http import stream as streaming
from streamer.view.customer_history import rhythm
from streamer.view.listed import MAX_LIMIT
from streamer.web.server import listening
from tests.support.fakes import an_order, by_time, every
from tests.support.served import BEARER, TOKEN, Served, a_pipeline, served

SILENT = [f"customer {n:02}" for n in range(20)]
FORMULA = '=HYPERLINK("http://example.org","ann")'
MARKUP = "<img src=x onerror=alert(1)>"


def a_shop() -> list[Order]:
    """Customers who stop, two of them with hostile ids; one who comes back."""
    users = [*SILENT, FORMULA, MARKUP]
    orders = [every(user, 4, 4, 5_000 + 100 * n, n / 9) for n, user in enumerate(users)]
    return by_time(*orders, [an_order(SILENT[0], 60)])


async def filled(shop: Served) -> list[dict[str, Any]]:
    """Every open warning, by the pages of the API."""
    await shop.apply(a_shop(), until_day=40)
    shop.clock.advance(2_000)
    return await every_page(shop, "/warnings?limit=4")


async def every_page(shop: Served, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        _, _, page = await shop.ask(path + cursor)
        found += page["warnings"]
        if page["next"] is None:
            assert page["total"] == len(found)
            return found
        cursor = f"&cursor={page['next']}"


async def test_open_warnings_come_by_expected_loss_and_each_once() -> None:
    async with served() as shop:
        found = await filled(shop)
        users = [one["user_id"] for one in found]
        assert sorted(users) == sorted({*SILENT[1:], FORMULA, MARKUP})
        losses = [one["expected_loss"] for one in found]
        assert losses == sorted(losses, reverse=True)
        assert {one["outcome"] for one in found} == {"open"}


async def test_a_cursor_goes_on_where_it_stood_though_warnings_came_and_went() -> None:
    async with served() as shop:
        everybody = await filled(shop)
        _, _, first = await shop.ask("/warnings?limit=5")
        gone = everybody[2]["user_id"]
        await shop.apply([an_order(gone, 61)])
        shop.clock.advance(2_000)
        rest = await every_page_after(shop, first["next"])
        assert [one["user_id"] for one in rest] == [one["user_id"] for one in everybody[5:]]


async def every_page_after(shop: Served, cursor: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while cursor:
        _, _, page = await shop.ask(f"/warnings?limit=5&cursor={cursor}")
        found += page["warnings"]
        cursor = page["next"] or ""
    return found


async def test_filters_leave_what_they_name() -> None:
    async with served() as shop:
        everybody = await filled(shop)
        for name in ("severity", "trigger", "segment"):
            for value in {one[name] for one in everybody}:
                found = await every_page(shop, f"/warnings?limit=9&{name}={value}")
                assert found == [one for one in everybody if one[name] == value]
        found = await every_page(shop, "/warnings?limit=9&user=MER%201&holdout=false")
        assert found == [one for one in everybody if "mer 1" in one["user_id"]]
        assert await every_page(shop, "/warnings?limit=9&holdout=true") == []


async def test_all_warnings_have_how_they_ended() -> None:
    async with served() as shop:
        await filled(shop)
        found = await every_page(shop, "/warnings?limit=9&state=all")
        ends = {one["user_id"]: one["outcome"] for one in found}
        assert ends.pop(SILENT[0]) == "recovered"
        assert set(ends.values()) == {"open"}
        when = [one["as_of"] for one in found]
        assert when == sorted(when, reverse=True)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("severity=huge", "severity"),
        ("limit=0", "limit"),
        (f"limit={MAX_LIMIT + 1}", "limit"),
        ("limit=9&limit=8", "limit"),
        ("holdout=yes", "holdout"),
        ("state=open,all", "state"),
        ("sort=loss", "sort"),
        ("cursor=nonsense", "cursor"),
        ("cursor=WzEsMl0", "cursor"),
    ],
)
async def test_a_query_that_is_none_is_refused_by_name(query: str, field: str) -> None:
    async with served() as shop:
        await shop.apply(a_shop())
        status, kind, told = await shop.ask(f"/warnings?{query}")
        assert (status, kind) == (422, "application/problem+json")
        assert told["errors"][0]["field"] == field


async def test_a_table_runs_nothing_in_a_spreadsheet() -> None:
    async with served() as shop:
        everybody = await filled(shop)
        url = f"http://127.0.0.1:{shop.port}/warnings.csv?severity=high,medium,low"
        async with shop.session.get(url) as answer:
            assert answer.headers["Content-Disposition"].startswith("attachment")
            rows = list(csv.DictReader(io.StringIO((await answer.read()).decode("utf-8-sig"))))
        ids = [row["user_id"] for row in rows]
        assert ids == [one["user_id"].replace("=HYP", "'=HYP") for one in everybody]
        assert not any(
            cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values()
        )


async def test_who_is_forgotten_is_said_in_the_log_and_by_the_owner_of_the_page_only() -> None:
    async with served() as shop:
        await filled(shop)
        path = f"/customers/{quote(MARKUP, safe='')}"
        other = {"Sec-Fetch-Site": "cross-site"}
        assert (await shop.ask(path, "DELETE", headers=other))[0] == 403
        assert shop.forgotten == []
        status, _, told = await shop.ask(path, "DELETE")
        assert (status, told["user_id"], told["known"]) == (202, MARKUP, True)
        assert (await shop.ask("/customers/nobody", "DELETE"))[2]["known"] is False
        assert shop.forgotten == [MARKUP, "nobody"]
        assert (await shop.ask("/customers/%ff", "DELETE"))[0] == 422


async def test_a_customer_is_found_and_forgotten_by_any_spelling_that_counts_as_one() -> None:
    async with served() as shop:
        await shop.apply(every("ada@example.com", 4, 4))
        merging = replace(a_pipeline(), order_rules=OrderRules(merge_ids=True))
        shop.pipelines.append(merging)
        for path in ("", "/history"):
            status, _, told = await shop.ask(f"/customers/%20ADA%40example.com{path}")
            assert (status, told["user_id"]) == (200, "ada@example.com")
        _, _, told = await shop.ask("/customers/Ada%40Example.COM", "DELETE")
        assert (told["user_id"], told["known"]) == ("ada@example.com", True)
        assert shop.forgotten == ["ada@example.com"]


async def test_a_customers_past_is_told_in_their_own_rhythm() -> None:
    async with served() as shop:
        await filled(shop)
        _, _, past = await shop.ask(f"/customers/{quote(SILENT[0])}/history")
        assert [day["orders"] for day in past["days"]] == [1] * 5
        assert past["warning"]["outcome"] == "recovered"
        assert past["notice"] is None
        assert past["clv"][-1]["at"] == past["as_of"]
        _, _, past = await shop.ask(f"/customers/{quote(SILENT[1])}/history")
        assert past["warning"]["outcome"] == "open"
        assert past["notice"]["summary"].startswith("No order for")
        assert past["rhythm"]["usual_gap_days"] == 4
        assert "longer than any before" in past["rhythm"]["sentence"]
        assert (await shop.ask("/customers/nobody/history"))[0] == 404


def test_a_silence_is_held_against_the_gaps_before_it() -> None:
    assert rhythm([], 9).silent_days is None
    assert "one day only" in rhythm([3], 9).sentence
    assert "2 of 3 gaps were longer" in rhythm([0, 9, 10, 20], 22).sentence
    assert "as long as the longest" in rhythm([0, 5], 10).sentence


async def test_outcomes_add_up_with_what_is_open() -> None:
    async with served() as shop:
        everybody = await filled(shop)
        _, _, told = await shop.ask("/outcomes")
        weeks = told["weeks"]
        assert sum(one["warnings"] for one in weeks) == len(everybody) + 1
        assert sum(one["open"] for one in weeks) == len(everybody)
        assert sum(one["recovered"] for one in weeks) == 1
        assert told["acting"]["difference"] is None
        _, _, status = await shop.ask("/status")
        assert status["open_warnings"] == len(everybody)
        assert status["applied"] == len(a_shop())


async def test_the_page_runs_its_own_script_only_and_so_does_every_answer() -> None:
    async with served() as shop:
        for path in ("/", "/warnings", "/nowhere", "/status", "/customers/%ff"):
            async with shop.session.get(
                URL(f"http://127.0.0.1:{shop.port}{path}", encoded=True)
            ) as one:
                policy = one.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert one.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_browser_gives_the_token_as_a_password() -> None:
    async with served(TOKEN) as shop:
        for path in ("/", "/warnings", "/warnings/stream", "/page/app.js"):
            status, _, _ = await shop.ask(path)
            assert status == 401
            asked = shop.headers.getall("WWW-Authenticate")
            assert asked[0] == "Bearer"
            assert asked[1].startswith("Basic")
        for wrong in ("Basic !", "Basic Og==", "Basic", "Bearer x"):
            assert (await shop.ask("/status", headers={"Authorization": wrong}))[0] == 401
        url = f"http://any:{TOKEN}@127.0.0.1:{shop.port}/page/app.js"
        async with shop.session.get(url) as answer:
            assert answer.status == 200


# --- the stream


async def listen(
    port: int, last: str | None = None, query: str = "", **headers: str
) -> AsyncIterator[dict[str, str]]:
    """The events of a stream, each by field."""
    if last is not None:
        headers["Last-Event-ID"] = last
    url = f"http://127.0.0.1:{port}/warnings/stream{query}"
    async with (
        asyncio.timeout(20),
        ClientSession(timeout=ClientTimeout(20)) as session,
        session.get(url, headers=headers) as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        one: dict[str, str] = {}
        async for line in answer.content:
            name, _, value = line.decode().rstrip("\n").partition(":")
            if name:
                one[name] = value.strip()
            elif one:
                yield one
                one = {}


async def events(port: int, count: int, **options: Any) -> list[dict[str, str]]:
    """The first events of a stream."""
    found: list[dict[str, str]] = []
    async with aclosing(listen(port, **options)) as stream:
        async for one in stream:
            found.append(one)
            if len(found) == count:
                break
    return found


def ids_of(found: list[dict[str, str]]) -> list[str]:
    return [json.loads(one["data"])["warning_id"] for one in found if one["event"] != "begin"]


async def test_a_stream_goes_on_after_the_last_event_at_any_worker() -> None:
    async with served() as shop:
        await filled(shop)
        total = len(SILENT) + 3
        all_of_them = await events(shop.port, total + 1, query="?from=start")
        assert all_of_them[0]["event"] == "begin"
        ids = ids_of(all_of_them)
        assert len(set(ids)) == len(ids) == total
        for cut in (0, 1, total // 2, total - 1):
            rest = await events(shop.port, total + 1 - cut, last=all_of_them[cut]["id"])
            assert ids_of(rest) == ids[cut:]


async def test_a_stream_without_an_id_tells_what_comes_from_now_on() -> None:
    async with served() as shop:
        await filled(shop)
        async with aclosing(listen(shop.port)) as stream:
            assert (await anext(stream))["event"] == "begin"
            await shop.apply([an_order(SILENT[3], 62)])
            shop.clock.advance(2_000)
            heard = await anext(stream)
        assert heard["event"] == "recovered"
        assert json.loads(heard["data"])["user_id"] == SILENT[3]


async def test_what_is_no_longer_kept_is_told_as_a_gap() -> None:
    async with served() as shop:
        await filled(shop)
        first = (await events(shop.port, 1, query="?from=start"))[0]["id"]
        for kept in shop.store._partitions.values():
            for _ in range(min(2, len(kept.feed))):
                kept.feed.popleft()
        shop.clock.advance(2_000)
        gap = (await events(shop.port, 2, last=first))[1]
        assert gap["event"] == "gap"
        assert json.loads(gap["data"])["missed"] == 2


async def test_an_id_that_is_none_is_refused() -> None:
    async with served() as shop:
        await shop.apply([])
        for wrong in ("x", "", "1.2.-3", "1" * 30):
            status, _, told = await shop.ask("/warnings/stream", headers={"Last-Event-ID": wrong})
            assert status == 422, wrong
            assert told["errors"][0]["field"] == "Last-Event-ID"
        assert streaming.read_position("1.2.3") == [1, 2, 3]


async def test_the_stream_asks_for_the_token() -> None:
    async with served(TOKEN) as shop:
        await shop.apply([])
        assert (await events(shop.port, 1, **BEARER))[0]["event"] == "begin"


async def slow_reader(port: int) -> socket.socket:
    """Asks for all that is kept, and reads nothing of it."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    one.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(one, ("127.0.0.1", port))
    asked = b"GET /warnings/stream?from=start HTTP/1.0\r\nHost: localhost\r\n\r\n"
    await loop.sock_sendall(one, asked)
    return one


async def read_on(one: socket.socket) -> bytes:
    """All that it is sent, until it is cut off."""
    loop, found = asyncio.get_running_loop(), b""
    with one, suppress(ConnectionResetError):
        async with asyncio.timeout(20):
            while data := await loop.sock_recv(one, 65_536):
                found += data
    return found


async def test_a_slow_reader_is_dropped_and_told_so_and_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streaming, "LOOK_S", 0.01)
    monkeypatch.setattr(streaming, "SLOW_S", 0.5)
    # As little as the kernel can be told to hold for a reader: so that its slowness is noticed.
    listener = listening("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    many = [f"silent {n:03}" for n in range(400)]
    async with served(listener=listener) as shop:
        await shop.apply(by_time(*(every(user, 4, 4, 5_000) for user in many)), until_day=40)
        shop.clock.advance(2_000)
        slow = await slow_reader(shop.port)
        # While it holds still, others read all there is, and what comes.
        assert len(ids_of(await events(shop.port, len(many) + 1, query="?from=start"))) == len(many)
        async with aclosing(listen(shop.port)) as stream:
            assert (await anext(stream))["event"] == "begin"
            while "stream.dropped" not in caplog.text:
                await asyncio.sleep(0.01)
            heard = await read_on(slow)
            await shop.apply([an_order(many[3], 62)])
            shop.clock.advance(2_000)
            assert (await anext(stream))["event"] == "recovered"
        assert heard.endswith(b'\n\nevent: dropped\ndata: {"reason":"too slow"}\n\n')
        read = heard.count(b"event: warning")
        assert 0 < read < len(many)
        # It goes on where it left off.
        last = heard.rpartition(b"\nid: ")[2].partition(b"\n")[0].decode()
        rest = await events(shop.port, len(many) + 2 - read, last=last)
        assert not any(one in heard.decode() for one in ids_of(rest))
