"""Whatever is written to `orders` counts or becomes one dead letter; those around it count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.erasures import ERASE
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.fuzz.mutate import fuzzed, mutated, seeds_of
from tests.support import corpus
from tests.support.fakes import TOPICS, Rec, an_order, claimed, done, pipeline, records

SEEDS = seeds_of("record")
PIPELINE = pipeline()
NOW_MS = corpus.TS_MS
AROUND = records([an_order("ben", 300), an_order("ben", 301)])
KEYS = st.none() | mutated([b"ada", b"ben", b"", *corpus.WRONG_KEYS])
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([ERASE, "redriven", "Faust-Ag-ReplyTo"]) | st.text(max_size=5),
        mutated([str(NOW_MS).encode(), b"1", b"-1", "\u0663".encode(), b"replies"]),
    ),
    max_size=3,
).map(tuple)
TIMES = st.sampled_from([NOW_MS, -1, 0, 2**63 - 1, -(2**63)])


def outlived(record: Rec) -> None:
    """Has a partition apply the record between two orders."""
    first, last = (Rec(n, r.key, r.value, r.timestamp) for n, r in ((0, AROUND[0]), (2, AROUND[1])))
    log = [first, record, last]
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = claimed(log, store, publisher, PIPELINE)
    done(runner.process(log))
    assert runner.next_offset == 3
    letters = publisher.of(TOPICS.dead_letters)
    assert len(letters) <= 1
    for letter in letters:
        assert (letter.key, letter.value) == (record.key, record.value)
    said = [message.key for message in publisher.of(TOPICS.scores)]
    assert b"ben" in said


def test_every_seed_is_outlived() -> None:
    for value in SEEDS:
        outlived(Rec(1, b"ada", value, NOW_MS))


@fuzzed
@given(KEYS, st.none() | mutated(SEEDS), HEADERS, TIMES)
def test_any_record_is_outlived(
    key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...], ts_ms: int
) -> None:
    outlived(Rec(1, key, value, ts_ms, headers))
