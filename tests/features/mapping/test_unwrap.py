"""Envelopes are opened, whatever lies in whatever."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from features.mapping.unwrap import Nothing, unwrapped

ORDER: dict[str, Any] = {"order_id": "7", "total": "12.50"}
TEXT = json.dumps(ORDER)


@pytest.mark.parametrize(
    "record",
    [
        ORDER,
        {"specversion": "1.0", "type": "order", "data": ORDER},
        {"specversion": "1.0", "data": TEXT},
        {"specversion": "1.0", "data_base64": base64.b64encode(TEXT.encode()).decode()},
        {"before": None, "after": ORDER, "op": "c", "source": {}, "ts_ms": 1},
        {"before": ORDER, "after": ORDER, "op": "u"},
        {"schema": {"type": "struct"}, "payload": ORDER},
        {"schema": None, "payload": {"before": None, "after": ORDER, "op": "r"}},
        {"specversion": "1.0", "data": {"payload": {"after": ORDER, "op": "c"}, "schema": {}}},
    ],
)
def test_the_record_comes_out_of_its_envelopes(record: dict[str, Any]) -> None:
    assert unwrapped(record) == ORDER


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"before": ORDER, "after": None, "op": "d"}, "deleted"),
        ({"schema": {}, "payload": None}, "deleted"),
        ({**ORDER, "__deleted": "true", "__op": "d"}, "deleted"),
        ({"specversion": "1.0", "data": "not json"}, "no JSON"),
        ({"specversion": "1.0", "data": [1]}, "list"),
        ({"specversion": "1.0", "data_base64": "%%%"}, "base64"),
    ],
)
def test_an_envelope_with_no_record_in_it_says_so(record: dict[str, Any], why: str) -> None:
    with pytest.raises(Nothing, match=why):
        unwrapped(record)


def test_a_schema_says_what_decimals_and_times_are() -> None:
    digits = base64.b64encode((1250).to_bytes(2, "big", signed=True)).decode()
    amount = {
        "field": "total",
        "name": "org.apache.kafka.connect.data.Decimal",
        "parameters": {"scale": "2"},
    }
    at = {"field": "at", "name": "io.debezium.time.MicroTimestamp"}
    after = {"field": "after", "type": "struct", "fields": [amount, at]}
    record = {
        "schema": {"type": "struct", "fields": [after]},
        "payload": {"op": "c", "after": {"total": digits, "at": 1_732_683_709_000_000}},
    }
    # A column without a zone has none here either: the mapping has to say it.
    assert unwrapped(record) == {"total": "12.50", "at": "2024-11-27T05:01:49"}
    # Digits take the square of their number: a megabyte of them, minutes.
    bomb = base64.b64encode(b"\1" * 700_000).decode()
    record["payload"] = {"op": "c", "after": {"total": bomb}}
    assert unwrapped(record) == {"total": bomb}


def test_a_number_whose_scale_stands_in_the_row_is_one() -> None:
    scaled = {"scale": 2, "value": base64.b64encode((1250).to_bytes(2, "big")).decode()}
    field = {"field": "total", "type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}
    record = {"schema": {"type": "struct", "fields": [field]}, "payload": {"total": scaled}}
    assert unwrapped(record) == {"total": "12.50"}


def test_properties_that_were_written_as_text_are_read() -> None:
    assert unwrapped({"name": "x", "properties": '{"a": 1.5}'})["properties"] == {"a": "1.5"}
