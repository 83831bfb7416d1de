"""When a silent customer is due: grid instants, as a function of the customer alone."""

from __future__ import annotations

from collections.abc import Iterator

from model.decide.history import PurchaseHistory
from model.decide.policy import Rules
from model.decide.rule_state import RuleState


def next_due(
    history: PurchaseHistory | None, rule_state: RuleState, after_ms: int, rules: Rules
) -> int | None:
    """The first grid instant after `after_ms` (epoch ms) at which a customer has to be scored: one
    at which the rule could fire, or a refresh of the published score. None: there is none."""
    if history is None:
        return None
    last_day = history.last_day
    end = last_day + rules.horizon_days
    tomorrow = rules.calendar.day_of(after_ms) + 1
    due = _next_refresh(last_day, tomorrow, rules)
    firing = first_firing_day(history, rule_state, tomorrow, rules)
    if firing is not None and (due is None or firing < due):
        due = firing
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
    due, and whether each is a refresh, whose score is published even if nothing fires. Those of the
    rule alone only from the UTC day `deciding_from` on (None: none)."""
    grid, calendar = rules.policy.grid_days, rules.calendar
    last_day = history.last_day
    day = _next_on_grid(calendar.day_from(from_ms), grid)
    end = min(calendar.day_of(until_ms), last_day + rules.horizon_days)
    silent_from = end + 1 if deciding_from is None else deciding_from
    refresh = _next_refresh(last_day, day, rules)
    while day <= end:
        if refresh is not None and refresh < day:
            refresh = _next_refresh(last_day, day, rules)
        if day == refresh or day >= silent_from:
            yield calendar.start_ms(day), day == refresh
            day += grid
        elif refresh is None or silent_from < refresh:
            day = _next_on_grid(silent_from, grid)
        else:
            day = refresh


def first_deciding_day(
    history: PurchaseHistory, rule_state: RuleState, from_day: int, rules: Rules
) -> int | None:
    """The first grid day, not before `from_day`, on which silence could fire, or what waits for the
    budget could; None: the policy leaves the customer out."""
    first = from_day if rule_state.deferred is not None else rule_state.first_day(history, rules)
    return None if first is None else _next_on_grid(max(from_day, first), rules.policy.grid_days)


def first_firing_day(
    history: PurchaseHistory, rule_state: RuleState, from_day: int, rules: Rules
) -> int | None:
    """The first deciding day where the rule could fire on it, by what it remembers; else None."""
    # Most customers are worth too little, or have been warned of: they need no calendar.
    start_ms = rules.calendar.start_ms
    if not rule_state.may_fire(start_ms(from_day), rules):
        return None
    day = first_deciding_day(history, rule_state, from_day, rules)
    return day if day is not None and rule_state.may_fire(start_ms(day), rules) else None


def _next_refresh(last_day: int, from_day: int, rules: Rules) -> int | None:
    """The first refresh day at or after `from_day`."""
    every, grid = rules.refresh_days, rules.policy.grid_days
    if every is None:
        return None
    # A refresh day is a multiple of `every` after the last purchase, moved up to the grid; the one
    # before `from_day` may be moved up to it.
    periods = max(1, (from_day - last_day) // every)
    day = _next_on_grid(last_day + periods * every, grid)
    while day < from_day:
        periods += 1
        day = _next_on_grid(last_day + periods * every, grid)
    return day


def _next_on_grid(day: int, grid_days: int) -> int:
    return -(-day // grid_days) * grid_days
