"""How good the warnings would have been: a log whose future is known, judged as it came.

The warnings are those of the very code that runs live (`model.backtest.simulate`). Beside them
every day of every silence worth a warning is scored (`model.backtest.panel`), to hold the rule
against simpler ones at the same lead, and to say which threshold buys which precision. Definitions:
`docs/warnings.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from features.arrays import Bools
from features.events.orders import Order
from features.times import iso_day
from model.backtest.baselines import (
    baselines,
    budget_name,
    few,
    moneys,
    points,
    rank_days,
    rankings,
    silence_fires,
    suggestions,
)
from model.backtest.panel import Panel, Silences, base_rate, calibration, mean, quality_of
from model.backtest.panel_rows import SilentDays
from model.backtest.purchases import Period, Purchases
from model.backtest.raised import LoggedWarning, RaisedWarnings, by_month, by_week
from model.backtest.result import Backtest, BacktestError
from model.backtest.silences import SilenceLog
from model.backtest.simulate import Simulation
from model.data.training_rows import (
    TrainingConfig,
    carries,
    known_states,
    population_of,
    training_set,
)
from model.decide.policy import Policy, Rules
from model.decide.rule_state import Trigger
from model.decide.scoring import Scorer
from model.estimators.kinds import DEFAULT, fit
from model.evaluate.holdout import score_quantiles
from model.evaluate.learn import learn
from model.judge.judge import Judge

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class BacktestPlan:
    """What is judged: from the day `from_day` (None: the model's cutoff) to the end of the log,
    retrained every so many days (None: never).

    `until_day`: silences that begin then or later are not counted. `progress` hears of days.
    """

    from_day: int
    policy: Policy = field(default_factory=Policy)
    retrain_every_days: int | None = None
    until_day: int | None = None
    precision: float | None = None
    progress: Progress = lambda days: None


def trained(orders: Sequence[Order], day: int, config: TrainingConfig) -> Scorer:
    """The scorer that training at 00:00 of a day gives, from the events before it alone."""
    states = known_states(orders, day, config.calendar)
    known = population_of(states, day, config.attributes)
    model = fit(training_set(orders, config, day), config, known)
    scores = model.clv(known)
    floor = float(np.percentile(scores, Policy().floor_percentile))
    risk, learned = learn(states, day, config.horizon_days, model.clv, floor)
    return Scorer.of(
        model,
        f"day-{iso_day(day)}",
        score_quantiles(scores),
        risk=risk,
        learned=learned,
        attributes=config.attributes,
    )


def backtest(orders: Sequence[Order], scorer: Scorer, plan: BacktestPlan) -> Backtest:
    """The report of a scorer and a policy on a log; `orders` sorted by event time.

    Raises BacktestError where the log leaves no silence to judge.
    """
    if not orders:
        raise BacktestError("the log has no orders; give one with at least a few months of them")
    last_day = scorer.calendar.day_of(orders[-1].ts_ms)
    if last_day + 1 - plan.from_day <= scorer.horizon_days:
        raise BacktestError(
            f"the log ends {max(last_day + 1 - plan.from_day, 0)} days after"
            f" {iso_day(plan.from_day)}, where the judging begins; a horizon of"
            f" {scorer.horizon_days} days needs more than that: {_remedy(orders, scorer)}"
        )
    return BacktestRun(orders, scorer, plan).report()


def _remedy(orders: Sequence[Order], scorer: Scorer) -> str:
    """How a log that ends too early can be judged: by an earlier cutoff, or a shorter horizon."""
    first, last = (scorer.calendar.day_of(orders[at].ts_ms) for at in (0, -1))
    days, horizon = last + 1 - first, scorer.horizon_days
    carried = carries(days)
    if carried < horizon:
        return f"its {days} days carry a horizon of {carried}: train with --horizon {carried}"
    return f"train with --cutoff {iso_day(last - horizon)} or earlier"


def deciding_judge(scorer: Scorer, policy: Policy) -> Judge:
    """A judge who scores to decide only: what is published between decisions decides nothing."""
    return Judge(scorer, replace(scorer.rules(policy), refreshes=False))


class BacktestRun:
    """One backtest: the simulation, and what is written down on the way. `report` runs it; after
    that `panel` has every row."""

    def __init__(self, orders: Sequence[Order], scorer: Scorer, plan: BacktestPlan) -> None:
        self.policy = plan.policy
        self.orders, self.scorer, self.plan = orders, scorer, plan
        day_of = scorer.calendar.day_of
        self.period = Period(
            first_day=day_of(orders[0].ts_ms),
            from_day=plan.from_day,
            until_day=plan.until_day,
            end_day=day_of(orders[-1].ts_ms) + 1,
            horizon_days=scorer.horizon_days,
        )
        self.simulation = Simulation(orders, deciding_judge(scorer, self.policy))
        self.purchases = Purchases(orders, scorer.calendar)
        self.silence_log = SilenceLog(self.purchases, self.period)
        self.silent_days = SilentDays(
            self.simulation, self.purchases, self.period, self.silence_log
        )
        self.swap_days: set[int] = set()
        self.raised: list[LoggedWarning] = []
        self.panel: Panel | None = None

    def report(self) -> Backtest:
        """The whole log, simulated and summed up."""
        period = self.period
        for day in range(period.first_day, period.end_day):
            if self._is_swap_day(day):
                self._swap(day)
            if day == max(period.from_day, period.first_day):
                self.silent_days.fit_alive(day)
            if day >= period.from_day:
                self.silent_days.score(day)
            simulated = self.simulation.day(day)
            if day >= period.from_day - period.horizon_days:
                self.raised += [LoggedWarning.of(one, self.rules) for one in simulated.raised]
                self.silence_log.begin(day, simulated, self.rules)
            self.plan.progress(1)
        return self._summed_up()

    def _is_swap_day(self, day: int) -> bool:
        every, since = self.plan.retrain_every_days, day - self.plan.from_day
        return every is not None and since > 0 and since % every == 0

    def _swap(self, day: int) -> None:
        first = self.scorer
        config = TrainingConfig(
            horizon_days=first.horizon_days,
            currency=first.currency,
            calendar=first.calendar,
            attributes=first.attributes,
            kind=getattr(first.model, "kind", DEFAULT),
            options=getattr(first.model, "options", {}),
        )
        scorer = trained(self.orders, day, config)
        self.swap_days.add(day)
        # As live: every customer moves to the new scale when it is next judged.
        self.simulation.judge = deciding_judge(scorer, self.policy)
        self.silent_days.rescale()
        self.silent_days.fit_alive(day)

    @property
    def rules(self) -> Rules:
        """The policy in the scale of the model now."""
        return self.simulation.judge.rules

    def rank_days(self, panel: Panel) -> range:
        """The days of the call lists of the judged period."""
        return rank_days(panel, self.plan.from_day, self.plan.until_day)

    def _summed_up(self) -> Backtest:
        silences, order_only = self.silence_log.table()
        if not silences.counted.any():
            raise BacktestError(
                "no silence of a customer worth a warning begins and ends within the judged period;"
                " give a longer log, or a lower value floor"
            )
        self.panel = panel = self.silent_days.panel(silences)
        return self._report(silences, order_only, panel)

    def _report(self, silences: Silences, order_only: Bools, panel: Panel) -> Backtest:
        period, rules, every = self.period, self.rules, self.silent_days.every
        sent = RaisedWarnings.of(self.raised, silences)
        fires = silence_fires(panel, rules)
        everything = [warning for warning in self.raised if warning.day >= period.from_day]
        swapped = [warning for warning in everything if warning.day in self.swap_days]
        per_day = Counter(warning.day for warning in everything)
        found = points(panel, rules, period, every)
        return Backtest(
            model_version=self.scorer.model_version,
            policy_version=self.plan.policy.version,
            horizon_days=period.horizon_days,
            currency=self.scorer.currency,
            start=iso_day(period.from_day),
            end=iso_day(period.end_day),
            retrained_every_days=self.plan.retrain_every_days,
            models=len(self.silent_days.scorers),
            customers=len(self.purchases.users),
            eligible_silences=int(silences.counted.sum()),
            base_rate=base_rate(panel),
            rule=sent.quality(silences, period.end_day),
            by_trigger={
                trigger.value: sent.only(trigger).quality(silences, period.end_day)
                for trigger in Trigger
            },
            by_standing=dict(Counter(warning.standing for warning in everything)),
            left_out=dict(self.silence_log.left_out),
            withheld=self.simulation.deferred,
            per_1000_a_week=self._per_1000(len(everything)),
            most_on_a_day=max(per_day.values(), default=0),
            swap_days_share=len(self.swap_days) / len(period.days) if self.swap_days else None,
            swap_warnings_share=len(swapped) / len(everything)
            if self.swap_days and everything
            else None,
            order_only_recall=mean(order_only[silences.churned]),
            panel_share=1 / every,
            panel_rule=quality_of(panel, fires),
            learned=self.scorer.learned,
            baselines=baselines(panel, fires),
            few=few(panel, fires),
            points=found,
            ranked_by=budget_name(self.policy),
            moneys=moneys(panel, self.policy, self.rank_days(panel)),
            rankings=rankings(panel, self.policy, self.rank_days(panel)),
            calibration=calibration(panel),
            weeks=by_week(everything, period, self.silent_days.active),
            months=by_month(sent.endings(silences, period.end_day)),
            suggestions=suggestions(found, rules, self.scorer.learned, self.plan.precision),
        )

    def _per_1000(self, warnings: int) -> float | None:
        active = sum(self.silent_days.active.get(day, 0) for day in self.period.days)
        return warnings / active * 7 * 1000 if active else None
