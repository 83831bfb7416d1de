"""Batches with customers who cannot be scored: nobody else is held up, whoever else is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.arrays import Floats
from features.columns.vector import FEATURE_NAMES
from features.events.orders import Order
from features.times import MS_PER_DAY
from model.decide.codec import UNKNOWN
from model.judge.customers import CustomerArrays
from model.judge.isolate import FEW, judge_isolated
from model.judge.judge import Judge, JudgedArrays
from model.judge.judged import Event, JudgedBatch, ScheduledCustomer
from tests.support.fakes import CannotScore, LinearModel, Raising, at, by_time, every, judge, scorer
from tests.support.strategies import batches

_ORDERS = FEATURE_NAMES.index("orders_lifetime")


def judge_that_raises_at(orders: int) -> Judge:
    return judge(by=scorer(Raising(orders=orders)))


def tracks_of(orders: Sequence[Order]) -> dict[str, ScheduledCustomer]:
    return {order.user_id: ScheduledCustomer(UNKNOWN, None) for order in orders}


def events_by_user(orders: Sequence[Order], first: int = 0) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    high_ms = 0
    for place, order in enumerate(orders, first):
        high_ms = max(high_ms, order.ts_ms)
        found.setdefault(order.user_id, []).append(Event(place, order, high_ms))
    return found


@dataclass
class Found:
    """What is left of an isolated batch, as objects."""

    judged: JudgedBatch
    unscored: dict[int, Exception]
    rescheduled: list[Exception]
    users: set[str]


def isolated(
    by: Judge,
    tracks: Mapping[str, ScheduledCustomer],
    events: Mapping[str, Sequence[Event]],
    until_ms: int | None = None,
) -> Found:
    customers = CustomerArrays.of(tracks.items())
    users = customers.users
    of_each = [events.get(user, ()) for user in users]
    found = judge_isolated(by, customers, of_each if events else (), until_ms)
    return Found(
        found.judged.batch(customers, of_each),
        {offset: error for (_, offset), error in found.unscored.items()},
        found.rescheduled,
        {users[place] for place in found.users},
    )


def alone(judged: JudgedBatch, user: str) -> tuple[ScheduledCustomer, list[object]]:
    return judged.tracks[user], [s for s in judged.scorings if s.user_id == user]


LOG = by_time(every("ada", 7, 6), every("ben", 9, 3), every("cleo", 5, 2), every("dora", 11, 1))


def test_a_batch_without_trouble_is_judged_as_ever() -> None:
    tracks, events = tracks_of(LOG), events_by_user(LOG)
    found = isolated(judge(), tracks, events)
    assert found.judged == judge().judge(tracks, events)
    assert (found.unscored, found.rescheduled, found.users) == ({}, [], set())


def test_an_order_that_cannot_be_scored_is_left_out_and_nobody_else_is_touched() -> None:
    tracks, events = tracks_of(LOG), events_by_user(LOG)
    found = isolated(judge_that_raises_at(4), tracks, events)
    # Ada's fourth order is never counted, so each after it would be the fourth again.
    assert sorted(found.unscored) == [e.offset for e in events["ada"]][3:]
    assert all(isinstance(error, CannotScore) for error in found.unscored.values())
    assert found.users == {"ada"}
    usual = judge().judge(tracks, events)
    for user in ("ben", "cleo", "dora"):
        assert alone(found.judged, user) == alone(usual, user)
    first_three = {"ada": events["ada"][:3]}
    until_then = judge().judge({"ada": tracks["ada"]}, first_three)
    assert alone(found.judged, "ada") == alone(until_then, "ada")
    assert found.judged.changed == usual.changed


@given(cut=batches(range(len(LOG))), orders=st.integers(2, 6))
def test_who_is_left_out_does_not_depend_on_batches(cut: list[list[int]], orders: int) -> None:
    by = judge_that_raises_at(orders)
    whole = isolated(by, tracks_of(LOG), events_by_user(LOG))
    tracks: dict[str, ScheduledCustomer] = {}
    unscored: list[int] = []
    every_event = events_by_user(LOG)
    for places in cut:
        events = {
            user: kept
            for user, of in every_event.items()
            if (kept := [event for event in of if event.offset in places])
        }
        known = {user: tracks.get(user, ScheduledCustomer(UNKNOWN, None)) for user in events}
        found = isolated(by, known, events)
        tracks |= found.judged.tracks
        unscored += found.unscored
    assert (tracks, sorted(unscored)) == (whole.judged.tracks, sorted(whole.unscored))


def test_instants_that_cannot_be_judged_are_rescheduled_to_the_next_day() -> None:
    tracks = judge().judge(tracks_of(LOG), events_by_user(LOG)).tracks
    due = {user: track for user, track in tracks.items() if track.due_ms is not None}
    assert {"ada", "ben"} <= due.keys()
    until_ms = at(60.5)
    found = isolated(judge_that_raises_at(6), due, {}, until_ms)
    assert found.users == {"ada"}
    assert [type(error) for error in found.rescheduled] == [CannotScore]
    rescheduled = found.judged.tracks["ada"]
    assert rescheduled.customer == due["ada"].customer
    assert rescheduled.due_ms == (until_ms // MS_PER_DAY + 1) * MS_PER_DAY
    assert "ada" not in found.judged.changed
    usual = judge().judge({u: t for u, t in due.items() if u != "ada"}, {}, until_ms)
    assert found.judged.tracks == usual.tracks | {"ada": rescheduled}
    assert found.judged.scorings == usual.scorings


def test_a_model_that_scores_nobody_is_no_matter_of_customers() -> None:
    with pytest.raises(CannotScore):
        isolated(judge_that_raises_at(-1), tracks_of(LOG), events_by_user(LOG))


def test_many_who_fail_are_no_matter_of_customers_either() -> None:
    def log(count: int) -> list[Order]:
        return by_time(*(every(f"user-{n}", 7, 2) for n in range(count)))

    by, few, many = judge_that_raises_at(2), log(FEW), log(FEW + 1)
    assert len(isolated(by, tracks_of(few), events_by_user(few)).users) == FEW
    with pytest.raises(CannotScore):
        isolated(by, tracks_of(many), events_by_user(many))


class OutOfMemory(Judge):
    """Raises MemoryError."""

    def judge_all(self, *_: object) -> JudgedArrays:
        raise MemoryError


def test_want_of_memory_is_nobody_s_fault() -> None:
    usual = judge()
    short = OutOfMemory(usual.scorer, usual.rules, usual.memory)
    with pytest.raises(MemoryError):
        isolated(short, tracks_of(LOG), events_by_user(LOG))


def test_a_result_that_is_no_number_counts_as_not_scored() -> None:
    class Nan(LinearModel):
        def clv(self, X: Floats) -> Floats:
            found = super().clv(X)
            found[X[:, _ORDERS] == 4] = float("nan")
            return found

    found = isolated(judge(by=scorer(Nan())), tracks_of(LOG), events_by_user(LOG))
    assert found.users == {"ada"}
    assert all("not finite" in str(error) for error in found.unscored.values())
