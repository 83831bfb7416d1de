"""When a silent customer is due: midnights of the shop, as a function of the customer alone."""

from __future__ import annotations

from collections.abc import Iterator

from model.decide.history import PurchaseHistory
from model.decide.policy import Rules
from model.decide.rule_state import RuleState


def next_due(
    history: PurchaseHistory | None, rule_state: RuleState, after_ms: int, rules: Rules
) -> int | None:
    """The first midnight after `after_ms` (epoch ms) at which a customer has to be scored: one at
    which the rule could warn, or a refresh of the published score. None: there is none."""
    if history is None:
        return None
    tomorrow = rules.calendar.day_of(after_ms) + 1
    due = _next_refresh(history.last_day, tomorrow, rules)
    deciding = first_deciding_day(history, rule_state, tomorrow, rules)
    if deciding is not None and (due is None or deciding < due):
        due = deciding
    end = history.last_day + rules.horizon_days
    return rules.calendar.start_ms(due) if due is not None and due <= end else None


def possible_instants(
    history: PurchaseHistory,
    from_ms: int,
    until_ms: int,
    rules: Rules,
    *,
    deciding_from: int | None,
) -> Iterator[tuple[int, bool]]:
    """All instants from `from_ms` to `until_ms`, both included, at which a silent customer could be
    due, and whether each is a refresh, whose score is published even if nothing is warned of. Those
    of the rule alone only from the day `deciding_from` on (None: none)."""
    day = rules.calendar.day_from(from_ms)
    end = min(rules.calendar.day_of(until_ms), history.last_day + rules.horizon_days)
    deciding_from = end + 1 if deciding_from is None else deciding_from
    while day <= end:
        refresh = _next_refresh(history.last_day, day, rules)
        if day == refresh or day >= deciding_from:
            yield rules.calendar.start_ms(day), day == refresh
            day += 1
        else:
            day = deciding_from if refresh is None else min(refresh, deciding_from)


def first_deciding_day(
    history: PurchaseHistory, rule_state: RuleState | None, from_day: int, rules: Rules
) -> int | None:
    """The first day, not before `from_day`, on which the rule could warn of a silence; None: it
    cannot. `rule_state` is None where what the rule remembers is not known."""
    if history.purchase_days < rules.policy.min_orders:
        return None
    if rule_state is not None and not rule_state.may_warn(rules):
        return None
    quiet_until = -1 if rule_state is None else rule_state.quiet_until_day
    return max(from_day, history.last_day + rules.first_silence_days, quiet_until)


def _next_refresh(last_day: int, from_day: int, rules: Rules) -> int | None:
    """The first refresh day at or after `from_day`."""
    every = rules.refresh_days
    if every is None:
        return None
    return last_day + max(1, -(-(from_day - last_day) // every)) * every
