"""Silences as a table: every day of every silence of customers worth a warning, as scored then.

What a rule would have done, had it been another one, is read off the table: the first row of each
silence at which it fires. A *silence* begins with an order and ends with the next one. The
definitions are those of `docs/warnings.md`, with H the model's horizon:

- a silence is a *churn* if the next order comes more than H days after the one before, or never;
- a warning is *strictly* right if no order comes within H days of it, and right *for the episode*
  if its silence is a churn;
- *lead* is how many days before the H-th day of silence it comes; *recall* is the share of churns
  that were warned of by then; *value captured* the same, weighed by the reference CLV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import msgspec
import numpy as np

from features.arrays import Bools, Floats, Ints
from model.decide.learned import Learned
from model.decide.policy import Policy

NEVER = 10**7  # a day that does not come


@dataclass(frozen=True, slots=True)
class Silences:
    """n silences: days of the order before and of the next (NEVER: none in the log), the
    reference CLV after the order (minor units), the customer's purchase days by then, and the
    median of the gaps between them in days (0: none). `counted`: within the period that is judged,
    with H days of log after it."""

    user: list[str]
    since: Ints
    until: Ints
    reference: Floats
    orders: Ints
    median_gap: Floats
    counted: Bools
    horizon_days: int

    def part(self, chosen: Bools) -> Silences:
        """Some of them."""
        names = [field.name for field in fields(self) if field.name not in ("user", "horizon_days")]
        user = [name for name, kept in zip(self.user, chosen.tolist(), strict=True) if kept]
        return replace(self, user=user, **{name: getattr(self, name)[chosen] for name in names})

    @property
    def churned(self) -> Bools:
        """Which silences are churns that can be judged."""
        return self.counted & (self.until - self.since > self.horizon_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of (silence, day): what was known at 00:00 of the day.

    `silence` indexes the silences; `index` is that of the rule, -inf where there is none;
    `reference` is that of the rule; `spend` the net revenue of the H days before, in minor units;
    `better` says who belonged to the better half of the customers active then, by reference;
    `alive` is BG/NBD's P(alive), NaN where the model has none; `model` indexes the models that
    scored."""

    silence: Ints
    day: Ints
    clv: Floats
    reference: Floats
    churn: Floats
    index: Floats
    alive: Floats
    spend: Floats
    better: Bools
    model: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel(Rows):
    """All rows, by silence and then day. `learned` is what each model has learnt of when to warn;
    `end_day` is the first day after the log."""

    silences: Silences
    learned: tuple[Learned, ...]
    end_day: int

    @classmethod
    def of(
        cls, parts: Sequence[Rows], silences: Silences, learned: tuple[Learned, ...], end_day: int
    ) -> Panel:
        """The panel of some rows, in whatever order."""
        columns = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Rows)
        }
        order = np.lexsort((columns["day"], columns["silence"]))
        return cls(
            silences=silences,
            learned=learned,
            end_day=end_day,
            **{name: column[order] for name, column in columns.items()},
        )

    @property
    def silent_days(self) -> Ints:
        """Days since the order before, shape (rows,)."""
        return self.day - self.silences.since[self.silence]

    @property
    def drop(self) -> Floats:
        """Share of the reference that is gone, shape (rows,)."""
        return 1 - self.clv / np.maximum(self.reference, 1e-9)

    @property
    def strict(self) -> Bools:
        """Whether no order came within H days of the row's instant."""
        return self.silences.until[self.silence] >= self.day + self.silences.horizon_days

    @property
    def judged(self) -> Bools:
        """Rows of counted silences with H days of log after them."""
        full = self.day + self.silences.horizon_days <= self.end_day
        return self.silences.counted[self.silence] & full

    def threshold(self, policy: Policy, early: float | None = None) -> Floats:
        """The index from which each row's model warns; -inf where it has learnt none."""
        if early is not None:
            policy = replace(policy, early=early, precision=None)
        found = [learned.threshold(policy) for learned in self.learned]
        return np.array([-np.inf if t is None else t for t in found])[self.model]


class Quality(msgspec.Struct, frozen=True):
    """How good warnings were. Shares are 0 to 1, None where there is nothing to divide by; leads
    are days, at the 10th, 25th, 50th, 75th and 90th percentile."""

    warnings: int
    judged: int
    strict_precision: float | None
    episode_precision: float | None
    churners: int
    recall: float | None
    value_captured: float | None
    lead_days: tuple[float, ...] | None
    mean_lead_days: float | None

    @property
    def median_lead_days(self) -> float | None:
        """Half of the churners found were found at least so early."""
        return self.lead_days[2] if self.lead_days else None


LEAD_PERCENTILES = (10, 25, 50, 75, 90)


def quality(silences: Silences, silence: Ints, day: Ints, strict: Bools, end_day: int) -> Quality:
    """The quality of warnings, at most the first of each silence: index of the silence, day and
    whether no order came within the horizon, one element a warning."""
    horizon = silences.horizon_days
    counted = silences.counted[silence]
    full = counted & (day + horizon <= end_day)
    churned = silences.churned
    in_time = churned[silence] & (day <= silences.since[silence] + horizon)
    found = np.zeros(len(silences.since), bool)
    found[silence[in_time]] = True
    leads = silences.since[silence[in_time]] + horizon - day[in_time]
    episode = silences.until[silence] - silences.since[silence] > horizon
    value = silences.reference
    return Quality(
        warnings=int(counted.sum()),
        judged=int(full.sum()),
        strict_precision=mean(strict[full]),
        episode_precision=mean(episode[full]),
        churners=int(churned.sum()),
        recall=mean(found[churned]),
        value_captured=_share(float(value[found].sum()), float(value[churned].sum())),
        lead_days=tuple(float(q) for q in np.percentile(leads, LEAD_PERCENTILES))
        if len(leads)
        else None,
        mean_lead_days=float(leads.mean()) if len(leads) else None,
    )


def first_of_each(panel: Panel, fires: Bools) -> Ints:
    """Indices of the first row of each silence at which a rule fires."""
    rows = np.flatnonzero(fires)
    silence = panel.silence[rows]
    return np.asarray(rows[np.append(True, silence[1:] != silence[:-1])[: len(rows)]], np.int64)


def quality_of(panel: Panel, fires: Bools) -> Quality:
    """The quality of a rule, given on which rows it would fire (only the first counts)."""
    rows = first_of_each(panel, fires)
    return quality(
        panel.silences, panel.silence[rows], panel.day[rows], panel.strict[rows], panel.end_day
    )


def base_rate(panel: Panel) -> float | None:
    """Share of the judged rows that no order followed within the horizon: what a warning on a
    random day of a random silence is worth."""
    return mean(panel.strict[panel.judged])


class Bin(msgspec.Struct, frozen=True):
    """Rows of like P(churn): how many, their mean P(churn), and the share without an order."""

    rows: int
    predicted: float
    observed: float


def calibration(panel: Panel, bins: int = 10) -> list[Bin]:
    """P(churn) against what happened, in bins of equal size by P(churn)."""
    rows = np.flatnonzero(panel.judged)
    order = rows[np.argsort(panel.churn[rows], kind="stable")]
    return [
        Bin(len(part), float(panel.churn[part].mean()), float(panel.strict[part].mean()))
        for part in np.array_split(order, bins)
        if len(part)
    ]


class CallList(msgspec.Struct, frozen=True):
    """A ranking's top share of customers: how many of them did not order in the H days after
    (precision), and how much of what all who did not had spent in the H days before was theirs
    (value). `clv_captured`: the same in reference CLV, which is the model's own opinion."""

    precision: float | None
    value_captured: float | None
    clv_captured: float | None


def ranking(
    panel: Panel, value: Floats, days: Sequence[int], top: float, among: Bools | None = None
) -> CallList:
    """What the `top` share by `value` (one element a row) of the better half of the active
    customers (or of the rows `among`) is worth, on each of the days, all together."""
    strict = panel.strict
    gone = np.stack([panel.spend * strict, panel.reference * strict])
    picked, listed = [], []
    for rows in rows_by_day(panel, days, among):
        best = np.argsort(-value[rows], kind="stable")[: max(1, round(top * len(rows)))]
        picked.append(rows[best])
        listed.append(rows)
    nobody = np.empty(0, np.int64)
    best, rows = (np.concatenate([nobody, *parts]) for parts in (picked, listed))
    captured, lost = gone[:, best].sum(axis=1), gone[:, rows].sum(axis=1)
    spend, clv = (_share(float(c), float(w)) for c, w in zip(captured, lost, strict=True))
    return CallList(_share(int(strict[best].sum()), len(best)), spend, clv)


def rows_by_day(panel: Panel, days: Sequence[int], among: Bools | None = None) -> list[Ints]:
    """The rows of each of the days that are of the better half of the active customers (or
    `among`); of days that have any."""
    eligible = panel.better if among is None else among
    rows = np.flatnonzero(eligible & np.isin(panel.day, np.asarray(days, np.int64)))
    rows = rows[np.argsort(panel.day[rows], kind="stable")]
    return [part for part in np.split(rows, _ends(panel.day[rows])) if len(part)]


def _ends(ascending: Ints) -> Ints:
    """Where equal values end, but for the last."""
    return np.asarray(np.flatnonzero(np.diff(ascending)) + 1, np.int64)


def mean(values: Bools) -> float | None:
    """The share of the values that hold; None without any."""
    return float(values.mean()) if len(values) else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
