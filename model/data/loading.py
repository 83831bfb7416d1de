"""An order log read whole: its orders as they are meant, in event time, and what is to be said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.data.columns import OrderColumns, OrderRows
from model.data.order_log import FileRules, Rejections, Row, read_orders
from model.data.rows import RowsAre, arranged
from model.data.summary import Summary, summary_of
from model.data.text_files import OrderLogError

# About 80 bytes a row in memory, with ids of ten characters.
MOST_ROWS: Final = 30_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """The orders that count, in event time, and the summary of all rows."""

    orders: OrderColumns
    summary: Summary


def load(
    paths: Sequence[str | Path],
    rules: FileRules,
    rows_are: RowsAre | None = None,
    *,
    rejections: Rejections | None = None,
    shown: Callable[[Iterable[Row]], Iterable[Row]] = lambda rows: rows,
) -> Loaded:
    """The orders of files. Rows that are none go to `rejections`, which are open; `shown` may show
    how far it is.

    Raises OrderLogError for a file that cannot be read, for files without a single order, and where
    an id stands on several rows and `rows_are` does not say what they are.
    """
    taken = rejections or Rejections()
    where = ", ".join(str(path) for path in paths)
    rows = OrderRows()
    for order in taken.accepted(shown(read_orders(paths, rules))):
        rows.add(order)
        if len(rows) > MOST_ROWS:
            raise OrderLogError(
                f"order log {where} has more than {MOST_ROWS:,} orders, which is more than is"
                " sorted at once: sort it by ts, split it, and give one part after the other"
            )
    if not len(rows):
        raise OrderLogError(f"order log {where}: {_nothing(taken)}")
    how = arranged(rows, rows_are, where, rules.orders.currency)
    summary = summary_of(rows, how, taken.counts, rules.orders.currency)
    return Loaded(OrderColumns(rows, kept=how.kept, changed=how.changed), summary)


def _nothing(taken: Rejections) -> str:
    """Why there is no order."""
    if not taken.counts:
        return "it has no rows below its header; give one with orders"
    (reason, count), *_ = taken.counts.most_common(1)
    total = taken.counts.total()
    return f"none of its {total:,} rows is an order; {count:,} x {taken.first[reason]}"
