"""A topic as it is, brought into the orders topic: on the embedded broker, and on Apache Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from streamer.records import Message
from tests.support.schemas.loopback import ORDER_AVRO, avro, prefixed, serving_schemas
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Servers
from tests.support.servers.ingesting import (
    MAPPING,
    assert_exact,
    ingested,
    ingester,
    make_raw_topic,
    order_of,
    raw_messages,
    raw_topic,
)

Deploy = Callable[..., Deployment]
BATCH = {"CLV_BATCH": "50"}


@pytest.fixture
def mapping(tmp_path: Path) -> str:
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    return f"--mapping={path}"


@pytest.fixture
def deploy(
    kafka: EmbeddedKafka | ApacheKafka, embedded_redis: EmbeddedRedis, tmp_path: Path
) -> Iterator[Deploy]:
    """Makes installations, of which no worker is started: their model is nobody's."""
    with ExitStack() as stack:

        def make(name: str, **variables: str) -> Deployment:
            servers = Servers(kafka, embedded_redis)
            model = tmp_path / "no-model"
            return stack.enter_context(Deployment(name, servers, model, tmp_path, **variables))

        yield make


async def test_records_under_any_key_become_orders_of_their_customers(
    deploy: Deploy, mapping: str
) -> None:
    deployment = deploy("ingest")
    await make_raw_topic(deployment)
    numbers = range(400)
    await deployment.publish(raw_messages(deployment, numbers))
    bad = [Message(raw_topic(deployment), b"k", b"{", (("trace", b"7"),))]
    await deployment.publish(bad)
    await deployment.publish(raw_messages(deployment, numbers[:50]))  # sent twice
    one = ingester(deployment, mapping)
    assert_exact(deployment, await ingested(deployment, 400), numbers)
    letters = []
    async with asyncio.timeout(30):
        while not letters:
            letters = await deployment.read(deployment.settings.dead_letter_topic)
    assert [(letter.key, letter.value) for letter in letters] == [(b"k", b"{")]
    assert letters[0].headers[0] == ("trace", b"7")
    assert dict(letters[0].headers)["source_topic"] == raw_topic(deployment).encode()
    assert await one.terminate() == 0
    # Started again it goes on where it ended: nothing comes twice.
    before = len(await deployment.read(deployment.settings.orders_topic))
    ingester(deployment, mapping)
    await deployment.publish(raw_messages(deployment, range(400, 450)))
    records = await ingested(deployment, 450)
    assert len(records) == before + 50


async def test_two_share_a_topic_and_one_is_killed(deploy: Deploy, mapping: str) -> None:
    deployment = deploy("ingest-two", **BATCH)
    await make_raw_topic(deployment)
    one = ingester(deployment, mapping)
    await deployment.logged(one, "partitions.assigned")
    await deployment.publish(raw_messages(deployment, range(600)))
    two = ingester(deployment, mapping)
    await deployment.logged(two, "partitions.assigned")
    await deployment.publish(raw_messages(deployment, range(600, 1_200)))
    one.kill()
    await deployment.publish(raw_messages(deployment, range(1_200, 1_500)))
    assert_exact(deployment, await ingested(deployment, 1_500), range(1_500))


async def test_a_limit_of_dead_letters_stops_it_where_it_stands(
    deploy: Deploy, mapping: str
) -> None:
    deployment = deploy("ingest-limit", CLV_DEAD_LETTER_MAX_RUN="5")
    await make_raw_topic(deployment, partitions=1)
    raw = raw_topic(deployment)
    await deployment.publish([Message(raw, b"k", b"{") for _ in range(20)])
    for _ in range(2):
        stopped = ingester(deployment, mapping)
        assert await stopped.ended(60.0) == 70
        assert "CLV_DEAD_LETTER_MAX_RUN=5" in stopped.log[-1]
    assert len(await deployment.read(deployment.settings.dead_letter_topic)) == (
        # Tansu keeps no notes with offsets, so there the count begins anew.
        5 if isinstance(deployment.servers.kafka, ApacheKafka) else 10
    )


ORDER = {"ts": datetime(2025, 1, 1, tzinfo=UTC), "amount": Decimal("12.50"), "type": "order"}


def avro_order(number: int, schema_id: int = 1, schema: Any = None, **more: Any) -> bytes:
    fields = {"order_id": str(number), "user_id": f"u{number % 5}", **ORDER, **more}
    return avro(schema_id, fields, schema)


async def test_records_of_a_registry_over_an_outage_a_change_and_unknown_ids(
    deploy: Deploy,
) -> None:
    later: dict[str, Any] = {
        **ORDER_AVRO,
        "fields": [{"name": "channel", "type": "string"}, *ORDER_AVRO["fields"]],
    }
    async with serving_schemas() as registry:
        registry.schemas |= {
            1: {"schema": json.dumps(ORDER_AVRO)},
            2: {"schema": json.dumps(later)},
            3: {"schema": "{}", "schemaType": "JSON"},
        }
        registry.status = 503
        deployment = deploy("ingest-avro", CLV_SCHEMA_REGISTRY_URL=registry.url)
        await make_raw_topic(deployment, partitions=1)
        raw = raw_topic(deployment)
        canonical = {"order_id": "j", "user_id": "kim", "ts": 1_735_689_600_000, "amount": 1}
        values = [
            *(avro_order(number) for number in range(20)),
            *(avro_order(number, 2, later, channel="web") for number in range(20, 40)),
            prefixed(3, json.dumps(canonical).encode()),
            prefixed(9, b"of a schema that nobody knows"),
            b"\1\0\0\0\1" + b"of an unknown kind",
            avro_order(40)[:-3],
            b"\0\0\0\0\1" + b"\xff" * 900_000,
            avro_order(41),
        ]
        await deployment.publish([Message(raw, b"%d" % n, v) for n, v in enumerate(values)])
        one = ingester(deployment)
        await deployment.logged(one, "outage.waiting")
        # Nothing is set aside while the registry is down.
        assert await deployment.read(deployment.settings.dead_letter_topic) == []
        registry.status = 200
        records = await ingested(deployment, 42)
        assert {order_of(record).amount_minor for record in records} == {1250, 100}
        letters = []
        async with asyncio.timeout(30):
            while len(letters) < 4:
                letters = await deployment.read(deployment.settings.dead_letter_topic)
        assert [dict(letter.headers)["reason"].decode() for letter in letters] == [
            "unknown_schema",
            "not_json",
            "not_decoded",
            "not_decoded",
        ]
        assert [letter.value for letter in letters] == values[41:45]
        # 1, 2 and 3 once each but for the outage; 9 twice.
        assert one.alive


async def test_the_pages_say_how_it_is(deploy: Deploy, mapping: str) -> None:
    port = free_port()
    deployment = deploy("ingest-pages", CLV_WEB_PORT=str(port))
    await make_raw_topic(deployment)
    await deployment.publish(raw_messages(deployment, range(10)))
    ingester(deployment, mapping)
    await ingested(deployment, 10)
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ok": True, "reasons": []})
        text = ""
        # Counted once the broker has said that it has them, a moment after they can be read.
        async with asyncio.timeout(30):
            while "clv_ingest_orders_total 10.0" not in text:
                async with session.get("/metrics") as answer:
                    text = await answer.text()
    assert 'clv_ingest_lag_records{partition="0"} 0.0' in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nothing-there"], "there is no topic"),
        (["ingest-refused-orders"], "is what ingest itself writes to"),
        (["x", "--preset", "nobodys"], "Invalid value for '--preset'"),
        (["x", "--preset", "shopify", "--mapping", "README.md"], "give one of them"),
        (["x", "--mapping", "README.md"], "is no TOML"),
    ],
)
async def test_what_cannot_be_read_is_refused_in_a_line(
    deploy: Deploy, arguments: list[str], why: str
) -> None:
    ran = await deploy("ingest-refused").run("ingest", *arguments)
    assert ran.code != 0
    assert why in ran.err
    assert "Traceback" not in ran.err
