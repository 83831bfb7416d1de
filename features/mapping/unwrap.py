"""What lies in an envelope: CloudEvents, Debezium and Kafka Connect, in one another too."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

_MOST_DEEP: Final = 6
_EPOCH: Final = datetime(1970, 1, 1)
# What one of each is in microseconds. These have no zone: a database column without one has none.
_NAIVE: Final = {
    "io.debezium.time.Timestamp": 1_000,
    "io.debezium.time.MicroTimestamp": 1,
    "io.debezium.time.NanoTimestamp": 1e-3,
    "io.debezium.time.Date": 86_400_000_000,
    "org.apache.kafka.connect.data.Timestamp": 1_000,
    "org.apache.kafka.connect.data.Date": 86_400_000_000,
}
# Reading digits takes the square of their number: a megabyte of them, minutes.
_MOST_DECIMAL_CHARS: Final = 128
_DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"
_VARIABLE: Final = "io.debezium.data.VariableScaleDecimal"


class Nothing(Exception):
    """There is no record in the envelope; the message says why, in a few words."""


def unwrapped(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record in its envelopes, or the record itself. Raises Nothing for what is none: a row
    that was deleted, a heartbeat.

    >>> unwrapped({"specversion": "1.0", "data": {"op": "c", "before": None, "after": {"id": 1}}})
    {'id': 1}
    """
    inner: Any = record
    for _ in range(_MOST_DEEP):
        if isinstance(inner, str):
            inner = _decoded(inner)
        if not isinstance(inner, dict):
            raise Nothing(f"an envelope around a {type(inner).__name__}")
        if len(inner) == 2 and inner.keys() == {"schema", "payload"}:
            inner = _of_connect(inner["schema"], inner["payload"])
        elif "after" in inner and ("op" in inner or "before" in inner):
            inner = inner["after"]
            if inner is None:
                raise Nothing("a row deleted from a database")
        elif "specversion" in inner and ("data" in inner or "data_base64" in inner):
            packed = inner.get("data_base64")
            inner = inner["data"] if packed is None else _unpacked(packed)
        else:
            break
    if str(inner.get("__deleted")).lower() == "true":  # as Debezium's ExtractNewRecordState has it
        raise Nothing("a row deleted from a database")
    properties = inner.get("properties")
    if isinstance(properties, str) and properties.startswith("{"):
        inner = {**inner, "properties": _decoded(properties)}
    found: dict[str, Any] = inner
    return found


def _decoded(text: str | bytes) -> Any:
    try:
        return msgspec.json.Decoder(float_hook=str).decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Nothing("an envelope around a text that is no JSON") from None


def _unpacked(packed: object) -> Any:
    try:
        return _decoded(base64.b64decode(str(packed), validate=True))
    except binascii.Error:
        raise Nothing("an envelope around a text that is no base64") from None


def _of_connect(schema: Any, payload: Any) -> Any:
    """A payload with its decimals and times as texts, where its schema names them."""
    if payload is None:
        raise Nothing("a row deleted from a database")
    if not isinstance(schema, Mapping) or not isinstance(payload, dict):
        return payload
    fields = schema.get("fields")
    read = dict(payload)
    for one in fields if isinstance(fields, list) else []:
        name = one.get("field") if isinstance(one, Mapping) else None
        value = payload.get(name) if isinstance(name, str) else None
        if name is None or value is None:
            continue
        if isinstance(value, dict) and one.get("name") == _VARIABLE:
            parameters = {"scale": value.get("scale")}
            read[name] = _value({"name": _DECIMAL, "parameters": parameters}, value.get("value"))
        elif isinstance(value, dict):
            read[name] = _of_connect(one, value)
        else:
            read[name] = _value(one, value)
    return read


def _value(schema: Mapping[str, Any], value: Any) -> Any:
    kind = schema.get("name")
    if kind == _DECIMAL and isinstance(value, str) and len(value) <= _MOST_DECIMAL_CHARS:
        try:
            scale = int((schema.get("parameters") or {}).get("scale", 0))
            digits = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
            return format(Decimal(digits).scaleb(-scale), "f")
        except (binascii.Error, ValueError, TypeError, ArithmeticError):
            return value
    if kind in _NAIVE and isinstance(value, int):
        try:
            return (_EPOCH + timedelta(microseconds=value * _NAIVE[kind])).isoformat()
        except OverflowError:
            return value
    return value
