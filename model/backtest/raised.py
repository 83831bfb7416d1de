"""The warnings of a simulation: when each was raised, in which silence, and how good they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from features.arrays import Bools, Ints
from features.times import iso_day
from model.backtest.panel import Quality, Silences, quality
from model.backtest.purchases import Period
from model.backtest.result import WarningWeek
from model.backtest.silences import LoggedSilence
from model.decide.history import Tenure, history_of
from model.decide.judge import Scoring
from model.decide.policy import Rules
from model.decide.rule_state import Trigger


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
        logged: Mapping[tuple[str, int], LoggedSilence],
        silences: Silences,
    ) -> RaisedWarnings:
        """Those of `raised` in the silences, which are `logged` as arrays."""
        numbers, days, triggers = [], [], []
        for warning in raised:
            found = None if warning.since is None else logged.get((warning.user_id, warning.since))
            if found is not None:
                numbers.append(found.number)
                days.append(warning.day)
                triggers.append(warning.trigger)
        silence, day = np.array(numbers, np.int64), np.array(days, np.int64)
        strict = silences.until[silence] >= day + silences.horizon_days
        return cls(silence, day, strict, triggers)

    def only(self, trigger: Trigger) -> RaisedWarnings:
        """Those with a trigger."""
        kept = np.array([name == trigger.value for name in self.trigger], bool)
        return RaisedWarnings(self.silence[kept], self.day[kept], self.strict[kept], [])

    def quality(self, silences: Silences, end_day: int) -> Quality:
        """How good they were."""
        return quality(silences, self.silence, self.day, self.strict, end_day)


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
