"""What the rule and the budget are held against: the same weights, leads and days."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.backtest.baselines import (
    SIMPLE,
    baselines,
    budget_name,
    budget_weight,
    rank_days,
    rankings,
    silent_as_early,
)
from model.backtest.panel import Panel, quality_of
from model.decide.budget import weight
from model.decide.policy import Policy, Stake
from tests.support.modelling import a_panel


@pytest.fixture
def panel() -> Panel:
    return a_panel()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(budget_certainty=0),
        Policy(budget_certainty=1, budget_value=Stake.REFERENCE),
        Policy(budget_certainty=2.5, budget_value=Stake.REFERENCE),
    ],
)
def test_a_list_is_ranked_as_the_budget_ranks(panel: Panel, policy: Policy) -> None:
    stakes = panel.spend if policy.budget_value is Stake.SPEND else panel.reference
    one_by_one = [
        weight(churn, stake, policy)
        for churn, stake in zip(panel.churn.tolist(), stakes.tolist(), strict=True)
    ]
    assert budget_weight(panel, policy).tolist() == pytest.approx(one_by_one)


def test_every_simple_list_is_made_and_the_budgets_comes_first(panel: Panel) -> None:
    policy = Policy(budget_certainty=2)
    found = rankings(panel, policy, [15])
    assert next(iter(found)) == budget_name(policy) == "budget: P(churn)^2 x spend"
    assert set(SIMPLE) < set(found)
    # On day 15 of ada and ben, of whom ada is gone, a tenth is one: ada has the higher reference.
    assert found["highest CLV before"].precision == 1.0


@pytest.mark.parametrize(
    ("from_day", "until_day", "days"),
    [
        (100, None, [100, 130, 160]),  # the log ends on day 200, the horizon is 40
        (101, None, [101, 131]),
        (100, 130, [100]),
        (100, 131, [100, 130]),
        (161, None, []),
    ],
)
def test_lists_are_made_every_30_days_with_a_horizon_of_log_after_them(
    panel: Panel, from_day: int, until_day: int | None, days: list[int]
) -> None:
    assert list(rank_days(panel, from_day, until_day)) == days


def test_plain_silence_is_set_to_the_same_mean_lead(panel: Panel) -> None:
    # Ada on day 5, cleo on day 25: leads of 35 and 15 days, 25 in the mean.
    rule = quality_of(panel, panel.silent_days >= np.where(panel.silence == 0, 5, 25))
    assert rule.mean_lead_days == 25
    found = silent_as_early(panel, rule)
    assert found is not None
    # Rows come every ten days: from the sixth to the fifteenth, silence warns on day 15.
    assert (found.threshold, found.quality.mean_lead_days) == (6, 25)
    by_name = {each.name: each.threshold for each in baselines(panel, rule)}
    assert by_name["silent for D days"] == 6


def test_without_a_churner_found_there_is_nothing_to_compare(panel: Panel) -> None:
    nothing = quality_of(panel, np.zeros(len(panel.day), bool))
    assert nothing.mean_lead_days is None
    assert silent_as_early(panel, nothing) is None
    assert baselines(panel, nothing) == []
    everywhere = replace(panel, alive=np.full(len(panel.day), np.nan))
    found = baselines(everywhere, quality_of(panel, panel.silent_days >= 15))
    assert "P(alive) below p" not in {each.name for each in found}
