"""New orders of many customers folded, as arrays.

Nearly every event is a new order, newer than all that its customer has. What it does to the facts
is what `features.facts.state.apply` says; whoever has another event is left to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from features.arrays import Bools, Ints, flat_places
from features.columns.table import BucketTable, FactColumns
from features.events.orders import OrderType
from features.facts import ledger as order_ledger
from features.facts.buckets import DTYPE
from features.facts.ledger import IdMemory
from features.facts.state import HISTORY_DAYS, CustomerState
from features.times import Calendar
from model.judge.customers import CustomerArrays
from model.judge.judged import Event

_NO_DAY: Final = -(2**40)


@dataclass(frozen=True)
class Appended:
    """New orders: those of one customer together and in their order, with `place`, the customer's,
    and their id hashes; `ledgers` with them, by place."""

    events: Sequence[Event]
    place: Ints
    hashes: Sequence[bytes]
    ledgers: dict[int, bytes]

    def take(self, rows: Ints) -> Appended:
        """Some of the events: all of a customer's, or none."""
        at, place = rows.tolist(), self.place[rows]
        ledgers = {each: self.ledgers[each] for each in place.tolist()}
        events, hashes = [self.events[n] for n in at], [self.hashes[n] for n in at]
        return Appended(events, place, hashes, ledgers)

    @cached_property
    def ends(self) -> tuple[Ints, Ints]:
        """Where the first and the last event of each customer are."""
        begins = np.ones(len(self.place) + 1, bool)
        np.not_equal(self.place[1:], self.place[:-1], out=begins[1:-1])
        return np.flatnonzero(begins[:-1]), np.flatnonzero(begins[1:])


def appended(
    customers: CustomerArrays,
    events: Sequence[Sequence[Event]],
    memory: IdMemory,
    calendar: Calendar,
) -> tuple[Appended, list[int]]:
    """The events of all who have new orders alone, each newer than all before it; and the places of
    the others who have events. `events`: of each customer."""
    found: list[Event] = []
    places: list[int] = []
    hashes: list[bytes] = []
    others: list[int] = []
    after: dict[int, bytes] = {}
    ledgers = customers["ledger"].tolist()
    forgotten_ms = customers["forgotten_ms"].tolist()
    for place, of_one in enumerate(events):
        if not of_one:
            continue
        ledger, hashed, gone_ms = ledgers[place], list[bytes](), forgotten_ms[place]
        for event in of_one:
            order = event.order
            if (
                order.type is not OrderType.ORDER
                or order.refund_id
                or order.updated_ms >= 0
                or order.ts_ms <= gone_ms
            ):
                break
            order_hash = order_ledger.id_hash(order.order_id)
            day = calendar.day_of(order.ts_ms)
            longer = order_ledger.appended(ledger, order, order_hash, day, memory)
            if longer is None or order_hash in ledger:
                break
            ledger = longer
            hashed.append(order_hash)
        if len(hashed) < len(of_one):
            others.append(place)
            continue
        after[place] = ledger
        found += of_one
        hashes += hashed
        places += [place] * len(of_one)
    return Appended(found, np.array(places, np.int64), hashes, after), others


class Days(NamedTuple):
    """Of events, shape (e,): offset, amount, instants and days; `as_of_…`: as of when each is
    scored."""

    offset: Ints
    amount: Ints
    ts_ms: Ints
    watermark_ms: Ints
    as_of_ms: Ints
    day: Ints
    as_of_day: Ints

    def take(self, rows: Ints) -> Days:
        """Those of some events."""
        return Days(*np.array(self)[:, rows])


def days_of(customers: CustomerArrays, new: Appended, calendar: Calendar) -> tuple[Days, Bools]:
    """The days of events, and which are of customers for whom those make a difference: an order is
    of an earlier day than the newest, a day becomes too old, or a midnight lies between two events.
    """
    place = new.place
    told = [
        (event.offset, event.order.amount_minor, event.order.ts_ms, event.watermark_ms)
        for event in new.events
    ]
    offset, amount, ts_ms, watermark_ms = np.array(told, np.int64).reshape(len(told), 4).T.copy()
    as_of_ms = np.maximum(np.maximum(ts_ms, watermark_ms), customers["as_of_ms"][place])
    day, as_of_day, closed_day = calendar.days_of(np.array((ts_ms, as_of_ms, watermark_ms)))
    first, last = new.ends
    who, first_day = place[first], day[first]
    count = customers["buckets"][who]
    has = count > 0
    at = customers["bucket_at"][who]
    oldest, newest = customers.days_at(np.array((at, at + count - 1))[:, has])
    odd = np.zeros(len(customers), bool)
    odd[who[has]] = (first_day[has] < newest) | (oldest < day[last][has] - HISTORY_DAYS)
    odd[who] |= first_day < day[last] - HISTORY_DAYS
    if len(first) < len(place):
        between = (closed_day[1:] > as_of_day[:-1]) & (place[1:] == place[:-1])
        odd[place[1:][between]] = True
    return Days(offset, amount, ts_ms, watermark_ms, as_of_ms, day, as_of_day), odd[place]


@dataclass(frozen=True, slots=True)
class Folds:
    """Events folded: arrays of shape (e,), those of one customer together.

    `customers`: n of them with the facts after all events; `place`: whose an event is; `first` and
    `last`, shape (n,): where the events of each are. `buckets`: how many the customer has after an
    event, of which the last may be new, `opened`, and has so many `orders` and so much `gross`
    then; `purchase_days`: on how many days the customer has bought; `bought_before`: the last of
    them before the event, or less than 0.
    """

    customers: CustomerArrays
    facts: FactColumns
    new: Appended
    days: Days
    place: Ints
    first: Ints
    last: Ints
    buckets: Ints
    opened: Bools
    orders: Ints
    gross: Ints
    purchase_days: Ints
    bought_before: Ints

    @classmethod
    def of(cls, customers: CustomerArrays, new: Appended, days: Days) -> Folds:
        """The events of customers who have some each, by place in their order; `customers` are
        changed into what they are after them."""
        first, last = new.ends
        place = np.repeat(np.arange(len(first)), last - first + 1)
        newest_day, base_orders, base_gross = _newest(customers)
        earlier = np.empty_like(days.day)
        earlier[1:] = days.day[:-1]
        bought_before = earlier.copy()
        earlier[first] = newest_day
        opened = days.day > earlier
        begins = opened.copy()
        begins[first] = True
        start = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        on_newest, had_orders = ~opened[start], base_orders[place]
        total = np.cumsum(days.amount)
        number = np.arange(len(place)) - start + 1
        orders = number + on_newest * had_orders
        gross = total - (total - days.amount)[start] + on_newest * base_gross[place]
        buckets = customers["buckets"][place] + _running(opened, first, place)
        bought = opened | ((orders == 1) & on_newest)
        purchase_days = customers["purchase_days"][place] + _running(bought, first, place)
        bought_before[first] = np.where(customers["purchase_days"] > 0, customers["last_day"], -1)

        ended = np.append(begins[1:], True)
        folded = _with_days(customers, buckets[last])
        flat = folded.buckets.view(DTYPE)[:, 0]
        where = folded["bucket_at"][place[ended]] + buckets[ended] - 1
        flat["day"][where] = days.day[ended]
        flat["orders"][where], flat["gross"][where] = orders[ended], gross[ended]
        folded["first_day"][:] = np.where(
            folded["purchase_days"] > 0, folded["first_day"], days.day[first]
        )
        folded["last_day"][:], folded["purchase_days"][:] = days.day[last], purchase_days[last]
        ledgers = folded["ledger"]
        for n, ledger in enumerate(new.ledgers.values()):
            ledgers[n] = ledger
        return cls(
            customers=folded,
            facts=folded.facts(),
            new=new,
            days=days,
            place=place,
            first=first,
            last=last,
            buckets=buckets,
            opened=opened,
            orders=orders,
            gross=gross,
            purchase_days=purchase_days,
            bought_before=bought_before,
        )

    def table(self, events: Ints, *, before: bool = False) -> BucketTable:
        """The bucket table of customers after some events, or before them, as of these."""
        as_of_day, facts = self.days.as_of_day[events], self.facts
        if not before and len(events) == len(self.first) == len(self.place):
            # One of each: as they are after all.
            row = np.repeat(events, facts.count)
            age_days, money = as_of_day[row] - facts.day, (facts.orders, facts.gross)
            more = (*money, facts.refunded, facts.before)
            return BucketTable(len(events), as_of_day, row, facts.day, age_days, *more)
        place, orders, gross = self.place[events], self.orders[events], self.gross[events]
        count, cut = self.buckets[events], np.ones(len(events), bool)
        if before:
            cut = ~self.opened[events]
            orders, gross = orders - 1, gross - self.days.amount[events]
            count = count - ~cut
        where = flat_places(self.facts.start[place], count)
        row = np.repeat(np.arange(len(events)), count)
        day = facts.day[where]
        of_day, gross_of_day = self.facts.orders[where], self.facts.gross[where]
        newest = (np.cumsum(count) - 1)[cut]
        of_day[newest], gross_of_day[newest] = orders[cut], gross[cut]
        return BucketTable(
            rows=len(events),
            as_of_day=as_of_day,
            row=row,
            day=day,
            age_days=as_of_day[row] - day,
            orders=of_day,
            gross=gross_of_day,
            refunded=self.facts.refunded[where],
            before=self.facts.before[place],
        )

    def facts_after(self, event: int) -> CustomerState:
        """The facts of a customer after an event."""
        place = int(self.place[event])
        facts = self.customers.facts_of(place)
        days = np.frombuffer(facts.buckets, DTYPE)[: int(self.buckets[event])].copy()
        days["orders"][-1], days["gross"][-1] = self.orders[event], self.gross[event]
        ledger = order_ledger.older(facts.ledger, int(self.last[place]) - event)
        return CustomerState(days.tobytes(), ledger, facts.before, facts.forgotten_ms)


def _newest(customers: CustomerArrays) -> tuple[Ints, Ints, Ints]:
    """The newest day of each customer, and what orders and gross revenue it has."""
    count = customers["buckets"]
    has = count > 0
    newest = customers.buckets.view(DTYPE)[:, 0][(customers["bucket_at"] + count - 1)[has]]
    found = np.zeros((3, len(count)), np.int64)
    found[0] = _NO_DAY
    found[:, has] = newest["day"], newest["orders"], newest["gross"]
    return found[0], found[1], found[2]


def _running(counted: Bools, first: Ints, place: Ints) -> Ints:
    """How many are counted of each customer up to each event."""
    total = np.cumsum(counted)
    return np.asarray(total - (total[first] - counted[first])[place])


def _with_days(customers: CustomerArrays, count: Ints) -> CustomerArrays:
    """The customers with room for so many buckets each, those that they have first."""
    at = np.cumsum(count) - count
    flat = np.zeros((int(count.sum()), customers.buckets.shape[1]), np.int64)
    had = customers["buckets"]
    flat[flat_places(at, had)] = customers.buckets[flat_places(customers["bucket_at"], had)]
    made = CustomerArrays(customers.numbers.copy(), customers.objects.copy(), flat, customers.peaks)
    made["bucket_at"][:], made["buckets"][:] = at, count
    return made
