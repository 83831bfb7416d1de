"""Customers as columns are what each is by itself, whatever stands around it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.columns.table import BucketTable, FactColumns, tabulate
from features.columns.vector import vectors, vectors_of
from features.facts.state import CustomerState
from features.times import MS_PER_DAY, day_of
from tests.support import strategies
from tests.support.fakes import facts_of

_STATES = st.lists(strategies.histories().map(facts_of), max_size=4)
_DAY = day_of(strategies.START_MS)


def _days(data: st.DataObject, states: list[CustomerState]) -> tuple[list[int], list[int]]:
    """Some of the customers, each as of some day."""
    if not states:
        return [], []
    place = st.integers(0, len(states) - 1)
    drawn = data.draw(st.lists(st.tuples(place, st.integers(_DAY, _DAY + 2_000)), max_size=6))
    return [at for at, _ in drawn], [day for _, day in drawn]


def _same(one: BucketTable, other: BucketTable) -> bool:
    names = [one.name for one in fields(BucketTable)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@given(_STATES, st.data())
def test_columns_are_looked_at_as_of_any_day(
    states: list[CustomerState], data: st.DataObject
) -> None:
    places, days = _days(data, states)
    facts = FactColumns.of(states)
    pairs = [(states[at], day * MS_PER_DAY) for at, day in zip(places, days, strict=True)]
    table = facts.at(np.array(places, np.int64), np.array(days, np.int64))
    assert _same(table, tabulate(pairs))
    assert vectors_of(table).tobytes() == vectors(pairs).tobytes()


@given(_STATES, _STATES)
def test_columns_put_together_are_those_of_all(
    first: list[CustomerState], second: list[CustomerState]
) -> None:
    together = FactColumns.together([FactColumns.of(first), FactColumns.of(second)])
    whole = FactColumns.of(first + second)
    every = np.arange(len(first) + len(second))
    days = np.full(len(every), _DAY + 5_000)
    assert _same(together.at(every, days), whole.at(every, days))
