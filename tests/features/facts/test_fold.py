from collections import Counter

import pytest
from hypothesis import given

from features.events.orders import Order
from features.facts import fold as fold_module
from features.facts import ledger
from features.facts.fold import LogFold, uncounted
from features.facts.state import Effect
from features.times import MS_PER_DAY, calendar_of, day_of
from tests.support.fakes import facts_of
from tests.support.logs import shop_logs
from tests.support.strategies import START_MS


@given(shop_logs())
def test_a_log_folded_day_by_day_is_every_customer_folded_alone(orders: list[Order]) -> None:
    log = sorted(orders, key=lambda order: order.ts_ms)
    fold = LogFold(log)
    for day in range(0, 1_000, 7):
        fold.until(day_of(START_MS) + day)
    assert fold.states == {
        user: facts_of(order for order in log if order.user_id == user)
        for user in {order.user_id for order in log}
    }
    assert fold.effects.total() == len(log)


def test_a_day_ends_where_the_shops_own_ends() -> None:
    evening = [Order("o-1", "kim", START_MS + 3 * 3_600_000, 100)]
    fold = LogFold(evening, calendar_of("America/Los_Angeles"))
    fold.until(day_of(START_MS))
    assert fold.effects == Counter({Effect.NEW: 1})


def test_what_no_memory_holds_is_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ledger, fold_module):
        monkeypatch.setattr(module, "MAX_EVENTS", 5)
    till = [Order(f"o-{n}", "till", START_MS + n // 8, 100) for n in range(16)]
    regular = [Order("o", "kim", START_MS + MS_PER_DAY, 100)]
    assert uncounted([*till, *regular]) == 2 * (8 - 6)
    assert uncounted(regular) == uncounted([]) == 0
