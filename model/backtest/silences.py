"""The silences worth a warning, written down as they begin while a log is simulated."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from features.arrays import Bools, Ints
from model.backtest.panel import Silences
from model.backtest.purchases import Period, Purchases
from model.backtest.simulate import SimulatedDay
from model.decide.history import Tenure
from model.decide.policy import Rules
from model.decide.rule import VALUE_DROP, are_down_by

NO_SILENCE = -1


class _Begun(NamedTuple):
    """Silences that began on a day: whose (the customer's number in the purchases), the reference
    CLV in minor units, and whether scoring on orders alone had told of them."""

    customer: Ints
    since: Ints
    reference: Ints
    order_only: Bools


class SilenceLog:
    """Silences in the order in which they begin.

    `current`: the place among them of each customer's last one, NO_SILENCE where none is worth a
    warning. `left_out`: churns of customers whom the policy leaves out, by standing.
    """

    def __init__(self, purchases: Purchases, period: Period) -> None:
        self.left_out: Counter[str] = Counter()
        self.current = np.full(len(purchases.users), NO_SILENCE)
        self._purchases, self._period = purchases, period
        self._begun: list[_Begun] = []
        self._count = 0

    def begin(self, day: int, simulated: SimulatedDay, rules: Rules) -> None:
        """Writes down the silences that begin on a simulated day, and what scoring on orders alone
        would find."""
        buyers = self._purchases.buyers(day)
        self.current[buyers] = NO_SILENCE
        customer = self._purchases.numbers(simulated.after.users)
        place = np.argsort(customer, kind="stable")
        place = place[np.isin(customer[place], buyers)]
        customer = customer[place]
        before = simulated.before.references()[place]
        after = simulated.after.take(place)
        reference, orders = after.references(), after["purchase_days"]
        worth = (reference >= max(rules.floor_minor, 1)) & (orders > 0)
        few = worth & (orders < rules.policy.min_orders)
        if few.any():
            self._leave_out(day, customer[few], after["first_day"][few], orders[few])
        begins = np.flatnonzero(worth & ~few)
        scored = after.peaks[after["peak_at"][begins] + after["peaks"][begins] - 1, 1]
        known = (before[begins] >= 0) & (before[begins] >= rules.floor_minor)
        found = _Begun(
            customer[begins],
            np.full(len(begins), day),
            reference[begins],
            known & are_down_by(VALUE_DROP, scored, before[begins]),
        )
        self._begun.append(found)
        self.current[found.customer] = self._count + np.arange(len(begins))
        self._count += len(begins)

    def _leave_out(self, day: int, customer: Ints, first_day: Ints, orders: Ints) -> None:
        """Counts the churns among silences that the policy leaves out."""
        horizon, since = self._period.horizon_days, np.full(len(customer), day)
        if not self._period.counts(day):
            return
        churned = self._purchases.following(customer, since) - day > horizon
        young = day - first_day < horizon
        tenure = np.where(young, Tenure.YOUNG.value, Tenure.ESTABLISHED.value)
        tenure = np.where(orders < 2, Tenure.ONE_TIME.value, tenure)
        self.left_out.update(tenure[churned].tolist())

    def table(self) -> tuple[Silences, Bools]:
        """The silences as arrays, with how each of them ended; and which of them a rule had found
        that scores only when orders arrive."""
        none = np.empty(0, np.int64)
        columns = zip(*[_Begun(none, none, none, none > 0), *self._begun], strict=True)
        begun = _Begun(*(np.concatenate(column) for column in columns))
        customer, since, bought = begun.customer, begun.since, self._purchases
        counted = {day: self._period.counts(day) for day in np.unique(since).tolist()}
        silences = Silences(
            user=[bought.users[number] for number in customer.tolist()],
            since=since,
            until=bought.following(customer, since),
            reference=begun.reference.astype(np.float64),
            orders=bought.number(customer, since),
            median_gap=bought.median_gap(customer, since),
            counted=np.array([counted[day] for day in since.tolist()], bool),
            horizon_days=self._period.horizon_days,
        )
        return silences, begun.order_only
