"""Counts of warnings by week, and of bad records by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.times import Calendar, calendar_of, instant_ms
from model.decide.policy import Policy
from streamer.listing import tally
from streamer.listing.tally import MAX_WEEKS, NOTHING, Bad, Tally, Week, week_key, week_of
from streamer.pipeline.messages import ChurnWarning
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    ORDERS_0,
    an_order,
    at,
    by_time,
    claimed,
    done,
    every,
    judge,
    pipeline,
    records,
    said_by,
    scorer,
)

HALF = Policy(floor_percentile=0, holdout_share=0.5)
HALF_HELD_OUT = pipeline(judge(HALF))


def a_shop() -> list[object]:
    """Customers who stop, come back in time, late, and never; and what is no order."""
    users = [f"u{n}" for n in range(30)]
    orders = [every(user, 3 + n % 4, 5, first_day=n) for n, user in enumerate(users)]
    backs = [[an_order(user, 45 + n * 4)] for n, user in enumerate(users) if n % 3]
    return [*by_time(*orders, *backs), b"{", b"[]"]


def twin(warnings: list[ChurnWarning], calendar: Calendar) -> dict[int, Week]:
    """The weeks, from what was sent."""
    by_id = {one.warning_id: one for one in warnings if one.kind == "warning"}
    counts: Counter[tuple[int, str]] = Counter()
    for one in warnings:
        about = by_id.get(one.closes or one.warning_id)
        if about is None:
            continue
        key = week_key(calendar.day_of(instant_ms(about.as_of)), about.holdout)
        name = "warned" if one.kind == "warning" else str(one.outcome)
        counts[key, name] += 1
        counts[key, f"{name}_minor"] += round(about.reference_clv * 100)
    names = [f"{name}{of}" for name in ("warned", "kept", "recovered") for of in ("", "_minor")]
    keys = sorted({key for key, _ in counts})
    return {key: Week(**{name: counts[key, name] for name in names}) for key in keys}


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_weeks_are_those_of_what_was_sent_in_the_shops_own_days(zone: str) -> None:
    publisher, store = MemoryPublisher(), MemoryStore()
    log, calendar = records(a_shop()), calendar_of(zone)
    there = judge(HALF, by=replace(scorer(), calendar=calendar))
    runner = claimed(log, store, publisher, pipeline(there))
    for start in range(0, len(log), 7):
        done(runner.process(log[start : start + 7]))
    done(runner.tick(at(300)))
    stood = done(store.peek(ORDERS_0))
    assert stood is not None
    found = tally.decode(stood.tally)
    sent = said_by(publisher)
    assert {one.outcome for one in sent} == {None, "kept", "recovered", "lost"}
    assert found.weeks == twin(sent, calendar)
    assert {week_of(key)[1] for key in found.weeks} == {True, False}
    assert found.bad == {"not_json": Bad(1, len(log) - 2), "not_an_object": Bad(1, len(log) - 1)}


weeks = st.dictionaries(
    st.integers(0, 400).map(lambda n: week_key(n * 7, bool(n % 2))),
    st.builds(Week, warned=st.integers(3, 9), kept=st.integers(0, 2), recovered=st.integers(0, 1)),
    max_size=5,
)


@given(weeks, weeks, weeks)
def test_counts_add_up_in_any_grouping(
    a: dict[int, Week], b: dict[int, Week], c: dict[int, Week]
) -> None:
    one, two, three = Tally(a), Tally(b), Tally(c)
    assert one.plus(two).plus(three) == one.plus(two.plus(three))
    assert tally.decode(tally.encode(one)) == one


def test_only_the_newest_weeks_are_kept() -> None:
    many = Tally({week_key(n * 7, False): Week(1) for n in range(400)})
    kept = NOTHING.plus(many)
    assert len(kept.weeks) == 2 * MAX_WEEKS
    assert max(kept.weeks) == max(many.weeks)
    assert len(tally.encode(kept)) < 4_000


def test_an_answer_to_a_warning_that_was_never_counted_does_not_count() -> None:
    answer = Tally({100: Week(kept=1, kept_minor=5)})
    assert NOTHING.plus(answer) == NOTHING
    assert Tally({100: Week(1)}).plus(answer).plus(answer).weeks[100].kept == 1


def test_damaged_counts_begin_anew() -> None:
    assert tally.decode(b"\xc1") == NOTHING
    assert tally.decode(None) == NOTHING
    assert not NOTHING
