"""A warning in words, for the person who acts on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from features.events.money import currency_name, minor_exponent, money_text
from features.times import UTC, Calendar
from model.decide.history import history_of
from model.decide.outcome import Answered, Ending
from model.decide.rule_state import Trigger
from model.explain.reasons import Factor, Share
from model.judge.judged import Scoring

_THROUGH: Final = {
    Factor.SILENCE: "silence",
    Factor.BASKETS: "smaller baskets",
    Factor.FREQUENCY: "fewer orders",
    Factor.REFUNDS: "refunds",
}
_MOSTLY: Final = 0.6


def warning_sentence(
    scoring: Scoring, shares: Sequence[Share], currency: str, calendar: Calendar = UTC
) -> str:
    """What happened and by how much the CLV fell, of a warning or value drop; for example
    "No order for 61 days; usually orders every 19. CLV fell 42 % from 310.20 to 180.10 USD, mostly
    through silence."."""
    notice = scoring.notice
    assert notice is not None
    before = _money(notice.reference.clv_minor, currency)
    after = f"{_money(notice.clv_minor, currency)} {currency_name(currency)}"
    fall = f"CLV fell {notice.drop:.0%} from {before} to {after}".replace("%", " %")
    return f"{_cause(scoring, calendar)} {fall}, {_through(shares)}."


def answer_sentence(answered: Answered, horizon_days: int, calendar: Calendar = UTC) -> str:
    """When an order came after a warning, and how the episode ended."""
    day_of = calendar.day_of
    after = _days(max(day_of(answered.order_ms) - day_of(answered.raised.as_of_ms), 0))
    since = answered.silent_since_day
    silence = None if since is None else max(day_of(answered.order_ms) - since, 0)
    came = f"Ordered again {after} after the warning"
    if silence is not None:
        came += f" and {_days(silence)} after the order before"
    return f"{came}: {_ENDINGS[answered.ending(horizon_days, calendar)]}."


_ENDINGS: Final = {
    Ending.KEPT: "kept, never silent for longer than the horizon",
    Ending.RECOVERED: "recovered, after a silence longer than the horizon",
    Ending.LOST: "back after having been lost for the whole horizon",
    Ending.OPEN: "still open",
}


def _cause(scoring: Scoring, calendar: Calendar) -> str:
    assert scoring.notice is not None
    history = history_of(scoring.facts, sys.maxsize)
    if history is None:
        return "The last order was taken back."
    if scoring.notice.trigger is Trigger.REFUND:
        return "An order was refunded or cancelled."
    if scoring.notice.trigger is Trigger.ORDER:
        return "The latest order is worth less than what it was compared with."
    silent = _days(calendar.day_of(scoring.as_of_ms) - history.last_day)
    if history.purchase_days < 2:
        return f"No order for {silent} since the first."
    gap = round((history.last_day - history.first_day) / (history.purchase_days - 1))
    usually = "every day" if gap <= 1 else f"every {gap}"
    return f"No order for {silent}; usually orders {usually}."


def _through(shares: Sequence[Share]) -> str:
    if shares[0].share >= _MOSTLY or len(shares) == 1:
        return f"mostly through {_THROUGH[shares[0].factor]}"
    return f"through {_THROUGH[shares[0].factor]} and {_THROUGH[shares[1].factor]}"


def _money(minor: int, currency: str) -> str:
    return money_text(minor / 10 ** minor_exponent(currency), currency)


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"
