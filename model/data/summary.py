"""What was read of an order log, for people: counts, and what looks odd, with an example each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from features.events.ids import plain_id
from features.events.money import amount_text
from features.events.orders import OrderType
from features.times import rfc3339
from model.data.columns import Ints, Mask, OrderRows
from model.data.rows import Arranged, counts, kinds

NOBODY_TWICE: Final = "nobody_ordered_twice"

# One customer with more of a log's orders than this is a till, a marketplace or nobody.
_LARGE_SHARE = 0.1
_LEAST_ORDERS = 20


class Odd(msgspec.Struct, frozen=True):
    """A finding that may be meant or not: its code, how often, and a sentence with an example."""

    code: str
    count: int
    detail: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. `rows` are all of the files: `lines_added_up` of them went into
    `orders_of_lines`, `set_aside` (by reason) count for nothing, and the others are orders, refunds
    and cancellations, of which `corrections`, `repeats` and `ids_reused` change or repeat others.
    """

    rows: int
    orders: int
    refunds: int
    cancellations: int
    customers: int
    corrections: int = 0
    repeats: int = 0
    ids_reused: int = 0
    lines_added_up: int = 0
    orders_of_lines: int = 0
    rounded: int = 0
    free_orders: int = 0
    out_of_order: int = 0
    set_aside: dict[str, int] = {}
    odd: list[Odd] = []

    @property
    def placeholder_ids(self) -> int:
        """Rows whose customer is nobody."""
        return self.set_aside.get("placeholder_user", 0)

    def text(self) -> str:
        """The summary for a terminal, under 80 columns but for examples."""
        read = (
            f"{self.rows:,} rows: {self.orders:,} orders, {self.refunds:,} refunds,"
            f" {self.cancellations:,} cancellations of {self.customers:,} customers"
        )
        told = [
            (self.lines_added_up, f"rows are lines of {self.orders_of_lines:,} orders, added up"),
            (self.corrections, "corrections: the newest version counts"),
            (self.repeats, "repeats: count once"),
            (self.ids_reused, "ids used again weeks later: the newest counts"),
            (self.rounded, "amounts rounded to the currency's decimals"),
            (self.free_orders, "orders of 0"),
            (self.out_of_order, "rows not in event time: sorted"),
            *((count, f"set aside: {reason}") for reason, count in self.set_aside.items()),
        ]
        lines = [read, *(f"{count:>9,} {what}" for count, what in told if count)]
        return "\n".join([*lines, *(f"  looks odd: {odd.detail}" for odd in self.odd)])


def summary_of(
    rows: OrderRows, how: Arranged, set_aside: Mapping[str, int], currency: str
) -> Summary:
    """The summary of rows that were accepted, and of those that were set aside by reason."""
    kept = how.kept if how.kept is not None else np.ones(len(rows), bool)
    kind, ts = rows.column("type")[kept], rows.column("ts")
    of_order = np.isin(kind, (OrderType.ORDER, OrderType.FREE))
    found = counts(rows, how.kept)
    if how.changed and how.kept is None:  # ids that are used again are told apart
        found = replace(found, corrections=0, ids_reused=0)
    newest = np.maximum.accumulate(ts) if len(ts) else ts
    return Summary(
        rows=len(rows) + sum(set_aside.values()),
        orders=int(of_order.sum()),
        refunds=int((kind == OrderType.REFUND).sum()),
        cancellations=int((kind == OrderType.CANCELLATION).sum()),
        customers=len(rows.users),
        corrections=found.corrections,
        repeats=found.repeats,
        ids_reused=found.ids_reused,
        lines_added_up=how.lines,
        orders_of_lines=how.orders_of_lines,
        rounded=int(rows.rounded().sum()),
        free_orders=int((of_order & (rows.column("amount")[kept] == 0)).sum()),
        out_of_order=int((ts < newest).sum()),
        set_aside=dict(sorted(set_aside.items())),
        odd=[*_odd(rows, kept, currency), *_ties(rows, how, currency)],
    )


def _odd(rows: OrderRows, kept: Mask, currency: str) -> Iterator[Odd]:
    chosen = np.flatnonzero(kept)
    kind = rows.column("type")
    ordered = chosen[np.isin(kind[chosen], (OrderType.ORDER, OrderType.FREE))]
    yield from _spelt(rows.users)
    if len(ordered):
        yield from _customers(rows, ordered)
        yield from _twice(rows, ordered, currency)
        yield from _refunds(rows, chosen, ordered, currency)


def _spelt(users: Sequence[str]) -> Iterator[Odd]:
    """Ids that differ only in how they are written."""
    by_plain: dict[str, str] = {}
    alike = []
    for user in users:
        first = by_plain.setdefault(plain_id(user), user)
        if first != user:
            alike.append((first, user))
    if alike:
        first, other = alike[0]
        detail = (
            f"{len(alike):,} customer ids differ from another one only in case, blanks or .0, such"
            f" as {first!r} and {other!r}; --merge-ids makes them one"
        )
        yield Odd("ids_alike", len(alike), detail)


def _customers(rows: OrderRows, ordered: Ints) -> Iterator[Odd]:
    """Nobody who ordered twice; or one who has a large share of all orders."""
    number = np.bincount(rows.column("user")[ordered], minlength=1)
    customers = int((number > 0).sum())
    most = int(number.argmax())
    if customers == len(ordered) and customers >= _LEAST_ORDERS:
        detail = (
            f"{len(ordered):,} orders of {customers:,} customers: nobody ordered twice; is user_id"
            " an id of the order, or of a guest?"
        )
        yield Odd(NOBODY_TWICE, customers, detail)
    if number[most] >= max(_LEAST_ORDERS, _LARGE_SHARE * len(ordered)) and customers > 1:
        detail = (
            f"customer {rows.users[most]!r} has {number[most]:,} of {len(ordered):,} orders: a"
            " till, a marketplace, or nobody? --placeholders sets ids aside"
        )
        yield Odd("one_customer_has_many", int(number[most]), detail)


def _twice(rows: OrderRows, ordered: Ints, currency: str) -> Iterator[Odd]:
    """The same order id, time and amount under two customers."""
    ids = rows.id_hashes()[ordered]
    ts, amount, user = (rows.column(name)[ordered] for name in ("ts", "amount", "user"))
    order = np.lexsort((user, amount, ts, ids))
    same = np.logical_and.reduce([c[order][1:] == c[order][:-1] for c in (ids, ts, amount)])
    found = np.flatnonzero(same & (user[order][1:] != user[order][:-1]))
    if len(found):
        one, other = (rows.order(int(ordered[order[found[0] + at]])) for at in (0, 1))
        detail = (
            f"{len(found):,} orders stand under two customers each, such as {one.order_id!r}"
            f" ({amount_text(one.amount_minor, currency)} at {rfc3339(one.ts_ms)}) of"
            f" {one.user_id!r} and of {other.user_id!r}; both count"
        )
        yield Odd("two_customers_of_one_order", len(found), detail)


def _ties(rows: OrderRows, how: Arranged, currency: str) -> Iterator[Odd]:
    """Orders whose newest versions differ in nothing but the amount."""
    if how.kept is not None or how.changed:
        return
    ordered = np.flatnonzero(kinds(rows) == OrderType.ORDER)
    columns = [rows.column("amount"), rows.column("ts"), rows.updated(), rows.column("key")]
    order = ordered[np.lexsort([column[ordered] for column in columns])]
    amount, *others = (column[order] for column in columns)
    last = np.append(others[-1][1:] != others[-1][:-1], True)[1:]
    tied = np.logical_and.reduce([c[1:] == c[:-1] for c in others]) & (amount[1:] != amount[:-1])
    found = np.flatnonzero(tied & last)
    if len(found):
        lower, counted = (rows.order(int(order[found[0] + at])) for at in (0, 1))
        detail = (
            f"{len(found):,} orders have other amounts at one time, and nothing says which is the"
            f" newest, such as {lower.order_id!r}: {amount_text(lower.amount_minor, currency)} and"
            f" {amount_text(counted.amount_minor, currency)} at {rfc3339(lower.ts_ms)};"
            " the greatest counts; send updated_at to say which does"
        )
        yield Odd("newest_not_told", len(found), detail)


def _refunds(rows: OrderRows, chosen: Ints, ordered: Ints, currency: str) -> Iterator[Odd]:
    """Orders of which more went back than they brought."""
    kind, key, amount = rows.column("type"), rows.column("key"), rows.column("amount")
    back = chosen[kind[chosen] == OrderType.REFUND]
    if not len(back):
        return
    keys, at = np.unique(np.concatenate([key[ordered], key[back]]), return_inverse=True)
    brought, gone = np.zeros(len(keys)), np.zeros(len(keys))
    np.maximum.at(brought, at[: len(ordered)], amount[ordered])
    np.add.at(gone, at[len(ordered) :], amount[back])
    known = np.zeros(len(keys), bool)
    known[at[: len(ordered)]] = True
    over = known & (gone > brought)
    if over.any():
        first = next(n for n, place in enumerate(at[len(ordered) :].tolist()) if over[place])
        order = rows.order(int(back[first]))
        detail = (
            f"of {int(over.sum()):,} orders more went back than they brought, such as"
            f" {order.order_id!r} of {order.user_id!r}, a refund of"
            f" {amount_text(order.amount_minor, currency)}"
        )
        yield Odd("refunded_more_than_ordered", int(over.sum()), detail)
