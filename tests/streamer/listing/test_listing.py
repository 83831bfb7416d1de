"""The list of open warnings: who is on it, whatever the batches, and after it was lost."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from features.times import MS_PER_DAY
from model.decide import codec
from model.decide.policy import Policy
from streamer.pipeline.erasures import erasure_headers
from streamer.pipeline.messages import ChurnWarning, listed_until, unpack
from streamer.pipeline.partition import PartitionRunner
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    ORDERS_0,
    Rec,
    an_order,
    at,
    by_time,
    claimed,
    done,
    every,
    judge,
    pipeline,
    records,
)

EVERYBODY = pipeline(judge(Policy(floor_percentile=0)))
USERS = [f"u{n}" for n in range(9)]


def a_log() -> list[Rec]:
    orders = [every(user, 2 + n % 3, 4, first_day=n) for n, user in enumerate(USERS)]
    backs = [[an_order(user, 40 + 5 * n)] for n, user in enumerate(USERS) if n % 2]
    return records(by_time(*orders, *backs))


def ran(cuts: list[int]) -> tuple[MemoryStore, PartitionRunner]:
    store, log = MemoryStore(), a_log()
    runner = claimed(log, store, MemoryPublisher(), EVERYBODY)
    bounds = sorted({0, len(log), *(cut % len(log) for cut in cuts)})
    for start, end in pairwise(bounds):
        done(runner.process(log[start:end]))
    done(runner.tick(at(75)))
    return store, runner


def listed(store: MemoryStore) -> dict[str, bytes]:
    return {listed_until(entry)[0]: entry for entry in done(store.open_warnings(ORDERS_0))}


def warned_by_state(store: MemoryStore) -> set[str]:
    found = zip(USERS, done(store.load(ORDERS_0, USERS)), strict=True)
    rules = {user: codec.decode(one.state or b"").rule_state for user, one in found}
    return {user for user, rule in rules.items() if rule.raised is not None and not rule.armed}


@given(st.lists(st.integers(0, 200), max_size=6))
def test_listed_is_whoever_was_warned_of_and_has_not_ordered_since(cuts: list[int]) -> None:
    store, _ = ran(cuts)
    assert listed(store).keys() == warned_by_state(store)
    assert listed(store) == listed(ran([])[0])


def test_a_list_that_was_lost_is_made_again_from_the_states() -> None:
    store, runner = ran([])
    before = listed(store)
    assert 0 < len(before) < len(USERS)
    done(runner.list_again([], whole=True))
    assert listed(store) == before
    kept = store._partitions[ORDERS_0]
    kept.listing.clear()
    kept.listing["who is gone"] = next(iter(before.values()))
    done(runner.list_again([*USERS, "who is gone"], whole=True))
    decode = msgspec.json.Decoder(ChurnWarning).decode
    again = {user: decode(unpack(entry).value or b"") for user, entry in listed(store).items()}
    said = {user: decode(unpack(entry).value or b"") for user, entry in before.items()}
    assert again == said


def test_whose_horizon_is_over_is_taken_off_the_list() -> None:
    store, runner = ran([])
    ends = {user: listed_until(entry)[1] for user, entry in listed(store).items()}
    middle = sorted(ends.values())[len(ends) // 2]
    (newest,) = records([an_order("new", (middle - at(0)) / MS_PER_DAY)], runner.next_offset)
    done(runner.process([newest]))
    done(runner.unlist())
    left = {user for user, end_ms in ends.items() if end_ms > middle}
    assert listed(store).keys() - {"new"} == left
    assert 0 < len(left) < len(ends)


def test_who_is_erased_is_listed_no_more() -> None:
    store, runner = ran([])
    user = min(listed(store))
    erasure = Rec(runner.next_offset, user.encode(), None, at(76), tuple(erasure_headers(at(76))))
    done(runner.process([erasure]))
    assert user not in listed(store)
    feed = done(store.feed(ORDERS_0, 0, 10**6)).entries
    assert user.encode() not in {unpack(entry).key for entry in feed if entry}
    assert b"" in feed
