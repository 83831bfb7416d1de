"""Call lists of a past day, and who of them left."""

from __future__ import annotations

from features.times import MS_PER_DAY, day_of, instant_ms
from streamer.demo.call_list import call_lists
from tests.support.fakes import an_order, by_time, every, scorer, warned

BEFORE = by_time(*(every(user, 5, 8) for user in ("ada", "ben", "cat")))
FOUND = [each for each in warned(BEFORE) if each.kind == "warning"]
HORIZON = FOUND[0].horizon_days
DAY = day_of(instant_ms(FOUND[0].as_of))
FIRST = day_of(BEFORE[0].ts_ms)


def test_who_orders_within_the_horizon_has_not_left() -> None:
    gone = call_lists(FOUND, BEFORE, DAY, scorer())
    assert gone
    (user,) = gone.ours.customers
    assert gone.warnings[user].user_id == user
    for days, left in ((0.5, False), (HORIZON - 0.5, False), (HORIZON + 0.5, True)):
        back = an_order(user, DAY - FIRST + days)
        # What comes later chooses nobody.
        later = call_lists(FOUND, [*BEFORE, back], DAY, scorer())
        assert later
        assert later.ours.customers == (user,)
        assert bool(later.ours.left) is left
        lists = zip((gone.ours, *gone.simple), (later.ours, *later.simple), strict=True)
        assert all(one.customers == other.customers for one, other in lists)
    assert gone.ours.lost_minor == sum(
        order.amount_minor
        for order in BEFORE
        if order.user_id == user and order.ts_ms >= (DAY - HORIZON) * MS_PER_DAY
    )


def test_an_order_since_answers_a_warning() -> None:
    answered = [*BEFORE, *(an_order(each.user_id, DAY - FIRST + 0.5) for each in FOUND)]
    assert call_lists(FOUND, answered, DAY + 1, scorer()) is None
