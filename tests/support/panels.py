"""A panel of three silences that a test can reckon with."""

from __future__ import annotations

import numpy as np

from model.backtest.panel import NEVER, Panel, Silences


def a_panel() -> Panel:
    """Ada never comes back, ben does on day 30 and cleo on day 45; the horizon is 40 days."""
    silences = Silences(
        user=["ada", "ben", "cleo"],
        since=np.array([0, 0, 0]),
        until=np.array([NEVER, 30, 45]),
        reference=np.array([100.0, 50.0, 10.0]),
        median_gap=np.array([5.0, 0.0, 10.0]),
        counted=np.array([True, True, True]),
        horizon_days=40,
    )
    silence = np.repeat(np.arange(3), 4)
    day = np.tile(np.array([5, 15, 25, 35]), 3)
    churn = np.tile(np.array([0.1, 0.3, 0.5, 0.7]), 3)
    return Panel(
        silences=silences,
        silence=silence,
        day=day,
        clv=np.full(12, 5.0),
        reference=silences.reference[silence],
        churn=churn,
        alive=np.full(12, np.nan),
        spend=np.tile(np.array([8.0, 6.0, 4.0, 2.0]), 3),
        better=np.repeat(np.array([True, True, False]), 4),
        model=np.zeros(12, np.int64),
        thresholds=np.array([np.linspace(0, 1, 101)]),
        end_day=200,
    )
