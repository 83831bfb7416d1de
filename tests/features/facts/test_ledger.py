"""The ledger finds what was counted, and its bytes depend on the events alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from features.events.orders import Order, OrderType
from features.facts import ledger
from features.facts.ledger import MAX_MEMORY_DAYS, NO_REFUND_ID, Entry, IdMemory
from features.times import MS_PER_DAY

_YEAR_9999_MS = 253_402_300_799_999
# Few different bytes, so that an id's hash also turns up across the fields of a record.
_HASHES = st.lists(st.sampled_from(b"\x00\x01\x04"), min_size=8, max_size=8).map(bytes)
_ENTRIES = st.builds(
    Entry,
    _HASHES,
    st.one_of(st.integers(0, 70_000), st.integers(0, MAX_MEMORY_DAYS * MS_PER_DAY)),
    st.sampled_from(list(OrderType)),
    st.one_of(st.integers(0, 70_000), st.integers(0, 10**13)),
    st.sampled_from([NO_REFUND_ID] * 9 + [b"\0\0\0\1\0\0\0\4"]),
    st.sampled_from([-1] * 9 + [0, _YEAR_9999_MS]),
)
_LEDGERS = st.lists(_ENTRIES, max_size=12, unique_by=lambda entry: (entry.id_hash, entry.type))


def _written(entries: list[Entry], later_ms: int = 0) -> bytes:
    data = b""
    for entry in entries:
        data = ledger.add(data, replace(entry, ts_ms=entry.ts_ms + later_ms))
    return data


@given(_LEDGERS.flatmap(lambda entries: st.tuples(st.just(entries), st.permutations(entries))))
def test_the_order_of_arrival_leaves_no_trace(both: tuple[list[Entry], list[Entry]]) -> None:
    entries, shuffled = both
    assert _written(entries) == _written(shuffled) == ledger.of(entries)
    moved = _written(shuffled, _YEAR_9999_MS // 2)
    back = [replace(one, ts_ms=one.ts_ms - _YEAR_9999_MS // 2) for one in ledger.entries(moved)]
    assert back == sorted(entries, key=lambda entry: entry.order)


@given(_LEDGERS)
def test_events_are_kept_by_time(entries: list[Entry]) -> None:
    data = _written(entries)
    times = [entry.ts_ms for entry in ledger.entries_newest_first(data)]
    assert times == sorted((entry.ts_ms for entry in entries), reverse=True)
    assert ledger.newest_ms(data) == max(times, default=-1)


@given(_LEDGERS, _HASHES)
def test_find_gives_all_events_of_an_order_and_no_others(
    entries: list[Entry], stranger: bytes
) -> None:
    data = _written(entries)
    for wanted in {stranger, *(entry.id_hash for entry in entries)}:
        found = ledger.find(data, wanted)
        assert len(found) == len(set(map(repr, found)))
        assert set(map(repr, found)) == {repr(e) for e in entries if e.id_hash == wanted}


@given(_LEDGERS.filter(bool), st.data())
def test_removing_an_event_leaves_no_trace(entries: list[Entry], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(entries))
    rest = [entry for entry in entries if entry is not gone]
    wide = any(entry.is_wide for entry in entries)
    assert ledger.remove(_written(entries), gone) == ledger.of(rest, wide=wide)


def test_an_entry_takes_everything_but_the_user_from_the_order() -> None:
    order = Order("o-1", "ada", 5, 700, OrderType.REFUND)
    entry = ledger.entry_of(order)
    assert entry == Entry(ledger.id_hash("o-1"), 5, OrderType.REFUND, 700)


def test_order_ids_that_differ_only_in_spelling_are_different_orders() -> None:
    ids = ["a", "A", "a ", "á", "a\u0301", "", "0", "00", "\x00"]
    assert len({ledger.id_hash(order_id) for order_id in ids}) == len(ids)


@pytest.mark.parametrize(
    ("days", "size"), [(0, 10), (-1, 10), (ledger.MAX_MEMORY_DAYS + 1, 10), (30, 0), (30, -5)]
)
def test_a_memory_that_could_not_recognise_repeats_is_refused(days: int, size: int) -> None:
    with pytest.raises(ValueError, match="must"):
        IdMemory(days, size)


@given(_LEDGERS)
def test_the_newest_order_is_alone_where_no_other_event_names_it(entries: list[Entry]) -> None:
    written = _written(entries)
    found = ledger.newest_order_alone(written)
    newest = next(ledger.entries_newest_first(written), None)
    if found is not None:
        assert newest is not None
        assert newest.type is OrderType.ORDER
        assert found == newest.ts_ms
        assert ledger.find(written, newest.id_hash) == [newest]


@given(_LEDGERS, st.integers(0, 2 * MAX_MEMORY_DAYS), st.integers(1, 400), st.integers(1, 12))
def test_what_is_appended_is_what_is_added_where_nothing_is_forgotten(
    entries: list[Entry], days: int, memory_days: int, size: int
) -> None:
    written, memory = _written(entries), IdMemory(memory_days, size)
    order = Order("new", "ada", days * MS_PER_DAY, 100_000)
    after = ledger.appended(written, order, ledger.id_hash("new"), days + 1, memory)
    if after is not None:
        added = ledger.add(written, replace(ledger.entry_of(order), shift=1))
        newest_ms = ledger.newest_ms(added)
        assert (after, -1) == ledger.remembered(added, newest_ms, memory)
        assert (after, -1) == ledger.bounded(added, memory)
        assert ledger.older(after, 1) == written


@given(_LEDGERS.filter(bool), st.integers(0, MAX_MEMORY_DAYS * MS_PER_DAY), st.integers(1, 12))
def test_forgetting_leaves_no_trace(entries: list[Entry], now_ms: int, size: int) -> None:
    kept = sorted(entries, key=lambda entry: entry.order)
    wide = any(entry.is_wide for entry in entries)
    memory = IdMemory(days=30, size=size)
    after, forgotten_ms = ledger.remembered(ledger.of(kept), now_ms, memory)
    old = [one for one in kept if one.ts_ms <= now_ms - 30 * MS_PER_DAY]
    assert after == ledger.of(kept[len(old) :], wide=wide)
    assert forgotten_ms == max((one.ts_ms for one in old), default=-1)
