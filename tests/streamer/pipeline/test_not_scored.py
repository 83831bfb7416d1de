"""A partition with a customer whom the model cannot score: the others go on, nothing is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order
from features.facts.state import CustomerState
from features.times import MS_PER_DAY
from model.decide import codec as customer
from model.decide.policy import Policy
from streamer.listing.tally import NOTHING
from streamer.pipeline.dead_letters import DeadLettersExceeded, Limits
from streamer.pipeline.messages import unpack
from streamer.pipeline.partition import PartitionRunner
from streamer.records import MemoryPublisher, Message
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    ORDERS_0,
    TOPICS,
    CannotScore,
    Faults,
    FaultyPublisher,
    FaultyStore,
    Left,
    Raising,
    Rec,
    at,
    by_time,
    done,
    every,
    facts_of,
    judge,
    left,
    log_of,
    pipeline,
    records,
    scorer,
    users_of,
)
from tests.support.strategies import batches

POLICY = Policy(floor_percentile=0)
GOOD = pipeline(judge(POLICY))
# Ada has ten orders; with the fourth she cannot be scored. Nobody else has as many.
BAD = pipeline(judge(POLICY, scorer(Raising(orders=4))))
ORDERS = by_time(
    every("ada", 7, 10, amount_minor=1_200),
    every("ben", 9, 3, amount_minor=1_200),
    every("cleo", 5, 2, amount_minor=9_000),
    every("dora", 100, 3, amount_minor=1_200),
)
LOG = records(ORDERS)
END_MS = at(300)


def delivered(through: object = GOOD, log: Sequence[Rec] = LOG) -> Left:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = PartitionRunner(ORDERS_0, store, publisher, through)  # type: ignore[arg-type]
    done(runner.claim(log_of(log)))
    done(runner.process(log))
    done(runner.tick(END_MS))
    return left(store, publisher, users_of(log))


def of_others(found: Left) -> Left:
    """What a delivery left of everybody but Ada."""
    return dataclasses.replace(
        found,
        states={user: state for user, state in found.states.items() if user != "ada"},
        messages={
            topic: {message for message in messages if message.key != b"ada"}
            for topic, messages in found.messages.items()
        },
        listed={entry for entry in found.listed if unpack(entry).key != b"ada"},
        tally=NOTHING,  # of everybody, and not to be told apart
    )


def facts_in(state: bytes | None) -> CustomerState:
    assert state is not None
    return customer.decode(state).facts


def of_ada(orders: Sequence[Order]) -> list[Order]:
    return [order for order in orders if order.user_id == "ada"]


def letters_of(messages: set[Message]) -> list[dict[str, str]]:
    found = [{name: value.decode() for name, value in m.headers} for m in messages]
    return sorted(found, key=lambda headers: int(headers["source_offset"]))


def test_the_others_are_as_if_nothing_had_been() -> None:
    usual, found = delivered(), delivered(BAD)
    assert of_others(found) == of_others(usual)
    assert len(of_others(found).messages[TOPICS.warnings]) >= 2


def test_every_order_that_cannot_be_scored_is_a_dead_letter_and_none_other() -> None:
    found = delivered(BAD)
    letters = letters_of(found.messages[TOPICS.dead_letters])
    places = [n for n, order in enumerate(ORDERS) if order.user_id == "ada"][3:]
    assert [int(letter["source_offset"]) for letter in letters] == places
    assert {letter["reason"] for letter in letters} == {"not_scored"}
    assert all("CannotScore at fakes.py" in letter["detail"] for letter in letters)
    values = {message.value for message in found.messages[TOPICS.dead_letters]}
    assert values == {LOG[place].value for place in places}
    assert facts_in(found.states["ada"].state) == facts_of(of_ada(ORDERS)[:3])


@given(cut=batches(LOG), crash_at=st.sets(st.integers(1, 60), max_size=3))
def test_neither_batches_nor_failures_make_a_difference(
    cut: list[list[Rec]], crash_at: set[int]
) -> None:
    faults = Faults(crash_at)
    store, publisher = FaultyStore(faults), FaultyPublisher(faults)
    left_over = [record for batch in cut for record in batch]
    sizes = [len(batch) for batch in cut]
    while True:
        runner = PartitionRunner(ORDERS_0, store, publisher, BAD)
        try:
            next_offset = done(runner.claim(log_of(LOG)))
            left_over = list(LOG[next_offset:])
            for size in [*sizes, len(LOG)]:
                done(runner.process(left_over[:size]))
                left_over = left_over[size:]
            done(runner.tick(END_MS))
            break
        except Exception as error:
            if isinstance(error, AssertionError | CannotScore):
                raise
    assert left(store.kept, publisher, users_of(LOG)) == delivered(BAD)


def test_mended_and_redriven_every_order_counts() -> None:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = PartitionRunner(ORDERS_0, store, publisher, BAD)
    done(runner.claim(log_of(LOG)))
    done(runner.process(LOG))
    letters = publisher.of(TOPICS.dead_letters)
    runner.adopt(GOOD)
    again = [Rec(len(LOG) + n, m.key, m.value, END_MS) for n, m in enumerate(letters)]
    done(runner.process(again))
    (stored,) = done(store.load(ORDERS_0, ["ada"]))
    assert facts_in(stored.state) == facts_of(of_ada(ORDERS))
    assert len(publisher.of(TOPICS.dead_letters)) == len(letters)


def test_who_is_due_and_cannot_be_scored_is_tried_again_the_next_day() -> None:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = PartitionRunner(ORDERS_0, store, publisher, GOOD)
    log = records(by_time(every("ada", 7, 4, 1_200), every("ben", 7, 4, 1_200)))
    done(runner.claim(log_of(log)))
    done(runner.process(log))
    ada, ben = done(store.load(ORDERS_0, ["ada", "ben"]))
    end_ms = at(40.5)
    runner.adopt(BAD)
    done(runner.tick(end_ms))
    assert runner.counters.rescheduled == 2
    assert publisher.of(TOPICS.warnings) == []
    tomorrow_ms = (end_ms // MS_PER_DAY + 1) * MS_PER_DAY
    for user, before in (("ada", ada), ("ben", ben)):
        (after,) = done(store.load(ORDERS_0, [user]))
        assert (after.state, after.due_ms) == (before.state, tomorrow_ms)
    done(runner.tick(end_ms))
    assert runner.counters.rescheduled == 2  # not again on the same day
    runner.adopt(GOOD)
    done(runner.tick(END_MS))
    # What they would have been warned of since, they are; a score of that day is all that lacks.
    usual, found = delivered(log=log), left(store, publisher, users_of(log))
    assert found.states == usual.states
    assert found.messages[TOPICS.warnings] == usual.messages[TOPICS.warnings]
    assert len(publisher.of(TOPICS.warnings)) == 2


def test_under_a_budget_the_others_are_warned_of_all_the_same() -> None:
    policy = dataclasses.replace(POLICY, budget_per_day=5)
    usual = delivered(pipeline(judge(policy)))
    found = delivered(pipeline(judge(policy, scorer(Raising(orders=4)))))
    assert of_others(found) == of_others(usual)
    assert len(of_others(found).messages[TOPICS.warnings]) >= 2


def test_a_model_that_can_score_nobody_sets_nothing_aside() -> None:
    publisher = MemoryPublisher()
    runner = PartitionRunner(
        ORDERS_0, MemoryStore(), publisher, pipeline(judge(POLICY, scorer(Raising(orders=-1))))
    )
    done(runner.claim(log_of(LOG)))
    with pytest.raises(CannotScore):
        done(runner.process(LOG))
    assert publisher.of(TOPICS.dead_letters) == []
    assert runner.next_offset == 0


def test_the_limits_of_dead_letters_hold_for_them_too() -> None:
    through = dataclasses.replace(BAD, dead_letter_limits=Limits(max_run=2, max_ratio=None))
    log = records(of_ada(ORDERS))
    runner = PartitionRunner(ORDERS_0, MemoryStore(), MemoryPublisher(), through)
    done(runner.claim(log_of(log)))
    with pytest.raises(DeadLettersExceeded, match="not_scored"):
        done(runner.process(log))
    assert runner.next_offset == 5
