"""Why no warning has been raised of a customer, and on which day one would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.events.money import minor_exponent, priced
from features.times import iso_day
from model.decide.codec import CustomerRecord
from model.decide.history import history_of
from model.decide.scoring import score
from model.judge.judge import Judge
from model.judge.judged import ScheduledCustomer


@dataclass(frozen=True, slots=True)
class Quiet:
    """What keeps the rule quiet as of an instant, a sentence each, and the ISO date on which it
    would warn if no order came until then; None: never in this silence."""

    because: Sequence[str]
    fires_on: str | None

    @property
    def text(self) -> str:
        """All of it, a line a reason."""
        if self.fires_on:
            end = f"Without an order it would warn on {self.fires_on}."
        else:
            end = "In this silence it will not warn."
        return "\n".join([*self.because, end])


def why_quiet(user_id: str, customer: CustomerRecord, judge: Judge, as_of_ms: int) -> Quiet:
    """What keeps the rule quiet about a customer who is known as of an instant (epoch ms)."""
    rules, scorer = judge.rules, judge.scorer
    today = rules.calendar.day_of(as_of_ms)
    history = history_of(customer.facts, rules.enough_purchase_days)
    if history is None:
        return Quiet(["There is no order that counts: none, or all were taken back."], None)
    state, silent = customer.rule_state, today - history.last_day
    raised = state.raised
    if raised is not None and not state.armed:
        warned = iso_day(rules.calendar.day_of(raised.as_of_ms))
        return Quiet([f"It warned on {warned}, and warns once of a silence."], None)

    def money(minor: int) -> str:
        return priced(minor / 10 ** minor_exponent(scorer.currency), scorer.currency)

    because = []
    reference = state.reference
    floor = state.floor(rules)
    if reference is None or not state.armed:
        because.append("No order was seen while warnings could be raised.")
    elif reference.clv_minor < floor:
        because.append(
            f"Its reference CLV, {money(reference.clv_minor)}, is below {money(floor)}, from which"
            " a customer is worth a warning (CLV_FLOOR_PERCENTILE)."
        )
    if history.purchase_days < rules.policy.min_orders:
        because.append(
            f"It bought on {history.purchase_days} days; warnings are of those who bought on"
            f" {rules.policy.min_orders} (CLV_MIN_ORDERS)."
        )
    if silent > rules.horizon_days:
        because.append(
            f"It has been silent for {silent} days, more than the horizon of"
            f" {rules.horizon_days}: it counts as gone."
        )
    elif silent < rules.first_silence_days:
        because.append(
            f"It ordered {silent} days ago; a silence is judged from day"
            f" {rules.first_silence_days} on."
        )
    elif not because:
        now = score(customer.facts, as_of_ms, scorer, user_id)
        assert reference is not None
        if now.clv_minor >= reference.clv_minor:
            because.append(
                f"Its CLV, {money(now.clv_minor)}, is not below its reference,"
                f" {money(reference.clv_minor)}."
            )
        else:
            because.append(
                f"After {silent} days of silence P(churn) is {now.churn_probability:.0%}, less sure"
                " than the warnings that CLV_EARLY or CLV_PRECISION asks for."
            )
    if state.deferred_since_ms >= 0:
        since = iso_day(rules.calendar.day_of(state.deferred_since_ms))
        because.append(f"The budget (CLV_BUDGET_PER_DAY) has had no place for it since {since}.")
    return Quiet(because, _fires_on(user_id, customer, judge, today, history.last_day))


def _fires_on(
    user_id: str, customer: CustomerRecord, judge: Judge, today: int, last_day: int
) -> str | None:
    """The day of the warning, by the very judge that raises it."""
    rules = judge.rules
    first, last = max(today, last_day + 1), last_day + rules.horizon_days
    if first > last:
        return None
    track = ScheduledCustomer(customer, rules.calendar.start_ms(first))
    judged = judge.judge({user_id: track}, {}, rules.calendar.start_ms(last))
    days = [rules.calendar.day_of(one.as_of_ms) for one in judged.scorings if one.raised]
    return iso_day(min(days)) if days else None
