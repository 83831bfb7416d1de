"""A first look at a shop's own past: today's model and the list it gives, and how good such
warnings would have been by a model that knew nothing of the time it is judged on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from zlib import crc32

import numpy as np

from features.events.orders import Order
from features.facts import buckets
from features.facts.fold import LogFold
from features.times import Calendar, day_of_date, iso_day
from model.backtest.result import Backtest, BacktestError
from model.backtest.run import BacktestPlan, BacktestRun, deciding_judge, trained
from model.backtest.simulate import Simulation
from model.data.training_rows import TrainingConfig, TrainingError
from model.decide.codec import CustomerRecord
from model.decide.outcome import Ending, ending
from model.decide.policy import Policy
from model.decide.scoring import Scorer
from model.estimators.bgnbd import FitError
from model.evaluate.holdout import EvaluationError
from model.explain.quiet import Quiet, why_quiet
from model.files.columns import OrderColumns
from model.judge.judge import Judge
from model.judge.judged import ScheduledCustomer
from model.report.slipping import SlippingList, slipping

HORIZONS: Final = (90, 60, 45, 30, 21, 14)
"""The days ahead that are tried, the longest that the log has room for."""
_ROOM: Final = 4
"""A log has to be so many horizons long: two to learn, and two to judge."""
# Warnings of so many orders tell how good they are; more only take longer.
_JUDGED_ORDERS: Final = 40_000
_MAX_ROWS: Final = 200_000

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
    """What a log gives: the scorer of all of it, the list as of its end, and the backtest of its
    twin, None where the log has no room for one; `why_not` then says what is missing. `every`: one
    of so many customers was judged."""

    scorer: Scorer
    customers: Mapping[str, CustomerRecord]
    slipping: SlippingList
    judged: Backtest | None
    past: Sequence[EndedPast]
    why_not: str
    every: int

    def why_quiet(self, user_id: str, calendar: Calendar) -> Quiet | None:
        """Why a customer is not warned of at the end of the log; None for one who is unknown."""
        record = self.customers.get(user_id)
        if record is None:
            return None
        judge = deciding_judge(self.scorer, Policy())
        return why_quiet(
            user_id, record, judge, calendar.start_ms(day_of_date(self.slipping.as_of))
        )

    @property
    def horizon_days(self) -> int:
        """Days ahead that all of it is about."""
        return self.scorer.horizon_days


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
) -> FirstLook:
    """Everything that a log gives for a horizon; `orders` in event time. `stage` is entered for
    each step, `progress` hears of days that were judged. Raises TrainingError."""
    config = replace(config, max_rows=min(config.max_rows, _MAX_ROWS))
    today = config.calendar.day_of(orders[-1].ts_ms) + 1
    with stage("training"):
        scorer = trained(orders, today, config)
    judge = deciding_judge(scorer, Policy())
    with stage("listing"):
        customers = dict(_records(orders, judge, today))
        today_ms = config.calendar.start_ms(today)
        found = slipping(customers.items(), scorer, judge.rules, today_ms)
    every = _every(orders)
    try:
        with stage("judging"):
            judged, past = _judged(orders, config, today, every, progress)
    except (TrainingError, BacktestError, EvaluationError, FitError) as error:
        return FirstLook(scorer, customers, found, None, (), str(error), every)
    return FirstLook(scorer, customers, found, judged, past, "", every)


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
    for user, state in before.states.items():
        simulation.tracks[user] = ScheduledCustomer(CustomerRecord(facts=state), None)
    for day in range(since, today + 1):
        simulation.day(day)
    for user, track in simulation.tracks.items():
        yield user, track.customer


def _every(orders: OrderColumns) -> int:
    """One of how many customers is judged."""
    return -(-len(orders) // _JUDGED_ORDERS)


def _judged(
    orders: OrderColumns,
    config: TrainingConfig,
    today: int,
    every: int,
    progress: Callable[[int], None],
) -> tuple[Backtest, list[EndedPast]]:
    """How good the warnings of a model would have been that was trained two horizons ago."""
    cutoff = today - 2 * config.horizon_days
    scorer = trained(orders, cutoff, config)
    sampled: Sequence[Order] = orders
    if every > 1:
        sampled = OrderColumns(
            order for order in orders if crc32(order.user_id.encode()) % every == 0
        )
    run = BacktestRun(sampled, scorer, BacktestPlan(from_day=cutoff, progress=progress))
    report = run.report()
    horizon, calendar = config.horizon_days, config.calendar
    past = []
    for warning in run.raised:
        if warning.day < cutoff:
            continue
        after = run.purchases.following(warning.user_id, warning.day - 1)
        known = after < today
        end = ending(
            calendar.start_ms(warning.day),
            warning.since,
            calendar.start_ms(after) if known else None,
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
                iso_day(after) if known else "",
                end,
            )
        )
    return report, sorted(past, key=lambda one: (one.warned_on, one.customer))


def net_minor(orders: OrderColumns, calendar: Calendar) -> int:
    """What all orders brought, net of refunds and cancellations, as customers' facts have it."""
    fold = LogFold(orders, calendar)
    fold.until(calendar.day_of(orders[-1].ts_ms) + 1)
    total = 0
    for state in fold.states.values():
        days = np.frombuffer(state.buckets, buckets.DTYPE)
        total += state.before.gross - state.before.refunded
        total += int(days["gross"].sum()) - int(days["refunded"].sum())
    return total
