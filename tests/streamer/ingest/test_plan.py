"""Records in, a plan out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import OrderRules, Reason, Rejected, parse
from streamer.ingest.plan import (
    MAX_HEADER_BYTES,
    Decoders,
    IngestPlan,
    IngestTerms,
    bounded_plan,
    ingest_plan,
    schema_ids,
)
from streamer.ingest.schemas import Undecodable, read_json
from streamer.pipeline.dead_letters import CLEAN, Limits
from streamer.reading import CanonicalReading
from streamer.records import Partition, Unreadable

RULES = OrderRules(currency="USD")
NOW_MS = 1_750_000_000_000
SOURCE = Partition("raw", 3)
TERMS = IngestTerms(CanonicalReading(RULES), "orders", "dead", "USD")


@dataclass(frozen=True)
class Raw:
    offset: int
    value: bytes | None
    key: bytes | None = b"order-1"
    timestamp: int = NOW_MS
    headers: Sequence[tuple[str, bytes]] = ()


def order(number: int = 1, **fields: Any) -> bytes:
    record = {"order_id": str(number), "user_id": f"u{number % 3}", "ts": NOW_MS - number * 1000}
    return json.dumps({**record, "amount": number / 100, **fields}).encode()


def plan_of(*records: Raw, decoders: Decoders | None = None) -> IngestPlan:
    return ingest_plan(records, SOURCE, decoders, TERMS, NOW_MS)


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_the_worker_takes_whatever_goes_out(numbers: list[int]) -> None:
    plan = plan_of(*(Raw(at, order(number)) for at, number in enumerate(numbers)))
    assert not plan.letters
    for number, message in zip(numbers, plan.orders, strict=True):
        assert message.topic == "orders"
        read = parse(message.value, message.key, NOW_MS, RULES, NOW_MS)
        # Of the same record under no key the worker would have made the same order.
        assert read == parse(order(number), None, NOW_MS, RULES, NOW_MS)


def test_a_bad_record_goes_out_as_it_came_with_its_headers_and_ours_behind_them() -> None:
    headers = (("trace", b"7"), ("reason", b"theirs"))
    plan = plan_of(Raw(5, b"{", b"k", headers=headers), Raw(6, order()))
    (letter,) = plan.letters
    assert (letter.topic, letter.key, letter.value) == ("dead", b"k", b"{")
    assert letter.headers[:2] == headers
    assert (
        dict(letter.headers).items()
        >= {
            "trace": b"7",
            "reason": b"not_json",
            "source_topic": b"raw",
            "source_partition": b"3",
            "source_offset": b"5",
        }.items()
    )
    assert (plan.bad, plan.reasons, len(plan.orders)) == ({5: "not_json"}, {"not_json": 1}, 1)


def test_headers_without_room_are_left_out() -> None:
    plan = plan_of(Raw(5, b"{", headers=[("h", b"x" * MAX_HEADER_BYTES)]))
    assert "h" not in dict(plan.letters[0].headers)


def test_tombstones_are_passed_over_and_damaged_batches_set_aside() -> None:
    plan = plan_of(
        Raw(1, None), Raw(2, Unreadable(b"a batch from offset 2 to 2: why")), Raw(3, b"")
    )
    assert plan.skipped == {"tombstone": 1}
    assert plan.bad == {2: "not_json", 3: "empty"}


def test_a_schemas_id_decides_how_a_record_is_read() -> None:
    def decode(value: bytes) -> Any:
        if value.endswith(b"!"):
            raise Undecodable("does not fit")
        return read_json(value[5:])

    refused = Rejected(Reason.UNKNOWN_SCHEMA, "schema 8 is not there")
    records = [
        Raw(1, b"\0\0\0\0\7" + order(1)),
        Raw(2, b"\0\0\0\0\7!"),
        Raw(3, b"\0\0\0\0\x08abc"),
        Raw(4, order(2)),
    ]
    assert schema_ids(records) == {7, 8}
    plan = plan_of(*records, decoders={7: decode, 8: refused})
    assert plan.bad == {2: "not_decoded", 3: "unknown_schema"}
    assert len(plan.orders) == 2
    # Nobody to ask: told with the setting.
    plan = plan_of(*records)
    assert plan.bad == dict.fromkeys((1, 2, 3), "unknown_schema")
    assert b"CLV_SCHEMA_REGISTRY_URL" in dict(plan.letters[0].headers)["detail"]


def test_a_plan_ends_before_the_record_that_a_limit_forbids() -> None:
    records = [Raw(1, order(1)), Raw(2, b"{"), Raw(3, b"{"), Raw(4, order(2))]
    plan = partial(ingest_plan, source=SOURCE, decoders=None, terms=TERMS, now_ms=NOW_MS)
    made, window, next_offset, exceeded = bounded_plan(records, plan, CLEAN, Limits(1, None))
    assert (next_offset, made.bad, len(made.orders)) == (3, {2: "not_json"}, 1)
    assert exceeded is not None
    # Started again with what was committed, it stands where it stood.
    made, _, next_offset, exceeded = bounded_plan(records[2:], plan, window, Limits(1, None))
    assert (next_offset, made, exceeded is None) == (3, IngestPlan(), False)
    made, _, next_offset, exceeded = bounded_plan(records[2:], plan, window, Limits(5, None))
    assert (next_offset, exceeded, len(made.orders)) == (5, None, 1)
