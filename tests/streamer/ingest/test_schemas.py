"""What decodes records of a registry, and what a stranger's bytes can do to it."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.ingest.schemas import (
    AVRO,
    JSON,
    PROTOBUF,
    Decode,
    Schema,
    SchemaRefused,
    Undecodable,
    decoder,
    schema_id,
)
from tests.support.schemas.loopback import ORDER_AVRO, ORDER_PROTO, avro, prefixed

RECORD = {
    "order_id": "1",
    "user_id": "kim",
    "ts": datetime(2025, 1, 1, tzinfo=UTC),
    "amount": Decimal("12.50"),
    "type": "order",
}


@pytest.fixture(scope="module")
def decoders() -> dict[str, Decode]:
    return {
        AVRO: decoder(Schema(AVRO, json.dumps(ORDER_AVRO))),
        PROTOBUF: decoder(Schema(PROTOBUF, ORDER_PROTO)),
        JSON: decoder(Schema(JSON, "{}")),
    }


def varint(number: int) -> bytes:
    zigzag = number << 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes(out) + bytes([zigzag])


def test_only_a_zero_byte_and_four_more_are_a_prefix() -> None:
    assert schema_id(b"\0\0\0\1\0rest") == 256
    assert [schema_id(v) for v in (b"", b"\0\0\0\1", b'{"a": 1}', b"\1\0\0\0\1x")] == [None] * 4


def test_avro_keeps_every_digit_and_the_instant(decoders: dict[str, Decode]) -> None:
    assert decoders[AVRO](avro(1, RECORD)) == RECORD


def test_avro_has_the_schemas_that_it_names() -> None:
    money = {"type": "record", "name": "Money", "fields": [{"name": "cents", "type": "long"}]}
    order = {"type": "record", "name": "O", "fields": [{"name": "total", "type": "Money"}]}
    decode = decoder(Schema(AVRO, json.dumps(order), (("Money", Schema(AVRO, json.dumps(money))),)))
    whole = {"type": "record", "name": "O", "fields": [{"name": "total", "type": money}]}
    assert decode(avro(1, {"total": {"cents": 7}}, whole)) == {"total": {"cents": 7}}
    with pytest.raises(SchemaRefused, match="Money"):
        decoder(Schema(AVRO, json.dumps(order)))


def test_ids_of_avro_are_texts() -> None:
    listed = {"type": "array", "items": {"type": "string", "logicalType": "uuid"}}
    schema = {"type": "record", "name": "O", "fields": [{"name": "ids", "type": listed}]}
    number = uuid.uuid4()
    assert decoder(Schema(AVRO, json.dumps(schema)))(avro(1, {"ids": [number]}, schema)) == {
        "ids": [str(number)]
    }


def test_protobuf_finds_the_message_by_its_indexes(decoders: dict[str, Decode]) -> None:
    # Envelope.Order: index 0 in the file, 0 within it; field 1 "1", 3 a varint, 4 a double of 2.5.
    body = b"\x0a\x011" + b"\x18\x05" + b"\x21" + b"\0\0\0\0\0\0\x04\x40"
    path = varint(2) + varint(0) + varint(0)
    assert decoders[PROTOBUF](prefixed(1, path + body)) == {
        "order_id": "1",
        "user_id": "",
        "ts": "5",
        "amount": 2.5,
    }
    # The short form of the file's first message.
    assert decoders[PROTOBUF](prefixed(1, b"\0" + b"\x0a\x01t")) == {"trace": "t"}


def test_protobuf_has_the_files_that_it_imports() -> None:
    text = 'syntax = "proto3"; import "shop/money.proto"; message O { shop.Money m = 1; }'
    money = Schema(PROTOBUF, 'syntax = "proto3"; package shop; message Money { int32 cents = 1; }')
    decode = decoder(Schema(PROTOBUF, text, (("shop/money.proto", money),)))
    assert decode(prefixed(1, b"\0\x0a\x02\x08\x07")) == {"m": {"cents": 7}}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (Schema(AVRO, "{"), "no Avro schema"),
        (Schema(AVRO, '{"type": "record"}'), "no Avro schema"),
        (Schema(AVRO, '{"type": "array", "items": "null"}'), "takes no bytes"),
        (
            Schema(
                AVRO,
                '{"type": "array", "items": {"type": "record", "name": "E", "fields": []}}',
            ),
            "takes no bytes",
        ),
        (Schema(PROTOBUF, "syntax"), "no Protobuf schema"),
        (Schema(PROTOBUF, "", (("../x.proto", Schema(PROTOBUF, "")),)), "outside"),
        (Schema("THRIFT", ""), "'THRIFT'"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(schema: Schema, why: str) -> None:
    with pytest.raises(SchemaRefused, match=why):
        decoder(schema)


def test_a_decimal_of_a_megabyte_is_no_bomb(decoders: dict[str, Decode]) -> None:
    """It would take minutes: digits take the square of their number."""
    digits = b"\1" * 1_000_000
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}
    schema = {"type": "record", "name": "r", "fields": [{"name": "amount", "type": kind}]}
    decode = decoder(Schema(AVRO, json.dumps(schema)))
    with pytest.raises(Undecodable, match="does not fit its Avro schema"):
        decode(bytes(5) + varint(len(digits)) + digits)
    small = (1250).to_bytes(2, "big")
    assert decode(bytes(5) + varint(2) + small) == {"amount": Decimal("12.50")}


def test_a_list_of_something_is_no_bomb() -> None:
    schema = {"type": "array", "items": "string"}
    assert decoder(Schema(AVRO, json.dumps(schema)))(avro(1, ["a"], schema)) == ["a"]  # type: ignore[arg-type]


@given(st.binary(max_size=60), st.integers(0, 40))
def test_no_bytes_raise_anything_but_what_they_should(
    decoders: dict[str, Decode], noise: bytes, cut: int
) -> None:
    good = avro(1, RECORD)
    for decode in decoders.values():
        for value in (prefixed(1, noise), good[: 5 + cut] + noise, good[:-1], good + b"x"):
            with suppress(Undecodable):
                decode(value)


def test_what_is_left_over_is_no_record_of_the_schema(decoders: dict[str, Decode]) -> None:
    with pytest.raises(Undecodable, match="1 bytes are left"):
        decoders[AVRO](avro(1, RECORD) + b"x")


def test_a_changed_schema_is_another_one_and_both_are_read() -> None:
    later: dict[str, Any] = {
        **ORDER_AVRO,
        "fields": [{"name": "channel", "type": "string"}, *ORDER_AVRO["fields"]],
    }
    newer = decoder(Schema(AVRO, json.dumps(later)))
    record = {**RECORD, "channel": "web"}
    assert newer(avro(2, record, later)) == record
    with pytest.raises(Undecodable):
        newer(avro(2, RECORD))
    assert fastavro.parse_schema(later)
