"""A model of a long log: learned from a part of the customers, and told so."""

from __future__ import annotations

import pytest

from model.data.fingerprint import data_of
from model.training import build
from tests.support import modelling


def test_of_a_long_log_a_part_of_the_customers_is_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders, day = modelling.orders(), modelling.cutoff_day()
    before = [order for order in orders if order.ts_ms < modelling.CONFIG.calendar.start_ms(day)]
    whole = build.made(orders, modelling.CONFIG, day)
    assert "Learned from one" not in whole.fields.report
    monkeypatch.setattr(build, "_TAUGHT_ORDERS", -(-len(orders) // 3))
    parts = [build.made(orders, modelling.CONFIG, day) for _ in range(2)]
    assert parts[0].fields == parts[1].fields
    assert "Learned from one in 3 customers" in parts[0].fields.report
    assert parts[0].fields.training_customers < whole.fields.training_customers / 2
    # What it was made of is the log.
    assert parts[0].fields.data == whole.fields.data == data_of(before)
