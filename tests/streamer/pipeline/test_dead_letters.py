"""Limits of what may be set aside: as a pure policy, and in a partition that has them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Reason
from features.facts.ledger import IdMemory
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.dead_letters import (
    CLEAN,
    NO_LIMITS,
    DeadLettersExceeded,
    DeadLetterWindow,
    Exceeded,
    Limits,
    decode,
    encode,
    follow,
)
from streamer.pipeline.partition import PartitionRunner
from streamer.records import MemoryPublisher, Message, MessageTooLarge, Partition, PublishFailed
from streamer.store.base import StoreUnavailable
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    TOPICS,
    Faults,
    FaultyPublisher,
    FaultyStore,
    Rec,
    an_order,
    at,
    claimed,
    done,
    judge,
    left,
    pipeline,
    records,
)

SCHEMAS = Path(__file__).parents[3] / "streamer/pipeline/schemas"

THREE = Limits(max_run=3, max_ratio=None)
HALF_OF_10 = Limits(max_run=None, max_ratio=0.5, window=10)


def walk(
    pattern: str, limits: Limits, window: DeadLetterWindow = CLEAN, first: int = 0
) -> list[int]:
    """Offsets set aside of a log in which `.` is good and `x` bad, up to where a limit stops it."""
    offsets = range(first, first + len(pattern))
    bad = {at: "bad_ts" for at, kind in zip(offsets, pattern, strict=True) if kind != "."}
    _, exceeded = follow(window, offsets, bad, limits)
    return [at for at in bad if exceeded is None or at < exceeded.offset]


def test_a_run_up_to_the_limit_is_set_aside_and_the_next_is_not() -> None:
    window, exceeded = follow(CLEAN, range(7, 10), dict.fromkeys(range(7, 10), "bad_ts"), THREE)
    assert exceeded is None
    after, exceeded = follow(window, [10, 11], {10: "not_json", 11: "not_json"}, THREE)
    assert exceeded == Exceeded(
        10, "in a row (CLV_DEAD_LETTER_MAX_RUN=3)", 4, 7, "bad_ts", reason_count=3
    )
    assert after == window


def test_a_good_record_ends_a_run() -> None:
    assert walk("xxx.xxx.xxx", THREE) == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_the_ratio_is_one_of_the_last_records_however_they_are_mixed() -> None:
    assert walk(".x" * 20, HALF_OF_10) == list(range(1, 40, 2))
    assert walk(".xx" * 20, HALF_OF_10) == [1, 2, 4, 5, 7]
    assert walk("." * 30 + "x" * 10, HALF_OF_10) == [30, 31, 32, 33, 34]


def test_records_that_are_not_there_yet_count_as_good() -> None:
    assert walk("x" * 10, HALF_OF_10) == [0, 1, 2, 3, 4]


def test_without_limits_everything_is_set_aside() -> None:
    assert walk("x" * 50, NO_LIMITS) == list(range(50))


def test_what_passed_while_there_were_no_limits_is_not_held_against_later_records() -> None:
    window, _ = follow(CLEAN, range(3), dict.fromkeys(range(3), "bad_ts"), THREE)
    window, _ = follow(window, range(3, 9), dict.fromkeys(range(3, 9), "bad_ts"), NO_LIMITS)
    assert walk("xxx", THREE, window, first=9) == [9, 10, 11]


def test_a_limit_of_nothing_stops_at_the_first() -> None:
    assert walk("..x", Limits(max_run=0)) == []
    assert walk("..x", Limits(max_run=None, max_ratio=0.0)) == []


def test_the_same_window_meets_the_same_limit_again() -> None:
    window, _ = follow(CLEAN, range(3), dict.fromkeys(range(3), "bad_ts"), THREE)
    for _ in range(5):
        window, exceeded = follow(decode(encode(window)), [3], {3: "bad_ts"}, THREE)
        assert exceeded is not None
    more = replace(THREE, max_run=4)
    assert follow(window, [3], {3: "bad_ts"}, more)[1] is None


def test_the_message_names_the_limit_the_first_offset_the_reason_and_the_remedy() -> None:
    exceeded = Exceeded(1500, "in a row (CLV_DEAD_LETTER_MAX_RUN=500)", 501, 1000, "not_json", 480)
    text = str(DeadLettersExceeded(Partition("orders", 3), exceeded))
    assert text.startswith(
        "orders-3: offset 1500 would be the 501st bad record in a row"
        " (CLV_DEAD_LETTER_MAX_RUN=500), the first at 1000, 480 of them not_json"
    )
    assert "redrive" in text
    assert "\n" not in text


def test_bytes_that_are_no_window_are_a_clean_one() -> None:
    assert decode(None) == decode(b"") == decode(b"\xc1") == decode(b"\x01") == CLEAN


KINDS = st.sampled_from([None, "bad_ts", "not_json", "empty"])


@given(
    st.lists(KINDS, max_size=60),
    st.integers(0, 6) | st.none(),
    st.sampled_from([0.0, 0.2, 0.5, 1.0, None]),
    st.integers(1, 12),
    st.data(),
)
def test_batches_make_no_difference_and_no_limit_is_ever_passed(
    log: list[str | None],
    max_run: int | None,
    max_ratio: float | None,
    window: int,
    data: st.DataObject,
) -> None:
    limits = Limits(max_run, max_ratio, window)
    bad = {at: why for at, why in enumerate(log) if why is not None}
    whole, exceeded = follow(CLEAN, range(len(log)), bad, limits)
    known, at, stopped = CLEAN, 0, None
    while at < len(log) and stopped is None:
        upto = data.draw(st.integers(at + 1, len(log)))
        part = {place: bad[place] for place in range(at, upto) if place in bad}
        known, stopped = follow(known, range(at, upto), part, limits)
        known, at = decode(encode(known)), upto
    assert stopped == exceeded
    assert known.run == whole.run
    taken = [place in bad for place in range(exceeded.offset if exceeded else len(log))]
    runs = "".join("x" if one else "." for one in taken).split(".")
    assert max_run is None or max(map(len, runs)) <= max_run
    if limits.max_in_window is not None:
        windows = [sum(taken[max(0, end - window) : end]) for end in range(1, len(taken) + 1)]
        assert max(windows, default=0) <= limits.max_in_window


# --- a partition that has limits ----------------------------------------------------------------

BAD = b'{"order_id": "1"'


def limited(limits: Limits) -> Pipeline:
    return replace(pipeline(), dead_letter_limits=limits)


def deliver(runner: PartitionRunner, log: Sequence[Rec], batch: int) -> None:
    for start in range(0, len(log), batch):
        done(runner.process(log[start : start + batch]))


def dead_offsets(publisher: MemoryPublisher) -> list[int]:
    letters = publisher.of(TOPICS.dead_letters)
    return [int(dict(message.headers)["source_offset"]) for message in letters]


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_a_broken_topic_stops_the_partition_before_it_is_emptied(batch: int) -> None:
    log = records([an_order("ann", 1), *[BAD] * 50])
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = claimed(log, store, publisher, limited(Limits(max_run=10)))
    with pytest.raises(DeadLettersExceeded, match="offset 11 would be the 11th bad record"):
        deliver(runner, log, batch)
    assert dead_offsets(publisher) == list(range(1, 11))
    assert runner.next_offset == 11
    assert left(store, publisher, ["ann"]).next_offset == 11


def test_each_restart_sets_aside_nothing_more_until_the_limit_is_raised() -> None:
    log = records([BAD] * 50)
    store, publisher = MemoryStore(), MemoryPublisher()
    for _ in range(5):
        runner = claimed(log, store, publisher, limited(Limits(max_run=10)))
        with pytest.raises(DeadLettersExceeded):
            done(runner.process(log[runner.next_offset :]))
    assert dead_offsets(publisher) == list(range(10))
    runner = claimed(log, store, publisher, limited(Limits(max_run=15)))
    with pytest.raises(DeadLettersExceeded):
        done(runner.process(log[runner.next_offset :]))
    assert dead_offsets(publisher) == list(range(15))
    runner = claimed(log, store, publisher, limited(NO_LIMITS))
    done(runner.process(log[runner.next_offset :]))
    assert dead_offsets(publisher) == list(range(50))


def test_orders_that_come_too_late_to_be_told_from_repeats_count_as_well() -> None:
    through = pipeline(judge(memory=IdMemory(days=1, size=10)))
    through = replace(through, dead_letter_limits=Limits(max_run=3))
    late = [an_order("ann", day) for day in (1, 2, 3, 4, 5)]
    log = records([an_order("ann", 100), *late])
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = claimed(log, store, publisher, through)
    with pytest.raises(DeadLettersExceeded, match="4 of them beyond_id_memory"):
        done(runner.process(log))
    assert dead_offsets(publisher) == [1, 2, 3]
    assert runner.next_offset == 4


@given(st.data())
def test_a_crash_anywhere_does_not_let_more_pass(data: st.DataObject) -> None:
    log = records(
        [
            BAD if data.draw(st.booleans(), label="bad") else an_order("ann", day)
            for day in range(30)
        ]
    )
    through = limited(Limits(max_run=3, max_ratio=0.5, window=8))

    def run(faults: Faults) -> tuple[list[int], int]:
        kept, publisher = MemoryStore(), FaultyPublisher(faults)
        for _ in range(100):
            try:
                runner = claimed(log, FaultyStore(faults, kept), publisher, through)
                for start in range(runner.next_offset, len(log), 4):
                    done(runner.process(log[start : start + 4]))
            except (StoreUnavailable, PublishFailed):
                continue
            except DeadLettersExceeded:
                pass
            break
        return sorted(set(dead_offsets(publisher))), runner.next_offset

    whole = Faults()
    expected = run(whole)
    strikes = data.draw(st.lists(st.integers(0, whole.count - 1), max_size=3), label="strikes")
    assert run(Faults(strikes)) == expected


def test_a_redriven_record_that_is_bad_again_says_how_often_it_was_redriven() -> None:
    log = [replace(records([BAD])[0], headers=(("redriven", b"2"),))]
    publisher = MemoryPublisher()
    done(claimed(log, MemoryStore(), publisher).process(log))
    (message,) = publisher.of(TOPICS.dead_letters)
    assert dict(message.headers)["redriven"] == b"2"


def test_the_page_has_every_reason_and_every_header() -> None:
    page = (Path(__file__).parents[3] / "docs/dead-letters.md").read_text()
    reasons = re.findall(r"^\| `([a-z_]+)` \|", page.partition("## Reasons")[2], re.MULTILINE)
    assert reasons[: len(Reason)] == [reason.value for reason in Reason]
    headers = page.partition("## Headers")[2].partition("## ")[0]
    schema = json.loads((SCHEMAS / "dead-letter-1.json").read_text())
    named = re.findall(r"^\| `([a-z_0-9]+)` \|", headers, re.MULTILINE)
    assert named == list(schema["properties"])


# --- dead letters that no topic is too small for ------------------------------------------------


class Tight(MemoryPublisher):
    """Takes no call that comes to more than so many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    async def publish(self, messages: Sequence[Message]) -> None:
        if sum(map(size_of, messages)) > self.limit:
            raise MessageTooLarge("the topic takes no batch of this size")
        await super().publish(messages)


def size_of(message: Message) -> int:
    parts = [message.key or b"", message.value or b""]
    return sum(map(len, parts)) + sum(len(name) + len(value) for name, value in message.headers)


@pytest.mark.parametrize("limit", [250, 1_500, 70_000, 1_000_000, 10**9])
@pytest.mark.parametrize("size", [0, 999, 65_537, 900_001, 3_000_000])
def test_whatever_the_topic_takes_a_bad_record_is_set_aside_and_the_next_order_counts(
    limit: int, size: int
) -> None:
    bad = b"{" + b" " * size
    (order,) = records([an_order("ann", 1)], first=2)
    log = [Rec(0, b"k" * min(size, 100_000), bad, at(1)), Rec(1, None, b"[", at(1)), order]
    publisher = Tight(limit)
    runner = claimed(log, MemoryStore(), publisher)
    done(runner.process(log))
    assert runner.next_offset == 3
    first, second = publisher.of(TOPICS.dead_letters)
    headers = dict(first.headers)
    assert (headers["source_offset"], dict(second.headers)["source_offset"]) == (b"0", b"1")
    if first.value != bad:
        assert int(headers["value_size"]) == len(bad)
        assert bad.startswith(first.value or b"")
        if "value_sha256" in headers:
            assert headers["value_sha256"] == sha256(bad).hexdigest().encode()
    if limit > 2 * 10**6 and size < 10**6:
        assert first.value == bad


def test_what_is_no_dead_letter_and_too_large_stops_the_partition() -> None:
    log = records([an_order("ann", 1)])
    with pytest.raises(MessageTooLarge):
        done(claimed(log, MemoryStore(), Tight(10)).process(log))
