"""When a silent customer is due: grid instants, as a function of the customer alone."""

from __future__ import annotations

from collections.abc import Iterator

from features.buckets import MS_PER_DAY, day_of
from features.state import CustomerState
from model.policy import Judgement, Rules


def next_due(state: CustomerState, judgement: Judgement, after_ms: int, rules: Rules) -> int | None:
    """The first grid instant after `after_ms` (epoch ms) that this customer has to be scored at:
    one at which the rule could fire, or a refresh of the published score. None: there is none."""
    last_day = state.last_purchase_day
    if last_day is None:
        return None
    deciding = _next_on_grid(
        max(day_of(after_ms) + 1, last_day + rules.min_silence_days), rules.policy.grid_days
    )
    days = [_next_refresh(last_day, day_of(after_ms) + 1, rules)]
    if judgement.may_fire(deciding * MS_PER_DAY, rules):
        days.append(deciding)
    within = [day for day in days if day is not None and day <= last_day + rules.horizon_days]
    return min(within) * MS_PER_DAY if within else None


def possible_instants(
    last_day: int | None, from_ms: int, until_ms: int, rules: Rules
) -> Iterator[int]:
    """All instants from `from_ms` to `until_ms`, both included, at which any judgement could make
    a customer due who last bought on `last_day`: what is worth scoring ahead of the decisions."""
    if last_day is None:
        return
    grid = rules.policy.grid_days
    day = _next_on_grid(-(-from_ms // MS_PER_DAY), grid)
    end = min(day_of(until_ms), last_day + rules.horizon_days)
    while day <= end:
        if day >= last_day + rules.min_silence_days or is_refresh(last_day, day, rules):
            yield day * MS_PER_DAY
        day += grid


def is_refresh(last_day: int, day: int, rules: Rules) -> bool:
    """Whether the score of a customer who last bought on `last_day` is published on `day` even if
    nothing is decided: the first grid day of each `refresh_days`."""
    return _next_refresh(last_day, day, rules) == day


def _next_refresh(last_day: int, from_day: int, rules: Rules) -> int | None:
    """The first refresh day at or after `from_day`."""
    every, grid = rules.policy.refresh_days, rules.policy.grid_days
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
