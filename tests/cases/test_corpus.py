"""The whole corpus, alone and among good orders, through one partition."""

from __future__ import annotations

import pytest

from features.events.orders import Order, OrderRules, parse
from streamer.records import MemoryPublisher, Message
from streamer.store.memory import MemoryStore
from tests.support import corpus
from tests.support.fakes import ORDERS_0, TOPICS, Rec, at, by_time, claimed, done, every, records
from tests.support.fakes import pipeline as a_pipeline

NOW_MS = at(400)


def as_records(messages: list[Message]) -> list[Rec]:
    return [Rec(n, m.key, m.value, NOW_MS, m.headers) for n, m in enumerate(messages)]


def run(log: list[Rec], size: int) -> tuple[MemoryStore, MemoryPublisher]:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = claimed(log, store, publisher, a_pipeline())
    for start in range(0, len(log), size):
        done(runner.process(log[start : start + size]))
    assert runner.next_offset == len(log)
    return store, publisher


def test_the_bad_are_bad_and_the_odd_are_orders() -> None:
    bad, odd = corpus.bad("orders", NOW_MS), corpus.odd("orders", at(300))
    assert len(bad) > 100 < len(bad) + len(odd)
    rules = OrderRules()
    for name, message in bad.items():
        assert not isinstance(parse(message.value, message.key, NOW_MS, rules), Order), name
    for message in odd:
        assert isinstance(parse(message.value, message.key, NOW_MS, rules), Order), message.value


@pytest.mark.parametrize("size", [1, 50, 1_000])
def test_each_bad_record_is_one_dead_letter_however_it_comes(size: int) -> None:
    bad = list(corpus.bad("orders", NOW_MS).values())
    _, publisher = run(as_records(bad), size)
    letters = publisher.of(TOPICS.dead_letters)
    assert [(one.key, one.value) for one in letters] == [(one.key, one.value) for one in bad]
    offsets = [dict(one.headers)["source_offset"] for one in letters]
    assert offsets == [b"%d" % offset for offset in range(len(bad))]
    assert len(publisher.messages) == len(letters)


def test_bad_records_among_good_orders_leave_their_neighbours_as_they_were() -> None:
    bad = [Rec(0, m.key, m.value, NOW_MS, m.headers) for m in corpus.bad("orders", NOW_MS).values()]
    good = records(by_time(*(every(f"user-{n}", 5 + n % 7, 20) for n in range(3 * len(bad) // 20))))
    mixed = []
    for n, record in enumerate(good):
        mixed.append(record)
        if n % 3 == 0 and n // 3 < len(bad):
            mixed.append(bad[n // 3])
    log = [Rec(n, r.key, r.value, r.timestamp, r.headers) for n, r in enumerate(mixed)]
    (alone, without), (kept, publisher) = run(good, 100), run(log, 100)
    assert len(publisher.of(TOPICS.dead_letters)) == len(log) - len(good)
    for topic in (TOPICS.warnings, TOPICS.scores):
        # Nothing is promised of the order between customers.
        said, meant = (sorted(one.of(topic), key=_key) for one in (publisher, without))
        assert said == meant != []
    users = sorted({(record.key or b"").decode() for record in good})
    assert done(kept.load(ORDERS_0, users)) == done(alone.load(ORDERS_0, users))


def _key(message: Message) -> bytes:
    return message.key or b""
