"""Training rows: customers as they were known at earlier days, and what they brought afterwards.

One pass over the orders in event time through the very fold that the stream uses. At every
snapshot (00:00) the states of all customers become feature vectors; `horizon_days` later the
states of then say what the customer brought in between. So:

- features of a snapshot know the events before it, and nothing else;
- a label is known only with the events before its window's end. An order cancelled by then counts
  for nothing, a refund by then is deducted on its own day, exactly as the fold has it; what is
  taken back later is not known, as it would not have been in production;
- every label window ends at or before the cutoff.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.arrays import Floats
from features.columns.table import tabulate
from features.columns.vector import vectors
from features.events.orders import FreeOrders, Order
from features.facts.fold import LogFold
from features.facts.state import HISTORY_DAYS, CustomerState
from features.times import MS_PER_DAY, UTC, Calendar
from model.data.attributes import Attributes
from model.errors import ModelError
from model.files.columns import OrderColumns

# The kind of `model.estimators.kinds` that is trained where none is named.
DEFAULT_KIND: Final = "blend"

MIN_ROWS: Final = 50
MIN_CUSTOMERS: Final = 20


class TrainingError(ModelError):
    """There is no model to be had from these orders; the message says what would be enough."""


class TooLittleData(TrainingError):
    """Too few customers or too short a history: give more orders, or a shorter horizon."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What is trained: the horizon, how far apart the snapshots are (in days), and the kind of
    model with its options (`model.estimators.kinds`), what is known of customers beside their
    orders, the shop's calendar, and what its orders of 0 are.

    Snapshots are a third of the horizon apart unless said otherwise (0), and a snapshot counts
    half as much as one `half_life_days` younger (0: two horizons, at least half a year): shops
    change, and the customers
    of one cohort grow older. Above `max_rows` rows, a part of the customers is left out, chosen by
    a hash of their ids: the same ones at every snapshot and in every run.
    """

    horizon_days: int = 90
    snapshot_every_days: int = 0
    half_life_days: int = 0
    max_rows: int = 500_000
    currency: str = "USD"
    attributes: Attributes | None = None
    calendar: Calendar = UTC
    free_orders: FreeOrders = FreeOrders.COUNT
    kind: str = DEFAULT_KIND
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.horizon_days <= HISTORY_DAYS:
            raise TrainingError(
                f"horizon {self.horizon_days} days must lie between 1 and {HISTORY_DAYS},"
                " the days that a customer's state remembers one by one"
            )
        if not self.snapshot_every_days:
            object.__setattr__(self, "snapshot_every_days", max(1, self.horizon_days // 3))
        if not self.half_life_days:
            object.__setattr__(self, "half_life_days", max(180, 2 * self.horizon_days))
        if self.snapshot_every_days < 1:
            raise TrainingError(f"snapshots every {self.snapshot_every_days} days; at least 1")
        if self.half_life_days < 1:
            raise TrainingError(f"a half-life of {self.half_life_days} days; at least 1")


@dataclass(frozen=True, slots=True)
class Labels:
    """What customers did in the window: net revenue in minor units, at least 0, and whether there
    was no order at all. Both of shape (n,)."""

    revenue_minor: Floats
    churned: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All customers with an order before the day `day`, and what they did from it on.

    `states` are as known at 00:00 of `day`; `labels` are of the horizon that starts there.
    """

    day: int
    users: list[str]
    states: list[CustomerState]
    labels: Labels

    @property
    def pairs(self) -> list[tuple[CustomerState, int]]:
        """The states, each with the snapshot's instant in epoch ms."""
        return [(state, self.day * MS_PER_DAY) for state in self.states]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows of all snapshots: X of shape (n, k), labels and `day` of the snapshot of (n,)."""

    X: Floats
    labels: Labels
    day: NDArray[np.int64]
    customers: int


def default_cutoff_day(orders: Sequence[Order], horizon_days: int, calendar: Calendar = UTC) -> int:
    """The last day with a full horizon of orders after it; `orders` sorted by event time.

    The log is taken to be complete to the end of its last day.
    """
    if not orders:
        raise TooLittleData("the log has no orders; give one with at least a few months of them")
    return calendar.day_of(orders[-1].ts_ms) + 1 - horizon_days


def snapshots(
    orders: Sequence[Order],
    days: Iterable[int],
    horizon_days: int,
    calendar: Calendar = UTC,
    *,
    wanted: Callable[[str], bool] | None = None,
) -> list[Snapshot]:
    """A snapshot for each of the days, with labels; `orders` sorted by event time, read once.
    `wanted` says whose (None: everybody's)."""
    taken_on = sorted(set(days))
    ends = {day + horizon_days for day in taken_on}
    open_: dict[int, tuple[list[str], list[CustomerState]]] = {}
    taken = []
    fold = LogFold(orders, calendar, wanted=wanted)
    states = fold.states
    for day in sorted({*taken_on, *ends}):
        fold.until(day)
        if day in ends:
            users, then = open_.pop(day - horizon_days)
            labels = labels_of([states[user] for user in users], day, horizon_days)
            taken.append(Snapshot(day - horizon_days, users, then, labels))
        if day in taken_on:
            bought = [user for user, s in states.items() if s.last_purchase_day is not None]
            open_[day] = (bought, [states[user] for user in bought])
    return taken


def labels_of(states: Sequence[CustomerState], end_day: int, horizon_days: int) -> Labels:
    """What customers did in the `horizon_days` before `end_day`, as known at 00:00 of it."""
    table = tabulate([(state, end_day * MS_PER_DAY) for state in states])
    inside = (table.age_days >= 1) & (table.age_days <= horizon_days)
    revenue = table.sums((table.gross - table.refunded) * inside)
    return Labels(np.maximum(revenue, 0.0), table.sums(table.orders * inside) == 0)


def training_set(orders: Sequence[Order], config: TrainingConfig, cutoff_day: int) -> TrainingSet:
    """Every snapshot whose label window ends at or before 00:00 of `cutoff_day`, as one matrix.

    Snapshots lie `snapshot_every_days` apart, the last of them one horizon before the cutoff, the
    first not less than that after the first order. Raises TooLittleData.
    """
    day_of = config.calendar.day_of
    first_day = day_of(orders[0].ts_ms) if orders else cutoff_day
    last = cutoff_day - config.horizon_days
    step = config.snapshot_every_days
    days = range(last, first_day + min(step, config.horizon_days) - 1, -step)
    if not days:
        there_are = max(cutoff_day - first_day, 0)
        in_all = day_of(orders[-1].ts_ms) + 1 - first_day if orders else 0
        raise TooLittleData(
            f"the log has {there_are} {'day' if there_are == 1 else 'days'} before the cutoff"
            f" ({in_all} in all); a horizon of {config.horizon_days} days needs at least"
            f" {config.horizon_days + min(step, config.horizon_days)} before it: give a longer"
            f" history or a shorter --horizon (this log carries {carries(in_all)}), or a later"
            " --cutoff, after which less can be judged"
        )
    wanted = _one_in(orders, days, config)
    found = snapshots(orders, days, config.horizon_days, config.calendar, wanted=wanted)
    taken = [snapshot for snapshot in found if snapshot.users]
    customers = len({user for snapshot in taken for user in snapshot.users})
    if customers < MIN_CUSTOMERS:
        raise TooLittleData(
            f"customers with an order {config.horizon_days} days or more before the cutoff:"
            f" {customers}; at least {MIN_CUSTOMERS} are needed: give more orders"
        )
    rows = TrainingSet(
        X=np.concatenate([rows_of(snapshot, config.attributes) for snapshot in taken]),
        labels=Labels(
            np.concatenate([snapshot.labels.revenue_minor for snapshot in taken]),
            np.concatenate([snapshot.labels.churned for snapshot in taken]),
        ),
        day=np.repeat([s.day for s in taken], [len(s.users) for s in taken]),
        customers=customers,
    )
    check(rows, config)
    return rows


def carries(days: int) -> int:
    """The longest horizon that a log of so many days can train and judge: one and a third of it
    before the cutoff, one after it."""
    return days * 3 // 7


def _one_in(
    orders: Sequence[Order], days: Sequence[int], config: TrainingConfig
) -> Callable[[str], bool] | None:
    """Which customers give rows, so that there are about `max_rows` at most; None: all of them."""
    columns = OrderColumns.of(orders)
    bought = columns.kept_orders()
    _, first = np.unique(columns.user[bought], return_index=True)
    first_day = np.sort(config.calendar.days_of(columns.ts_ms[bought[first]]))
    rows = int(np.searchsorted(first_day, days).sum())
    every = -(-rows // config.max_rows)
    if every <= 1:
        return None
    chosen = np.flatnonzero(columns.drawn() % every == 0).tolist()
    return {columns.users[at] for at in chosen}.__contains__


def part(rows: TrainingSet, chosen: NDArray[np.bool_]) -> TrainingSet:
    """Some of the rows, chosen by a mask of shape (n,); `customers` is that of the whole."""
    labels = Labels(rows.labels.revenue_minor[chosen], rows.labels.churned[chosen])
    return TrainingSet(rows.X[chosen], labels, rows.day[chosen], rows.customers)


def check(rows: TrainingSet, config: TrainingConfig) -> None:
    """Nothing, where the rows are enough to train on. Raises TooLittleData."""
    n, churned = len(rows.X), int(rows.labels.churned.sum())
    if n < MIN_ROWS:
        raise TooLittleData(f"{n} training rows; at least {MIN_ROWS} are needed: give more orders")
    if churned in (0, n):
        what = "nobody" if churned == 0 else "everybody"
        raise TooLittleData(
            f"{what} of {n} training rows stopped ordering for {config.horizon_days} days, so there"
            " is nothing to tell apart: give a longer history or another --horizon"
        )
    if not rows.labels.revenue_minor.any():
        raise TooLittleData(
            f"no customer of {n} training rows brought any net revenue: every amount is 0, or was"
            " taken back; look at the column amount of the log"
        )


def population(
    orders: Sequence[Order],
    day: int,
    attributes: Attributes | None = None,
    calendar: Calendar = UTC,
) -> Floats:
    """Feature vectors of all customers with an order before a day, as known when it begins; with
    their attributes, where there are such."""
    return population_of(known_states(orders, day, calendar), day, attributes)


def population_of(
    states: Mapping[str, CustomerState], day: int, attributes: Attributes | None = None
) -> Floats:
    """Feature vectors of customers as known when a day begins, with their attributes, where there
    are such."""
    X = vectors([(state, day * MS_PER_DAY) for state in states.values()])
    return X if attributes is None else attributes.beside(X, list(states))


def known_states(
    orders: Sequence[Order], day: int, calendar: Calendar = UTC
) -> dict[str, CustomerState]:
    """All customers with an order before a day, as known when it begins."""
    fold = LogFold(orders, calendar)
    fold.until(day)
    return {user: s for user, s in fold.states.items() if s.last_purchase_day is not None}


def rows_of(snapshot: Snapshot, attributes: Attributes | None) -> Floats:
    """Feature vectors of a snapshot's customers, with their attributes where there are such."""
    X = vectors(snapshot.pairs)
    return X if attributes is None else attributes.beside(X, snapshot.users)
