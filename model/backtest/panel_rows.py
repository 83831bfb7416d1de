"""Every day of every silence worth a warning, scored day by day: the panel as it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final
from zlib import crc32

import numpy as np

from features.arrays import Floats
from features.columns.table import tabulate
from features.columns.vector import FEATURE_NAMES, vectors
from features.times import MS_PER_DAY
from model.backtest.panel import Panel, Rows, Silences
from model.backtest.purchases import Period, Purchases
from model.backtest.result import BacktestError
from model.backtest.silences import LoggedSilence
from model.backtest.simulate import Simulation
from model.decide.history import history_of
from model.decide.scoring import Scorer
from model.estimators.bgnbd import BGNBD, FitError
from model.judge.budget import spent_minor
from model.judge.judged import ScheduledCustomer

MAX_ROWS: Final = 400_000
_RFM: Final = tuple(FEATURE_NAMES.index(n) for n in ("frequency", "recency_days", "T_days"))
_BGNBD_CUSTOMERS: Final = 100_000


class SilentDays:
    """The rows so far, of one of `every` customers.

    `active` says of a day how many customers ordered in the H days before it; `scorers` are those
    that the rows were scored by, in the order in which they came.
    """

    def __init__(
        self,
        simulation: Simulation,
        purchases: Purchases,
        period: Period,
        logged: Mapping[tuple[str, int], LoggedSilence],
    ) -> None:
        """`logged` are written down elsewhere as the log is simulated."""
        self.scorers: list[Scorer] = [simulation.judge.scorer]
        self.active: dict[int, int] = {}
        self._simulation, self._purchases, self._period, self._logged = (
            simulation,
            purchases,
            period,
            logged,
        )
        self.every = max(1, round(self._rows_of_all() / MAX_ROWS))
        self._sampled = {u for u in purchases.by_user if crc32(u.encode()) % self.every == 0}
        self._parts: list[Rows] = []
        self._alive: BGNBD | None = None
        self._ratios: dict[int, float] = {}
        self._last: dict[str, int] = {}
        self._seen_until = period.first_day

    def _rows_of_all(self) -> float:
        """About how many rows there would be with everybody."""
        days = sum(
            min(following - this, self._period.horizon_days)
            for days in self._purchases.by_user.values()
            for this, following in zip(days, [*days[1:], self._period.end_day], strict=True)
            if this >= self._period.from_day
        )
        policy = self._simulation.judge.rules.policy
        share = 1 - policy.floor_percentile / 100 if policy.floor is None else 1.0
        return days * min(1.0, 1.5 * share)

    def rescale(self) -> None:
        """Goes on with the scorer that the simulation has now, another one than before."""
        self.scorers.append(self._simulation.judge.scorer)
        self._ratios.clear()

    def fit_alive(self, day: int) -> None:
        """Fits the BG/NBD of the baselines, whatever the model is made of, on who is known then."""
        known = [track.customer.facts for track in self._simulation.tracks.values()]
        facts = [each for each in known if history_of(each)]
        facts = facts[:: 1 + len(facts) // _BGNBD_CUSTOMERS]
        self._alive = None
        if facts:
            X = vectors([(each, day * MS_PER_DAY) for each in facts])
            with suppress(FitError):
                self._alive = BGNBD.fit(*(X[:, column] for column in _RFM))

    def score(self, day: int) -> None:
        """Adds the rows of a day, as of 00:00, before anything is judged or ordered."""
        logged, tracks, users = [], [], []
        silent = self._silent(day)
        self.active[day] = len(silent)
        active = 0
        for user, since in silent.items():
            if user not in self._sampled:
                continue
            active += 1
            silence = self._logged.get((user, since))
            if silence is not None:
                tracks.append(self._simulation.tracks[user])
                users.append(user)
                logged.append(silence.number)
        if logged:
            self._parts.append(self._rows(day, logged, tracks, users, active))

    def _rows(
        self,
        day: int,
        logged: Sequence[int],
        tracks: Sequence[ScheduledCustomer],
        users: Sequence[str],
        active: int,
    ) -> Rows:
        """The rows of silences, one an element, of the `active` customers of the sample."""
        horizon = self._period.horizon_days
        as_of_ms = self._simulation.judge.rules.calendar.start_ms(day)
        scorer = self._simulation.judge.scorer
        pairs = [(track.customer.facts, as_of_ms) for track in tracks]
        table = tabulate(pairs, scorer.calendar)
        X = scorer.vectors(table, users)
        clv, risks = scorer.clv_minor(X), scorer.risks(table)
        if risks is None:
            risks = scorer.model.churn(X), np.full(len(pairs), -np.inf)
        churn, found = risks
        references = np.array(self._references(logged, tracks, users), np.float64)
        better = np.zeros(len(logged), bool)
        better[np.argsort(-references, kind="stable")[: (active + 1) // 2]] = True
        spend = [spent_minor(track.customer.facts, day, horizon) for track in tracks]
        return Rows(
            silence=np.array(logged, np.int64),
            day=np.full(len(logged), day, np.int64),
            clv=clv.astype(np.float64),
            reference=references,
            churn=churn,
            index=found,
            alive=self._probability_alive(X),
            spend=np.array(spend, np.float64),
            better=better,
            model=np.full(len(logged), len(self.scorers) - 1, np.int64),
        )

    def _probability_alive(self, X: Floats) -> Floats:
        if self._alive is None:
            return np.full(len(X), np.nan)
        return self._alive.probability_alive(*(X[:, column] for column in _RFM))

    def _references(
        self,
        logged: Sequence[int],
        tracks: Sequence[ScheduledCustomer],
        users: Sequence[str],
    ) -> list[float]:
        """The references in the scale of the model now, also of who was not judged by it yet."""
        scorer = self._simulation.judge.scorer
        old = [
            (silence, track, user)
            for silence, track, user in zip(logged, tracks, users, strict=True)
            if track.customer.rule_state.model_version != scorer.model_version
            and silence not in self._ratios
        ]
        lasts = [track.customer.rule_state.scored_last for _, track, _ in old]
        news = scorer.scores(
            [
                (track.customer.facts, scorer.calendar.start_ms(last.day) if last else 0)
                for (_, track, _), last in zip(old, lasts, strict=True)
            ],
            [user for _, _, user in old],
        )
        for (silence, _, _), last, new in zip(old, lasts, news, strict=True):
            self._ratios[silence] = (
                new.clv_minor / last.clv_minor if last and last.clv_minor else 1.0
            )
        found = []
        for silence, track in zip(logged, tracks, strict=True):
            rule_state = track.customer.rule_state
            reference = rule_state.reference
            moved = rule_state.model_version == scorer.model_version
            ratio = 1.0 if moved else self._ratios[silence]
            found.append(reference.clv_minor * ratio if reference else 0.0)
        return found

    def _silent(self, day: int) -> Mapping[str, int]:
        """Customers whose last order lies 1 to H days back, with its day."""
        for past in range(self._seen_until, day):
            for user in self._purchases.buyers(past):
                self._last[user] = past
            gone = past - self._period.horizon_days
            for user in self._purchases.buyers(gone):
                if self._last.get(user) == gone:
                    del self._last[user]
        self._seen_until = day
        return self._last

    def panel(self, silences: Silences) -> Panel:
        """All rows. Of the silences only those of customers who could have rows are counted: they
        are the churns that a rule read off it could find.

        Raises BacktestError where there is none.
        """
        if not self._parts:
            raise BacktestError("nobody worth a warning was silent within the judged period")
        sampled = np.array([user in self._sampled for user in silences.user], bool)
        return Panel.of(
            self._parts,
            silences=replace(silences, counted=silences.counted & sampled),
            learned=tuple(scorer.learned for scorer in self.scorers),
            end_day=self._period.end_day,
        )
