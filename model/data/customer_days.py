"""Customer-days: days of past silences, what was known of the customer then, and what followed.

A silence begins with an order and ends with the next one. Of each, up to eight days within the
horizon are taken, spread evenly with an offset that a hash of the silence chooses. Whoever has been
silent for longer than the horizon is not among the rows: nobody asks about them any more.

Known at a day are the orders before it. Orders that were taken back by the training day are left
out of history and labels alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from features.arrays import Bools, Floats, Ints
from features.columns.rhythm import RHYTHM_NAMES, Typical, rhythm, typical_of
from features.columns.table import FactColumns
from model.files.columns import drawn

NEVER: Final = 2**31 - 1
MAX_ROWS: Final = 60_000
DAYS_A_SILENCE: Final = 8
# How fast shops change does not follow the horizon; but a long one needs a longer past.
_HALF_LIFE_DAYS: Final = 180
_CHUNK: Final = 4_000


@dataclass(frozen=True, slots=True)
class PastSilences:
    """Silences of customers, by the order that begins each: index of the customer, days of that
    order and of the next one (NEVER: none so far). Of shape (n,), in order of customer and day."""

    customer: Ints
    since: Ints
    until: Ints

    def part(self, chosen: Bools | Ints | slice) -> PastSilences:
        """Some of them."""
        return PastSilences(self.customer[chosen], self.since[chosen], self.until[chosen])


@dataclass(frozen=True, slots=True)
class CustomerDays:
    """n customer-days: `columns` of `features.columns.rhythm`, shape (n, k), and of shape (n,):
    whether no order came within the horizon, whether one came soon, whether either is known yet,
    and how much the row counts."""

    columns: Floats
    churned: Bools
    churn_known: Bools
    soon: Bools
    soon_known: Bools
    weight: Floats
    horizon_days: int


def soon_days(horizon_days: int) -> int:
    """How many days "soon" is: an eighth of the horizon."""
    return max(1, round(horizon_days / DAYS_A_SILENCE))


def silences_of(facts: FactColumns, day: int) -> PastSilences:
    """Every silence that began before 00:00 of a day, of days that the facts still have."""
    table = facts.everybody(day - 1)
    bought = table.orders > 0
    customer, since = table.row[bought], table.day[bought]
    until = np.full(len(since), NEVER, np.int64)
    same = customer[1:] == customer[:-1]
    until[:-1][same] = since[1:][same]
    return PastSilences(customer, since, until)


def typical_customer(facts: FactColumns, day: int, horizon_days: int) -> Typical:
    """The typical customer of a shop, as known at 00:00 of a day."""
    table = facts.everybody(day - 1)
    bought = table.orders > 0
    nets = (table.gross - table.refunded)[bought].astype(np.float64)
    return typical_of(table.purchases.gaps, nets, horizon_days)


def customer_days(
    users: Sequence[str], facts: FactColumns, day: int, horizon_days: int, typical: Typical
) -> CustomerDays:
    """The training rows as known at 00:00 of a day, at most about MAX_ROWS: of large shops, a
    part of the customers, chosen by a hash of their ids."""
    hashes = drawn(users).astype(np.uint64)
    known = silences_of(facts, day)
    silence, silent = _sampled(known, hashes, horizon_days, day)
    every = -(-len(silence) // MAX_ROWS)
    if every > 1:
        kept = hashes[known.customer[silence]] % np.uint64(every) == 0
        silence, silent = silence[kept], silent[kept]
    rows = known.part(silence)
    at = rows.since + silent
    soon = soon_days(horizon_days)
    half_life = max(_HALF_LIFE_DAYS, 2 * horizon_days)
    return CustomerDays(
        columns=columns_at(facts, rows, silent, horizon_days, typical),
        churned=rows.until >= at + horizon_days,
        churn_known=at + horizon_days <= day,
        soon=rows.until < at + soon,
        soon_known=at + soon <= day,
        weight=0.5 ** ((day - at) / half_life),
        horizon_days=horizon_days,
    )


def columns_at(
    facts: FactColumns,
    silences: PastSilences,
    silent_days: Ints,
    horizon_days: int,
    typical: Typical,
) -> Floats:
    """The columns of silences after so many days of each, by what was known when it began."""
    parts = [np.empty((0, len(RHYTHM_NAMES)))]
    for start in range(0, len(silent_days), _CHUNK):
        chunk = silences.part(slice(start, start + _CHUNK))
        # Days of one silence lie together, and share all that does not move in it.
        other = np.ones(len(chunk.since), bool)
        other[1:] = (np.diff(chunk.customer) != 0) | (np.diff(chunk.since) != 0)
        each = chunk.part(other)
        table = facts.at(each.customer, each.since)
        of = np.cumsum(other) - 1
        silent = silent_days[start : start + _CHUNK]
        # Each row by itself in memory, for sums that hang on how it lies.
        parts.append(np.ascontiguousarray(rhythm(table, silent, horizon_days, typical, of)))
    return np.concatenate(parts)


def _sampled(
    silences: PastSilences, hashes: npt.NDArray[np.uint64], horizon_days: int, day: int
) -> tuple[Ints, Ints]:
    """Indices of silences, and the days of silence at which each is looked at."""
    mixed = hashes[silences.customer] * np.uint64(2_654_435_761) + silences.since.astype(np.uint64)
    offset = (mixed * np.uint64(2_246_822_519) % np.uint64(2**32)).astype(np.float64) / 2**32
    found, silent = [], []
    for number in range(DAYS_A_SILENCE):
        days = 1 + np.floor(horizon_days * (number + offset) / DAYS_A_SILENCE).astype(np.int64)
        known = silences.since + days + soon_days(horizon_days) <= day
        kept = (days <= horizon_days) & (days <= silences.until - silences.since) & known
        found.append(np.flatnonzero(kept))
        silent.append(days[kept])
    # By silence, so that rows of one customer lie together.
    order = np.argsort(np.concatenate(found), kind="stable")
    return np.concatenate(found)[order], np.concatenate(silent)[order]
