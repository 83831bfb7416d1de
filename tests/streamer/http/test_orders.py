"""`POST /orders`: who may send, what is taken, what is told, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from features.events.orders import Order, OrderRules, Rejected, parse
from streamer.clock import ManualClock
from streamer.http import orders as module
from streamer.http.orders import MAX_ORDERS, OrdersPage, OrderTerms
from streamer.records import MemoryPublisher
from streamer.web.server import GuardedWeb, listening
from tests.support.webhooks import SECRET, shopify_headers, shopify_order, stripe_headers

TOKEN = "a-token-of-the-web-pages"
NOW_MS = 1_750_000_000_000
RULES = OrderRules(currency="USD")


@dataclass
class Shop:
    """A server with the page, and what asks it."""

    publisher: MemoryPublisher
    session: ClientSession
    port: int
    answered: list[tuple[str, int]]

    async def send(
        self, body: bytes | object, query: str = "", token: str | None = TOKEN, **headers: str
    ) -> tuple[int, Any]:
        given = {"Content-Type": "application/json"}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.raw(data, query, given | headers)

    async def raw(self, data: bytes, query: str, headers: dict[str, str]) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}/orders{query}"
        async with self.session.post(url, data=BytesIO(data), headers=headers) as answer:
            return answer.status, json.loads(await answer.read())

    @property
    def orders(self) -> list[Order]:
        """The orders that went out, as a worker reads them."""
        found = [parse(m.value, m.key, None, RULES) for m in self.publisher.of("orders")]
        assert not any(isinstance(one, Rejected) for one in found)
        return found  # type: ignore[return-value]


@asynccontextmanager
async def shop(token: str | None = TOKEN, secrets: Any = None) -> AsyncIterator[Shop]:
    web = GuardedWeb(token)
    publisher, answered = MemoryPublisher(), list[tuple[str, int]]()
    known = {"shopify": SECRET, "stripe": SECRET} if secrets is None else secrets
    terms = OrderTerms(RULES, "orders", "dead", known)

    def heard(page: str, status: int) -> None:
        answered.append((page, status))

    OrdersPage(web, publisher, terms, heard, ManualClock(NOW_MS)).add()
    await web.start_server(listening("127.0.0.1", 0))
    assert web.bound is not None
    async with ClientSession(timeout=ClientTimeout(20)) as session:
        try:
            yield Shop(publisher, session, web.bound[1], answered)
        finally:
            await web.stop_server()


def order(number: int = 1, **fields: Any) -> dict[str, Any]:
    record = {"order_id": str(number), "user_id": "kim", "ts": "2025-01-01T10:00:00Z"}
    return {**record, "amount": 12.5, **fields}


async def test_an_order_and_a_list_of_them_go_out_keyed_by_customer() -> None:
    async with shop() as at:
        assert await at.send(order()) == (200, {"accepted": 1, "skipped": 0, "set_aside": 0})
        status, told = await at.send([order(2), order(3, user_id="ada")])
        assert (status, told["accepted"]) == (200, 2)
        assert [one.order_id for one in at.orders] == ["1", "2", "3"]
        assert at.answered == [("orders", 200)] * 2


async def test_every_fault_is_told_by_its_place_and_nothing_goes_out() -> None:
    async with shop() as at:
        body = [order(), order(2, ts="yesterday"), order(3, amount=-1), {"order_id": "4"}]
        status, told = await at.send(body)
        assert (status, told["detail"]) == (422, "3 faults")
        assert [(one["pointer"], one["order"]) for one in told["errors"]] == [
            ("#/1/ts", 1),
            ("#/2/amount", 2),
            ("#/3/user_id", 3),
        ]
        assert at.publisher.messages == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[{]", 400),
        (b"\xff", 400),
        (b"[" * 200_000, 400),
        (b"[]", 422),
        (b"7", 422),
        (b"[7]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b"[" + b"{}," * MAX_ORDERS + b"{}]", 422),
        (b" " * (1 << 20) + b"{}", 413),
    ],
)
async def test_what_is_no_order_is_refused(body: bytes, status: int) -> None:
    async with shop() as at:
        assert (await at.send(body))[0] == status
        assert at.publisher.messages == []


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?preset=nobodys", {}, 422),
        ("", {"Content-Type": "text/plain"}, 415),
        ("", {"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_a_request_of_another_kind_is_refused(
    query: str, headers: dict[str, str], status: int
) -> None:
    async with shop() as at:
        assert (await at.send(order(), query, **headers))[0] == status


async def test_a_preset_reads_a_systems_own_records() -> None:
    async with shop() as at:
        body = [shopify_order(7), shopify_order(8, test=True)]
        status, told = await at.send(body, "?preset=shopify")
        assert (status, told) == (200, {"accepted": 1, "skipped": 1, "set_aside": 0})
        (taken,) = at.orders
        assert (taken.order_id, taken.amount_minor, taken.updated_ms > 0) == ("7", 1250, True)
        status, told = await at.send(order(), "?preset=shopify")
        assert (status, told["errors"][0]["pointer"]) == (422, "#")


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_without_the_token_nobody_sends_orders(token: str | None) -> None:
    async with shop(token) as at:
        for given in (None, "wrong", ""):
            assert (await at.send(order(), token=given))[0] == 401
        assert at.publisher.messages == []


# --- webhooks -----------------------------------------------------------------------------------


async def test_a_signed_webhook_needs_no_token() -> None:
    charge = {
        "object": "charge",
        "id": "ch_1",
        "status": "succeeded",
        "paid": True,
        "captured": True,
        "created": NOW_MS // 1000 - 60,
        "amount": 1999,
        "amount_refunded": 0,
        "currency": "usd",
        "customer": "cus_1",
    }
    event = {"type": "charge.succeeded", "created": NOW_MS // 1000, "data": {"object": charge}}
    for token in (None, TOKEN):
        async with shop(token) as at:
            body = json.dumps(shopify_order(7)).encode()
            assert (await at.raw(body, "", shopify_headers(body)))[1]["accepted"] == 1
            body = json.dumps(event).encode()
            status, told = await at.raw(body, "", stripe_headers(body, NOW_MS // 1000))
            assert (status, told["accepted"]) == (200, 1)
            assert [one.amount_minor for one in at.orders] == [1250, 1999]


@pytest.mark.parametrize("secrets", [{}, {"shopify": "another-secret-of-it", "stripe": "x" * 20}])
async def test_who_signs_with_another_secret_is_not_heard(secrets: dict[str, str]) -> None:
    async with shop(secrets=secrets) as at:
        body = json.dumps(shopify_order(7)).encode()
        for headers in (shopify_headers(body), stripe_headers(body, NOW_MS // 1000)):
            # The token does not help: who signs is asked for the signature.
            for more in ({}, {"Authorization": f"Bearer {TOKEN}"}):
                assert (await at.raw(body, "", headers | more))[0] == 401
        assert at.publisher.messages == []


async def test_a_signature_is_of_one_body_and_of_now() -> None:
    async with shop() as at:
        body = json.dumps(shopify_order(7)).encode()
        headers = shopify_headers(body)
        assert (await at.raw(body + b" ", "", headers))[0] == 401
        assert (await at.raw(body, "", stripe_headers(body, NOW_MS // 1000 - 301)))[0] == 401
        assert (await at.raw(body, "?preset=stripe", headers))[0] == 422


async def test_a_webhook_that_comes_again_has_the_same_ids() -> None:
    async with shop() as at:
        refund = {"id": 5, "created_at": "2025-01-02T10:00:00Z", "transactions": [
            {"kind": "refund", "status": "success", "amount": "2.00"}]}  # fmt: skip
        body = json.dumps(shopify_order(7, refunds=[refund])).encode()
        for _ in range(2):
            assert (await at.raw(body, "", shopify_headers(body)))[1]["accepted"] == 2
        assert at.orders[:2] == at.orders[2:]


async def test_a_genuine_webhook_that_breaks_a_rule_is_set_aside_and_answered_well() -> None:
    async with shop() as at:
        guest = json.dumps(shopify_order(7, customer=None)).encode()
        for body in (guest, b"{"):
            status, told = await at.raw(body, "", shopify_headers(body))
            assert (status, told) == (200, {"accepted": 0, "skipped": 0, "set_aside": 1})
        letters = at.publisher.of("dead")
        assert [letter.value for letter in letters] == [guest, b"{"]
        assert [dict(letter.headers)["reason"] for letter in letters] == [
            b"placeholder_user",
            b"not_json",
        ]
        assert dict(letters[0].headers)["sender"] == b"shopify"


# --- acknowledgements -----------------------------------------------------------------------------


async def test_without_the_brokers_ack_there_is_no_2xx() -> None:
    async with shop() as at:
        at.publisher.fail_next()
        status, told = await at.send(order())
        assert (status, "again" in told["detail"]) == (503, True)
        assert (await at.send(order()))[0] == 200
        body = b"{"
        at.publisher.fail_next()
        assert (await at.raw(body, "", shopify_headers(body)))[0] == 503


async def test_a_broker_that_does_not_answer_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ACKED_WITHIN_S", 0.01)
    async with shop() as at:

        async def publish(_: Any) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(at.publisher, "publish", publish)
        assert (await at.send(order()))[0] == 503


@pytest.mark.parametrize("text", ["0.07", "19.99", "999999999.99", "12.1", "0"])
async def test_money_is_taken_to_the_last_digit(text: str) -> None:
    async with shop() as at:
        assert (await at.send(json.dumps(order()).replace("12.5", text).encode()))[0] == 200
        assert at.orders[0].amount_minor == int(Decimal(text) * 100)
