"""What was read of an order log, for people: counts, and what looks odd, with an example each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from features.events.ids import plain_id
from features.events.money import amount_text
from features.events.orders import OrderType
from features.times import rfc3339
from model.files.columns import Ints, Mask, OrderRows
from model.files.rows import Arranged, counts, kinds
from model.words import counted, inflected

NOBODY_TWICE: Final = "nobody_ordered_twice"

# One customer with more of a log's orders than this is a till, a marketplace or nobody.
_LARGE_SHARE = 0.1
_LEAST_ORDERS = 20


class Odd(msgspec.Struct, frozen=True):
    """A finding that may be meant or not: its code, how often, what that counts (of one and of
    several), and the sentence around it, with an example."""

    code: str
    count: int
    noun: tuple[str, str]
    after: str
    before: str = ""

    @property
    def detail(self) -> str:
        """The sentence."""
        return f"{self.before}{counted(self.count, *self.noun)}{self.after}"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. `rows` are all of the files: `lines_added_up` of them went into
    `orders_of_lines`, `set_aside` (by reason) count for nothing, and the others are orders, refunds
    and cancellations, of which `corrections`, `repeats` and `ids_reused` change or repeat others.
    `twice_shown`: times without an offset that clocks showed twice. Files read with a mapping have
    `records`, of which some are no orders (`skipped`, by reason) and some are several rows.
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
    twice_shown: int = 0
    records: int = 0
    set_aside: dict[str, int] = {}
    skipped: dict[str, int] = {}
    odd: list[Odd] = []

    @property
    def lines_in_others(self) -> int:
        """Rows that were added to another row of their order."""
        return self.lines_added_up - self.orders_of_lines

    @property
    def accounted(self) -> int:
        """Rows as the sum of what became of them; `rows`, or some vanished."""
        became = self.orders + self.refunds + self.cancellations + self.lines_in_others
        return became + sum(self.set_aside.values()) + sum(self.skipped.values())

    def text(self) -> str:
        """The summary for a terminal, under 80 columns but for examples."""
        parts = [
            counted(self.orders, "order"),
            *(
                counted(count, noun, nouns)
                for count, noun, nouns in (
                    (self.refunds, "refund", ""),
                    (self.cancellations, "cancellation", ""),
                    (self.lines_in_others, "further line", ""),
                    (sum(self.set_aside.values()), "set aside", "set aside"),
                    (sum(self.skipped.values()), "skipped", "skipped"),
                )
                if count
            ),
        ]
        customers = counted(self.customers, "customer")
        rows = counted(self.rows, "row")
        if self.records not in (0, self.rows):
            rows = f"{counted(self.records, 'record')} as {rows}"
        read = f"{rows} = {' + '.join(parts)}; {customers}"
        told = [
            *((getattr(self, name), text) for name, text in _TOLD),
            *((count, f"set aside: {reason}") for reason, count in self.set_aside.items()),
            *((count, f"skipped: {reason}") for reason, count in self.skipped.items()),
        ]
        lines = [read, *(f"{n:>9,} {inflected(text, n)}" for n, text in told if n)]
        return "\n".join([*lines, *(f"  looks odd: {odd.detail}" for odd in self.odd)])


_TOLD: Final = (
    ("orders_of_lines", "order{} of several lines, added up"),
    ("corrections", "correction{}: the newest version counts"),
    ("repeats", "repeat{}, counted once"),
    ("ids_reused", "id{} used again weeks later: the newest counts"),
    ("rounded", "amount{} rounded to the currency's decimals"),
    ("free_orders", "order{} of 0"),
    ("twice_shown", "time{} that clocks showed twice, taken for the first"),
    ("out_of_order", "row{} not in event time: sorted"),
)


def added(parts: Sequence[Summary], odd: Sequence[Odd], **whole: Any) -> Summary:
    """The summary of a log from those of its parts, none of which share an order; `odd` of its
    customers, and in `whole` what parts do not know."""
    sums = {
        name: sum(getattr(part, name) for part in parts)
        for name in Summary.__struct_fields__
        if name not in ("set_aside", "skipped", "odd")
    }
    found: dict[str, Odd] = {}
    for part in parts:
        for one in part.odd:
            count = one.count + (found[one.code].count if one.code in found else 0)
            found[one.code] = msgspec.structs.replace(found.get(one.code, one), count=count)
    return Summary(**sums | {"odd": [*odd, *found.values()]} | whole)


def summary_of(
    rows: OrderRows,
    how: Arranged,
    set_aside: Mapping[str, int],
    currency: str,
) -> Summary:
    """The summary of rows that were accepted, and of those that were set aside by reason."""
    found = summary_of_part(rows, how, set_aside, currency)
    odd = odd_customers(rows.users, orders_of(rows, how.kept))
    return msgspec.structs.replace(found, odd=[*odd, *found.odd])


def summary_of_part(
    rows: OrderRows, how: Arranged, set_aside: Mapping[str, int], currency: str
) -> Summary:
    """The same of a part of a log: what is odd about customers is seen in the whole only."""
    kept = how.kept if how.kept is not None else np.ones(len(rows), bool)
    kind, ts = rows.column("type")[kept], rows.column("ts")
    of_order = np.isin(kind, (OrderType.ORDER, OrderType.FREE))
    found = counts(rows, how)
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
        odd=list(_odd(rows, how, currency)),
    )


def orders_of(rows: OrderRows, kept: Mask | None) -> Ints:
    """How many orders each customer of the rows has."""
    of_order = np.isin(rows.column("type"), (OrderType.ORDER, OrderType.FREE))
    ordered = of_order if kept is None else of_order & kept
    return np.bincount(rows.column("user")[ordered], minlength=len(rows.users))


def odd_customers(users: Sequence[str], number: Ints) -> Iterator[Odd]:
    """What looks odd of customers, given how many orders each has."""
    yield from _spelt(users)
    if number.any():
        yield from _customers(users, number)


def _odd(rows: OrderRows, how: Arranged, currency: str) -> Iterator[Odd]:
    chosen = np.arange(len(rows)) if how.kept is None else np.flatnonzero(how.kept)
    kind = rows.column("type")
    ordered = chosen[np.isin(kind[chosen], (OrderType.ORDER, OrderType.FREE))]
    if len(ordered):
        yield from _twice(rows, ordered, currency)
        yield from _refunds(rows, chosen, ordered, currency)
    yield from _ties(rows, how, currency)


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
        noun = ("customer id differs", "customer ids differ")
        after = (
            f" from another one only in case, blanks or .0, such as {first!r} and {other!r};"
            " --merge-ids makes them one"
        )
        yield Odd("ids_alike", len(alike), noun, after)


def _customers(users: Sequence[str], number: Ints) -> Iterator[Odd]:
    """Nobody who ordered twice; or one who has a large share of all orders. `number`: the orders of
    each of the users."""
    customers, orders, most = int((number > 0).sum()), int(number.sum()), int(number.argmax())
    if customers == orders and customers >= _LEAST_ORDERS:
        after = (
            f" of {customers:,} customers: nobody ordered twice; is user_id an id of the order, or"
            " of a guest?"
        )
        yield Odd(NOBODY_TWICE, customers, ("order", "orders"), after)
    if number[most] >= max(_LEAST_ORDERS, _LARGE_SHARE * orders) and customers > 1:
        after = f" of {orders:,}: a till, a marketplace, or nobody? --placeholders sets ids aside"
        before = f"customer {users[most]!r} has "
        many = int(number[most])
        yield Odd("one_customer_has_many", many, ("order", "orders"), after, before)


def _twice(rows: OrderRows, ordered: Ints, currency: str) -> Iterator[Odd]:
    """The same order id, time and amount under two customers."""
    ids = rows.id_hashes()[ordered]
    ts, amount, user = (rows.column(name)[ordered] for name in ("ts", "amount", "user"))
    order = np.lexsort((user, amount, ts, ids))
    same = np.logical_and.reduce([c[order][1:] == c[order][:-1] for c in (ids, ts, amount)])
    found = np.flatnonzero(same & (user[order][1:] != user[order][:-1]))
    if len(found):
        one, other = (rows.order(int(ordered[order[found[0] + at]])) for at in (0, 1))
        after = (
            f" under two customers, such as {one.order_id!r}"
            f" ({amount_text(one.amount_minor, currency)} at {rfc3339(one.ts_ms)}) of"
            f" {one.user_id!r} and of {other.user_id!r}; both count"
        )
        noun = ("order stands", "orders stand")
        yield Odd("two_customers_of_one_order", len(found), noun, after)


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
        lower, greater = (rows.order(int(order[found[0] + at])) for at in (0, 1))
        after = (
            " other amounts at one time, and nothing says which is the newest, such as"
            f" {lower.order_id!r}: {amount_text(lower.amount_minor, currency)} and"
            f" {amount_text(greater.amount_minor, currency)} at {rfc3339(lower.ts_ms)};"
            " the greatest counts; a column updated_at says which does"
        )
        yield Odd("newest_not_told", len(found), ("order has", "orders have"), after)


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
        after = (
            f" more went back than came in, such as {order.order_id!r} of {order.user_id!r}, a"
            f" refund of {amount_text(order.amount_minor, currency)}"
        )
        noun = ("order", "orders")
        yield Odd("refunded_more_than_ordered", int(over.sum()), noun, after, "of ")
