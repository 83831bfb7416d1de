"""How good the warnings would have been: a log whose future is known, judged as it came.

The warnings are those of the very code that runs live (`model.walk`). Beside them every day of
every silence worth a warning is scored (`model.panel`), to hold the rule against simpler ones at
the same lead, and to say which threshold buys which precision. Definitions: `docs/warnings.md`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple
from zlib import crc32

import msgspec
import numpy as np

from features.buckets import MS_PER_DAY, day_of
from features.money import minor_exponent
from features.orders import Order, OrderType
from features.vector import FEATURE_NAMES, vectors
from model.attributes import Attributes
from model.bgnbd import BGNBD, FitError
from model.budget import spent_minor
from model.clv import ClvModel
from model.evaluation import churn_quantiles, iso_day, score_quantiles
from model.judging import Judge, Scoring, Track
from model.panel import (
    NEVER,
    Bin,
    Bools,
    Floats,
    Ints,
    Panel,
    Quality,
    Ranked,
    Silences,
    base_rate,
    calibration,
    first_of_each,
    quality,
    quality_of,
)
from model.policy import Policy, Rules, Trigger, is_down_by
from model.rivals import (
    Baseline,
    baselines,
    budget_name,
    rank_days,
    rankings,
    silence_fires,
    silent_as_early,
)
from model.scoring import Scorer
from model.standing import history_of
from model.training import TrainingConfig, fit, population, training_set
from model.walk import Walk
from model.zoo import DEFAULT

MAX_ROWS: Final = 400_000
_RFM: Final = tuple(FEATURE_NAMES.index(n) for n in ("frequency", "recency_days", "T_days"))
_BGNBD_CUSTOMERS: Final = 100_000

Progress = Callable[[int], None]


class BacktestError(Exception):
    """These orders cannot tell how good warnings are; the message says what would be enough."""


class Point(msgspec.Struct, frozen=True):
    """The rule at one threshold: the percentile of P(churn), and how good it is. `late`: silences
    that stay below it warn after `late_silence_days` all the same."""

    churn_percentile: float
    late: bool
    per_week: float
    quality: Quality


class Week(msgspec.Struct, frozen=True):
    """Warnings of a week that begins on an ISO date, by trigger."""

    start: str
    silence: int
    order: int
    refund: int
    active: int


class Suggestion(msgspec.Struct, frozen=True):
    """Settings for what was wished for, and what they would have given; `settings` is empty where
    nothing reaches it."""

    wish: str
    settings: dict[str, str]
    point: Point | None


class Backtest(msgspec.Struct, frozen=True):
    """The report. Days are ISO dates; the period is from 00:00 UTC of `start` to 00:00 of `end`.

    `rule` are the warnings as they would have been sent; `panel_rule` the same rule read off the
    panel, which has `panel_share` of the customers. `baselines` are simple rules at the rule's
    median lead, `mean_baseline` is plain silence at its mean lead. `rankings` are call lists of a
    tenth of the better half of the active customers, every 30 days; `ranked_by` names that of the
    budget. `order_only_recall` is that of a rule that scores only when orders arrive. `left_out`:
    churns of customers whom the policy leaves out, by standing. `withheld`: episodes for which the
    budget had no place at first.
    """

    model_version: str
    policy_version: str
    horizon_days: int
    currency: str
    start: str
    end: str
    retrained_every_days: int | None
    models: int
    customers: int
    eligible_silences: int
    base_rate: float | None
    rule: Quality
    by_trigger: dict[str, Quality]
    by_standing: dict[str, int]
    left_out: dict[str, int]
    withheld: int
    per_1000_a_week: float | None
    most_on_a_day: int
    swap_days_share: float | None
    swap_warnings_share: float | None
    order_only_recall: float | None
    panel_share: float
    panel_rule: Quality
    baselines: list[Baseline]
    mean_baseline: Baseline | None
    points: list[Point]
    ranked_by: str
    rankings: dict[str, Ranked]
    calibration: list[Bin]
    weeks: list[Week]
    suggestions: list[Suggestion]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is judged: from the UTC day `from_day` (None: the model's cutoff) to the end of the log,
    retrained every so many days (None: never).

    `until_day`: silences that begin then or later are not counted. `progress` hears of days.
    """

    from_day: int
    policy: Policy = field(default_factory=Policy)
    retrain_every_days: int | None = None
    until_day: int | None = None
    precision: float | None = None
    progress: Progress = lambda days: None


def scorer_of(
    model: ClvModel,
    version: str,
    quantiles: Sequence[float],
    churn: Sequence[float],
    attributes: Attributes | None = None,
) -> Scorer:
    """The scorer of a model, with the percentiles of its training population."""
    return Scorer(
        model=model,
        model_version=version,
        currency=model.currency,
        horizon_days=model.horizon_days,
        score_quantiles_major=tuple(quantiles),
        churn_quantiles=tuple(churn),
        attributes=attributes,
    )


def trained(orders: Sequence[Order], day: int, config: TrainingConfig) -> Scorer:
    """The scorer that training at 00:00 UTC of a day gives, from the events before it alone."""
    known = population(orders, day, config.attributes)
    model = fit(training_set(orders, config, day), config, known)
    quantiles, churn = score_quantiles(model.clv(known)), churn_quantiles(known, model)
    return scorer_of(model, f"day-{iso_day(day)}", quantiles, churn, config.attributes)


def backtest(orders: Sequence[Order], scorer: Scorer, plan: Plan) -> Backtest:
    """The report of a scorer and a policy on a log; `orders` sorted by event time.

    Raises BacktestError where the log leaves no silence to judge.
    """
    if not orders:
        raise BacktestError("the log has no orders; give one with at least a few months of them")
    last_day = day_of(orders[-1].ts_ms)
    if last_day + 1 - plan.from_day <= scorer.horizon_days:
        raise BacktestError(
            f"the log ends {max(last_day + 1 - plan.from_day, 0)} days after"
            f" {iso_day(plan.from_day)}, where the judging begins; a horizon of"
            f" {scorer.horizon_days} days needs more than that: train with an earlier --cutoff"
        )
    return Run(orders, scorer, plan).report()


class Run:
    """One backtest: the walk, and what is written down on the way. `report` walks; after it `panel`
    has every row."""

    def __init__(self, orders: Sequence[Order], scorer: Scorer, plan: Plan) -> None:
        # What is published between decisions decides nothing.
        self.policy = replace(plan.policy, refresh_days=None)
        self.orders, self.scorer, self.plan = orders, scorer, plan
        self.horizon = scorer.horizon_days
        self.first_day, self.end_day = day_of(orders[0].ts_ms), day_of(orders[-1].ts_ms) + 1
        self.purchases = _purchase_days(orders)
        self.scorers = [scorer]
        self.swap_days: set[int] = set()
        self.fired: list[_Warning] = []
        self.rows = _Rows()
        self.spells: dict[tuple[str, int], _Spell] = {}
        self.left_out: Counter[str] = Counter()
        self.active: dict[int, int] = {}
        self.sampled: set[str] = set()
        self.alive: BGNBD | None = None
        self.order_only: set[tuple[str, int]] = set()
        self.every = 1
        self.ratios: dict[int, float] = {}
        self.panel: Panel | None = None
        self._by_day: dict[int, list[str]] = {}
        for user, days in self.purchases.items():
            for bought in days:
                self._by_day.setdefault(bought, []).append(user)
        self._last: dict[str, int] = {}
        self._seen_until = self.first_day
        self.walk = Walk(orders, Judge(scorer, scorer.rules(self.policy)))

    def report(self) -> Backtest:
        for day in range(self.first_day, self.end_day):
            self._swap(day)
            if day == max(self.plan.from_day, self.first_day):
                self._set_sampling()
                self._fit_alive(day)
            before = self._references_before(day)
            if day >= self.plan.from_day:
                self._score_silences(day)
            fired, users = self.walk.day(day)
            if day >= self.plan.from_day - self.horizon:
                self.fired += [_Warning.of(scoring, self.horizon) for scoring in fired]
                self._begin_silences(day, users, before)
            self.plan.progress(1)
        return self._summed_up()

    def _swap(self, day: int) -> None:
        every, since = self.plan.retrain_every_days, day - self.plan.from_day
        if every is None or since <= 0 or since % every:
            return
        first = self.scorer
        config = TrainingConfig(
            horizon_days=self.horizon,
            currency=first.currency,
            attributes=first.attributes,
            kind=getattr(first.model, "kind", DEFAULT),
            options=getattr(first.model, "options", {}),
        )
        scorer = trained(self.orders, day, config)
        self.scorers.append(scorer)
        self.swap_days.add(day)
        # As live: every customer moves to the new scale when it is next judged.
        self.walk.judge = Judge(scorer, scorer.rules(self.policy))
        self.ratios.clear()
        self._fit_alive(day)

    def _fit_alive(self, day: int) -> None:
        """Fits the BG/NBD of the baselines, whatever the model is made of, on who is known then."""
        facts = [
            t.customer.facts for t in self.walk.tracks.values() if history_of(t.customer.facts)
        ]
        facts = facts[:: 1 + len(facts) // _BGNBD_CUSTOMERS]
        self.alive = None
        if facts:
            X = vectors([(each, day * MS_PER_DAY) for each in facts])
            with suppress(FitError):
                self.alive = BGNBD.fit(*(X[:, column] for column in _RFM))

    @property
    def rules(self) -> Rules:
        return self.walk.judge.rules

    def _set_sampling(self) -> None:
        """Chooses how many customers the panel leaves out, so that it stays within its rows."""
        days = sum(
            min(following - this, self.horizon)
            for days in self.purchases.values()
            for this, following in zip(days, [*days[1:], self.end_day], strict=True)
            if this >= self.plan.from_day
        )
        share = 1 - self.policy.floor_percentile / 100 if self.policy.floor is None else 1.0
        self.every = max(1, round(days * min(1.0, 1.5 * share) / MAX_ROWS))
        self.sampled = {u for u in self.purchases if crc32(u.encode()) % self.every == 0}

    def _references_before(self, day: int) -> dict[str, int]:
        """Of the customers who order today, the reference that the order is compared with."""
        found: dict[str, int] = {}
        for user in self._buyers(day):
            track = self.walk.tracks.get(user)
            reference = track and track.customer.judgement.reference(day * MS_PER_DAY, self.rules)
            if reference and reference.clv_minor >= self.rules.floor_minor:
                found[user] = reference.clv_minor
        return found

    def _buyers(self, day: int) -> list[str]:
        return self._by_day.get(day, [])

    def _begin_silences(self, day: int, users: Iterable[str], before: Mapping[str, int]) -> None:
        """Writes down the silences that begin today, and what scoring on orders alone would say."""
        rules = self.rules
        for user in self._buyers(day):
            if user not in users:
                continue
            track = self.walk.tracks[user]
            judgement = track.customer.judgement
            scored, reference = judgement.scored_last, judgement.reference(day * MS_PER_DAY, rules)
            drop = rules.policy.event_drop
            if scored and user in before and is_down_by(drop, scored.clv_minor, before[user]):
                self.order_only.add((user, day))
            if reference is None or reference.clv_minor < max(rules.floor_minor, 1):
                continue
            history = history_of(track.customer.facts, rules.enough_purchase_days)
            if history is None:
                continue
            if history.purchase_days < rules.policy.min_orders:
                if self._counted(user, day) and self._next(user, day) - day > self.horizon:
                    self.left_out[history.standing(day, self.horizon).value] += 1
                continue
            self.spells[user, day] = _Spell(len(self.spells), reference.clv_minor)

    def _counted(self, user: str, since: int) -> bool:
        until = self.plan.until_day if self.plan.until_day is not None else NEVER
        return self.plan.from_day <= since < until and since + self.horizon < self.end_day

    def _next(self, user: str, day: int) -> int:
        days = self.purchases[user]
        at = bisect_right(days, day)
        return days[at] if at < len(days) else NEVER

    def _score_silences(self, day: int) -> None:
        """Adds today's rows to the panel, as of 00:00, before anything is judged or ordered."""
        spells, tracks, users = [], [], []
        silent = self._silent(day)
        self.active[day] = len(silent)
        active = 0
        for user, since in silent.items():
            if user not in self.sampled:
                continue
            active += 1
            spell = self.spells.get((user, since))
            if spell is not None:
                tracks.append(self.walk.tracks[user])
                users.append(user)
                spells.append(spell.number)
        if not spells:
            return
        as_of_ms = day * MS_PER_DAY
        scorer = self.walk.judge.scorer
        X = scorer.rows([(track.customer.facts, as_of_ms) for track in tracks], users)
        clv, churn = scorer.rate(X)
        references = np.array(self._references(day, spells, tracks, users), np.float64)
        better = np.zeros(len(spells), bool)
        better[np.argsort(-references, kind="stable")[: (active + 1) // 2]] = True
        spend = [spent_minor(track.customer.facts, as_of_ms, self.horizon) for track in tracks]
        alive = (
            self.alive.probability_alive(*(X[:, column] for column in _RFM))
            if self.alive
            else np.full(len(X), np.nan)
        )
        self.rows.add(
            _Columns(
                silence=np.array(spells, np.int64),
                day=np.full(len(spells), day, np.int64),
                clv=clv.astype(np.float64),
                reference=references,
                churn=churn,
                alive=alive,
                spend=np.array(spend, np.float64),
                better=better,
                model=np.full(len(spells), len(self.scorers) - 1, np.int64),
            )
        )

    def _references(
        self, day: int, spells: Sequence[int], tracks: Sequence[Track], users: Sequence[str]
    ) -> list[float]:
        """The references in the scale of the model now, also of who was not judged by it yet."""
        scorer = self.walk.judge.scorer
        old = [
            (spell, track, user)
            for spell, track, user in zip(spells, tracks, users, strict=True)
            if track.customer.judgement.model_version != scorer.model_version
            and spell not in self.ratios
        ]
        lasts = [track.customer.judgement.scored_last for _, track, _ in old]
        news = scorer.scores(
            [
                (track.customer.facts, last.day * MS_PER_DAY if last else 0)
                for (_, track, _), last in zip(old, lasts, strict=True)
            ],
            [user for _, _, user in old],
        )
        for (spell, _, _), last, new in zip(old, lasts, news, strict=True):
            self.ratios[spell] = new.clv_minor / last.clv_minor if last and last.clv_minor else 1.0
        found = []
        for spell, track in zip(spells, tracks, strict=True):
            judgement = track.customer.judgement
            reference = judgement.reference(day * MS_PER_DAY, self.rules)
            moved = judgement.model_version == scorer.model_version
            ratio = 1.0 if moved else self.ratios[spell]
            found.append(reference.clv_minor * ratio if reference else 0.0)
        return found

    def _silent(self, day: int) -> Mapping[str, int]:
        """Customers whose last order lies 1 to H days back, with its day."""
        for past in range(self._seen_until, day):
            for user in self._buyers(past):
                self._last[user] = past
            gone = past - self.horizon
            for user in self._buyers(gone):
                if self._last.get(user) == gone:
                    del self._last[user]
        self._seen_until = day
        return self._last

    # --- summing up ------------------------------------------------------------------------------

    def _summed_up(self) -> Backtest:
        silences = self._silences()
        if not silences.counted.any():
            raise BacktestError(
                "no silence of a customer worth a warning begins and ends within the judged period;"
                " give a longer log, or a lower value floor"
            )
        self.panel = panel = self._panel(silences)
        sent = _Sent.of(self.fired, self.spells, silences)
        rule = sent.quality(silences, self.end_day)
        fires = silence_fires(
            panel, self.policy, self.rules, self.policy.churn_percentile, late=True
        )
        panel_rule = quality_of(panel, fires)
        days = range(self.plan.from_day, self.end_day)
        everything = [warning for warning in self.fired if warning.day >= self.plan.from_day]
        swapped = [warning for warning in everything if warning.day in self.swap_days]
        per_day = Counter(warning.day for warning in everything)
        points = self._points(panel)
        return Backtest(
            model_version=self.scorer.model_version,
            policy_version=self.plan.policy.version,
            horizon_days=self.horizon,
            currency=self.scorer.currency,
            start=iso_day(self.plan.from_day),
            end=iso_day(self.end_day),
            retrained_every_days=self.plan.retrain_every_days,
            models=len(self.scorers),
            customers=len(self.purchases),
            eligible_silences=int(silences.counted.sum()),
            base_rate=base_rate(panel),
            rule=rule,
            by_trigger={
                trigger.value: sent.only(trigger).quality(silences, self.end_day)
                for trigger in Trigger
            },
            by_standing=dict(Counter(warning.standing for warning in everything)),
            left_out=dict(self.left_out),
            withheld=self.walk.withheld,
            per_1000_a_week=self._per_1000(len(everything), days),
            most_on_a_day=max(per_day.values(), default=0),
            swap_days_share=len(self.swap_days) / len(days) if self.swap_days else None,
            swap_warnings_share=len(swapped) / len(everything)
            if self.swap_days and everything
            else None,
            order_only_recall=self._order_only(silences),
            panel_share=1 / self.every,
            panel_rule=panel_rule,
            baselines=baselines(panel, panel_rule),
            mean_baseline=silent_as_early(panel, panel_rule),
            points=points,
            ranked_by=budget_name(self.policy),
            rankings=rankings(panel, self.policy, self.rank_days(panel)),
            calibration=calibration(panel),
            weeks=self._weeks(everything),
            suggestions=self._suggestions(points),
        )

    def rank_days(self, panel: Panel) -> range:
        """The days of the call lists of the judged period."""
        return rank_days(panel, self.plan.from_day, self.plan.until_day)

    def _silences(self) -> Silences:
        keys = list(self.spells)
        gaps = [_median_gap(self.purchases[user], day) for user, day in keys]
        return Silences(
            user=[user for user, _ in keys],
            since=np.array([day for _, day in keys], np.int64),
            until=np.array([self._next(user, day) for user, day in keys], np.int64),
            reference=np.array([spell.reference for spell in self.spells.values()], np.float64),
            median_gap=np.array(gaps, np.float64),
            counted=np.array([self._counted(user, day) for user, day in keys], bool),
            horizon_days=self.horizon,
        )

    def _panel(self, silences: Silences) -> Panel:
        # Only the silences of the customers that the panel has a row of a chance for are churns
        # that a rule read off it could find.
        sampled = np.array([crc32(user.encode()) % self.every == 0 for user in silences.user], bool)
        silences = replace(silences, counted=silences.counted & sampled)
        thresholds = np.array([scorer.churn_quantiles or (0.0,) * 101 for scorer in self.scorers])
        return self.rows.panel(silences, thresholds, self.end_day)

    def _per_1000(self, warnings: int, days: range) -> float | None:
        active = sum(self.active.get(day, 0) for day in days)
        return warnings / active * 7 * 1000 if active else None

    def _order_only(self, silences: Silences) -> float | None:
        churned = silences.churned
        if not churned.any():
            return None
        keys = zip(silences.user, silences.since.tolist(), strict=True)
        found = np.array([key in self.order_only for key in keys], bool)
        return float(found[churned].mean())

    def _points(self, panel: Panel) -> list[Point]:
        weeks = (self.end_day - self.plan.from_day) / 7
        points = []
        for late in (True, False):
            for percentile in range(0, 100, 5):
                fires = silence_fires(panel, self.policy, self.rules, percentile, late=late)
                found = quality_of(panel, fires)
                if not found.judged:
                    continue
                begun = panel.silences.counted[panel.silence]
                count = len(first_of_each(panel, fires & begun)) * self.every
                points.append(Point(float(percentile), late, count / weeks, found))
        return points

    def _suggestions(self, points: Sequence[Point]) -> list[Suggestion]:
        found = []
        budget, precision = self.plan.policy.budget_per_day, self.plan.precision
        if budget is not None:
            within = [point for point in points if point.per_week <= 7 * budget]
            wish = f"at most {budget} warnings a day on average"
            found.append(self._suggestion(wish, within))
        if precision is not None:
            reaching = [p for p in points if (p.quality.strict_precision or 0.0) >= precision]
            found.append(self._suggestion(f"strict precision of {precision:.0%} or more", reaching))
        return found

    def _suggestion(self, wish: str, fitting: Sequence[Point]) -> Suggestion:
        """The fitting point that finds most, and of equals the more precise."""
        best = max(
            fitting,
            key=lambda p: (p.quality.value_captured or 0, p.quality.strict_precision or 0),
            default=None,
        )
        if best is None:
            return Suggestion(wish, {}, None)
        settings = {"CLV_CHURN_PERCENTILE": f"{best.churn_percentile:g}"}
        if not best.late:
            settings["CLV_LATE_SILENCE"] = str(self.horizon + 1)
        return Suggestion(wish, settings, best)

    def _weeks(self, fired: Sequence[_Warning]) -> list[Week]:
        counts: Counter[tuple[int, str]] = Counter()
        for warning in fired:
            counts[(warning.day - self.plan.from_day) // 7, warning.trigger] += 1
        weeks = []
        for week in range((self.end_day - self.plan.from_day) // 7):
            start = self.plan.from_day + 7 * week
            weeks.append(
                Week(
                    start=iso_day(start),
                    silence=counts[week, "silence"],
                    order=counts[week, "order"],
                    refund=counts[week, "refund"],
                    active=self.active.get(start, 0),
                )
            )
        return weeks


class _Spell(msgspec.Struct, frozen=True):
    number: int
    reference: int


class _Warning(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a warning; `since` is the day of the order before it, if there is
    one."""

    user_id: str
    day: int
    since: int | None
    trigger: str
    standing: str

    @classmethod
    def of(cls, scoring: Scoring, horizon_days: int) -> _Warning:
        assert scoring.fired is not None
        return cls(
            scoring.user_id,
            day_of(scoring.as_of_ms),
            scoring.facts.last_purchase_day,
            scoring.fired.trigger.value,
            _standing(scoring, horizon_days),
        )


class _Columns(NamedTuple):
    """Rows of the panel, named as there."""

    silence: Ints
    day: Ints
    clv: Floats
    reference: Floats
    churn: Floats
    alive: Floats
    spend: Floats
    better: Bools
    model: Ints


class _Rows:
    """The panel's rows while they grow, a part a day."""

    def __init__(self) -> None:
        self.parts: list[_Columns] = []

    def add(self, part: _Columns) -> None:
        self.parts.append(part)

    def panel(self, silences: Silences, thresholds: Floats, end_day: int) -> Panel:
        """The rows by silence and day."""
        if not self.parts:
            raise BacktestError("nobody worth a warning was silent within the judged period")
        columns = _Columns(*(np.concatenate(column) for column in zip(*self.parts, strict=True)))
        order = np.lexsort((columns.day, columns.silence))
        named = {name: column[order] for name, column in columns._asdict().items()}
        return Panel(silences, thresholds=thresholds, end_day=end_day, **named)


@dataclass(frozen=True, slots=True)
class _Sent:
    """The warnings of the walk that fall into silences worth one."""

    silence: Ints
    day: Ints
    strict: Bools
    trigger: list[str]

    @classmethod
    def of(
        cls,
        fired: Sequence[_Warning],
        spells: Mapping[tuple[str, int], _Spell],
        silences: Silences,
    ) -> _Sent:
        numbers, days, triggers = [], [], []
        for warning in fired:
            spell = None if warning.since is None else spells.get((warning.user_id, warning.since))
            if spell is not None:
                numbers.append(spell.number)
                days.append(warning.day)
                triggers.append(warning.trigger)
        silence, day = np.array(numbers, np.int64), np.array(days, np.int64)
        strict = silences.until[silence] >= day + silences.horizon_days
        return cls(silence, day, strict, triggers)

    def only(self, trigger: Trigger) -> _Sent:
        kept = np.array([name == trigger.value for name in self.trigger], bool)
        return _Sent(self.silence[kept], self.day[kept], self.strict[kept], [])

    def quality(self, silences: Silences, end_day: int) -> Quality:
        return quality(silences, self.silence, self.day, self.strict, end_day)


def _purchase_days(orders: Iterable[Order]) -> dict[str, list[int]]:
    """The UTC days with an order that nobody took back, ascending, by customer; `orders` sorted by
    event time."""
    taken_back = {(o.user_id, o.order_id) for o in orders if o.type is OrderType.CANCELLATION}
    days: dict[str, list[int]] = {}
    same: dict[int, int] = {}  # one object a day, not one an order
    for order in orders:
        if order.type is OrderType.ORDER and (order.user_id, order.order_id) not in taken_back:
            day = day_of(order.ts_ms)
            of_user = days.setdefault(order.user_id, [])
            if not of_user or of_user[-1] != day:
                of_user.append(same.setdefault(day, day))
    return days


def _median_gap(days: Sequence[int], until: int) -> float:
    """The median of the gaps between a customer's orders up to a day; 0 without two orders."""
    known = days[: bisect_right(days, until)]
    return float(np.median(np.diff(known))) if len(known) > 1 else 0.0


def _standing(scoring: Scoring, horizon_days: int) -> str:
    history = history_of(scoring.facts)
    if history is None:
        return "one_time"
    return history.standing(day_of(scoring.as_of_ms), horizon_days).value


def major(minor: float, currency: str) -> float:
    """Minor units of a currency in major ones."""
    return float(minor) / 10.0 ** minor_exponent(currency)
