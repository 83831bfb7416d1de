"""Windows end at as_of: time passes for a customer without any event."""

from __future__ import annotations

import pytest

from features.columns.catalog import HALF_LIVES_DAYS, WINDOWS_DAYS
from features.columns.vector import FEATURE_NAMES, vectors
from features.events.orders import Order
from features.facts.state import HISTORY_DAYS, CustomerState
from features.times import MS_PER_DAY
from tests.support.fakes import facts_of

_DAY = 20_089
_NOON_MS = _DAY * MS_PER_DAY + MS_PER_DAY // 2


def _one_order() -> CustomerState:
    return facts_of([Order("o-1", "ada", _NOON_MS, 1_000)])


def _window(name: str, as_of_ms: int) -> float:
    return float(vectors([(_one_order(), as_of_ms)])[0, FEATURE_NAMES.index(name)])


def _decayed(name: str, age_days: int) -> float:
    pair = (_one_order(), _NOON_MS + age_days * MS_PER_DAY)
    return float(vectors([pair])[0, FEATURE_NAMES.index(name)])


def test_orders_30d_is_0_on_day_31_without_an_event() -> None:
    on_day = [_window("orders_30d", _NOON_MS + age * MS_PER_DAY) for age in range(32)]
    assert on_day == [1.0] * 30 + [0.0] * 2


@pytest.mark.parametrize("days", WINDOWS_DAYS)
def test_a_window_lets_go_at_midnight_utc_after_its_last_day(days: int) -> None:
    midnight_ms = (_DAY + days) * MS_PER_DAY
    assert _window(f"orders_{days}d", midnight_ms - 1) == 1
    assert _window(f"orders_{days}d", midnight_ms) == 0
    assert _window(f"net_minor_{days}d", midnight_ms - 1) == 1_000
    assert _window(f"net_minor_{days}d", midnight_ms) == 0
    assert _window(f"aov_minor_{days}d", midnight_ms) == 0


def test_an_order_is_not_seen_before_its_day() -> None:
    assert _window("orders_365d", _DAY * MS_PER_DAY - 1) == 0
    assert _window("orders_365d", _DAY * MS_PER_DAY) == 1


@pytest.mark.parametrize("half_life", HALF_LIVES_DAYS)
def test_an_order_weighs_half_after_each_half_life(half_life: int) -> None:
    weights = [_decayed(f"decayed_orders_{half_life}d", k * half_life) for k in range(4)]
    assert weights == [1.0, 0.5, 0.25, 0.125]
    assert _decayed(f"decayed_net_minor_{half_life}d", half_life) == 500.0


@pytest.mark.parametrize("half_life", HALF_LIVES_DAYS)
def test_an_order_beyond_the_history_weighs_nothing(half_life: int) -> None:
    assert _decayed(f"decayed_orders_{half_life}d", HISTORY_DAYS) > 0
    assert _decayed(f"decayed_orders_{half_life}d", HISTORY_DAYS + 1) == 0
    assert _decayed(f"decayed_orders_{half_life}d", 5 * HISTORY_DAYS) == 0
