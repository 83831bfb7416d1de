"""A budget of warnings: never more, always the largest, and the same whatever the batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, apply
from features.times import day_of
from model.decide.policy import Policy, Rules
from model.decide.rule_state import Peak, RaisedWarning, Trigger
from model.decide.scoring import Score
from model.judge.budget import Piece, chosen, pieces, share, spent_minor, weights
from model.judge.judged import Scoring
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    HOUR_MS,
    TOPICS,
    Left,
    an_order,
    at,
    by_time,
    claimed,
    done,
    every,
    judge,
    left,
    pipeline,
    records,
    scorer,
    users_of,
)
from tests.support.logs import LATENESSES_MS, shop_logs
from tests.support.strategies import batches

END_MS = at(600)
RULES = Rules(Policy(), 40, 0, (), ())


def run(
    orders: list[Order],
    policy: Policy,
    cuts: list[list[Any]] | None = None,
    lateness_ms: int = 0,
    due_batch: int = 500,
    sure_days: int | None = None,
) -> tuple[Left, list[dict[str, Any]], Any]:
    """A log through a partition: what is left, the warnings as they came, and the counters."""
    log = records(orders)
    store, publisher = MemoryStore(), MemoryPublisher()
    through = pipeline(judge(policy, scorer(sure_days=sure_days)), lateness_ms=lateness_ms)
    runner = claimed(log, store, publisher, through, due_batch=due_batch)
    for batch in [log] if cuts is None else cuts:
        done(runner.process(batch))
    done(runner.tick(END_MS))
    said = [msgspec.json.decode(message.value or b"") for message in publisher.of(TOPICS.warnings)]
    warnings = [record for record in said if record["kind"] == "warning"]
    return left(store, publisher, users_of(log)), warnings, runner.counters


def days(warnings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(warning["user_id"], warning["as_of"][:10]) for warning in warnings]


# Three who stop on the same day, and are worth less from one to the next. By day 34 each has lost
# 5 %; P(churn) grows for all alike.
STOPPED = by_time(every("ada", 7, 3, 5_000), every("ben", 7, 3, 4_000), every("cleo", 7, 3, 3_500))


def test_without_a_budget_everyone_is_warned_of_at_once() -> None:
    _, warnings, _ = run(STOPPED, Policy(floor_percentile=0))
    assert [day for _, day in days(warnings)] == ["2025-02-04"] * 3


def test_the_most_at_stake_comes_first_and_the_rest_competes_again() -> None:
    _, warnings, counters = run(STOPPED, Policy(floor_percentile=0, budget_per_day=1))
    assert days(warnings) == [
        ("ada", "2025-02-04"),
        ("ben", "2025-02-05"),
        ("cleo", "2025-02-06"),
    ]
    assert counters.deferred == 2


def test_who_is_withheld_may_drop_out_and_is_counted() -> None:
    orders = [*STOPPED, an_order("ben", 34.5)]
    _, warnings, counters = run(orders, Policy(floor_percentile=0, budget_per_day=1))
    assert days(warnings) == [
        ("ada", "2025-02-04"),
        ("cleo", "2025-02-05"),
        ("ben", "2025-02-24"),
    ]
    assert counters.deferred == 2


@given(
    data=st.data(),
    orders=shop_logs(),
    lateness_ms=LATENESSES_MS,
    per_day=st.integers(1, 2),
    sure_days=st.sampled_from([None, 18, 25]),
    due_batch=st.sampled_from([1, 2, 500]),
)
def test_how_events_fall_into_batches_changes_no_choice(
    data: st.DataObject,
    orders: list[Order],
    lateness_ms: int,
    per_day: int,
    sure_days: int | None,
    due_batch: int,
) -> None:
    policy = Policy(floor_percentile=0, budget_per_day=per_day)
    whole, warnings, counters = run(orders, policy, None, lateness_ms, sure_days=sure_days)
    log = records(orders)
    cuts = data.draw(batches(log) | st.just([[record] for record in log]))
    cut, _, other = run(orders, policy, cuts, lateness_ms, due_batch, sure_days)
    assert cut == whole
    assert counters.deferred == other.deferred
    assert max(Counter(w["as_of"] for w in warnings).values(), default=0) <= per_day


# --- the parts -----------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 30_000))
def test_the_shares_of_a_day_add_up_and_differ_by_one_at_most(
    per_day: int, partitions: int, day: int
) -> None:
    shares = [share(per_day, number, partitions, day) for number in range(partitions)]
    assert sum(shares) == per_day
    assert max(shares) - min(shares) <= 1


def test_every_partition_has_its_turn() -> None:
    turns = [sum(share(1, number, 4, day) for day in range(8)) for number in range(4)]
    assert turns == [2, 2, 2, 2]


def test_of_equal_losses_the_lower_id_comes_first() -> None:
    orders = by_time(every("ben", 7, 3), every("ada", 7, 3))
    _, warnings, _ = run(orders, Policy(floor_percentile=0, budget_per_day=1))
    assert [user for user, _ in days(warnings)] == ["ada", "ben"]
    nobody: list[Scoring] = []
    assert chosen(nobody, 3, RULES) == set()


@pytest.mark.parametrize(
    ("money", "first"),
    [
        # P(churn), spent in the last 40 days: rich .5, 900; sure .9, 100; fond .2, 200. The mean
        # spend, weighed by P(churn), is 362.5.
        (0, "sure"),
        (0.4, "sure"),
        (0.5, "rich"),
        (100, "rich"),
    ],
)
def test_a_budget_weighs_money_against_being_sure(money: float, first: str) -> None:
    raised = [
        a_warning("rich", 0.5, spent=90_000, reference=10_000),
        a_warning("sure", 0.9, spent=10_000, reference=9_000),
        a_warning("fond", 0.2, spent=20_000, reference=100_000),
    ]
    assert chosen(raised, 1, replace(RULES, money=money)) == {first}
    assert chosen(raised, 3, RULES) == {"rich", "sure", "fond"}


def test_where_nobody_spent_anything_a_budget_ranks_by_who_is_surest_to_leave() -> None:
    assert weights([0.2, 0.9], [0.0, 0.0], 0.5) == [0.2, 0.9]
    assert weights([0.0], [5.0], 0.5) == [0.0]


@pytest.mark.parametrize(
    ("orders", "day", "spent"),
    [
        ([], 5, 0),
        ([(0.5, 500)], 0, 500),
        ([(0.5, 500)], 39, 500),
        ([(0.5, 500)], 40, 0),
        ([(0.5, 500), (3.5, 200), (3.7, 100)], 42, 300),
        ([(0.5, 500), (3.5, -200)], 20, 300),
        ([(0.5, 500), (3.5, -200)], 41, 0),
    ],
)
def test_what_was_spent_is_the_net_revenue_of_the_last_days(
    orders: list[tuple[float, int]], day: int, spent: int
) -> None:
    facts = EMPTY
    for when, amount in orders:
        kind = OrderType.REFUND if amount < 0 else OrderType.ORDER
        facts = apply(facts, an_order("ada", when, abs(amount), kind)).state
    assert spent_minor(facts, day_of(at(day)), 40) == spent


def a_warning(user: str, churn: float, spent: int, reference: int) -> Scoring:
    """A warning on day 30 of a customer who spent so much on day 1."""
    facts = apply(EMPTY, an_order(user, 1.5, spent)).state
    peak = Peak(day_of(at(1)), reference)
    raised = RaisedWarning(Trigger.SILENCE, at(30), 0, peak, at(1.5), b"\0" * 8)
    return Scoring(user, None, at(30), Trigger.SILENCE, Score(0, churn), peak, facts, raised)


@pytest.mark.parametrize(
    ("hours", "closed", "expected"),
    [
        ([1, 5, 23], 0, [(0, 3, None)]),
        ([1, 25, 26, 49], 0, [(0, 1, None), (1, 3, 24), (3, 4, 48)]),
        ([25, 100], 0, [(0, 1, 24), (1, 2, 96)]),
        ([25, 3, 26], 30, [(0, 3, None)]),
        ([24], 23, [(0, 1, 24)]),
        ([24], 24, [(0, 1, None)]),
        ([None, 1], None, [(0, 1, None), (1, 2, 0)]),
        ([], 0, []),
    ],
)
def test_a_batch_is_cut_where_a_record_closes_a_day(
    hours: list[int | None], closed: int | None, expected: list[tuple[int, int, int | None]]
) -> None:
    def ms(hour: int | None) -> int | None:
        return None if hour is None else hour * HOUR_MS

    found = pieces([ms(hour) for hour in hours], ms(closed), judge().rules)
    assert found == [Piece(start, end, ms(until)) for start, end, until in expected]
