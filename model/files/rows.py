"""What the rows of an order log are to one another: orders, lines of an order, or versions of it.

An id that stands on several rows with other times or amounts has three readings, and no file says
which is meant: so it is asked, and never guessed.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from features.events.money import amount_text
from features.events.orders import MAX_ID_CHARS, Order, OrderType
from features.facts.state import REUSED_AFTER_MS
from features.times import rfc3339
from model.files.columns import Ints, Mask, OrderRows
from model.files.text_files import OrderLogError
from model.words import counted

_SHOWN_ROWS: Final = 3
_MOST_MINOR: Final = 1 << 60


class RowsAre(enum.StrEnum):
    """What several rows of one id are: orders of their own under an id that is used again, line
    items of one order, or corrections of it."""

    ORDERS = "orders"
    LINE_ITEMS = "line-items"
    CORRECTIONS = "corrections"


@dataclass(frozen=True, slots=True)
class Arranged:
    """Which rows count (None: all), which are another order than they say, and how many lines
    were added up to how many orders."""

    kept: Mask | None = None
    changed: Mapping[int, Order] = field(default_factory=dict)
    lines: int = 0
    orders_of_lines: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by what they do: see `features.facts.state.Effect`."""

    corrections: int
    repeats: int
    ids_reused: int


@dataclass(frozen=True, slots=True)
class Several:
    """Ids that stand on several rows with other times or amounts: how many on how many rows, how
    many of them at one time or weeks apart, and one as an example."""

    ids: int
    rows: int
    together: int
    apart: int
    example: str

    def __add__(self, other: Several) -> Several:
        return Several(
            self.ids + other.ids,
            self.rows + other.rows,
            self.together + other.together,
            self.apart + other.apart,
            self.example,
        )

    def question(self, where: str, of_rows: int) -> str:
        """What is to be said: the choice, and which answer is likely."""
        days = self.ids - self.together - self.apart
        likely = {
            RowsAre.LINE_ITEMS: self.together,
            RowsAre.ORDERS: self.apart,
            RowsAre.CORRECTIONS: days,
        }
        why = {
            RowsAre.LINE_ITEMS: f"{self.together:,} of them have one time",
            RowsAre.ORDERS: f"{self.apart:,} of them are weeks apart",
            RowsAre.CORRECTIONS: f"{days:,} of them change within days"
            " (or line-items, if lines were shipped apart)",
        }
        guess = max(likely, key=lambda one: likely[one])
        ids = counted(self.ids, "order id stands", "order ids stand")
        return (
            f"order log {where}: {ids} on several rows with other times or amounts,"
            f" {self.rows:,} of {counted(of_rows, 'row')}; the first is {self.example}. Say what"
            " such rows are: --rows line-items (the lines of one order: their amounts are added"
            " up), --rows corrections (versions of one order: the newest counts), or --rows orders"
            f" (ids that are used again: each is an order). It looks like {guess.value}:"
            f" {why[guess]}"
        )


def arranged(rows: OrderRows, rows_are: RowsAre | None, where: str, currency: str) -> Arranged:
    """The rows as they are meant. Raises OrderLogError where an id stands on several rows and
    `rows_are` is None; `where` names the files."""
    if rows_are is None:
        if (found := several(rows, currency)) is not None:
            raise OrderLogError(found.question(where, len(rows)))
        return Arranged()
    if rows_are is RowsAre.LINE_ITEMS:
        return _added_up(rows)
    return Arranged() if rows_are is RowsAre.CORRECTIONS else _told_apart(rows, _several(rows))


def counts(rows: OrderRows, how: Arranged) -> Counts:
    """How many rows correct or repeat another one, or use its id again."""
    chosen = np.arange(len(rows)) if how.kept is None else np.flatnonzero(how.kept)
    own_id = np.zeros(len(rows), bool)
    if how.kept is None:  # ids that are used again were told apart
        own_id[list(how.changed)] = True
    key, kind = rows.column("key")[chosen], kinds(rows)[chosen]
    ts, amount = rows.column("ts")[chosen], rows.column("amount")[chosen]
    refund, updated = rows.refunds()[chosen], rows.updated()[chosen]
    # Without a refund id, refunds of another time or amount are others.
    named = (kind != OrderType.REFUND) | (refund != 0)
    own = np.where(named, refund, 1)
    order = np.lexsort((updated, amount, ts, own, kind, key))

    def same(*columns: Ints | Mask) -> Mask:
        alike: Mask = np.logical_and.reduce([c[order][1:] == c[order][:-1] for c in columns])
        return alike

    event = same(key, kind, own)
    alike = same(ts, amount, updated)
    other = event & ~alike & named[order][1:] & ~own_id[chosen][order][1:]
    apart = np.diff(ts[order]) > REUSED_AFTER_MS
    reused = other & apart & (updated[order][1:] < 0)
    return Counts(
        corrections=int((other & ~reused).sum()),
        repeats=int((event & alike).sum()),
        ids_reused=int(reused.sum()),
    )


def kinds(rows: OrderRows) -> Ints:
    """The types of the rows; a free order is an order."""
    kind = rows.column("type")
    return np.where(kind == OrderType.FREE, OrderType.ORDER, kind)


def _several(rows: OrderRows) -> list[Ints]:
    """The rows of each order that stands on several with other times or amounts, and of which no
    `updated_at` says that they are versions; in the order in which they first come."""
    kind = kinds(rows)
    chosen = np.flatnonzero(kind == OrderType.ORDER)
    key, ts, amount = (rows.column(name)[chosen] for name in ("key", "ts", "amount"))
    order = np.lexsort((chosen, key))
    updated = rows.updated()[chosen]
    found = []
    for group in _groups(order, key):
        differ = len(set(zip(ts[group].tolist(), amount[group].tolist(), strict=True))) > 1
        if differ and (updated[group] < 0).all():
            found.append(chosen[group])
    return sorted(found, key=lambda group: int(group[0]))


def _groups(order: Ints, key: Ints) -> Iterator[Ints]:
    """Those of the rows `order`, sorted by their key, that have one with others."""
    sorted_key = key[order]
    bounds = np.flatnonzero(np.append(True, sorted_key[1:] != sorted_key[:-1]))
    sizes = np.diff(np.append(bounds, len(order)))
    for start, size in zip(bounds[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        yield order[start : start + size]


def several(rows: OrderRows, currency: str) -> Several | None:
    """What is to be asked about ids that stand on several rows; None where there are none."""
    groups = _several(rows)
    if not groups:
        return None
    ts, first = rows.column("ts"), rows.order(int(groups[0][0]))
    shown = ", ".join(
        f"{amount_text(one.amount_minor, currency)} at {rfc3339(one.ts_ms)}"
        for one in map(rows.order, groups[0][:_SHOWN_ROWS].tolist())
    )
    more = f", and {len(groups[0]) - _SHOWN_ROWS:,} more" if len(groups[0]) > _SHOWN_ROWS else ""
    return Several(
        ids=len(groups),
        rows=sum(map(len, groups)),
        together=sum(len(set(ts[group].tolist())) == 1 for group in groups),
        apart=sum(int(np.ptp(ts[group])) > REUSED_AFTER_MS for group in groups),
        example=f"order {first.order_id!r} of customer {first.user_id!r}: {shown}{more}",
    )


def _added_up(rows: OrderRows) -> Arranged:
    """One order of all lines of an id, at their first instant; a negative line at the instant of
    another line is a discount, other refunds of one instant are one refund."""
    key, ts, amount = (rows.column(name) for name in ("key", "ts", "amount"))
    kind = kinds(rows)
    rounded = rows.rounded()
    kept = np.ones(len(rows), bool)
    changed: dict[int, Order] = {}
    lines = orders = 0
    by_key = np.lexsort((np.arange(len(rows)), ts, key))
    for group in _groups(by_key, key):
        of_order = group[kind[group] == OrderType.ORDER]
        instants = set(ts[of_order].tolist())
        parts: dict[int, list[int]] = {}
        for row in group[kind[group] == OrderType.REFUND].tolist():
            # 0: a line of the order itself; no order is of an instant before 1990.
            parts.setdefault(0 if int(ts[row]) in instants else int(ts[row]), []).append(row)
        parts.setdefault(0, [])[:0] = of_order.tolist()
        for part in parts.values():
            if len(part) > 1:
                first = rows.order(part[0])
                refund = kind[part] == OrderType.REFUND
                total = sum(amount[part][~refund].tolist()) - sum(amount[part][refund].tolist())
                if abs(total) > _MOST_MINOR:
                    raise OrderLogError(
                        f"order {first.order_id!r}: its {len(part):,} lines add up to more than can"
                        " be; are they lines of one order?"
                    )
                kept[part[1:]] = False
                back = total < 0 or first.type is OrderType.REFUND
                changed[part[0]] = msgspec.structs.replace(
                    first,
                    amount_minor=abs(total),
                    type=OrderType.REFUND if back else first.type,
                    rounded=bool(rounded[part].any()),
                )
                lines += len(part)
                orders += 1
    return Arranged(kept, changed, lines, orders)


def _told_apart(rows: OrderRows, groups: list[Ints]) -> Arranged:
    """Ids that are used again get their time behind them; what takes an order back is of the last
    one before it."""
    ts, key = rows.column("ts"), rows.column("key")
    changed: dict[int, Order] = {}
    kind = kinds(rows)
    back = np.flatnonzero(kind != OrderType.ORDER)
    of_key: dict[int, list[int]] = {}
    for row in back.tolist():
        of_key.setdefault(int(key[row]), []).append(row)
    for group in groups:
        in_time = sorted(group.tolist(), key=lambda row: int(ts[row]))
        for row in in_time:
            one = rows.order(row)
            changed[row] = msgspec.structs.replace(one, order_id=_own_id(one))
        for row in of_key.get(int(key[group[0]]), []):
            before = [other for other in in_time if ts[other] <= ts[row]] or in_time[:1]
            changed[row] = msgspec.structs.replace(
                rows.order(row), order_id=changed[before[-1]].order_id
            )
    return Arranged(changed=changed)


def _own_id(order: Order) -> str:
    """An id for one of several orders of an id, the same wherever the row stands."""
    own = f"{order.order_id}@{order.ts_ms}:{order.amount_minor}"
    if len(own) <= MAX_ID_CHARS:
        return own
    return order.order_id[:64] + hashlib.blake2b(own.encode(), digest_size=16).hexdigest()
