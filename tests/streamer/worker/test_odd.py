from collections import Counter

import pytest

from streamer.pipeline.batch import Counters
from streamer.worker.odd import OddOrders


def test_what_is_odd_is_told_of_when_it_is_more_than_a_trace_and_when_it_has_doubled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = OddOrders()
    for corrections in (9, 1, 9, 1):
        odd.add(Counters(orders=100, odd=Counter(correction=corrections)))
    odd.add(Counters(orders=1_000_000, odd=Counter(rounded=900)))
    told = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [(fields["kind"], fields["count"]) for fields in told] == [
        ("correction", 10),
        ("correction", 20),
    ]
