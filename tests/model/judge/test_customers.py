"""Customers as arrays are the customers that they were made of."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events.orders import Order
from features.times import MS_PER_DAY
from model.decide import codec
from model.decide.codec import UNKNOWN
from model.decide.rule_state import Peak
from model.judge.customers import CustomerArrays
from model.judge.judge import Judge
from model.judge.judged import Event, ScheduledCustomer
from model.judge.kept import encoded
from tests.support.fakes import at, judge
from tests.support.logs import shop_logs
from tests.support.twins.judge import events_of

_JUDGE = judge()


def tracks_of(orders: list[Order]) -> dict[str, ScheduledCustomer]:
    """The customers of a log, some of whom a year later."""
    by_user: dict[str, list[Event]] = {"nobody": []}
    for event in events_of(orders, 0):
        by_user.setdefault(event.order.user_id, []).append(event)
    tracks = dict.fromkeys(by_user, ScheduledCustomer(UNKNOWN, None))
    tracks = _JUDGE.judge(tracks, by_user).tracks
    return tracks | _JUDGE.judge({"ada": tracks.get("ada", tracks["nobody"])}, {}, at(700)).tracks


@settings(max_examples=30)
@given(orders=shop_logs(), data=st.data())
def test_some_of_them_together_are_as_they_were(orders: list[Order], data: st.DataObject) -> None:
    tracks = tracks_of(orders)
    users = list(tracks)
    places = data.draw(st.lists(st.integers(0, len(users) - 1), max_size=6))
    whole = CustomerArrays.of(tracks.items())
    found = CustomerArrays.together([whole.take(np.array(places, np.int64)), whole])
    assert found.users == [users[place] for place in places] + users
    for place, user in enumerate(found.users):
        assert found.track(place) == tracks[user]
    every = np.arange(len(found))
    assert encoded(found, every) == [codec.encode(tracks[user].customer) for user in found.users]
    reference = [tracks[user].customer.rule_state.reference or Peak(0, -1) for user in found.users]
    assert found.compared().tolist() == [[peak.day, peak.clv_minor] for peak in reference]


@settings(max_examples=20)
@given(orders=shop_logs())
def test_one_id_in_two_partitions_is_two_customers(orders: list[Order]) -> None:
    by_user: dict[str, list[Event]] = {}
    for event in events_of(orders, MS_PER_DAY):
        by_user.setdefault(event.order.user_id, []).append(event)
    usual = Judge(_JUDGE.scorer, _JUDGE.rules).judge(
        dict.fromkeys(by_user, ScheduledCustomer(UNKNOWN, None)), by_user
    )
    twice = CustomerArrays.of([(user, ScheduledCustomer(UNKNOWN, None)) for user in by_user] * 2)
    found = _JUDGE.judge_all(twice, [*by_user.values(), *by_user.values()])
    tracks = [found.customers.track(place) for place in range(len(twice))]
    assert tracks == [usual.tracks[user] for user in by_user] * 2
    assert len(found.scorings) == 2 * len(usual.scorings)
