"""From which index on silences warn, and how a budget ranks, as learnt from a shop's own past."""

from __future__ import annotations

from typing import Final

import msgspec

from model.decide.policy import Policy

EARLY: Final = tuple(round(0.05 * step, 2) for step in range(19, 0, -1))
"""The shares of leaving customers warned of by half of the horizon to which thresholds are
learnt."""


class Threshold(msgspec.Struct, frozen=True):
    """An index from which silences warn, and what it would have done in the past that it was learnt
    on: `early`: share of the customers who left who were warned of by half of the horizon;
    `precision`: share of warnings without an order within the horizon after (strict);
    `median_lead_days`: days left until the customer had been silent for the horizon."""

    early: float
    index: float
    precision: float
    median_lead_days: float


FALLBACK_MONEY: Final = 0.5
"""How much a budget weighs money where the past is too short to learn it."""


class Ranking(msgspec.Struct, frozen=True):
    """How much a budget weighs money (`model.judge.budget.weights`), and what call lists of the
    past, made on the days `since` to `until` (ISO dates), would have held with it: `precision`, the
    share of those called who ordered nothing in the horizon after; `value`, their share of what all
    such customers of those days had spent in the horizon before (`left`: how many these were); and
    the most that a simple list would have had of either."""

    money: float
    precision: float
    value: float
    simple_precision: float
    simple_value: float
    lists: int
    left: int
    since: str
    until: str


class Learned(msgspec.Struct, frozen=True):
    """What training learnt of when to warn: `thresholds`, those that warn earliest first; and
    `ranking`, None where too few left.

    Thresholds were learnt on silences of customers worth a warning that began on the days `since`
    to `until` (ISO dates): `left` of them were longer than the horizon, `returned` not. `why_not`
    says why there are no thresholds; silences warn from half of the horizon on then.
    """

    thresholds: tuple[Threshold, ...] = ()
    since: str = ""
    until: str = ""
    left: int = 0
    returned: int = 0
    why_not: str = ""
    ranking: Ranking | None = None

    def chosen(self, policy: Policy) -> Threshold | None:
        """The threshold that a policy asks for: the earliest of its precision, or, where none
        reaches that, the surest; else the one of its `early`. None where there are none."""
        if not self.thresholds:
            return None
        if policy.precision is not None:
            wanted = policy.precision
            reached = [each for each in self.thresholds if each.precision >= wanted]
            return reached[0] if reached else max(self.thresholds, key=lambda t: t.precision)
        return min(self.thresholds, key=lambda each: abs(each.early - policy.early))

    def money(self, policy: Policy) -> float:
        """How much a budget weighs money: as the policy has it, else as was learnt."""
        if policy.money is not None:
            return policy.money
        return FALLBACK_MONEY if self.ranking is None else self.ranking.money

    def threshold(self, policy: Policy) -> float | None:
        """The index of `chosen`."""
        found = self.chosen(policy)
        return None if found is None else found.index


NOTHING_LEARNED: Final = Learned(why_not="nothing was learnt")
