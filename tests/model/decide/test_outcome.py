"""How an episode ends, to the instant."""

from __future__ import annotations

import pytest

from features.times import MS_PER_DAY
from model.decide.outcome import Answered, Ending, ending
from model.decide.rule_state import Peak, RaisedWarning, Trigger

H = 40
WARNED = 100 * MS_PER_DAY


@pytest.mark.parametrize(
    ("since_day", "order_day", "now_day", "expected"),
    [
        (80, 101, 101, Ending.KEPT),
        (80, 120.9, 121, Ending.KEPT),
        (80, 121, 121, Ending.RECOVERED),
        (80, 139.9, 140, Ending.RECOVERED),
        (80, 140, 140, Ending.LOST),
        (80, 900, 900, Ending.LOST),
        (80, None, 139.9, Ending.OPEN),
        (80, None, 140, Ending.LOST),
        (None, 139.9, 140, Ending.KEPT),  # silent since the warning, as far as is known
        (99, 98, 100, Ending.KEPT),  # a late order from before the warning
    ],
)
def test_an_episode_ends_at_its_very_instant(
    since_day: int | None, order_day: float | None, now_day: float, expected: Ending
) -> None:
    order_ms = None if order_day is None else round(order_day * MS_PER_DAY)
    now_ms = round(now_day * MS_PER_DAY)
    assert ending(WARNED, since_day, order_ms, now_ms, H) is expected
    if order_ms is not None:
        raised = RaisedWarning(Trigger.SILENCE, WARNED, 1, Peak(80, 10), 0, bytes(8))
        assert Answered(raised, order_ms, since_day).ending(H) is expected
