"""Every day of every silence worth a warning, scored day by day: the panel as it grows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import numpy as np

from features.arrays import Floats, Ints
from features.columns.vector import FEATURE_NAMES, vectors_of
from model.backtest.panel import Panel, Rows, Silences
from model.backtest.purchases import Period, Purchases
from model.backtest.result import BacktestError
from model.backtest.silences import NO_SILENCE, SilenceLog
from model.backtest.simulate import Simulation
from model.decide.scoring import Scorer
from model.estimators.bgnbd import BGNBD, FitError
from model.files.columns import drawn
from model.judge.customers import CustomerArrays

MAX_ROWS: Final = 400_000
_RFM: Final = tuple(FEATURE_NAMES.index(n) for n in ("frequency", "recency_days", "T_days"))
_BGNBD_CUSTOMERS: Final = 100_000
_LONG_AGO: Final = -(2**40)


class SilentDays:
    """The rows so far, of one of `every` customers.

    `active` says of a day how many customers ordered in the H days before it; `scorers` are those
    that the rows were scored by, in the order in which they came.
    """

    def __init__(
        self, simulation: Simulation, purchases: Purchases, period: Period, log: SilenceLog
    ) -> None:
        """`log` is written as the log is simulated."""
        self.scorers: list[Scorer] = [simulation.judge.scorer]
        self.active: dict[int, int] = {}
        self._simulation, self._purchases, self._period, self._log = (
            simulation,
            purchases,
            period,
            log,
        )
        self.every = max(1, round(self._rows_of_all() / MAX_ROWS))
        self._sampled = drawn(purchases.users) % self.every == 0
        self._parts: list[Rows] = []
        self._alive: BGNBD | None = None
        self._ratios: dict[int, float] = {}
        # Of each customer the day of the last order, and that from which they were active since.
        self._last, self._since = np.full((2, len(purchases.users)), _LONG_AGO)
        self._seen_until = period.first_day

    def _rows_of_all(self) -> float:
        """About how many rows there would be with everybody."""
        customer, day = self._purchases.customer, self._purchases.day
        until = np.minimum(self._purchases.following(customer, day), self._period.end_day)
        silent = np.minimum(until - day, self._period.horizon_days)
        policy = self._simulation.judge.rules.policy
        share = 1 - policy.floor_percentile / 100 if policy.floor is None else 1.0
        return int(silent[day >= self._period.from_day].sum()) * min(1.0, 1.5 * share)

    def rescale(self) -> None:
        """Goes on with the scorer that the simulation has now, another one than before."""
        self.scorers.append(self._simulation.judge.scorer)
        self._ratios.clear()

    def fit_alive(self, day: int) -> None:
        """Fits the BG/NBD of the baselines, whatever the model is made of, on who is known then."""
        customers = self._simulation.customers
        bought = (customers.column("purchase_days") > 0).tolist()
        known = [user for user, has in zip(customers, bought, strict=True) if has]
        known = known[:: 1 + len(known) // _BGNBD_CUSTOMERS]
        self._alive = None
        if known:
            X = vectors_of(customers.take(known).facts().everybody(day))
            with suppress(FitError):
                self._alive = BGNBD.fit(*(X[:, column] for column in _RFM))

    def score(self, day: int) -> None:
        """Adds the rows of a day, as of 00:00, before anything is judged or ordered."""
        silent = self._silent(day)
        self.active[day] = len(silent)
        silent = silent[self._sampled[silent]]
        begun = self._log.current[silent]
        logged = begun != NO_SILENCE
        if logged.any():
            users = [self._purchases.users[number] for number in silent[logged].tolist()]
            self._parts.append(self._rows(day, begun[logged], users, len(silent)))

    def _rows(self, day: int, logged: Ints, users: Sequence[str], active: int) -> Rows:
        """The rows of silences, one an element, of the `active` customers of the sample."""
        horizon = self._period.horizon_days
        customers = self._simulation.customers.take(users)
        scorer = self._simulation.judge.scorer
        table = customers.facts().everybody(day)
        X = scorer.vectors(table, users)
        clv, risks = scorer.clv_minor(X), scorer.risks(table)
        if risks is None:
            risks = scorer.model.churn(X), np.full(len(users), -np.inf)
        churn, found = risks
        references = self._references(logged, customers)
        better = np.zeros(len(users), bool)
        better[np.argsort(-references, kind="stable")[: (active + 1) // 2]] = True
        spend = table.sums((table.gross - table.refunded) * (table.age_days < horizon))
        return Rows(
            silence=logged,
            day=np.full(len(users), day, np.int64),
            clv=clv.astype(np.float64),
            reference=references,
            churn=churn,
            index=found,
            alive=self._probability_alive(X),
            spend=np.maximum(spend, 0.0),
            better=better,
            model=np.full(len(users), len(self.scorers) - 1, np.int64),
        )

    def _probability_alive(self, X: Floats) -> Floats:
        if self._alive is None:
            return np.full(len(X), np.nan)
        return self._alive.probability_alive(*(X[:, column] for column in _RFM))

    def _references(self, logged: Ints, customers: CustomerArrays) -> Floats:
        """The references in the scale of the model now, also of who was not judged by it yet."""
        scorer = self._simulation.judge.scorer
        old = np.flatnonzero(customers["model_version"] != scorer.model_version)
        new = [at for at in old.tolist() if int(logged[at]) not in self._ratios]
        lasts = [customers.rule_state_of(at).scored_last for at in new]
        scores = scorer.scores(
            [
                (customers.facts_of(at), scorer.calendar.start_ms(last.day) if last else 0)
                for at, last in zip(new, lasts, strict=True)
            ],
            [customers.users[at] for at in new],
        )
        for at, last, score in zip(new, lasts, scores, strict=True):
            was = last.clv_minor if last else 0
            self._ratios[int(logged[at])] = score.clv_minor / was if was else 1.0
        found = np.maximum(customers.references(), 0).astype(np.float64)
        found[old] *= [self._ratios[number] for number in logged[old].tolist()]
        return found

    def _silent(self, day: int) -> Ints:
        """Customers whose last order lies 1 to H days back, who became active first first."""
        horizon = self._period.horizon_days
        for past in range(self._seen_until, day):
            buyers = self._purchases.buyers(past)
            self._since[buyers[self._last[buyers] < past - horizon]] = past
            self._last[buyers] = past
        self._seen_until = day
        silent = np.flatnonzero(self._last >= day - horizon)
        return silent[np.argsort(self._since[silent], kind="stable")]

    def panel(self, silences: Silences) -> Panel:
        """All rows, and the silences of customers who could have rows: they are the churns that a
        rule read off it could find.

        Raises BacktestError where there is none.
        """
        if not self._parts:
            raise BacktestError("nobody worth a warning was silent within the judged period")
        sampled = self._sampled[self._purchases.numbers(silences.user)]
        place = np.cumsum(sampled) - 1
        return Panel.of(
            [replace(part, silence=place[part.silence]) for part in self._parts],
            silences=silences.part(sampled),
            learned=tuple(scorer.learned for scorer in self.scorers),
            end_day=self._period.end_day,
        )
