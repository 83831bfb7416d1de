"""What is wrong or odd with an order log, counted by kind; and the log without it.

Found are:

- rows that break a rule (`features.events.orders`), by reason;
- orders, refunds and cancellations that are there again under the same id and customer: repeats and
  corrections. Scoring counts the newest version of each; so does what is written as the cleaned
  log;
- refunds and cancellations of orders that are not in the log before them. They are kept: money
  that went back is money gone, whether or not its order is known;
- outliers: days on which a customer's orders, less what was cancelled or refunded on that very day,
  lie far out of what such days bring. An order for 80,000 pieces that is cancelled within the hour
  is none.

Outliers are told of and stay, unless asked otherwise: the largest customers are who a CLV is
about, and a log without them teaches a model that there are none.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd

from features.events.money import amount_text, minor_exponent, priced
from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, UTC, Calendar, iso_day, rfc3339
from model.files.columns import Ints, OrderColumns, OrderRows
from model.files.text_files import for_spreadsheets
from model.words import counted, inflected

OUTLIERS_FILE: Final = "outliers.csv"
REPORT_FILE: Final = "cleaning.json"
ORDERS_FILE: Final = "orders.csv"

# Tukey's "far out", on logarithms: so many interquartile ranges above the upper quartile.
_FENCE_IQR: Final = 3.0
# Where most days bring the same, a day may still bring some times as much.
_LEAST_IQR: Final = float(np.log(1.5))
# Of fewer days than this nothing is far out.
_LEAST_DAYS: Final = 20
_MOST_LISTED: Final = 1_000
_EVENTS: Final = "orders, refunds and cancellations"


class Outlier(msgspec.Struct, frozen=True):
    """A customer's day far out of the others: net of what was taken back on it, major units."""

    user_id: str
    day: str
    orders: int
    net: float


class Cleaning(msgspec.Struct, frozen=True):
    """What was found in an order log. Money in major units.

    `rows` are all that were read, `rejected` those that broke a rule, by reason. `repeated` orders
    and cancellations have an id that their customer had before; `contradicting` are those of them
    whose amount differs. `outliers` lie above `outlier_from` (None: too few days to say), and have
    `outlier_share` of all net revenue; `outliers_dropped` says whether they were left out.
    """

    rows: int
    accepted: int
    rejected: dict[str, int]
    repeated: int
    contradicting: int
    refunds_without_order: int
    refunded_without_order: float
    cancellations_without_order: int
    outliers: int
    outlier_from: float | None
    outlier_share: float
    outliers_dropped: bool

    def text(self, currency: str) -> str:
        """The report for people: a line for each kind of what was found."""
        accepted = counted(self.accepted, "order, refund or cancellation", _EVENTS)
        lines = [f"{counted(self.rows, 'row')} read, {accepted}"]
        lines += [f"{count:>9,} set aside: {reason}" for reason, count in self.rejected.items()]
        refunded = priced(self.refunded_without_order, currency)
        share = f"{self.outlier_share:.1%} of revenue"
        found = (
            (self.repeated, f"repeated ({self.contradicting:,} with another amount)"),
            (self.refunds_without_order, f"refund{{}} without an order ({refunded})"),
            (self.cancellations_without_order, "cancellation{} without an order"),
            (
                self.outliers,
                f"outlying day{{}} above"
                f" {priced(self.outlier_from or 0, currency)} net"
                f" ({share}; {'left out' if self.outliers_dropped else 'kept'})",
            ),
        )
        return "\n".join(lines + [f"{n:>9,} {inflected(text, n)}" for n, text in found if n])


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The orders to go on with, in event time, what was found, and the outliers, largest first
    (a thousand at most)."""

    orders: OrderColumns
    report: Cleaning
    outliers: list[Outlier]


def cleaned(
    log: OrderColumns,
    currency: str,
    rejected: Counter[str] | None = None,
    *,
    drop_outliers: bool = False,
    calendar: Calendar = UTC,
) -> Cleaned:
    """The log without repetitions and, where asked, without the days of its outliers, which are
    those of a calendar; and what was found in it. `rejected` are the rows that did not make it into
    the log, by reason."""
    frame = _frame(log, calendar)
    unit = 10.0 ** minor_exponent(currency)
    repeated = _repeated(frame)
    once = frame[~repeated]
    unknown = _without_order(once)
    days = _days(once)
    fence = _fence(days["net"].to_numpy(np.float64))
    far = days[days["net"] > (np.inf if fence is None else fence)].sort_values(
        ["net", "day", "user"], ascending=[False, True, True]
    )
    kept = ~repeated.to_numpy()
    if drop_outliers and len(far):
        keys = pd.MultiIndex.from_frame(frame[["user", "day"]])
        kept &= ~keys.isin(pd.MultiIndex.from_frame(far[["user", "day"]]))
    refunds = once[unknown & (once["type"] == OrderType.REFUND)]
    positive = float(days["net"].clip(lower=0).sum())
    counts = rejected or Counter()
    report = Cleaning(
        rows=len(frame) + counts.total(),
        accepted=len(frame),
        rejected=dict(sorted(counts.items())),
        repeated=int(repeated.sum()),
        contradicting=_contradicting(frame, repeated),
        refunds_without_order=len(refunds),
        refunded_without_order=float(refunds["amount"].sum()) / unit,
        cancellations_without_order=int((unknown & (once["type"] == OrderType.CANCELLATION)).sum()),
        outliers=len(far),
        outlier_from=None if fence is None else fence / unit,
        outlier_share=float(far["net"].sum()) / positive if positive else 0.0,
        outliers_dropped=drop_outliers,
    )
    names = list(dict.fromkeys(order.user_id for order in log)) if len(far) else []
    listed = [
        Outlier(names[user], iso_day(day), orders, net / unit)
        for user, day, orders, net in far.head(_MOST_LISTED)
        .loc[:, ["user", "day", "orders", "net"]]
        .itertuples(index=False)
    ]
    orders = (
        log if kept.all() else OrderColumns(o for o, keep in zip(log, kept, strict=True) if keep)
    )
    return Cleaned(orders, report, listed)


def write(directory: Path, found: Cleaned) -> None:
    """Writes the report and the outliers to files of a directory, beside the rejected rows."""
    directory.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(found.report), indent=2)
    (directory / REPORT_FILE).write_bytes(document + b"\n")
    with (directory / OUTLIERS_FILE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Outlier.__struct_fields__)
        rows.writerows(
            (for_spreadsheets(one.user_id), one.day, one.orders, one.net) for one in found.outliers
        )


def write_orders(path: Path, orders: Iterable[Order], currency: str) -> None:
    """Writes orders as a log that can be read again, amounts in major units. Ids are as they were:
    the file is meant for programs, and a spreadsheet may take an id for a formula."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("order_id", "user_id", "ts", "amount", "type", "refund_id", "updated_at"))
        for order in orders:
            amount = amount_text(order.amount_minor, currency)
            updated = rfc3339(order.updated_ms) if order.updated_ms >= 0 else ""
            of_order = (order.order_id, order.user_id, order.ts_ms, amount, order.type.wire)
            rows.writerow((*of_order, order.refund_id, updated))


def _frame(log: Sequence[Order], calendar: Calendar) -> pd.DataFrame:
    """The log in columns; `day` is the calendar's, `key` stands for order id and customer, `user`
    for the customer in the order in which they first come."""
    rows = OrderRows(log)
    ts = rows.column("ts")
    columns = {name: rows.column(name) for name in ("amount", "type", "user", "key")}
    more = {"ts": ts, "refund": rows.refunds(), "updated": rows.updated()}
    return pd.DataFrame({"day": _day(ts, calendar), **columns, **more})


def _day(ts: Ints, calendar: Calendar) -> Ints:
    """The day of each instant."""
    if calendar == UTC or not len(ts):
        return ts // MS_PER_DAY
    first, last = calendar.day_of(int(ts.min())), calendar.day_of(int(ts.max()))
    starts = [calendar.start_ms(day) for day in range(first, last + 1)]
    return first + np.searchsorted(starts, ts, side="right") - 1


def _repeated(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which rows are another version of one that counts, as the stream tells them apart: of an
    order or cancellation the newest counts, of refunds the newest of a `refund_id`; without one, a
    refund of another time or amount is another."""
    named = (frame["type"] != OrderType.REFUND) | (frame["refund"] != 0)
    own = frame.assign(at=frame["ts"].where(~named, 0), of=frame["amount"].where(~named, 0))
    own["type"] = own["type"].where(own["type"] != OrderType.FREE, OrderType.ORDER)
    # Of rows that are alike the first is kept, as the log has it.
    in_order = own.iloc[::-1].sort_values(["updated", "ts", "amount"], kind="stable")
    return in_order.duplicated(["key", "type", "refund", "at", "of"], keep="last").sort_index()


def _contradicting(frame: pd.DataFrame, repeated: pd.Series[bool]) -> int:
    """How many of the rows that do not count have another amount than the one that does."""
    if not repeated.any():
        return 0
    columns = ["key", "type", "refund", "amount"]
    counted = pd.MultiIndex.from_frame(frame.loc[~repeated, columns])
    return int((~pd.MultiIndex.from_frame(frame.loc[repeated, columns]).isin(counted)).sum())


def _without_order(once: pd.DataFrame) -> pd.Series[bool]:
    """Which rows take back an order that does not come before them."""
    ordered = once["type"] == OrderType.ORDER
    place = pd.Series(np.arange(len(once)), index=once.index)
    first = place[ordered].groupby(once["key"][ordered]).min()
    when = once["key"].map(first)
    return ~ordered & ~(when < place)


def _days(once: pd.DataFrame) -> pd.DataFrame:
    """Customers' days with an order: how many, and what they brought, net of what was taken back on
    the same day, in minor units."""
    ordered = once["type"] == OrderType.ORDER
    gone = once[once["type"] == OrderType.CANCELLATION][["key", "day"]].drop_duplicates()
    marked = once.merge(gone.assign(gone=True), on=["key", "day"], how="left")
    cancelled = marked["gone"].eq(True).to_numpy() & ordered.to_numpy()
    refund = (once["type"] == OrderType.REFUND).to_numpy()
    amount = once["amount"].to_numpy()
    net = np.where(refund, -amount, np.where(ordered.to_numpy() & ~cancelled, amount, 0))
    table = once[["user", "day"]].assign(orders=ordered.astype(np.int64), net=net)
    days = table.groupby(["user", "day"], as_index=False, sort=False).sum()
    return days[days["orders"] > 0]


def _fence(net: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    """Minor units above which a day is far out; None where there are too few days to say."""
    logs = np.log(net[net > 0])
    if len(logs) < _LEAST_DAYS:
        return None
    low, high = np.percentile(logs, [25, 75])
    return float(np.exp(high + _FENCE_IQR * max(float(high - low), _LEAST_IQR)))
