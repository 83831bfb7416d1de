"""Customers kept are the customers last put there, and never more than there is room for."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.facts.buckets import Bucket, add
from features.facts.state import CustomerState
from model.decide.codec import CustomerRecord
from model.decide.rule_state import Peak, RuleState
from model.judge.customers import CustomerArrays
from model.judge.judged import ScheduledCustomer
from model.judge.kept import KeptCustomers

_PUTS = st.lists(
    st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 40), st.booleans()), max_size=6),
    max_size=25,
)


def one(size: int, due_ms: int) -> ScheduledCustomer:
    """A customer with so many buckets and peaks."""
    days = b""
    for day in range(size):
        days = add(days, Bucket(day, 1, 100 + day, 0))
    peaks = tuple(Peak(n, 1_000 - n) for n in range(size // 3))
    return ScheduledCustomer(CustomerRecord(CustomerState(days), RuleState(peaks=peaks)), due_ms)


@settings(max_examples=60)
@given(puts=_PUTS, room=st.integers(0, 12), gone=st.sets(st.integers(0, 24), max_size=4))
def test_who_is_kept_is_as_last_put(
    puts: list[dict[int, tuple[int, bool]]], room: int, gone: set[int]
) -> None:
    kept = KeptCustomers(room)
    truth: dict[str, ScheduledCustomer] = {}
    for step, put in enumerate(puts):
        changed = []
        for number, (size, is_changed) in put.items():
            user = f"user-{number}"
            # Who is not changed has another due time at most.
            if is_changed or user not in truth:
                truth[user] = one(size, step)
            else:
                truth[user] = ScheduledCustomer(truth[user].customer, step)
            changed.append(is_changed)
        users = [f"user-{number}" for number in put]
        arrays = CustomerArrays.of([(user, truth[user]) for user in users])
        kept.put(arrays, np.array(changed, bool))
        assert len(kept) <= room
        if len(users) <= room:
            assert all(user in kept for user in users)
        if step in gone and users:
            kept.forget(users[0])
            assert users[0] not in kept
        here = [user for user in truth if user in kept]
        found = kept.take(here)
        assert found.users == here
        assert [found.track(n) for n in range(len(here))] == [truth[user] for user in here]
        assert sorted(kept) == sorted(here)
        assert kept.column("due_ms").tolist() == [truth[user].due_ms for user in kept]
        due = [user for user in here if (truth[user].due_ms or 0) <= step - 2]
        assert sorted(kept.due(step - 2)) == sorted(due)
    kept.clear()
    assert not any(user in kept for user in truth)


def test_who_was_not_asked_for_the_longest_goes_first() -> None:
    kept = KeptCustomers(2)

    def put(user: str) -> None:
        kept.put(CustomerArrays.of([(user, one(1, 0))]), np.array([True]))

    put("ada")
    put("ben")
    kept.take(["ada"])
    put("cleo")
    assert [user in kept for user in ("ada", "ben", "cleo")] == [True, False, True]
