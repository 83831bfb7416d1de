"""What is decided about a batch, without a store or a broker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from features.events.orders import Order, Reason, Rejected
from features.times import MS_PER_DAY
from model.decide import codec
from model.judge.customers import CustomerArrays
from model.judge.judged import ScheduledCustomer
from streamer.pipeline.batch import (
    Counters,
    Parsed,
    Pipeline,
    Plan,
    Position,
    plan_batch,
    plan_due,
    take_in,
)
from streamer.pipeline.dead_letters import Limits
from streamer.pipeline.erasures import Erasure, Erasures, erasure_headers
from streamer.pipeline.event_time import MAX_LEAD_MS
from streamer.pipeline.partitioner import partition_for
from streamer.pipeline.read import read
from tests.support.fakes import HOUR_MS, ORDERS_0, Rec, an_order, at, every, pipeline, records

ALONE = Position(ORDERS_0)
OF_FOUR = Position(ORDERS_0, partition_count=4)
NOW_MS = at(10)
UNKNOWN = ScheduledCustomer(codec.UNKNOWN, None)


def outcome(record: Rec, position: Position = ALONE) -> object:
    (parsed,) = read([record], position, pipeline(), Erasures(), NOW_MS)
    return parsed.outcome


def reason(record: Rec, position: Position = ALONE) -> Reason | None:
    found = outcome(record, position)
    return found.reason if isinstance(found, Rejected) else None


def planned(batch: list[Parsed], through: Pipeline, position: Position = ALONE) -> Plan:
    intake = take_in(batch, position, through, Erasures())
    customers = CustomerArrays.of([(user, UNKNOWN) for user in intake.events])
    plan, _ = plan_batch(intake, customers, position, through, Erasures())
    assert plan is not None
    return plan


def test_a_batch_becomes_scores_a_write_and_counts() -> None:
    log = records([*every("ada", 7, 3), b"{"])
    plan = planned(read(log, ALONE, pipeline(), Erasures()), pipeline())
    assert len(plan.scores) == plan.counters.scores >= 3  # and the refreshes between them
    assert (len(plan.dead_letters), plan.warnings) == (1, [])
    assert list(plan.write.states) == ["ada"]
    assert (plan.write.next_offset, plan.write.high_ts_ms) == (4, at(14.5))
    assert (plan.counters.orders, plan.counters.dead_letters) == (3, 1)


def test_a_silence_becomes_a_warning_that_waits_in_the_outbox() -> None:
    log = read(records(every("ada", 7, 21)), ALONE, pipeline(), Erasures())
    plan, contested = plan_due(planned(log, pipeline()).customers.customers, at(300), pipeline())
    assert len(plan.warnings) == len(plan.write.outbox) == plan.counters.warnings == 1
    assert contested.contested == {}


def test_one_record_too_many_is_planned_up_to_the_last_that_is_allowed() -> None:
    through = replace(pipeline(), dead_letter_limits=Limits(max_run=1, max_ratio=None))
    batch = read(records([an_order("ada", 1), b"{", b"[]"]), ALONE, through, Erasures())
    intake = take_in(batch, ALONE, through, Erasures())
    ada = CustomerArrays.of([("ada", UNKNOWN)])
    plan, exceeded = plan_batch(intake, ada, ALONE, through, Erasures())
    assert exceeded is not None
    assert exceeded.offset == 2
    assert plan is not None
    assert plan.write.next_offset == 2


def test_an_order_without_a_key_counts_only_where_there_is_one_partition() -> None:
    (record,) = records([an_order("ada", 1)])
    bare = replace(record, key=None)
    assert isinstance(outcome(bare), Order)
    assert reason(bare, OF_FOUR) is Reason.NO_KEY
    assert isinstance(outcome(record, OF_FOUR), Order)
    assert reason(replace(record, key=b"order-7"), OF_FOUR) is Reason.KEY_MISMATCH


@pytest.mark.parametrize(
    ("key", "number", "reason"),
    [
        (b"Kim@Shop.test ", 1, None),  # the home of kim@shop.test
        (b"Kim@Shop.test ", 3, Reason.KEY_MISMATCH),
        (b"kim@shop.test", 3, None),  # the producer has a partitioner of its own
        (None, 1, Reason.NO_KEY),
        (b"KIM@SHOP.TEST", 1, Reason.KEY_MISMATCH),
    ],
)
def test_merged_ids_are_one_customer_in_one_partition(
    key: bytes | None, number: int, reason: Reason | None
) -> None:
    assert partition_for(b"kim@shop.test", 4) == 1
    through = pipeline()
    through = replace(through, order_rules=replace(through.order_rules, merge_ids=True))
    (record,) = records([an_order("Kim@Shop.test ", 1)])
    position = Position(replace(ORDERS_0, number=number), partition_count=4)
    (parsed,) = read([replace(record, key=key)], position, through, Erasures(), NOW_MS)
    if reason is None:
        assert isinstance(parsed.outcome, Order)
        assert parsed.outcome.user_id == "kim@shop.test"
    else:
        assert isinstance(parsed.outcome, Rejected)
        assert parsed.outcome.reason is reason


def test_a_merged_account_is_read_where_the_other_one_is_at_home() -> None:
    through = pipeline()
    rules = replace(through.order_rules, same_as={"kim-old": "kim-new"})
    through = replace(through, order_rules=rules)
    home = partition_for(b"kim-new", 4)
    (record,) = records([an_order("kim-old", 1)])
    for number, found in ((home, "kim-new"), (home ^ 1, Reason.KEY_MISMATCH)):
        position = Position(replace(ORDERS_0, number=number), partition_count=4)
        (parsed,) = read([record], position, through, Erasures(), NOW_MS)
        outcome = parsed.outcome
        if isinstance(outcome, Order):
            assert outcome.user_id == found
        else:
            assert isinstance(outcome, Rejected)
            assert outcome.reason is found


def test_tombstones_are_passed_over_and_count_towards_no_limit() -> None:
    through = replace(pipeline(), dead_letter_limits=Limits(max_run=2, max_ratio=0.2, window=10))
    log = [Rec(n, b"ada", None, at(1)) for n in range(500)]
    log += [replace(one, offset=500 + n) for n, one in enumerate(records([an_order("ada", 1)]))]
    plan = planned(read(log, ALONE, through, Erasures()), through)
    assert (plan.counters.odd, plan.counters.orders) == ({"tombstone": 500}, 1)
    assert (plan.dead_letters, plan.write.next_offset) == ([], 501)


@pytest.mark.parametrize("record_ms", [0, -1, at(11) + HOUR_MS, at(400)])
def test_no_order_is_ahead_of_the_readers_own_clock(record_ms: int) -> None:
    ahead, punctual = records([an_order("ada", 10.5), an_order("ada", 10)])
    assert reason(replace(ahead, timestamp=record_ms)) is Reason.FUTURE_TS
    assert isinstance(outcome(replace(punctual, timestamp=max(record_ms, -1))), Order)


@pytest.mark.parametrize(("at_ms", "taken"), [(NOW_MS, True), (9_999_999_999_999, False)])
def test_an_erasure_of_a_time_to_come_is_none(at_ms: int, taken: bool) -> None:
    record = Rec(0, b"ada", None, NOW_MS, tuple(erasure_headers(at_ms)))
    assert isinstance(outcome(record), Erasure) is taken
    assert reason(record) is (None if taken else Reason.FUTURE_TS)


def test_one_customers_wrong_clock_makes_nobody_silent() -> None:
    through = replace(pipeline(), max_lead_ms=MAX_LEAD_MS)
    shop = [an_order(f"user-{n}", 1 + n / 100) for n in range(5)]
    log = records([*shop, an_order("desk", 200), *(an_order(f"user-{n}", 1.1) for n in range(5))])
    plan = planned(read(log, ALONE, through, Erasures()), through)
    assert plan.write.high_ts_ms == at(1.1) + MAX_LEAD_MS
    assert plan.counters.odd["ahead"] == 1
    believing = planned(read(log, ALONE, pipeline(), Erasures()), pipeline())
    assert believing.write.high_ts_ms == at(200)


def test_late_orders_are_counted() -> None:
    log = records([an_order("ada", 5), an_order("ben", 3), an_order("cid", 5)])
    assert planned(read(log, ALONE, pipeline(), Erasures()), pipeline()).counters.odd == {"late": 1}


def test_counters_add_up() -> None:
    one, other = Counters(orders=1), Counters(orders=2, scores=3)
    other.reasons["bad_ts"] += 1
    one.add(other)
    assert (one.orders, one.scores, dict(one.reasons)) == (3, 3, {"bad_ts": 1})
    assert MAX_LEAD_MS == MS_PER_DAY
