"""The prediction API over HTTP, on states that the stream's own code has written."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import pytest
from msgspec.structs import replace as replace_risk

from features.columns.rhythm import GROUPS
from features.facts.state import EMPTY, apply
from features.times import UTC, Calendar
from streamer.http import predict as api_module
from streamer.http.requests import MAX_BODY_BYTES
from streamer.http.schema import instant_of
from streamer.pipeline.partition import PartitionRunner
from streamer.pipeline.partitioner import partition_for
from streamer.records import LogRange, MemoryPublisher, Partition
from streamer.store.base import Stored
from streamer.store.memory import MemoryStore
from streamer.web import server
from tests.support.fakes import (
    RISK,
    LinearModel,
    an_order,
    at,
    every,
    facts_of,
    judge,
    pipeline,
    records,
    scorer,
)
from tests.support.served import (
    BEARER,
    NOW_MS,
    PARTITIONS,
    TOKEN,
    PartedStore,
    a_pipeline,
    explained_scorer,
    of_features,
    of_orders,
    request,
    served,
)

ODD: Final = ("ada", "Zoë Ünal", "a/b", "100%", "a b+c", "x?y#z", "..", "顾客", "{id}", "a%2Fb")


# --- POST /predict --------------------------------------------------------------------------------


async def test_records_are_scored_as_the_stream_scores_them_and_in_their_order() -> None:
    histories = [every("ada", 9, 8), every("bob", 3, 20, 90), every("eve", 9, 1, 200)]
    async with served() as api:
        found = await api.predict(
            *(of_orders(history) for history in histories),
            *(of_features(history, at(70)) for history in histories),
            as_of=at(70),
        )
    pairs = [(facts_of(history), at(70)) for history in histories]
    scores = explained_scorer().scores(pairs)
    for one, score in zip(found, [*scores, *scores], strict=True):
        assert one["clv"] == score.clv_minor / 100
        assert one["churn_probability"] == score.churn_probability
        amounts = [one["baseline"], *(part["amount"] for part in one["contributions"])]
        assert sum(Decimal(str(amount)) for amount in amounts) == Decimal(str(one["clv"]))
        assert (one["currency"], one["horizon_days"]) == ("USD", 40)
        assert one["model_version"] == "fake-1"
    assert [one["as_of"] for one in found] == ["2025-03-12T00:00:00Z"] * 3 + [None] * 3
    assert len({one["segment"] for one in found}) > 1


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_a_clv_is_of_the_days_of_the_models_zone(zone: str) -> None:
    history = every("ada", 9, 8)
    for calendar in (Calendar(zone), UTC):
        by = scorer(calendar=calendar)
        async with served() as api:
            api.pipelines.append(pipeline(judge(by=by)))
            found = await api.predict(of_orders(history), as_of=at(70.49))
            shown = await api.predict(of_orders(history), as_of=at(70.51))
        for [one], day in ((found, 70.49), (shown, 70.51)):
            facts = EMPTY
            for order in history:
                facts = apply(facts, order, calendar=calendar).state
            expected = by.scores([(facts, at(day))])[0]
            assert one["clv"] == expected.clv_minor / 100


async def test_p_churn_is_by_the_customers_own_gaps_and_null_where_nobody_sent_them() -> None:
    history = every("ada", 9, 8)
    by = replace(scorer(sure_days=20), risk=replace_risk(RISK, means=(0.0,) * len(RISK.low)))
    async with served() as api:
        api.pipelines.append(pipeline(judge(by=by)))
        of_ada, ready = await api.predict(
            of_orders(history, as_of=at(70)), of_features(history, at(70))
        )
    expected = by.scores([(facts_of(history), at(70))])[0].churn_probability
    assert of_ada["churn_probability"] == expected
    odds = [of_ada["churn_baseline"], expected]
    logs = [math.log(p / (1 - p)) for p in odds]
    added = sum(part["log_odds"] for part in of_ada["churn_contributions"])
    assert logs[0] + added == pytest.approx(logs[1], abs=1e-3)
    assert {part["group"] for part in of_ada["churn_contributions"]} == set(GROUPS)
    for name in ("churn_probability", "churn_baseline", "churn_contributions"):
        assert ready[name] is None
    assert ready["clv"] == of_ada["clv"]


async def test_the_score_is_that_of_the_scores_topic() -> None:
    history = every("ada", 9, 8)
    publisher = MemoryPublisher()
    runner = PartitionRunner(Partition("orders", 0), MemoryStore(), publisher, a_pipeline())
    await runner.claim(LogRange(0, len(history), 1))
    await runner.process(records(history))
    said = [json.loads(message.value or b"") for message in publisher.of("clv-scores")]
    async with served() as api:
        found = await api.predict(
            *(
                of_orders([order for order in history if order.ts_ms <= as_of_ms], as_of=as_of_ms)
                for as_of_ms in (instant_of(score["as_of"]) for score in said)
            )
        )
    for one, score in zip(found, said, strict=True):
        for name in ("clv", "segment", "churn_probability", "as_of", "model_version"):
            assert one[name] == score[name]


@pytest.mark.parametrize(
    "record",
    [lambda order: of_orders([order]), lambda order: of_features([order], order.ts_ms)],
    ids=["orders", "features"],
)
async def test_a_thousand_records_take_one_call_of_the_model(record: Any) -> None:
    calls: list[int] = []

    class Counting(LinearModel):
        def clv(self, X: Any) -> Any:
            calls.append(len(X))
            return super().clv(X)

    async with served() as api:
        api.pipelines.append(pipeline(judge(by=replace(scorer(), model=Counting()))))
        found = await api.predict(
            *(record(an_order(f"u{n}", 1)) for n in range(1_000)), contributions=False
        )
    assert len(found) == 1_000
    assert calls == [1_000]
    assert found[0]["contributions"] is None


async def test_another_model_answers_from_the_next_request_on() -> None:
    record = of_orders([an_order("ada", 1)])
    async with served() as api:
        (before,) = await api.predict(record)
        api.pipelines.append(pipeline(judge(by=scorer(version="fake-2"))))
        (after,) = await api.predict(record)
        assert (before["model_version"], after["model_version"]) == ("fake-1", "fake-2")
        # It names no typical customer.
        assert after["contributions"] is after["baseline"] is None


async def test_what_is_wrong_is_a_problem_that_names_each_fault() -> None:
    bad = of_orders([an_order("ada", 1)])
    bad["orders"][0]["amount"] = -5
    async with served() as api:
        status, kind, told = await api.post(request(of_orders([an_order("eve", 1)]), bad, {}))
        assert (status, kind) == (422, "application/problem+json")
        assert (told["title"], told["status"]) == ("Unprocessable Entity", 422)
        assert [error["pointer"] for error in told["errors"]] == [
            "#/records/1/orders/0/amount",
            "#/records/2",
        ]
        assert told["errors"][0]["record"] == 1
        assert told["errors"][0]["value"] == "-5"
        assert 'send what goes back as type "refund"' in told["errors"][0]["detail"]
        assert api.answered == [("predict", 422)]


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": "application/json; charset=utf-8"}, 422),
        (gzip.compress(b"{}", mtime=0), {"Content-Encoding": "gzip"}, 415),
        (b"no gzip", {"Content-Encoding": "deflate"}, 415),
        (b"{}", {"Content-Encoding": "identity"}, 422),
        (b"{}", {"Host": "evil.example"}, 421),
        (b"{}", {"Host": "127.0.0.1.evil.example:6066"}, 421),
        (b"{}", {"Host": "localhost:1"}, 422),
        (b"{}", {"Host": "[::1]:1"}, 422),
    ],
)
async def test_what_cannot_be_taken_has_its_status(
    data: bytes, headers: dict[str, str], status: int
) -> None:
    async with served() as api:
        found = await api.post(data, **headers)
        assert found[:2] == (status, "application/problem+json")
        if status == 415 and "Content-Type" in headers:
            assert api.headers["Accept-Post"] == "application/json"


async def test_a_body_too_large_is_refused_and_one_of_no_length_too() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 500_000 + 1):
            yield b" " * 500_000

    async with served() as api:
        json_ = {"Content-Type": "application/json"}
        assert (await api.ask("/predict", "POST", data=chunks(), headers=json_))[0] == 411
        data = io.BytesIO(b" " * (MAX_BODY_BYTES + 1))
        assert (await api.ask("/predict", "POST", data=data, headers=json_))[0] == 413
        data = io.BytesIO(b" " * MAX_BODY_BYTES)
        assert (await api.ask("/predict", "POST", data=data, headers=json_))[0] == 400


@pytest.mark.parametrize("weight", [0.1, 1e6, 1e300], ids=["large", "no integer", "infinite"])
async def test_features_out_of_the_model_s_range_are_named(weight: float) -> None:
    tame, wild = (of_features([an_order("ada", 1)], at(2)) for _ in range(2))
    tame["features"]["net_minor_90d"] = 0.0
    wild["features"]["net_minor_90d"] = 1e15
    by = scorer(LinearModel({"net_minor_90d": weight}))
    async with served() as api:
        api.pipelines.append(pipeline(judge(by=by)))
        status, _, told = await api.post(request(tame, wild))
        assert status == 422
        assert [error["record"] for error in told["errors"]] == [1]


async def test_without_a_model_it_says_when_to_come_back() -> None:
    async with served() as api:
        api.pipelines.append(None)
        for path, method in (("/predict", "POST"), ("/customers/ada", "GET")):
            status, _, told = await api.ask(path, method, json={})
            assert (status, told["detail"]) == (503, "the model is being read")
            assert int(api.headers["Retry-After"]) > 0


async def test_too_many_requests_at_once_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api_module, "MAX_WAITING", 2)
    go_on, first = threading.Event(), [True]

    class Slow(LinearModel):
        def clv(self, X: Any) -> Any:
            if first:
                first.pop()
                go_on.wait(10)
            return super().clv(X)

    record = of_orders([an_order("ada", 1)])
    async with served() as api:
        api.pipelines.append(pipeline(judge(by=replace(scorer(), model=Slow()))))
        await api.apply([an_order("ada", 1)])
        held = [asyncio.create_task(api.predict(record)) for _ in range(2)]
        async with asyncio.timeout(10):
            while api.api.waiting < 2:
                await asyncio.sleep(0.01)
        status, _, told = await api.post(b"{}")
        assert (status, told["detail"]) == (503, "busy; ask again in a second")
        assert api.headers["Retry-After"] == "1"
        monkeypatch.setattr(api_module, "MAX_WAITING", 3)
        monkeypatch.setattr(api_module, "TURN_WITHIN_S", 0.01)
        assert (await api.post(b"{}"))[0] == 503
        # Customers need not wait for records.
        assert (await api.ask("/customers/ada"))[0] == 200
        go_on.set()
        await asyncio.gather(*held)
        assert (await api.post(b"{}"))[0] == 422


async def test_uploads_that_stall_take_no_place_and_are_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 4000000\r\n\r\n{"
    )
    record = of_orders([an_order("ada", 1)])
    async with served() as api:
        await api.apply([an_order("ada", 1)])
        stalled = []
        for _ in range(api_module.MAX_WAITING + 1):
            stalled.append(await asyncio.open_connection("127.0.0.1", api.port))
            stalled[-1][1].write(head)
        assert (await api.ask("/customers/ada"))[0] == 200
        assert (await api.post(request(record)))[0] == 200
        assert api.api.waiting == 0
        for _, writer in stalled:
            writer.close()
        monkeypatch.setattr(server, "BODY_S", 0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head)
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


def _keys(count: int) -> bytes:
    return b",".join(b'"k%d":1' % number for number in range(count))


def _list_of(what: bytes, count: int = 299_000) -> bytes:
    return b"[" + b",".join([what] * count) + b"]"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (lambda: b"{" + _keys(330_000) + b"}", b"422"),
        (lambda: b'{"records":[{"features":{' + _keys(330_000) + b"}}]}", b"422"),
        (lambda: b'{"records":[{"features":{' + _keys(299_000) + b"}}]}", b"422"),
        (lambda: b'{"records":[{"orders":[{' + _keys(299_000) + b"}]}]}", b"422"),
        (lambda: b'{"records":' + _list_of(b"{}") + b"}", b"422"),
        (lambda: b'{"records":[{"orders":' + _list_of(b"{}") + b"}]}", b"422"),
        (lambda: b'{"records":[{"orders":"' + rb"\u00e9" * 690_000 + b'"}]}', b"422"),
        (lambda: request(of_orders([an_order("ada", n % 100) for n in range(20_000)])), b"200"),
    ],
    ids=["keys", "features", "fewer", "order", "records", "orders", "escapes", "good"],
)
async def test_no_body_keeps_the_event_loop_waiting_for_50_ms(
    body: Callable[[], bytes], status: bytes
) -> None:
    """In processor time of this process: what the loop waits for others on the machine is not ours.

    The best of three, since a collection of garbage falls where it likes."""
    data = body()
    head = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(data)
    )

    async def longest_wait(port: int) -> float:
        asking = asyncio.create_task(asyncio.to_thread(_asked, port, head + data))
        longest, since = 0.0, time.process_time()
        while not asking.done():
            await asyncio.sleep(0.001)
            longest, since = max(longest, (now := time.process_time()) - since), now
        assert (await asking)[9:12] == status
        return longest

    async with served() as api:
        await api.post(request(of_orders([an_order("ada", 1)])))  # what is imported once
        assert min([await longest_wait(api.port) for _ in range(3)]) < 0.05


def _asked(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        return connection.makefile("rb").readline()


async def test_bodies_of_all_requests_together_are_bounded() -> None:
    async with served() as api:
        api.api.bodies = server.Bodies(100, 150)
        record = request(of_orders([an_order("ada", 1)]))
        assert len(record) > 100
        assert (await api.post(record))[0] == 413
        api.api.bodies = server.Bodies(1_000, 100)
        status, kind, _ = await api.post(record)
        assert (status, kind) == (503, "application/problem+json")
        assert api.headers["Retry-After"] == "1"
        api.api.bodies = server.Bodies(1_000, 1_000)
        # What was held by one is free for the next.
        for _ in range(10):
            assert (await api.post(record))[0] == 200


async def test_with_a_token_strangers_get_nothing() -> None:
    async with served(TOKEN) as api:
        for path, method in (
            ("/predict", "POST"),
            ("/customers/a", "GET"),
            ("/openapi.json", "GET"),
        ):
            assert (await api.ask(path, method))[0] == 401
        name = {"Host": "clv.example", **BEARER}
        assert (await api.ask("/customers/a", headers=name))[0] == 404
        assert (await api.ask("/openapi.json", headers=name))[0] == 200


# --- GET /customers/{id} --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [None, 0, 1, 2])
async def test_a_customer_is_found_in_whichever_partition(number: int | None) -> None:
    history = every("ada", 9, 8)
    async with served() as api:
        await api.apply(history, number)
        found = await api.customer("ada")
        home = partition_for(b"ada", PARTITIONS) if number is None else number
        assert found["partition"] == f"orders-{home}"
        assert found["as_of"] == "2025-05-01T00:00:00Z"
        (score,) = explained_scorer().scores([(facts_of(history), NOW_MS)])
        assert found["clv"] == score.clv_minor / 100
        assert found["orders"] == 8
        assert found["frequency"] == 7
        assert found["windows"][3] == {"days": 365, "orders": 8, "net_revenue": 400.0}
        assert found["contributions"]


@pytest.mark.parametrize("user_id", ODD)
async def test_odd_ids_are_found_percent_encoded(user_id: str) -> None:
    async with served() as api:
        await api.apply([an_order(user_id, 1)])
        assert (await api.customer(user_id))["user_id"] == user_id


@pytest.mark.parametrize(
    ("path", "status"),
    [("nobody", 404), ("", 404), ("a/b", 404), ("%ff", 422), ("x" * 129, 422), ("%00", 404)],
)
async def test_who_is_not_there_is_a_problem(path: str, status: int) -> None:
    async with served() as api:
        await api.apply([an_order("ada", 1)])
        assert (await api.ask(f"/customers/{path}"))[:2] == (status, "application/problem+json")


async def test_the_instant_can_be_chosen() -> None:
    async with served() as api:
        await api.apply([an_order("ada", 1), an_order("bob", 30)], 0)
        answers = {
            wanted: (await api.customer("ada", f"?as_of={wanted}"))["as_of"]
            for wanted in ("now", "event-time", str(at(3)), "2025-01-04T02:00:00%2B02:00")
        }
        assert list(answers.values()) == [
            "2025-05-01T00:00:00Z",
            "2025-01-31T00:00:00Z",
            "2025-01-04T00:00:00Z",
            "2025-01-04T00:00:00Z",
        ]
        for wanted in ("soon", "17", str(at(0)), "9" * 30, ""):
            status, _, told = await api.ask(f"/customers/ada?as_of={wanted}")
            assert status == 422
            assert told["errors"][0]["field"] == "as_of"


async def test_an_open_warning_is_shown_until_it_is_answered_or_over() -> None:
    silent = [*every("ada", 5, 8, 1_000), an_order("bob", 75)]
    async with served() as api:
        await api.apply(silent, 0)
        found = await api.customer("ada", "?as_of=event-time")
        assert found["open_warning"] == found["last_warning"]
        assert found["open_warning"]["trigger"] == "silence"
        assert len(found["open_warning"]["warning_id"]) == 32
        before = await api.customer("ada", f"?as_of={at(36)}")
        assert before["open_warning"] is None
        over = await api.customer("ada")
        assert over["open_warning"] is None
        assert over["last_warning"]["open"] is False
    async with served() as api:
        await api.apply([*silent, an_order("ada", 76)], 0)
        found = await api.customer("ada", "?as_of=event-time")
        assert found["open_warning"] is None
        assert found["last_warning"]["as_of"]


async def test_a_store_that_is_away_or_empty_says_when_to_come_back() -> None:
    async with served() as api:
        for away, count in ((True, PARTITIONS), (False, None)):
            api.store.away, api.store.count = away, count
            status, _, told = await api.ask("/customers/ada")
            assert status == 503
            assert int(api.headers["Retry-After"]) > 0
            assert "ada" not in told["detail"]


async def test_a_damaged_customer_is_a_problem_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Damaged(PartedStore):
        async def load(self, partition: Partition, user_ids: Any) -> list[Stored]:
            return [Stored(b"\1damage", None)]

    async with served() as api:
        api.store.__class__ = Damaged
        status, kind, told = await api.ask("/customers/ada")
        assert (status, kind) == (500, "application/problem+json")
        assert "damaged" in told["detail"]
    assert "Traceback" not in caplog.text
    assert "ada" not in caplog.text
