"""One customer over time: orders by day, CLV by week, the last warning and how it ended, and what
the silence means in their own rhythm. All from the live state, by today's model."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from statistics import median
from typing import Final

import msgspec

from features.facts import buckets
from features.times import MS_PER_DAY, Calendar, iso_day, rfc3339
from model.decide import codec as customer_bytes
from model.decide.history import history_of
from model.decide.outcome import ending
from model.decide.rule_state import RaisedWarning
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import ChurnWarning

MAX_WEEKS: Final = 104
"""Weeks of CLV before an instant; one call of the model scores them all."""


class OrderDay(msgspec.Struct, frozen=True):
    """A day in the shop's zone on which something happened; money in major units."""

    day: str
    orders: int
    gross: float
    refunded: float


class ClvAt(msgspec.Struct, frozen=True):
    """The CLV as of an instant, from what is known of the time before it."""

    at: str
    clv: float


class PastWarning(msgspec.Struct, frozen=True):
    """The last warning of a customer; `outcome`: open, kept, recovered or lost, decided by the
    order on `answered_on`, null where none came."""

    as_of: str
    trigger: str
    clv: float
    reference_clv: float
    outcome: str
    answered_on: str | None
    horizon_ends_at: str


class Rhythm(msgspec.Struct, frozen=True):
    """A silence against the gaps between the customer's own purchase days, of those that are
    remembered day by day (three years)."""

    silent_days: int | None
    usual_gap_days: float | None
    longest_gap_days: int | None
    gaps: int
    longer_gaps: int
    sentence: str


class CustomerHistory(msgspec.Struct, frozen=True):
    """Everything in order of time; money in major units of `currency`. `notice`: the open warning
    as it was sent, null where there is none."""

    user_id: str
    as_of: str
    currency: str
    timezone: str
    horizon_days: int
    model_version: str
    days: list[OrderDay]
    clv: list[ClvAt]
    reference_clv: float | None
    warning: PastWarning | None
    rhythm: Rhythm
    notice: ChurnWarning | None


def history(
    user_id: str, state: bytes, pipeline: Pipeline, as_of_ms: int, notice: ChurnWarning | None
) -> CustomerHistory:
    """The customer up to an instant, which is not before what is known last."""
    customer = customer_bytes.decode(state)
    facts, rule_state, scorer = customer.facts, customer.rule_state, pipeline.judge.scorer
    major, calendar = pipeline.writer.major, scorer.calendar
    found = [
        buckets.read(facts.buckets, at) for at in range(0, len(facts.buckets), buckets.RECORD_BYTES)
    ]
    bought = [one.day for one in found if one.orders]
    known = history_of(facts)
    instants = _instants(None if known is None else known.first_day, as_of_ms, calendar)
    clv_minor = (
        scorer.clv_minor(
            scorer.rows([(facts, at) for at in instants], [user_id] * len(instants))
        ).tolist()
        if instants
        else []
    )
    reference, raised = rule_state.reference, rule_state.raised
    return CustomerHistory(
        user_id=user_id,
        as_of=rfc3339(as_of_ms),
        currency=scorer.currency,
        timezone=calendar.name,
        horizon_days=scorer.horizon_days,
        model_version=scorer.model_version,
        days=[
            OrderDay(iso_day(one.day), one.orders, major(one.gross), major(one.refunded))
            for one in found
        ],
        clv=[
            ClvAt(rfc3339(at), major(minor)) for at, minor in zip(instants, clv_minor, strict=True)
        ],
        reference_clv=None if reference is None else major(reference.clv_minor),
        warning=None if raised is None else _past(raised, bought, as_of_ms, pipeline),
        rhythm=rhythm(bought, calendar.day_of(as_of_ms)),
        notice=notice,
    )


def _instants(first_day: int | None, as_of_ms: int, calendar: Calendar) -> list[int]:
    """The ends of weeks since the first purchase, back from an instant, oldest first."""
    if first_day is None:
        return []
    back = [as_of_ms - week * 7 * MS_PER_DAY for week in range(MAX_WEEKS + 1)]
    return [at for at in reversed(back) if calendar.day_of(at) >= first_day]


def _past(
    raised: RaisedWarning, bought: list[int], as_of_ms: int, pipeline: Pipeline
) -> PastWarning:
    rules, major = pipeline.judge.rules, pipeline.writer.major
    calendar = rules.calendar
    at = bisect_right(bought, calendar.day_of(raised.as_of_ms) - 1)
    since_day = bought[at - 1] if at else None
    answer_day = bought[at] if at < len(bought) else None
    # Of the day alone is known; a silence is judged at its very beginning.
    answer_ms = None if answer_day is None else calendar.start_ms(answer_day)
    ended = ending(raised.as_of_ms, since_day, answer_ms, as_of_ms, rules.horizon_days, calendar)
    return PastWarning(
        as_of=rfc3339(raised.as_of_ms),
        trigger=raised.trigger.value,
        clv=major(raised.clv_minor),
        reference_clv=major(raised.reference.clv_minor),
        outcome=ended.value,
        answered_on=None if answer_day is None else iso_day(answer_day),
        horizon_ends_at=rfc3339(raised.as_of_ms + rules.horizon_days * MS_PER_DAY),
    )


def rhythm(bought: list[int], day: int) -> Rhythm:
    """The silence on a day, of somebody who bought on days (ascending).

    >>> rhythm([0, 7, 14, 28], 49).sentence
    'No order for 21 days. Half of the gaps between orders were 7 days or less, the longest 14: \
this silence is longer than any before.'
    """
    silent = max(day - bought[-1], 0) if bought else None
    gaps = [later - earlier for earlier, later in pairwise(bought)]
    usual, longest = (median(gaps), max(gaps)) if gaps else (None, None)
    longer = sum(gap > (silent or 0) for gap in gaps)
    return Rhythm(
        silent,
        usual,
        longest,
        len(gaps),
        longer,
        _sentence(silent, usual, longest, len(gaps), longer),
    )


def _sentence(
    silent: int | None, usual: float | None, longest: int | None, gaps: int, longer: int
) -> str:
    if silent is None:
        return "No order is left that was not taken back."
    since = f"No order for {_days(silent)}."
    if usual is None or longest is None:
        return f"{since} They ordered on one day only, so there is no rhythm to hold it against."
    half = f"Half of the gaps between orders were {_days(usual)} or less"
    was = f"{since} {half}, the longest {longest}:"
    if not longer and silent > longest:
        return f"{was} this silence is longer than any before."
    if not longer:
        return f"{was} this silence is as long as the longest before."
    return f"{was} {longer} of {gaps} gaps were longer than this silence."


def _days(count: float) -> str:
    return "1 day" if count == 1 else f"{count:g} days"
