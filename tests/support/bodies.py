"""Bodies of `POST /predict`, and those with a fault: the status, the place and the remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from features.columns.vector import FEATURE_NAMES, FEATURE_VERSION
from features.events.orders import OrderRules
from features.facts.ledger import IdMemory
from streamer.http.requests import (
    BodyRefused,
    Terms,
    read,
)
from tests.support.fakes import at

NOW_MS = at(500)
TERMS = Terms(OrderRules(), IdMemory(), NOW_MS)
ORDER = {"order_id": "1", "user_id": "ada", "ts": "2025-03-01T12:00:00Z", "amount": 12.5}
FEATURES: dict[str, Any] = dict.fromkeys(FEATURE_NAMES, 1.0)


def order(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ORDER, **fields}.items() if value is not ...}


def orders(*given: object, **fields: Any) -> dict[str, Any]:
    return {"orders": list(given) or [ORDER], **fields}


def features(**fields: Any) -> dict[str, Any]:
    values = {**FEATURES, **fields}
    return {
        "features": {name: value for name, value in values.items() if value is not ...},
        "feature_version": FEATURE_VERSION,
    }


def body(*records: object, **fields: Any) -> bytes:
    return json.dumps({"records": list(records), **fields}).encode()


def refused(data: bytes, terms: Terms = TERMS) -> BodyRefused:
    with pytest.raises(BodyRefused) as caught:
        read(data, terms)
    return caught.value


BAD: list[tuple[bytes, int, str, str]] = [
    (b"", 400, "#", "is not valid JSON"),
    (b"{", 400, "#", "is not valid JSON"),
    (b"\xff\xfe", 400, "#", "is not valid JSON"),
    (b"[" * 100_000, 422, "#", "is not a JSON object"),
    (b"[]", 422, "#", "send one with records"),
    (b"null", 422, "#", "send one with records"),
    (b"{}", 422, "#/records", "is missing"),
    (b'{"records": {}}', 422, "#/records", "is not a list"),
    (b'{"records": []}', 422, "#/records", "has 0 elements"),
    (body(*[orders()] * 1_001), 422, "#/records", "1,001 elements; send a list of 1 to 1,000"),
    (body(orders(), record=1), 422, "#/record", "no such field"),
    (body(orders(), as_of="yesterday"), 422, "#/as_of", "is not a time"),
    (body(orders(), contributions="no"), 422, "#/contributions", "send true or false"),
    (body(7), 422, "#/records/0", "is not a JSON object"),
    (body({}), 422, "#/records/0", "neither orders nor features"),
    (body(orders() | features()), 422, "#/records/0", "both orders and features"),
    (body(orders(**{"a/b~": 1})), 422, "#/records/0/a~1b~0", "no such field"),
    (body(orders(as_of=1772366400)), 422, "#/records/0/as_of", "multiply by 1000"),
    (body(orders(as_of=True)), 422, "#/records/0/as_of", "is not a time"),
    (body(orders(as_of="2026-01-01T00:00:00")), 422, "#/records/0/as_of", "has no offset"),
    (body(orders(as_of=at(10))), 422, "#/records/0/as_of", "before the newest order, 2025-03-01"),
    (body(orders(feature_version="1")), 422, "#/records/0/feature_version", "not with orders"),
    (body({"orders": []}), 422, "#/records/0/orders", "has 0 elements"),
    (body({"orders": "x"}), 422, "#/records/0/orders", "is not a list"),
    (body(orders(7)), 422, "#/records/0/orders/0", "send an object"),
    (body(orders(order(ts=...))), 422, "#/records/0/orders/0/ts", "is missing"),
    (body(orders(order(ts="soon"))), 422, "#/records/0/orders/0/ts", "send RFC 3339"),
    (body(orders(order(ts=at(502)))), 422, "#/records/0/orders/0/ts", "ahead of"),
    (body(orders(order(amount=-1))), 422, "#/records/0/orders/0/amount", "is negative"),
    (body(orders(order(amount="9"))), 422, "#/records/0/orders/0/amount", "JSON number"),
    (body(orders(order(type="gift"))), 422, "#/records/0/orders/0/type", "is none of"),
    (body(orders(order(currency="EUR"))), 422, "#/records/0/orders/0/currency", "is not USD"),
    (body(orders(order(user_id=""))), 422, "#/records/0/orders/0/user_id", "1 to 128"),
    (body(orders(order(order_id=7))), 422, "#/records/0/orders/0/order_id", "is not a string"),
    (body(orders(ORDER, order(user_id="bob"))), 422, "#/records/0/orders/1/user_id", "a customer"),
    (body(features(frequency=...)), 422, "#/records/0/features/frequency", "is missing"),
    (body(features(fequency=1)), 422, "#/records/0/features/fequency", "no such feature"),
    (body(features(frequency="1")), 422, "#/records/0/features/frequency", "send a number"),
    (body(features(frequency=None)), 422, "#/records/0/features/frequency", "send a number"),
    (body(features(frequency=True)), 422, "#/records/0/features/frequency", "send a number"),
    (body(features(frequency=-1)), 422, "#/records/0/features/frequency", "from 0 to 1e15"),
    (body(features(frequency=1e16)), 422, "#/records/0/features/frequency", "from 0 to 1e15"),
    (body(features(net_minor_7d=-1e16)), 422, "#/records/0/features/net_minor_7d", "from -1e15"),
    (
        body({"features": 1, "feature_version": "1"}),
        422,
        "#/records/0/features",
        "is not an object",
    ),
    (body({"features": FEATURES}), 422, "#/records/0/feature_version", "is missing"),
    (body(features() | {"feature_version": "0"}), 422, "#/records/0/feature_version", "is not"),
    (body(orders(), as_of="x" * 70_000), 422, "#/as_of", "over 65,536 bytes; send less"),
    (b'{"records": [' + b"1," * 300_001 + b"1]}", 422, "#", "send fewer records"),
    (body(features() | {"as_of": at(1)}), 422, "#/records/0/as_of", "goes with orders"),
]
