"""What the records of a partition say: orders, erasures, tombstones, or why they are none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from features.events.batches import SentRecords, parse_many
from features.events.orders import EMPTY, Order, OrderRules, Reason, Rejected
from features.times import rfc3339
from streamer.pipeline.batch import Parsed, Pipeline, Position
from streamer.pipeline.erasures import Erasure, Erasures, erasure_in
from streamer.pipeline.partitioner import partition_for
from streamer.records import Record, Unreadable

Outcome: TypeAlias = Order | Rejected | Erasure | None


def read(
    records: Sequence[Record],
    position: Position,
    pipeline: Pipeline,
    erasures: Erasures,
    now_ms: int | None = None,
) -> list[Parsed]:
    """The records parsed; a dead letter of those whose customer is at home in another partition, or
    may be: here, it would begin a second customer of the same id. `now_ms`: the reader's clock."""
    rules, topic = pipeline.order_rules, position.partition.topic
    number, count = position.partition.number, position.partition_count
    outcomes = outcomes_of(records, rules, now_ms, number, count)
    batch = [
        Parsed(record.offset, outcome, record.key, record.value, record.headers)
        for record, outcome in zip(records, outcomes, strict=True)
    ]
    moved_at = erasures.moved_at(topic, position.partition.number)
    home = erasures.partitioner(topic)
    if moved_at is None or home is None:
        return batch
    found = []
    for parsed in batch:
        if parsed.offset >= moved_at and isinstance(parsed.outcome, Order):
            at_home = home(parsed.outcome.user_id.encode(), count)
            if at_home != number:
                parsed = msgspec.structs.replace(parsed, outcome=_wrong_partition(at_home))
        found.append(parsed)
    return found


def outcomes_of(
    records: Sequence[Record], rules: OrderRules, now_ms: int | None, number: int, count: int
) -> list[Outcome]:
    """What each record of partition `number` of `count` says; one without value that is no erasure,
    nothing: a tombstone of the shop's."""
    values = [record.value for record in records]
    if all(values) and set(map(type, values)) == {bytes}:
        return _orders(records, rules, now_ms, number, count)
    found: list[Outcome] = []
    places: list[int] = []
    for at, record in enumerate(records):
        if record.value and not isinstance(record.value, Unreadable):
            places.append(at)
            found.append(None)
        else:
            found.append(_without_order(record, rules, now_ms))
    orders = _orders([records[at] for at in places], rules, now_ms, number, count)
    for at, outcome in zip(places, orders, strict=True):
        found[at] = outcome
    return found


def _orders(
    records: Sequence[Record], rules: OrderRules, now_ms: int | None, number: int, count: int
) -> list[Outcome]:
    """The same of records that have a value."""
    values, keys = [record.value or b"" for record in records], [record.key for record in records]
    sent = SentRecords(values, keys, [record.timestamp for record in records])
    found: list[Outcome] = list(parse_many(sent, rules, now_ms))
    if count > 1:
        for at, (one, key) in enumerate(zip(found, keys, strict=True)):
            if isinstance(one, Order) and key != one.user_id.encode():
                found[at] = _misplaced(one, key, number, count) or one
    return found


def _without_order(
    record: Record, rules: OrderRules, now_ms: int | None
) -> Rejected | Erasure | None:
    """What a record says that has no value, or one that cannot be unpacked."""
    if not record.value and record.headers:
        erasure = erasure_in(record.key, record.headers)
        if erasure is not None:
            return _ahead_of(erasure, record.timestamp, rules, now_ms) or erasure
    if record.value is None:
        return None
    if isinstance(record.value, Unreadable):
        return unreadable(record.value)
    return EMPTY


def _misplaced(order: Order, key: bytes | None, number: int, count: int) -> Rejected | None:
    """Why an order under another key than its customer's cannot be taken from partition `number` of
    `count`."""
    if key is None:
        return _NO_KEY
    # Merged with another id: all of the customer lies where the id does that counts.
    home = partition_for(order.user_id.encode(), count)
    return None if home == number else _spelt_elsewhere(home)


def unreadable(value: Unreadable) -> Rejected:
    """Why records that cannot be unpacked are set aside."""
    return Rejected(Reason.NOT_JSON, f"{value.decode()}; fix the producer")


def _ahead_of(
    erasure: Erasure, record_ts_ms: int, rules: OrderRules, now_ms: int | None
) -> Rejected | None:
    """Why an erasure is none: it would leave out the orders of a time that is to come."""
    for clock_ms, clock in ((now_ms, "the clock"), (record_ts_ms, "the record's own timestamp")):
        if clock_ms is not None and 0 < clock_ms < erasure.at_ms - rules.max_future_ms:
            return Rejected(
                Reason.FUTURE_TS,
                f"the erasure's instant {rfc3339(erasure.at_ms)} is more than"
                f" {rules.max_future_ms // 3_600_000} h ahead of {clock}; run `forget` again",
            )
    return None


_NO_KEY = Rejected(
    Reason.NO_KEY,
    "the record has no key and the topic several partitions, so a customer's orders lie in all of"
    " them; key every order by its user_id. Redriven, it goes where its customer is",
)


def _spelt_elsewhere(home: int) -> Rejected:
    return Rejected(
        Reason.KEY_MISMATCH,
        "the customer's ids are merged (CLV_MERGE_IDS, CLV_MERGED_ACCOUNTS), and the one that"
        f" counts is at home in partition {home}; key every order by that id, or let `ingest` do"
        " it",
    )


def _wrong_partition(home: int) -> Rejected:
    return Rejected(
        Reason.WRONG_PARTITION,
        f"the customer was moved to partition {home} when partitions were added; the producer has"
        " not read the topic's metadata since, or sends no key. Redrive it, and it goes there",
    )
