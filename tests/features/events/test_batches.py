"""Records parsed many at once are what each is by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events import batches
from features.events.batches import LEAST, SentRecords, parse_many
from features.events.orders import FreeOrders, OrderRules, parse

TS_MS = 1_772_366_400_000
_PLAIN: dict[str, Any] = {
    "order_id": "o1",
    "user_id": "ann",
    "ts": "2026-03-01T12:00:00Z",
    "amount": 12.5,
}
_amounts = st.sampled_from([0, -0.0, 7, -7, 12.34, 12.345, 1e20, "12", True, None, [1], 10**30])
_times = st.sampled_from(
    ["2026-03-01", "2026-03-01T12:00:00.123+00:00", "2026-03-01T12:00:00", " 2026-03-01T12:00:00Z"]
) | st.sampled_from(
    [TS_MS, str(TS_MS), 1, TS_MS + 7_200_000, True, "1985-01-01T00:00:00Z", "x" * 100, None]
)
_fields = {
    "order_id": st.sampled_from(["o2", "", "x" * 129, 7]),
    "user_id": st.sampled_from(["bob", "BOB ", " Guest", "é", "", None]),
    "ts": _times,
    "amount": _amounts,
    "type": st.sampled_from(["order", "refund", "cancellation", "Refund", 1]),
    "currency": st.sampled_from(["USD", " usd", "EUR", None]),
    "refund_id": st.sampled_from(["r1", "", None]),
    "updated_at": st.sampled_from([None, TS_MS, "soon"]),
    "Type": st.just("refund"),
    "basket": st.just([1]),
}
_changed = st.fixed_dictionaries({}, optional=_fields).map(lambda more: json.dumps(_PLAIN | more))
_values = st.just(json.dumps(_PLAIN)) | _changed | st.sampled_from(["", "{", "[]", '{"\\ud800":1}'])
_sent = st.tuples(
    _values.map(str.encode) | st.sampled_from([b"\xff", json.dumps(_PLAIN).encode() + b"\xff"]),
    st.sampled_from([b"ann", b"bob", None]),
    st.sampled_from([TS_MS, 0, -1, None]),
)
_rules = st.builds(
    OrderRules,
    currency=st.sampled_from(["USD", "JPY"]),
    free_orders=st.sampled_from(FreeOrders),
    merge_ids=st.booleans(),
    same_as=st.sampled_from([{}, {"ann": "bob"}]),
)


@given(st.lists(_sent, min_size=1, max_size=4), _rules, st.sampled_from([None, TS_MS]))
def test_records_in_columns_are_what_each_is_by_itself(
    sent: list[tuple[bytes, bytes | None, int | None]], rules: OrderRules, now_ms: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "LEAST", 1)
        found = parse_many(SentRecords(*zip(*sent, strict=True)), rules, now_ms)
    assert found == [parse(*one, rules, now_ms) for one in sent]


def test_what_most_records_look_like_is_parsed_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    one = json.dumps(_PLAIN).encode(), b"ann", TS_MS
    alone = parse(*one, OrderRules())
    monkeypatch.setattr(batches, "parse", lambda *_: pytest.fail("parsed by itself"))
    assert (
        parse_many(SentRecords(*zip(*[one] * LEAST, strict=True)), OrderRules()) == [alone] * LEAST
    )
