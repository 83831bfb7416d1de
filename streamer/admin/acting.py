"""What acting on warnings brought, from the records of churn-warnings and what customers ordered.

`model.evaluate.acting` compares; here it is found whom, and what became of them. A customer counts
with the first warning that a policy sent while it held somebody out, once the horizon after it is
over: whoever came back sooner is not counted sooner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import wrap
from typing import Final

import msgspec
import numpy as np
from tabulate import tabulate

from features.events.money import currency_name, minor_exponent, money_text, priced
from features.events.orders import Order
from features.facts import buckets
from features.facts.state import EMPTY, HISTORY_DAYS, CustomerState, apply
from features.times import Calendar, instant_ms
from model.decide import codec
from model.decide.outcome import Ending
from model.evaluate.acting import Arms, Comparison, Interval, Measured, compare, needed, weeks_until
from streamer.admin.outcomes import Sent
from streamer.pipeline.messages import ChurnWarning
from streamer.pipeline.partitioner import partition_for
from streamer.records import Partition
from streamer.store.base import StateStore

POINTS: Final = 5.0
"""Percentage points of returns that `weeks` is about, unless others are asked for."""


class Weeks(msgspec.Struct, frozen=True):
    """In how many weeks a difference of a size can be told from chance; 0: by now."""

    size: float
    weeks: int


class Acting(msgspec.Struct, frozen=True):
    """What acting brought, in major units of `currency`. `brought`: by all treated customers.

    `compared` is None before a horizon is over for somebody in both arms. Left out are `later`
    warnings of customers who count already, and `running`: first ones whose horizon is not over.
    `unknown`: compared, but nobody knows what they ordered. `points_in`, `amount_in`: when a
    difference of so many percentage points, and of such an amount a warning, can be told from
    chance; None where nothing says how customers vary.
    """

    horizon_days: int
    currency: str
    compared: Comparison | None
    brought: Interval | None
    later: int
    running: int
    unknown: int
    points_in: Weeks | None
    amount_in: Weeks | None


@dataclass(frozen=True, slots=True)
class First:
    """The first warning of a customer, whose policy held some out; `held_out` if it was to be left
    alone, `over` once the horizon after it is, `days` those of that horizon (until: not included).
    """

    warning: ChurnWarning
    policy: str
    returned: bool
    over: bool
    days: tuple[int, int]


def first_warnings(sent: Iterable[Sent], calendar: Calendar) -> tuple[list[First], int]:
    """The customers to compare, in order of time, and how many later warnings they had."""
    by_time = sorted(sent, key=lambda one: (one.warning.as_of, one.warning.warning_id))
    tries = {_policy(one.warning) for one in by_time if one.warning.holdout}
    found: dict[str, First] = {}
    later = 0
    for one in by_time:
        warning = one.warning
        if _policy(warning) not in tries:
            continue
        if warning.user_id in found:
            later += 1
            continue
        day = calendar.day_of(instant_ms(warning.as_of))
        found[warning.user_id] = First(
            warning,
            _policy(warning),
            returned=one.ending in (Ending.KEPT, Ending.RECOVERED),
            over=one.over,
            days=(day, day + warning.horizon_days),
        )
    return list(found.values()), later


def _policy(warning: ChurnWarning) -> str:
    """What was tried: a policy, under a horizon."""
    return f"{warning.policy_version} {warning.horizon_days}"


def acting(
    firsts: Sequence[First],
    later: int,
    revenue_minor: Mapping[str, int | None],
    today: int,
    points: float = POINTS,
    amount: float | None = None,
) -> Acting | None:
    """What acting brought as of a day; None where nobody was held out. `revenue_minor`: net revenue
    of the horizon after the warning by customer, None where it is not known. `amount`: the
    difference a warning that `amount_in` is about; None: what `points` more returns would bring."""
    if not firsts:
        return None
    over = [first for first in firsts if first.over]
    currency = firsts[-1].warning.currency
    scale = 10 ** minor_exponent(currency)
    known = [revenue_minor.get(first.warning.user_id) for first in over]
    arms = Arms(
        [first.policy for first in over],
        np.array([first.warning.holdout for first in over], bool),
        np.array([first.returned for first in over], bool),
        np.array([np.nan if value is None else value / scale for value in known], np.float64),
    )
    compared = compare(arms) if over else None
    revenue = compared.revenue if compared else None
    points_in = amount_in = brought = None
    if compared:
        held_out = sum(first.warning.holdout for first in firsts) / len(firsts)
        days = [first.days[0] for first in firsts]
        horizon = firsts[-1].warning.horizon_days

        def weeks(measured: Measured, size: float, unit: float = 1) -> Weeks | None:
            if not any(measured.variances) or size <= 0:
                return None
            customers = needed(measured.variances, held_out, size / unit)
            return Weeks(size, weeks_until(customers, days, today, horizon))

        points_in = weeks(compared.returned, points, unit=100)
        if revenue:
            returned = compared.returned.held_out or compared.returned.treated
            mean = revenue.held_out or revenue.treated
            each = amount if amount is not None else points / 100 * mean / (returned or 1.0)
            amount_in = weeks(revenue, each)
            if revenue.difference:
                brought = revenue.difference.times(compared.treated)
    return Acting(
        firsts[-1].warning.horizon_days,
        currency,
        compared,
        brought,
        later,
        len(firsts) - len(over),
        sum(value is None for value in known),
        points_in,
        amount_in,
    )


def revenue_of_log(
    orders: Iterable[Order], firsts: Sequence[First], calendar: Calendar
) -> dict[str, int | None]:
    """Net revenue of each customer in the horizon after the warning, in minor units, by a log of
    orders, each counted as a worker counts it. None where the log does not reach over the horizon,
    or does not know the customer."""
    states: dict[str, CustomerState] = {first.warning.user_id: EMPTY for first in firsts}
    log_days = [calendar.day_of(0)] * 2
    for number, order in enumerate(orders):
        day = calendar.day_of(order.ts_ms)
        log_days = [min(log_days[0], day), max(log_days[1], day)] if number else [day, day]
        if order.user_id in states:
            states[order.user_id] = apply(states[order.user_id], order, calendar=calendar).state
    begin, end = log_days
    return {
        first.warning.user_id: _net(states[first.warning.user_id], first, calendar)
        if begin <= first.days[0] and first.days[1] <= end + 1
        else None
        for first in firsts
    }


async def revenue_of_store(
    store: StateStore, topic: str, partitions: int, firsts: Sequence[First], calendar: Calendar
) -> dict[str, int | None]:
    """The same by the customers' states; None where there is none, or it is summed up by now.
    Raises StoreUnavailable and StateError."""
    wanted = {first.warning.user_id: first for first in firsts}
    found: dict[str, int | None] = dict.fromkeys(wanted)
    homes: defaultdict[int, list[str]] = defaultdict(list)
    for user in wanted:
        homes[partition_for(user.encode(), partitions)].append(user)
    for number in range(partitions):
        await _look(store, Partition(topic, number), homes[number], wanted, found, calendar)
    # A shop's producer may spread customers by a hash of its own.
    for number in range(partitions):
        missing = [user for user, net in found.items() if net is None]
        await _look(store, Partition(topic, number), missing, wanted, found, calendar)
    return found


async def _look(
    store: StateStore,
    partition: Partition,
    users: Sequence[str],
    wanted: Mapping[str, First],
    found: dict[str, int | None],
    calendar: Calendar,
) -> None:
    for start in range(0, len(users), _LOADED):
        page = users[start : start + _LOADED]
        for user, stored in zip(page, await store.load(partition, page), strict=True):
            if stored.state is not None:
                facts = codec.decode(stored.state).facts
                found[user] = _net(facts, wanted[user], calendar)


_LOADED: Final = 500


def _net(facts: CustomerState, first: First, calendar: Calendar) -> int | None:
    if facts.newest_ms < 0:
        return None
    if first.days[0] < calendar.day_of(facts.newest_ms) - HISTORY_DAYS:
        return None  # these days are summed up
    return buckets.net(facts.buckets, *first.days)


HEADS: Final = ("what acting brought", "treated", "held out", "difference", "95 % interval")


def text(found: Acting | None) -> str:
    """What acting brought, for a terminal, under 80 columns."""
    rows, lines = cells(found), [line for said in sentences(found) for line in wrap(said, 79)]
    if rows:
        aligned = ("left", *("right",) * 4)
        table = tabulate([HEADS, *rows], (), "plain", disable_numparse=True, colalign=aligned)
        lines.insert(0, table)
    return "\n".join(lines)


def cells(found: Acting | None) -> list[list[str]]:
    """A row under HEADS for each measure."""
    if found is None or found.compared is None:
        return []
    compared, money = found.compared, partial(money_text, currency=found.currency)
    rows = [_row(f"ordered in {found.horizon_days} days, %", compared.returned, _points)]
    if compared.revenue:
        rows.append(
            _row(f"net revenue then, {currency_name(found.currency)}", compared.revenue, money)
        )
    return rows


def sentences(found: Acting | None) -> list[str]:
    """What there is to say of it, or why nothing can be said."""
    if found is None:
        return [
            "Nobody is held out, so nothing says what acting on warnings brings. Set"
            " CLV_HOLDOUT_SHARE=0.1, and leave alone whose warning says `holdout`."
        ]
    compared = found.compared
    if compared is None:
        return [
            f"What acting brought can be said when the horizon of {found.horizon_days} days after"
            " the first warnings is over, of treated and of held-out customers; of"
            f" {found.running:,} it is running."
        ]
    said = [
        f"{compared.treated:,} treated customers against {compared.held_out:,} held out, each with"
        " the first warning."
    ]
    said += [*_too_few(compared), *_chance(compared)]
    if found.brought and compared.revenue and compared.revenue.difference:
        each, money = compared.revenue.difference, partial(money_text, currency=found.currency)
        said.append(
            f"A warning brought {priced(each.value, found.currency)} ({money(each.low)} to"
            f" {money(each.high)}), all {compared.treated:,} together"
            f" {money(found.brought.value)}."
        )
    return [*said, *_told(found)]


def _row(name: str, measured: Measured, shown: Callable[[float], str]) -> list[str]:
    found = measured.difference
    cells = [name, *map(shown, (measured.treated, measured.held_out))]
    if found is None:
        return [*cells, "-", "too few yet"]
    return [*cells, shown(found.value), f"{shown(found.low)} to {shown(found.high)}"]


def _points(value: float) -> str:
    """A share in percent, without the sign."""
    return f"{100 * value:.1f}"


def _too_few(compared: Comparison) -> list[str]:
    named = [("ordered", compared.returned), ("net revenue", compared.revenue)]
    return [
        f"{name}: too few yet, {measured.too_few}."
        for name, measured in named
        if measured and measured.too_few
    ]


def _chance(compared: Comparison) -> list[str]:
    named = (("orders", compared.returned), ("revenue", compared.revenue))
    chance = [
        name
        for name, measured in named
        if measured and measured.difference and measured.difference.may_be_chance
    ]
    return [f"The difference in {' and in '.join(chance)} may be chance."] if chance else []


def _told(found: Acting) -> list[str]:
    said = []
    if found.points_in:
        what = f"{found.points_in.size:g} points of customers who order"
        said.append(f"A difference of {what} can be told from chance {_when(found.points_in)}.")
    if found.amount_in:
        what = f"{priced(found.amount_in.size, found.currency)} a warning"
        said.append(f"A difference of {what} can be told from chance {_when(found.amount_in)}.")
    if found.compared and not found.compared.with_revenue:
        said.append("For revenue give --orders, or set REDIS_URL.")
    left = [
        f"{count:,} {what}"
        for count, what in (
            (found.later, "later warnings of the same customers"),
            (found.running, "customers whose horizon is not over"),
            (found.unknown, "in the revenue, as it is not known what they ordered"),
        )
        if count
    ]
    return [*said, f"Left out: {'; '.join(left)}."] if left else said


def _when(told: Weeks) -> str:
    return f"in {told.weeks:,} weeks" if told.weeks else "by now"
