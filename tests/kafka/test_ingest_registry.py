"""Records of a real schema registry, Apicurio, brought in: what the loopback one stands for in
`tests/end_to_end/test_ingest.py`."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from streamer.records import Message
from tests.conftest import required
from tests.kafka.conftest import Deploy
from tests.support.schemas.apicurio import Apicurio
from tests.support.schemas.loopback import ORDER_AVRO, avro, prefixed
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.ingesting import (
    ingested,
    ingester,
    make_raw_topic,
    order_of,
    raw_topic,
)

pytestmark = pytest.mark.kafka

DRAFT_7 = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'

PROTO = """
syntax = "proto3";
import "money.proto";
message Order { string order_id = 1; string user_id = 2; int64 ts = 3; Money amount = 4; }
"""
MAPPING = 'order_id = "order_id"\nuser_id = "user_id"\nts = { path = "ts", format = "epoch-ms" }\n'


@pytest.fixture(scope="module")
def registry() -> Iterator[Apicurio]:
    with required(Apicurio()) as running:
        yield running


def register(registry: Apicurio, subject: str, **schema: Any) -> int:
    """The id of a schema."""
    request = urllib.request.Request(
        f"{registry.url}/subjects/{subject}/versions",
        data=json.dumps(schema).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(json.load(answer)["id"])


async def test_avro_and_json_schema_of_a_real_registry(
    apache_kafka: ApacheKafka, registry: Apicurio, deploy: Deploy
) -> None:
    in_avro = register(registry, "orders-value", schema=json.dumps(ORDER_AVRO))
    in_json = register(registry, "json-value", schemaType="JSON", schema=DRAFT_7)
    deployment = deploy("apicurio", apache_kafka, CLV_SCHEMA_REGISTRY_URL=registry.url)
    await make_raw_topic(deployment)
    fields = {"user_id": "kim", "type": "order", "amount": Decimal("12.50")}
    at = datetime(2025, 1, 1, tzinfo=UTC)
    values = [avro(in_avro, {"order_id": str(n), "ts": at, **fields}) for n in range(20)]
    plain = {"order_id": "j", "user_id": "ada", "ts": 1_735_689_600_000, "amount": 1}
    values.append(prefixed(in_json, json.dumps(plain).encode()))
    values.append(prefixed(9_999, b"of a schema that is not there"))
    raw = raw_topic(deployment)
    await deployment.publish([Message(raw, b"%d" % n, v) for n, v in enumerate(values)])
    ingester(deployment)
    records = await ingested(deployment, 21)
    assert sorted(order_of(record).amount_minor for record in records) == [100, *[1250] * 20]
    letters: list[Any] = []
    while not letters:
        letters = await deployment.read(deployment.settings.dead_letter_topic)
    assert [dict(letter.headers)["reason"] for letter in letters] == [b"unknown_schema"]


async def test_protobuf_with_an_import_of_a_real_registry(
    apache_kafka: ApacheKafka, registry: Apicurio, deploy: Deploy, tmp_path: Any
) -> None:
    money = 'syntax = "proto3"; message Money { int64 cents = 1; }'
    register(registry, "money", schemaType="PROTOBUF", schema=money)
    named = [{"name": "money.proto", "subject": "money", "version": 1}]
    number = register(registry, "p", schemaType="PROTOBUF", schema=PROTO, references=named)
    mapping = tmp_path / "mapping.toml"
    amount = 'amount = { path = "amount.cents", unit = "minor" }\ncurrency = "USD"\n'
    mapping.write_text(MAPPING + amount)
    deployment = deploy("protobuf", apache_kafka, CLV_SCHEMA_REGISTRY_URL=registry.url)
    await make_raw_topic(deployment)
    # order_id "7", user_id "kim", ts 1735689600000, amount { cents 1250 }, by hand.
    body = b"\x0a\x017\x12\x03kim\x18\x80\xf8\xa5\xf9\xc1\x32" + b"\x22\x03\x08\xe2\x09"
    await deployment.publish([Message(raw_topic(deployment), b"7", prefixed(number, b"\0" + body))])
    ingester(deployment, f"--mapping={mapping}")
    (record,) = await ingested(deployment, 1)
    order = order_of(record)
    assert (order.order_id, order.user_id, order.amount_minor) == ("7", "kim", 1250)
    assert order.ts_ms == 1_735_689_600_000
