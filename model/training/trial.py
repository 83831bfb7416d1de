"""A first look at a shop's own past: today's model and the list it gives, and how good such
warnings would have been by a model that knew nothing of the time it is judged on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from features.events.orders import Order
from features.facts import buckets
from features.facts.fold import LogFold
from features.times import Calendar, iso_day
from model.backtest.result import Backtest, BacktestError
from model.backtest.run import BacktestPlan, BacktestRun, deciding_judge, trained
from model.backtest.simulate import Simulation
from model.data.training_rows import TrainingConfig, TrainingError
from model.decide.codec import CustomerRecord
from model.decide.outcome import Ending, ending
from model.decide.policy import Policy
from model.estimators.bgnbd import FitError
from model.evaluate.holdout import EvaluationError
from model.explain.quiet import Quiet, why_quiet
from model.files.columns import OrderColumns
from model.judge.customers import CustomerArrays
from model.judge.judge import Judge
from model.judge.judged import ScheduledCustomer
from model.report.slipping import SlippingList, merged, slipping

HORIZONS: Final = (90, 60, 45, 30, 21, 14)
"""The days ahead that are tried, the longest that the log has room for."""
_ROOM: Final = 4
"""A log has to be so many horizons long: two to learn, and two to judge."""
# Warnings of so many orders tell how good they are; more only take longer. So do more to learn of.
_JUDGED_ORDERS: Final = 40_000
_TAUGHT_ORDERS: Final = 100_000
_MAX_ROWS: Final = 150_000
# Customers are folded and listed so many orders at a time: states take more room than orders.
_LISTED_ORDERS: Final = 500_000

Stage: TypeAlias = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class EndedPast:
    """A warning that would have been sent on an ISO date, and what came of it: the next order
    (None: none yet) and how that counts."""

    warned_on: str
    customer: str
    last_order: str
    trigger: str
    next_order: str
    ended: Ending


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What a log gives: the list as of its end, and the backtest of the model's twin, None where
    the log has no room for one; `why_not` then says what is missing. `quiet`: why the customer who
    was asked about is not warned of, None for one who is unknown. `taught`, `every`: one of so many
    customers was learned of, and judged."""

    slipping: SlippingList
    quiet: Quiet | None
    judged: Backtest | None
    past: Sequence[EndedPast]
    why_not: str
    taught: int
    every: int


def horizon_for(orders: Sequence[Order], config: TrainingConfig) -> int:
    """The longest horizon that a log has room to learn and to judge. Raises TrainingError where it
    has none for the shortest."""
    day_of = config.calendar.day_of
    days = day_of(orders[-1].ts_ms) - day_of(orders[0].ts_ms) + 1
    for horizon in HORIZONS:
        if days >= _ROOM * horizon:
            return horizon
    raise TrainingError(
        f"the orders are of {days} days, and no answer can be honest with less than"
        f" {_ROOM * HORIZONS[-1]}: give the orders of four times the days to look ahead, so"
        f" {_ROOM * HORIZONS[0]} days for {HORIZONS[0]}"
    )


def tried(
    orders: OrderColumns,
    config: TrainingConfig,
    stage: Stage = lambda name: nullcontext(),
    progress: Callable[[int], None] = lambda days: None,
    asked: str | None = None,
) -> FirstLook:
    """Everything that a log gives for a horizon; `orders` in event time. `stage` is entered for
    each step, `progress` hears of days that were judged; `asked`: a customer. Raises
    TrainingError."""
    config = replace(config, max_rows=min(config.max_rows, _MAX_ROWS))
    today = config.calendar.day_of(orders[-1].ts_ms) + 1
    drawn = orders.drawn()
    taught, every = (-(-len(orders) // most) for most in (_TAUGHT_ORDERS, _JUDGED_ORDERS))
    known = orders.of_users(drawn % taught == 0)
    with stage("training"):
        scorer = trained(known, today, config)
    judge = deciding_judge(scorer, Policy())
    with stage("listing"):
        found, quiet = _listed(orders, judge, today, asked)
    try:
        with stage("judging"):
            sampled = orders.of_users(drawn % every == 0)
            judged, past = _judged(known, sampled, config, today, progress)
    except (TrainingError, BacktestError, EvaluationError, FitError) as error:
        return FirstLook(found, quiet, None, (), str(error), taught, every)
    return FirstLook(found, quiet, judged, past, "", taught, every)


def parts_of(orders: OrderColumns) -> Iterator[OrderColumns]:
    """The orders of all customers, of some of them at a time."""
    count = -(-len(orders) // _LISTED_ORDERS)
    drawn = orders.drawn()
    for number in range(count):
        if len(part := orders.of_users(drawn % count == number)):
            yield part


def _listed(
    orders: OrderColumns, judge: Judge, today: int, asked: str | None
) -> tuple[SlippingList, Quiet | None]:
    """Who is slipping away today, and why the customer asked about is not warned of."""
    today_ms = judge.rules.calendar.start_ms(today)
    found: list[SlippingList] = []
    quiet = None
    for part in parts_of(orders):
        customers = dict(_records(part, judge, today))
        found.append(slipping(customers.items(), judge.scorer, judge.rules, today_ms))
        if asked in customers:
            quiet = why_quiet(asked, customers[asked], judge, today_ms)
    return merged(found), quiet


def _records(
    orders: OrderColumns, judge: Judge, today: int
) -> Iterator[tuple[str, CustomerRecord]]:
    """Every customer as a worker would know them at the start of today.

    Whoever is on a list bought within the last horizon, or has a warning of it; and what a warning
    compares with lies a horizon before an order. So three horizons are judged, and what is older
    is only known.
    """
    calendar, horizon_days = judge.rules.calendar, judge.rules.horizon_days
    since = max(today - 3 * horizon_days - 1, calendar.day_of(orders[0].ts_ms))
    at = bisect_left(orders, calendar.start_ms(since), key=lambda order: order.ts_ms)
    before = LogFold(orders[:at], calendar)
    before.until(since)
    simulation = Simulation(orders[at:], judge)
    known = [
        (user, ScheduledCustomer(CustomerRecord(facts=state), None))
        for user, state in before.states.items()
    ]
    simulation.customers.put(CustomerArrays.of(known), np.ones(len(known), bool))
    for day in range(since, today + 1):
        simulation.day(day)
    yield from simulation.records()


def _judged(
    known: OrderColumns,
    sampled: OrderColumns,
    config: TrainingConfig,
    today: int,
    progress: Callable[[int], None],
) -> tuple[Backtest, list[EndedPast]]:
    """How good the warnings of a model would have been that was trained two horizons ago."""
    cutoff = today - 2 * config.horizon_days
    scorer = trained(known, cutoff, config)
    run = BacktestRun(sampled, scorer, BacktestPlan(from_day=cutoff, progress=progress))
    report = run.report()
    horizon, calendar = config.horizon_days, config.calendar
    past = []
    sent = [warning for warning in run.raised if warning.day >= cutoff]
    customers = run.purchases.numbers(warning.user_id for warning in sent)
    days = np.array([warning.day for warning in sent], np.int64)
    following = run.purchases.following(customers, days - 1).tolist()
    for warning, after in zip(sent, following, strict=True):
        ordered = after < today
        end = ending(
            calendar.start_ms(warning.day),
            warning.since,
            calendar.start_ms(after) if ordered else None,
            calendar.start_ms(today),
            horizon,
            calendar,
        )
        past.append(
            EndedPast(
                iso_day(warning.day),
                warning.user_id,
                "" if warning.since is None else iso_day(warning.since),
                warning.trigger,
                iso_day(after) if ordered else "",
                end,
            )
        )
    return report, sorted(past, key=lambda one: (one.warned_on, one.customer))


def net_minor(orders: OrderColumns, calendar: Calendar) -> int:
    """What all orders brought, net of refunds and cancellations, as customers' facts have it."""
    total = 0
    for part in parts_of(orders):
        fold = LogFold(part, calendar)
        fold.until(calendar.day_of(part[-1].ts_ms) + 1)
        for state in fold.states.values():
            days = np.frombuffer(state.buckets, buckets.DTYPE)
            total += state.before.gross - state.before.refunded
            total += int(days["gross"].sum()) - int(days["refunded"].sum())
    return total
