"""The orders topic as a training log: every order from its start, and nobody who was erased."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from features.events.orders import Order, OrderRules, Reason
from streamer.admin.topic_orders import TopicLog, read_topic
from streamer.pipeline.erasures import Erasures, erasure_headers
from streamer.records import Partition
from tests.support.fakes import Rec, an_order, at, done, erased, records


class _Log:
    """The records of each partition; the first offset may be beyond 0."""

    def __init__(self, *partitions: Sequence[Rec]) -> None:
        self._partitions = partitions

    async def start(self, partition: Partition) -> int:
        log = self._partitions[partition.number]
        return log[0].offset if log else 0

    async def read(self, partition: Partition, until: int) -> AsyncIterator[Sequence[Rec]]:
        log = [record for record in self._partitions[partition.number] if record.offset < until]
        for start in range(0, len(log), 2):
            yield log[start : start + 2]

    @property
    def ends(self) -> dict[int, int]:
        return {n: log[-1].offset + 1 if log else 0 for n, log in enumerate(self._partitions)}


def _read(log: _Log, forgotten: Erasures | None = None) -> TopicLog:
    return done(read_topic(log, "orders", log.ends, OrderRules(), forgotten or Erasures()))


def _bought(user: str, *days: float) -> list[Order]:
    return [an_order(user, day) for day in days]


def test_all_partitions_are_one_log_in_event_time() -> None:
    a, b = _bought("a", 1, 3, 5), _bought("b", 2, 4)
    found = _read(_Log(records(a), records(b), []))
    assert found.orders == [a[0], b[0], a[1], b[1], a[2]]
    assert not found.cut
    assert not found.rejected


def test_records_that_are_no_orders_are_counted_by_reason() -> None:
    found = _read(_Log(records([b"{", *_bought("a", 1), None])))
    assert len(found.orders) == 1
    # A tombstone of the shop's own is none of them.
    assert found.rejected == {Reason.NOT_JSON: 1}


def test_what_a_worker_sets_aside_is_not_trained_on() -> None:
    bare = [replace(record, key=None) for record in records(_bought("a", 1, 2))]
    found = _read(_Log(records(_bought("b", 1)), bare))
    assert [order.user_id for order in found.orders] == ["b"]
    assert found.rejected == {Reason.NO_KEY: 2}


def test_an_erasure_takes_what_came_before_it_and_not_what_came_after() -> None:
    orders = _bought("a", 1, 2, 3)
    log = records([*orders[:2], None, orders[2], *_bought("b", 1)])
    headers = tuple(erasure_headers(at(2.5)))
    log[2] = replace(log[2], key=b"a", timestamp=at(2.5), headers=headers)
    found = _read(_Log(log))
    assert [order.user_id for order in found.orders] == ["b", "a"]
    assert orders[2] in found.orders


def test_what_a_marker_covers_is_left_out_in_every_partition() -> None:
    forgotten = erased(("a", at(2.5)))
    found = _read(_Log(records(_bought("a", 1, 3)), records(_bought("a", 2))), forgotten)
    assert found.orders == _bought("a", 3)


def test_a_partition_that_has_lost_its_first_records_is_named() -> None:
    found = _read(_Log(records(_bought("a", 1), first=7), records(_bought("b", 1))))
    assert found.cut == {0: 7}
