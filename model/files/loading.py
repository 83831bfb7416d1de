"""An order log read whole: its orders as they are meant, in event time, and what is to be said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from features.events.orders import Order
from model.files.columns import OrderColumns, OrderRows
from model.files.external import Dealt
from model.files.order_log import FileRules, Rows, one_by_one, read_pages
from model.files.pages import PlainOrders
from model.files.rejections import Rejections
from model.files.rows import Arranged, RowsAre, arranged
from model.files.summary import Summary, summary_of
from model.files.text_files import OrderLogError

# About 80 bytes a row in memory, with ids of ten characters.
MOST_ROWS: Final = 30_000_000
# Of a log that is read once: 400 MB.
IN_MEMORY: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """The orders that count, in event time, and the summary of all rows."""

    orders: OrderColumns
    summary: Summary


@dataclass(frozen=True, slots=True)
class OrderStream:
    """The orders that count, in event time, to be read once, and the summary of all rows."""

    orders: Iterator[Order]
    summary: Summary


def load(
    paths: Sequence[str | Path],
    rules: FileRules,
    rows_are: RowsAre | None = None,
    *,
    rejections: Rejections | None = None,
    progress: Callable[[int], object] = lambda rows: None,
) -> Loaded:
    """The orders of files. Rows that are none go to `rejections`, which are open; `progress` hears
    of rows read.

    Raises OrderLogError for a file that cannot be read, for files without a single order, and where
    an id stands on several rows and `rows_are` does not say what they are.
    """
    read = _Read(paths, rules, rejections or Rejections(), progress)
    rows = OrderRows()
    for orders in read.orders():
        _take(rows, orders)
        if len(rows) > MOST_ROWS:
            raise OrderLogError(
                f"order log {read.where} has more than {MOST_ROWS:,} orders, which is more than is"
                " kept in memory: give a part of it"
            )
    how, summary = read.arranged(rows, rows_are)
    return Loaded(OrderColumns(rows, kept=how.kept, changed=how.changed), summary)


@contextmanager
def streamed(
    paths: Sequence[str | Path],
    rules: FileRules,
    rows_are: RowsAre | None = None,
    *,
    rejections: Rejections | None = None,
    progress: Callable[[int], object] = lambda rows: None,
    in_memory: int = IN_MEMORY,
) -> Iterator[OrderStream]:
    """As `load`, for whoever reads the orders once: of more than `in_memory` orders, all go through
    temporary files (in TMPDIR; some 60 bytes an order)."""
    read = _Read(paths, rules, rejections or Rejections(), progress)
    rows = OrderRows()
    orders = read.orders()
    for some in orders:
        _take(rows, some)
        if len(rows) > in_memory:
            break
    if len(rows) <= in_memory:
        how, summary = read.arranged(rows, rows_are)
        yield OrderStream(iter(OrderColumns(rows, kept=how.kept, changed=how.changed)), summary)
        return
    with (
        TemporaryDirectory(prefix="clv-orders-") as directory,
        closing(Dealt(Path(directory))) as dealt,
    ):
        for row in range(len(rows)):
            dealt.add(rows.order(row))
        del rows
        for order in one_by_one(orders):
            dealt.add(order)
        found = dealt.sort(rows_are, read.where, rules.orders.currency, MOST_ROWS)
        yield OrderStream(dealt.merged(), read.checked(found))


class _Read:
    """The rows of files on their way, counted as they are read."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        rules: FileRules,
        taken: Rejections,
        progress: Callable[[int], object],
    ) -> None:
        self.where = ", ".join(str(path) for path in paths)
        self._paths, self._rules, self._taken, self._progress = paths, rules, taken, progress
        self._rows = 0

    def orders(self) -> Iterator[Order | PlainOrders]:
        """The orders of the rows; the others are taken down."""
        return self._taken.accepted(self._counted())

    def arranged(self, rows: OrderRows, rows_are: RowsAre | None) -> tuple[Arranged, Summary]:
        """What rows that are all in memory mean, and their summary."""
        currency = self._rules.orders.currency
        if not len(rows):
            raise OrderLogError(f"order log {self.where}: {_nothing(self._taken)}")
        how = arranged(rows, rows_are, self.where, currency)
        return how, self.checked(summary_of(rows, how, {}, currency))

    def checked(self, of_orders: Summary) -> Summary:
        """The summary of all rows, given that of the orders. Raises OrderLogError where rows are
        missing from it."""
        aside = dict(sorted(self._taken.counts.items()))
        summary = msgspec.structs.replace(
            of_orders,
            rows=of_orders.rows + sum(aside.values()),
            set_aside=aside,
            twice_shown=self._taken.doubted,
        )
        if not self._rows == summary.rows == summary.accounted:
            raise OrderLogError(
                f"order log {self.where}: {self._rows:,} rows were read, and"
                f" {summary.accounted:,} are accounted for; report this with the file's first lines"
            )
        return summary

    def _counted(self) -> Iterator[Rows]:
        for row in read_pages(self._paths, self._rules):
            many = len(row) if isinstance(row, PlainOrders) else 1
            self._rows += many
            self._progress(many)
            yield row


def _take(rows: OrderRows, orders: Order | PlainOrders) -> None:
    if isinstance(orders, PlainOrders):
        rows.extend(orders)
    else:
        rows.add(orders)


def _nothing(taken: Rejections) -> str:
    """Why there is no order."""
    if not taken.counts:
        return "it has no rows below its header; give one with orders"
    (reason, many), *_ = taken.counts.most_common(1)
    total = taken.counts.total()
    return f"none of its {total:,} rows is an order; {many:,} x {taken.first[reason]}"
