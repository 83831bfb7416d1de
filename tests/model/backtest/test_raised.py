"""How raised warnings ended, by month."""

from __future__ import annotations

import numpy as np

from model.backtest.panel import NEVER, Silences
from model.backtest.raised import RaisedWarnings, by_month
from model.backtest.result import EndedWarnings
from model.decide.outcome import Ending

HORIZON = 30


def test_endings_are_those_of_the_rule_and_only_of_what_is_judged() -> None:
    # Silences from day 0, until the next order; warned of on day 15.
    until = [30, 31, 44, 45, NEVER, NEVER]
    counted = [True] * 5 + [False]
    silences = Silences(
        user=[f"user-{n}" for n in range(6)],
        since=np.zeros(6, np.int64),
        until=np.array(until),
        reference=np.ones(6),
        orders=np.ones(6, np.int64),
        median_gap=np.zeros(6),
        counted=np.array(counted),
        horizon_days=HORIZON,
    )
    day = np.full(6, 15)
    strict = silences.until >= day + HORIZON
    raised = RaisedWarnings(np.arange(6), day, strict, ["silence"] * 6)
    assert raised.endings(silences, 45) == [
        ("1970-01-16", Ending.KEPT),
        ("1970-01-16", Ending.RECOVERED),
        ("1970-01-16", Ending.RECOVERED),
        ("1970-01-16", Ending.LOST),
        ("1970-01-16", Ending.LOST),
    ]
    # The log must go on for a horizon after the warning.
    assert raised.endings(silences, 44) == []


def test_months_without_a_warning_are_there_and_open_ones_are_not_counted() -> None:
    assert by_month([]) == []
    assert by_month([("2024-11-30T00:00:00Z", Ending.OPEN)]) == []
    ended = [
        ("2025-02-01", Ending.KEPT),
        ("2024-11-30T00:00:00Z", Ending.LOST),
        ("2024-11-01", Ending.LOST),
        ("2025-02-28", Ending.RECOVERED),
    ]
    assert by_month(ended) == [
        EndedWarnings("2024-11", lost=2),
        EndedWarnings("2024-12"),
        EndedWarnings("2025-01"),
        EndedWarnings("2025-02", kept=1, recovered=1),
    ]
