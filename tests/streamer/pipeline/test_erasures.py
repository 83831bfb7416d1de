"""Forgetting: what says so in the log, and what a partition makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order
from streamer.pipeline.erasures import (
    NO_KEYS,
    Erasure,
    ErasureKeyMissing,
    ErasureKeys,
    Erasures,
    digest,
    erasure_headers,
    erasure_in,
    marker,
)
from streamer.pipeline.messages import pack
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.records import MemoryPublisher, Message, PublishFailed
from streamer.store.base import StoreUnavailable, Write
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    ERASURE_KEYS,
    ORDERS_0,
    TOPICS,
    Faults,
    FaultyPublisher,
    FaultyStore,
    Left,
    Rec,
    an_order,
    at,
    by_time,
    claimed,
    done,
    erased,
    every,
    left,
    log_of,
    pipeline,
    records,
    renamed,
)


def erase(user: str, at_ms: int) -> Rec:
    return Rec(0, user.encode(), None, at_ms, tuple(erasure_headers(at_ms)))


def in_log(*parts: Sequence[Order] | Rec) -> list[Rec]:
    """Orders and erasures as the records of a partition, in this order."""
    log: list[Rec] = []
    for part in parts:
        found = [part] if isinstance(part, Rec) else records(part)
        log += [replace(record, offset=len(log) + n) for n, record in enumerate(found)]
    return log


ANN = every("ann", 5, 9, 20_000)
BOB = every("bob", 5, 12, 20_000)
UP_TO_60 = by_time(ANN, BOB, renamed(ANN, "cid"))
AFTER = by_time([an_order("bob", 80)], [an_order("ann", 75, 700), an_order("ann", 82, 900)])


def ran(log: Sequence[Rec], batch: int = 7) -> tuple[MemoryStore, MemoryPublisher]:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = claimed(log, store, publisher)
    for start in range(0, len(log), batch):
        done(runner.process(log[start : start + batch]))
    return store, publisher


def kept(log: Sequence[Rec], *users: str, batch: int = 7) -> Left:
    return left(*ran(log, batch), users)


# --- what says so -------------------------------------------------------------------------------


def test_an_erasure_is_a_record_without_a_value_that_says_when() -> None:
    record = erase("ann", 5)
    assert erasure_in(record.key, record.headers) == Erasure("ann", 5)


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (b"ann", ()),
        (None, erasure_headers(5)),
        (b"", erasure_headers(5)),
        (b"\xff", erasure_headers(5)),
        (b"ann", [("clv-erase", b"soon")]),
        (b"ann", [("clv-erase", b"-1")]),
        (b"ann", [("clv-erase", b"9" * 14)]),
    ],
)
def test_anything_else_is_none(key: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    assert erasure_in(key, headers) is None


def test_a_tombstone_of_the_shop_is_passed_over_and_no_erasure() -> None:
    log = in_log(ANN, replace(erase("ann", 5), headers=()))
    store, publisher = ran(log)
    assert left(store, publisher, ["ann"]).states["ann"].state is not None
    assert publisher.of(TOPICS.dead_letters) == []


def test_a_marker_tells_who_only_to_who_knows_the_id() -> None:
    message = marker(digest("ann"), 5, "clv-erasures", ERASURE_KEYS)
    assert b"ann" not in (message.key or b"") + (message.value or b"")
    forgotten = Erasures(ERASURE_KEYS)
    forgotten.read(message.key, message.value)
    for key, value in [(b"x", b"{}"), (None, None), (b"\xff", message.value), (b"x", b"\xff")]:
        forgotten.read(key, value)
    assert forgotten.covers(Order("1", "ann", 5, 1))
    assert not forgotten.covers(Order("1", "ann", 6, 1))
    assert not forgotten.covers(Order("1", "bob", 5, 1))


def known(written: Sequence[Message], keys: ErasureKeys = ERASURE_KEYS) -> Erasures:
    """What is known of erasures after these records of their topic."""
    found = Erasures(keys)
    for message in written:
        found.read(message.key, message.value)
    return found


def unkeyed(user_id: str, at_ms: int) -> Message:
    """What earlier versions wrote."""
    value = msgspec.json.encode({"schema": "erasure/1", "at_ms": at_ms})
    return Message("clv-erasures", digest(user_id).encode(), value)


def test_who_has_all_ids_and_not_the_key_cannot_tell_who_was_erased() -> None:
    message = marker(digest("ann"), 5, "clv-erasures", ERASURE_KEYS)
    assert digest("ann").encode() not in (message.key or b"") + (message.value or b"")
    guessed = known([message], ErasureKeys.parse("A" * 32))
    assert not guessed.covers(Order("1", "ann", 5, 1))


def test_a_hash_of_a_key_that_is_not_known_is_told_and_not_passed_over() -> None:
    other = ErasureKeys.parse("B" * 32)
    written = [marker(digest("ann"), 5, "clv-erasures", other)]
    with pytest.raises(ErasureKeyMissing, match=f"key {other.newest}.* or lost:{other.newest}"):
        known(written).check_keys()
    with pytest.raises(ErasureKeyMissing):
        known(written, NO_KEYS).check_keys()
    given = "N" * 32 + "," + "O" * 32
    rotated, old = ErasureKeys.parse(given), ErasureKeys.parse("O" * 32)
    forgotten = known(
        [marker(digest("ann"), 5, "t", old), marker(digest("bob"), 5, "t", rotated)], rotated
    )
    forgotten.check_keys()
    assert forgotten.covers(Order("1", "ann", 5, 1))
    assert forgotten.covers(Order("1", "bob", 5, 1))
    lost = ErasureKeys.parse(f"{'N' * 32},lost:{old.newest}")
    known([marker(digest("ann"), 5, "t", old)], lost).check_keys()


def test_hashes_of_before_are_obeyed_until_the_next_erasure_has_keyed_them() -> None:
    before = [unkeyed("ann", 5), unkeyed("bob", 7)]
    for keys in (NO_KEYS, ERASURE_KEYS):
        forgotten = known(before, keys)
        forgotten.check_keys()
        assert forgotten.covers(Order("1", "ann", 5, 1))
        assert forgotten.unkeyed == {digest("ann"): 5, digest("bob"): 7}
    keyed_now = [marker(name, ms, "t", ERASURE_KEYS) for name, ms in forgotten.unkeyed.items()]
    gone = [Message(message.topic, message.key, None) for message in before]
    # Compaction leaves either all of it or the new ones alone; both mean the same.
    for written in ([*before, *keyed_now, *gone], keyed_now):
        after = known(written)
        assert after.unkeyed == {}
        assert after.covers(Order("1", "bob", 7, 1))
        assert not after.covers(Order("1", "bob", 8, 1))


def test_nobody_is_erased_in_the_future() -> None:
    forgotten = Erasures(ERASURE_KEYS)
    for message in (marker(digest("ann"), 9, "t", ERASURE_KEYS), unkeyed("bob", 9)):
        assert not forgotten.read(message.key, message.value, 8)
        assert forgotten.read(message.key, b"{", 8)
    assert not forgotten
    assert forgotten.unkeyed == {}
    message = marker(digest("ann"), 8, "t", ERASURE_KEYS)
    assert forgotten.read(message.key, message.value, 8)
    assert forgotten.covers(Order("1", "ann", 8, 1))


@pytest.mark.parametrize("text", ["", "short", "x" * 31, "x" * 1025, "é" * 40, f"{'x' * 40},y"])
def test_a_key_that_can_be_guessed_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="openssl rand"):
        ErasureKeys.parse(text)


def test_a_lost_key_is_named_as_it_was_told() -> None:
    with pytest.raises(ValueError, match="8 hexadecimal digits"):
        ErasureKeys.parse(f"{'x' * 32},lost:everything")


def test_of_two_erasures_of_one_customer_the_later_counts() -> None:
    forgotten = erased(("ann", 9))
    forgotten.add("ann", 5)
    assert forgotten.covers(Order("1", "ann", 9, 1))
    assert not Erasures()


# --- what a partition makes of it ---------------------------------------------------------------


def test_the_customer_is_gone_and_others_are_as_if_nothing_had_been() -> None:
    with_erasure = kept(in_log(UP_TO_60, erase("ann", at(70)), AFTER[:0]), "ann", "bob", "cid")
    without = kept(in_log(UP_TO_60), "ann", "bob", "cid")
    assert without.states["ann"].state is not None
    assert with_erasure.states["ann"] == replace(without.states["ann"], state=None, due_ms=None)
    for other in ("bob", "cid"):
        assert with_erasure.states[other] == without.states[other]
    assert with_erasure.high_ts_ms == without.high_ts_ms
    tombstones = [m for m in with_erasure.messages[TOPICS.scores] if m.value is None]
    assert tombstones == [Message(TOPICS.scores, b"ann", None)]


def test_who_orders_again_begins_anew() -> None:
    again = kept(in_log(UP_TO_60, erase("ann", at(70)), AFTER), "ann", "bob")
    others = [order for order in UP_TO_60 if order.user_id != "ann"]
    anew = kept(in_log(others, AFTER), "ann", "bob")
    assert again.states == anew.states


def test_orders_of_before_that_come_again_are_left_out() -> None:
    log = in_log(UP_TO_60, erase("ann", at(70)), ANN, AFTER, ANN)
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = claimed(log, store, publisher)
    done(runner.process(log))
    assert runner.counters.erased_orders == 2 * len(ANN)
    assert runner.counters.orders == len(UP_TO_60) + len(AFTER)
    assert runner.counters.dead_letters == 0
    clean = kept(in_log(UP_TO_60, erase("ann", at(70)), AFTER), "ann", "bob")
    assert left(store, publisher, ["ann", "bob"]).states == clean.states


@given(st.integers(1, 40), st.integers(0, 40))
def test_batches_make_no_difference(batch: int, place: int) -> None:
    log = in_log(UP_TO_60[:place], erase("ann", at(70)), UP_TO_60[place:], erase("cid", 0), AFTER)
    assert kept(log, "ann", "bob", "cid", batch=batch) == kept(log, "ann", "bob", "cid", batch=1)


def test_a_log_read_again_from_its_start_brings_nobody_back() -> None:
    log = in_log(UP_TO_60, erase("ann", at(70)), AFTER)
    store, publisher = MemoryStore(), MemoryPublisher()
    forgotten = erased(("ann", at(70)))
    runner = PartitionRunner(
        ORDERS_0, store, publisher, pipeline(), RunnerOptions(erasures=forgotten)
    )
    done(runner.claim(log_of(log)))
    end = len(UP_TO_60)
    for record in log[:end]:
        done(runner.process([record]))
        (stored,) = done(store.load(ORDERS_0, ["ann"]))
        assert stored.state is None
    assert [m for m in publisher.messages if m.key == b"ann"] == []
    done(runner.process(log[end:]))
    live = kept(log, "ann", "bob", "cid")
    rebuilt = left(store, publisher, ["ann", "bob", "cid"])
    assert (rebuilt.states, rebuilt.high_ts_ms) == (live.states, live.high_ts_ms)


def test_a_store_that_went_back_to_before_the_erasure_is_erased_again() -> None:
    before, after = in_log(UP_TO_60), in_log(UP_TO_60, erase("ann", at(70)), AFTER)
    store, publisher = ran(before)
    runner = claimed(after, store, publisher)
    done(runner.process(after))
    assert left(store, publisher, ["ann"]).states == kept(after, "ann").states


def test_what_waits_to_be_said_of_the_forgotten_is_not_said_after_a_rollback() -> None:
    store = MemoryStore()
    claim = done(store.claim(ORDERS_0, 1))
    said = MemoryPublisher()
    weekly = every("ann", 7, 21)
    log = in_log(by_time(weekly, renamed(weekly, "bob")), [an_order("dee", 400)])
    done(claimed(log, MemoryStore(), said).process(log))
    warnings = said.of(TOPICS.warnings)
    assert {m.key for m in warnings} == {b"ann", b"bob"}
    write = Write({}, {}, [pack(m) for m in warnings], 1, None)
    done(store.write(ORDERS_0, claim.epoch, claim.sequence, write))
    publisher = MemoryPublisher()
    forgotten = erased(("ann", at(200)))
    runner = PartitionRunner(
        ORDERS_0, store, publisher, pipeline(), RunnerOptions(erasures=forgotten)
    )
    done(runner.claim(log_of(log)))
    assert {m.key for m in publisher.messages} == {b"bob"}
    assert done(store.outbox(ORDERS_0, 9)).entries == []


@given(st.data())
def test_a_crash_anywhere_ends_in_the_same(data: st.DataObject) -> None:
    log = in_log(UP_TO_60, erase("ann", at(70)), ANN, AFTER)

    marked = erased(("ann", at(70)))  # the marker is written before the erasure

    def run(faults: Faults) -> Left:
        kept, publisher = MemoryStore(), FaultyPublisher(faults)
        for _ in range(100):
            stands = done(kept.peek(ORDERS_0))
            known = stands is not None and (stands.next_offset or 0) >= len(UP_TO_60)
            forgotten = marked if known else Erasures()
            try:
                runner = claimed(log, FaultyStore(faults, kept), publisher, erasures=forgotten)
                for start in range(runner.next_offset, len(log), 7):
                    done(runner.process(log[start : start + 7]))
                done(runner.tick(None))
            except (StoreUnavailable, PublishFailed):
                continue
            break
        return left(kept, publisher, ["ann", "bob", "cid"])

    whole = Faults()
    expected = run(whole)
    strikes = data.draw(st.lists(st.integers(0, whole.count - 1), max_size=3))
    assert run(Faults(strikes)) == expected


def test_a_damaged_customer_is_rebuilt_without_what_is_forgotten() -> None:
    log = in_log(UP_TO_60, erase("ann", at(70)), ANN, AFTER)
    store, publisher = ran(log)

    class TheLog:
        async def start(self, partition: object) -> int:
            return 0

        async def read(self, partition: object, until: int):  # type: ignore[no-untyped-def]
            yield [record for record in log if record.offset < until]

    clean = left(store, publisher, ["ann"])
    claim = done(store.claim(ORDERS_0, 1))
    broken = Write({"ann": b"broken"}, {}, [], None, None)
    done(store.write(ORDERS_0, claim.epoch, claim.sequence, broken))
    runner = PartitionRunner(
        ORDERS_0,
        store,
        publisher,
        pipeline(),
        RunnerOptions(history=TheLog(), erasures=erased(("ann", at(70)))),
    )
    more = in_log(*[log[n] for n in range(len(log))], [an_order("ann", 83)])
    done(runner.claim(log_of(more)))
    done(runner.process(more[len(log) :]))
    assert runner.counters.rebuilt == 1
    whole = kept(more, "ann")
    assert left(store, publisher, ["ann"]).states == whole.states
    assert clean.states != whole.states
