"""The warnings of a simulation: when each was raised, in which silence, and how good they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from features.arrays import Bools, Ints
from features.times import iso_day
from model.backtest.panel import Quality, Silences, quality
from model.backtest.purchases import Period
from model.backtest.result import EndedWarnings, WarningWeek
from model.decide.history import Tenure, history_of
from model.decide.outcome import Ending
from model.decide.policy import Rules
from model.decide.rule_state import Trigger
from model.judge.judged import Scoring


class LoggedWarning(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a warning; `since` is the day of the order before it, if there is
    one."""

    user_id: str
    day: int
    since: int | None
    trigger: str
    standing: str

    @classmethod
    def of(cls, scoring: Scoring, rules: Rules) -> LoggedWarning:
        """The warning of a scoring that raised."""
        assert scoring.raised is not None
        return cls(
            scoring.user_id,
            rules.calendar.day_of(scoring.as_of_ms),
            scoring.facts.last_purchase_day,
            scoring.raised.trigger.value,
            _standing(scoring, rules).value,
        )


def _standing(scoring: Scoring, rules: Rules) -> Tenure:
    history = history_of(scoring.facts)
    if history is None:
        return Tenure.ONE_TIME
    return history.tenure(rules.calendar.day_of(scoring.as_of_ms), rules.horizon_days)


@dataclass(frozen=True, slots=True)
class RaisedWarnings:
    """The warnings that fall into silences worth one."""

    silence: Ints
    day: Ints
    strict: Bools
    trigger: list[str]

    @classmethod
    def of(
        cls,
        raised: Sequence[LoggedWarning],
        silences: Silences,
    ) -> RaisedWarnings:
        """Those of `raised` in the silences."""
        wanted = {(warning.user_id, warning.since) for warning in raised}
        begun = zip(silences.user, silences.since.tolist(), strict=True)
        number = {key: at for at, key in enumerate(begun) if key in wanted}
        places = [number.get((warning.user_id, warning.since), -1) for warning in raised]
        within = [(at, w) for at, w in zip(places, raised, strict=True) if at >= 0]
        silence = np.array([at for at, _ in within], np.int64)
        day = np.array([warning.day for _, warning in within], np.int64)
        strict = silences.until[silence] >= day + silences.horizon_days
        return cls(silence, day, strict, [warning.trigger for _, warning in within])

    def only(self, trigger: Trigger) -> RaisedWarnings:
        """Those with a trigger."""
        kept = np.array([name == trigger.value for name in self.trigger], bool)
        return RaisedWarnings(self.silence[kept], self.day[kept], self.strict[kept], [])

    def quality(self, silences: Silences, end_day: int) -> Quality:
        """How good they were."""
        return quality(silences, self.silence, self.day, self.strict, end_day)

    def endings(self, silences: Silences, end_day: int) -> list[tuple[str, Ending]]:
        """The ISO date and the ending of each that is judged."""
        horizon = silences.horizon_days
        judged = silences.counted[self.silence] & (self.day + horizon <= end_day)
        silent = (silences.until - silences.since)[self.silence]
        return [
            (
                iso_day(day),
                Ending.LOST if lost else Ending.RECOVERED if days > horizon else Ending.KEPT,
            )
            for day, lost, days in zip(
                self.day[judged].tolist(),
                self.strict[judged].tolist(),
                silent[judged].tolist(),
                strict=True,
            )
        ]


def by_month(endings: Iterable[tuple[str, Ending]]) -> list[EndedWarnings]:
    """Warnings of an ISO date or instant that have ended, by month, months without one among
    them."""
    counts = Counter((day[:7], ending) for day, ending in endings if ending is not Ending.OPEN)
    months = sorted({month for month, _ in counts})
    if not months:
        return []
    first, last = (12 * int(m[:4]) + int(m[5:]) - 1 for m in (months[0], months[-1]))
    names = [f"{at // 12:04}-{at % 12 + 1:02}" for at in range(first, last + 1)]
    return [
        EndedWarnings(
            name, counts[name, Ending.KEPT], counts[name, Ending.RECOVERED],
            counts[name, Ending.LOST],
        )
        for name in names
    ]  # fmt: skip


def by_week(
    raised: Sequence[LoggedWarning], period: Period, active: Mapping[int, int]
) -> list[WarningWeek]:
    """The full weeks of the period, with how many customers were active when each began."""
    counts: Counter[tuple[int, str]] = Counter()
    for warning in raised:
        counts[(warning.day - period.from_day) // 7, warning.trigger] += 1
    weeks = []
    for week in range(len(period.days) // 7):
        start = period.from_day + 7 * week
        weeks.append(
            WarningWeek(
                start=iso_day(start),
                silence=counts[week, "silence"],
                order=counts[week, "order"],
                refund=counts[week, "refund"],
                active=active.get(start, 0),
            )
        )
    return weeks
