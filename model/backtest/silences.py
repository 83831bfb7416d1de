"""The silences worth a warning, written down as they begin while a log is simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from model.backtest.panel import Silences
from model.backtest.purchases import Period, Purchases
from model.backtest.simulate import Simulation
from model.decide.history import history_of
from model.decide.rule import VALUE_DROP, is_down_by


class LoggedSilence(msgspec.Struct, frozen=True):
    """A silence: its place among them, and the reference CLV that it begins with (minor units)."""

    number: int
    reference: int


class SilenceLog:
    """Silences `by_start`: customer and day of the order that begins one.

    `left_out`: churns of customers whom the policy leaves out, by standing.
    """

    def __init__(self, simulation: Simulation, purchases: Purchases, period: Period) -> None:
        self.by_start: dict[tuple[str, int], LoggedSilence] = {}
        self.left_out: Counter[str] = Counter()
        self._simulation, self._purchases, self._period = simulation, purchases, period
        self._order_only: set[tuple[str, int]] = set()

    def references_before(self, day: int) -> dict[str, int]:
        """Of the customers who order on a day, not simulated yet, the reference that the order is
        compared with."""
        found: dict[str, int] = {}
        rules = self._simulation.judge.rules
        for user in self._purchases.buyers(day):
            track = self._simulation.tracks.get(user)
            reference = track and track.customer.rule_state.reference
            if reference and reference.clv_minor >= rules.floor_minor:
                found[user] = reference.clv_minor
        return found

    def begin(self, day: int, users: Iterable[str], before: Mapping[str, int]) -> None:
        """Writes down the silences that begin on a simulated day, and what scoring on orders alone
        would find. `users` had an event; `before` are the references before it."""
        rules = self._simulation.judge.rules
        for user in self._purchases.buyers(day):
            if user not in users:
                continue
            track = self._simulation.tracks[user]
            rule_state = track.customer.rule_state
            scored, reference = rule_state.scored_last, rule_state.reference
            if scored and user in before and is_down_by(VALUE_DROP, scored.clv_minor, before[user]):
                self._order_only.add((user, day))
            if reference is None or reference.clv_minor < max(rules.floor_minor, 1):
                continue
            history = history_of(track.customer.facts, rules.enough_purchase_days)
            if history is None:
                continue
            if history.purchase_days < rules.policy.min_orders:
                if self._is_judged_churn(user, day):
                    tenure = history.tenure(day, self._period.horizon_days)
                    self.left_out[tenure.value] += 1
                continue
            self.by_start[user, day] = LoggedSilence(len(self.by_start), reference.clv_minor)

    def _is_judged_churn(self, user: str, day: int) -> bool:
        silent_days = self._purchases.following(user, day) - day
        return self._period.counts(day) and silent_days > self._period.horizon_days

    def table(self) -> Silences:
        """The silences as arrays, with how each of them ended."""
        keys = list(self.by_start)
        bought = self._purchases
        references = [silence.reference for silence in self.by_start.values()]
        return Silences(
            user=[user for user, _ in keys],
            since=np.array([day for _, day in keys], np.int64),
            until=np.array([bought.following(user, day) for user, day in keys], np.int64),
            reference=np.array(references, np.float64),
            orders=np.array([bought.number(user, day) for user, day in keys], np.int64),
            median_gap=np.array([bought.median_gap(user, day) for user, day in keys], np.float64),
            counted=np.array([self._period.counts(day) for _, day in keys], bool),
            horizon_days=self._period.horizon_days,
        )

    def order_only_recall(self, silences: Silences) -> float | None:
        """The share of the churns that a rule would find that scores only when orders arrive."""
        churned = silences.churned
        if not churned.any():
            return None
        keys = zip(silences.user, silences.since.tolist(), strict=True)
        found = np.array([key in self._order_only for key in keys], bool)
        return float(found[churned].mean())
