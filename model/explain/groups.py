"""Customers put together from two: one's silence, the other's baskets, and so on.

What a customer's feature vector says falls into few groups, and most features belong to more than
one: what was ordered in 30 days is orders times baskets, less refunds, and nothing at all after a
silence of 30 days. So columns are not swapped one by one, which would make customers that cannot
be; each group gives what is its own, and what follows from several groups is recomputed:

- silence: days since the last order. Age, rates and the decayed sums follow it, windows that it
  outlasts are empty, and a window that it does not outlast has one order at least.
- frequency: orders, gaps, and how long the customer has been buying.
- baskets: what an order is worth, in each window and over the life.
- refunds: the share of what was ordered that went back (and what went back without an order).
- attributes: all columns that are not of the stream's own features.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.arrays import Floats
from features.columns.catalog import HALF_LIVES_DAYS, WINDOWS_DAYS, Group, feature_of
from features.columns.vector import FEATURE_NAMES

Columns: TypeAlias = dict[str, Floats]

# Above this share of refunds, what is left says nothing of what an order is worth.
_NEARLY_ALL: Final = 0.95
# What the arithmetic of a vector may differ by, and what may differ within a group and be the same.
_CONSISTENT: Final = 1e-6
_SAME: Final = 1e-9
# Halvings: what is older than HISTORY_DAYS counts for nothing, so that it cannot be brought back.
_LONGEST: Final = 100.0


def groups_of(feature_names: Sequence[str]) -> tuple[Group, ...]:
    """The groups that a model's features fall into."""
    own = tuple(group for group in Group if group is not Group.ATTRIBUTES)
    return tuple(Group) if set(feature_names) - set(FEATURE_NAMES) else own


def consistent(rows: Floats, feature_names: Sequence[str]) -> Floats:
    """The rows with what follows from other features recomputed, such as the age from the
    last purchase's and the silence; unchanged where it was right. Shape (n, k)."""
    names = tuple(feature_names)
    if not set(FEATURE_NAMES) <= set(names):
        return rows
    again = _mixed(dict.fromkeys(Group, _side(rows, names)), names)
    return np.where(np.abs(again - rows) <= _CONSISTENT * np.maximum(np.abs(rows), 1), rows, again)


@dataclass(frozen=True, slots=True)
class Mixer:
    """Customers and those they are compared with, ready to be mixed.

    `own` of shape (n, k), `reference` of shape (k,) for one and the same or (n, k) for one each,
    columns named by `feature_names`.
    """

    own: Floats
    reference: Floats
    feature_names: tuple[str, ...]
    _sides: Mapping[bool, Columns]
    _plain: NDArray[np.bool_]

    @classmethod
    def of(cls, own: Floats, reference: Floats, feature_names: Sequence[str]) -> Mixer:
        """The mixer of feature vectors. A vector that is no customer's (such as one typed in by
        hand) has its columns swapped as they are, each with the group that it says most of."""
        names = tuple(feature_names)
        if not set(FEATURE_NAMES) <= set(names):
            every = np.ones(len(own), bool)
            return cls(own, reference, names, {}, every)
        others = np.atleast_2d(reference)
        both = np.vstack([own, others])
        sides = {True: _side(own, names), False: _side(others, names)}
        again = _mixed(dict.fromkeys(Group, _side(both, names)), names)
        near = np.abs(again - both) <= _CONSISTENT * np.maximum(np.abs(both), 1.0)
        fine = np.asarray((near | np.isnan(both)).all(axis=1))
        return cls(own, reference, names, sides, ~(fine[: len(own)] & fine[len(own) :]))

    def rows(self, sets: Sequence[Collection[Group]]) -> Floats:
        """The customers with the groups of each set of their own and the rest of the reference's,
        shape (sets, n, k): all at once, since one customer costs little beside a call of NumPy."""
        names = self.feature_names
        group_of = [feature_of(name).group for name in names]
        own = np.array([[group in of_own for group in group_of] for of_own in sets])
        swapped = np.where(own[:, None, :], self.own, self.reference)
        if self._plain.all():
            return swapped
        owners = {
            group: _Chosen(self._sides, np.array([[group in of_own] for of_own in sets]))
            for group in Group
        }
        mixed = _mixed(owners, names)
        # A group in which two customers are equal must not matter, not by a rounding error either.
        for same in (self.own, self.reference):
            mixed = np.where(np.abs(mixed - same) <= _SAME * np.abs(same), same, mixed)
        plain = self._plain | np.isinf(mixed).any(axis=2)
        plain |= np.isin(own.sum(axis=1, keepdims=True), [0, len(names)])
        return np.where(plain[..., None], swapped, mixed)


class _Chosen(dict[str, Floats]):
    """Columns of customers and of those they are compared with, as sets have it, (sets, n)."""

    def __init__(self, sides: Mapping[bool, Columns], own: NDArray[np.bool_]) -> None:
        super().__init__()
        self._sides, self._own = sides, own

    def __missing__(self, name: str) -> Floats:
        found = np.where(self._own, self._sides[True][name], self._sides[False][name])
        self[name] = found
        return found


def _side(rows: Floats, names: tuple[str, ...]) -> Columns:
    """Columns of rows by name, and what mixing needs of them: worth of an order and refunds."""
    c = {name: rows[:, i] for i, name in enumerate(names)}
    share = c["refunded_share_lifetime"]
    for days in WINDOWS_DAYS:
        _split(c, f"{days}d", c[f"orders_{days}d"] * c[f"aov_minor_{days}d"], share)
    _split(c, "lifetime", c["orders_lifetime"] * c["aov_minor_lifetime"], share)
    kept = np.where(share < _NEARLY_ALL, 1.0 - share, 1.0)
    for days in HALF_LIVES_DAYS:
        orders, net = c[f"decayed_orders_{days}d"], c[f"decayed_net_minor_{days}d"]
        known = (orders > 0) & (share < _NEARLY_ALL)
        worth = net / np.where(known, orders * kept, 1.0)
        c[f"worth_decayed_{days}d"] = np.where(known, worth, c["aov_minor_lifetime"])
        c[f"extra_decayed_{days}d"] = np.where(known, 0.0, orders * c["aov_minor_lifetime"] - net)
    c["kept_decayed"] = kept
    return c


def _split(c: Columns, window: str, gross: Floats, share: Floats) -> None:
    """Adds the share refunded of a window's gross, or what was refunded where there is none."""
    refunded = gross - c[f"net_minor_{window}"]
    some = gross > 0
    c[f"share_{window}"] = np.where(some, refunded / np.where(some, gross, 1.0), share)
    c[f"extra_{window}"] = np.where(some, 0.0, refunded)


def _mixed(owner: Mapping[Group, Columns], names: tuple[str, ...]) -> Floats:
    """Rows whose groups belong to the given owners, of shape (..., len(names))."""
    s, f = owner[Group.SILENCE], owner[Group.FREQUENCY]
    b, r = owner[Group.BASKETS], owner[Group.REFUNDS]
    silence = s["days_since_last_order"]
    out = {name: owner[feature_of(name).group][name] for name in names}
    out["T_days"] = f["recency_days"] + silence
    out["purchase_rate_per_day"] = f["frequency"] / np.maximum(out["T_days"], 1.0)
    gap = f["gap_mean_days"]
    out["silence_in_gaps"] = np.where(gap > 0, silence / np.where(gap > 0, gap, 1.0), 0.0)
    for days in WINDOWS_DAYS:
        bought = np.minimum(f["orders_lifetime"], 1.0)
        orders = np.where(silence < days, np.maximum(f[f"orders_{days}d"], bought), 0.0)
        known = b[f"orders_{days}d"] > 0
        worth = np.where(known, b[f"aov_minor_{days}d"], b["aov_minor_lifetime"])
        out[f"orders_{days}d"] = orders
        out[f"aov_minor_{days}d"] = np.where(orders > 0, worth, 0.0)
        out[f"net_minor_{days}d"] = _net(orders * worth, r, f"{days}d")
    out["net_minor_lifetime"] = _net(f["orders_lifetime"] * b["aov_minor_lifetime"], r, "lifetime")
    for days in HALF_LIVES_DAYS:
        later = np.exp2(np.minimum((f["days_since_last_order"] - silence) / days, _LONGEST))
        orders = f[f"decayed_orders_{days}d"] * later
        net = orders * b[f"worth_decayed_{days}d"] * r["kept_decayed"]
        out[f"decayed_orders_{days}d"] = orders
        out[f"decayed_net_minor_{days}d"] = net - r[f"extra_decayed_{days}d"]
    repeat = np.where(b["frequency"] > 0, b["monetary_value_minor"], b["aov_minor_lifetime"])
    out["monetary_value_minor"] = np.where(f["frequency"] > 0, repeat, 0.0)
    out["orders_trend_30_90"] = (out["orders_30d"] + 1) / (out["orders_90d"] / 3 + 1)
    columns = [out[name] for name in names]
    rows = np.empty((*np.broadcast_shapes(*(column.shape for column in columns)), len(names)))
    for place, column in enumerate(columns):
        rows[..., place] = column
    return rows


def _net(gross: Floats, refunds: Columns, window: str) -> Floats:
    return gross * (1.0 - refunds[f"share_{window}"]) - refunds[f"extra_{window}"]
