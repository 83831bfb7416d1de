"""Day buckets: sorted, without empty days, and the same bytes whatever the order of arrival."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.facts import buckets
from features.facts.buckets import Bucket

_CHANGES = st.lists(
    st.builds(
        Bucket, st.integers(0, 6), st.integers(0, 3), st.integers(0, 500), st.integers(0, 500)
    ),
    max_size=20,
)


def _filled(changes: list[Bucket]) -> bytes:
    data = b""
    for change in changes:
        data = buckets.add(data, change)
    return data


def _taken_back(change: Bucket) -> Bucket:
    return Bucket(change.day, -change.orders, -change.gross, -change.refunded)


@given(_CHANGES)
def test_buckets_hold_the_sum_of_each_day_in_day_order(changes: list[Bucket]) -> None:
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for change in changes:
        for i, value in enumerate((change.orders, change.gross, change.refunded)):
            sums[change.day][i] += value
    expected = [(day, *values) for day, values in sorted(sums.items()) if any(values)]
    assert np.frombuffer(_filled(changes), buckets.DTYPE).tolist() == expected


@given(_CHANGES.flatmap(lambda changes: st.tuples(st.just(changes), st.permutations(changes))))
def test_the_order_of_changes_leaves_no_trace(both: tuple[list[Bucket], list[Bucket]]) -> None:
    changes, shuffled = both
    assert _filled(changes) == _filled(shuffled)


@given(_CHANGES, _CHANGES)
def test_what_is_taken_back_leaves_no_trace(kept: list[Bucket], gone: list[Bucket]) -> None:
    taken = [_taken_back(change) for change in gone]
    assert _filled([*kept, *gone, *taken]) == _filled(kept)


def test_a_day_with_nothing_on_it_is_not_kept() -> None:
    assert buckets.add(b"", Bucket(5, 0, 0, 0)) == b""


def test_a_zero_order_is_an_order() -> None:
    data = buckets.add(b"", Bucket(5, 1, 0, 0))
    assert buckets.read(data, 0) == Bucket(5, 1, 0, 0)


def test_the_last_purchase_day_is_the_last_with_an_order() -> None:
    data = _filled([Bucket(3, 1, 100, 0), Bucket(7, 0, 0, 100)])
    assert buckets.last_purchase_day(data) == 3
    assert buckets.first_day(data) == 3


def test_refunds_alone_make_no_purchase_day() -> None:
    assert buckets.last_purchase_day(_filled([Bucket(7, 0, 0, 100)])) is None
    assert buckets.last_purchase_day(b"") is None


@given(_CHANGES, st.integers(0, 7), st.integers(0, 500), st.integers(-1, 7))
def test_one_more_order_on_the_newest_day_is_added_as_any(
    changes: list[Bucket], day: int, gross: int, oldest_day: int
) -> None:
    filled = _filled(changes)
    found = buckets.with_order(filled, day, gross, oldest_day)
    if found is None:
        first, newest = buckets.first_day(filled), buckets.read(filled, len(filled) - 24).day
        assert first < oldest_day or newest > day
    else:
        assert found == buckets.add(filled, Bucket(day, 1, gross, 0))
