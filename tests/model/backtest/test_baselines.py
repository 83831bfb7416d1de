"""What the rule and the budget are held against: the same weights, leads and days."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from model.backtest.baselines import (
    SIMPLE,
    _closest,
    baselines,
    budget_name,
    budget_weight,
    few,
    moneys,
    rank_days,
    rankings,
    silence_fires,
    suggestions,
)
from model.backtest.panel import Panel, Quality, first_of_each, quality_of
from model.backtest.result import Point
from model.decide.learned import NOTHING_LEARNED
from model.decide.policy import Policy, Rules
from model.judge.budget import weights
from tests.support.fakes import learned
from tests.support.modelling import a_panel


@pytest.fixture
def panel() -> Panel:
    return a_panel()


def test_a_list_is_ranked_as_the_budget_ranks(panel: Panel) -> None:
    policy = Policy(money=2)
    found = budget_weight(panel, policy, [15])
    rows = panel.better & (panel.day == 15)
    expected = weights(panel.churn[rows].tolist(), panel.spend[rows].tolist(), 2)
    assert found[rows].tolist() == expected
    assert not found[~rows].any()


def test_every_simple_list_is_made_and_the_budgets_comes_first(panel: Panel) -> None:
    policy = Policy(money=2)
    found = rankings(panel, policy, [15])
    assert next(iter(found)) == budget_name(policy) == "budget: P(churn) x (1 + 2 spend)"
    assert set(SIMPLE) < set(found)
    # On day 15 of ada and ben, of whom ada is gone, a tenth is one: ada has the higher reference.
    assert found["highest CLV before"].precision == 1.0


@pytest.mark.parametrize(
    ("from_day", "until_day", "days"),
    [
        (100, None, [100, 113, 126, 139, 152]),  # the log ends on day 200, the horizon is 40
        (130, None, [130, 143, 156]),
        (100, 113, [100]),
        (100, 114, [100, 113]),
        (161, None, []),
    ],
)
def test_lists_are_made_three_times_a_horizon_with_a_horizon_of_log_after_them(
    panel: Panel, from_day: int, until_day: int | None, days: list[int]
) -> None:
    assert list(rank_days(panel, from_day, until_day)) == days


def test_simple_rules_are_set_to_the_lead_of_the_rule_and_find_nearly_everybody(
    panel: Panel,
) -> None:
    # Ada on day 5, cleo on day 25: leads of 35 and 15 days, 25 in the mean and in the median.
    fires = panel.silent_days >= np.where(panel.silence == 0, 5, 25)
    found = baselines(panel, fires)
    assert {each.lead for each in found} == {"median", "mean"}
    assert min(each.quality.recall or 0 for each in found) >= 0.95
    # Rows come every ten days: from the sixth to the fifteenth, silence warns on day 15.
    plain = [each for each in found if each.name == "silent for D days"]
    assert [(each.threshold, each.quality.mean_lead_days) for each in plain] == [(6, 25)] * 2


def test_a_gain_has_an_interval_and_may_be_chance(panel: Panel) -> None:
    fires = panel.silent_days >= 15
    (same, _), *_ = [
        (each, each.quality) for each in baselines(panel, fires) if each.name[:6] == "silent"
    ]
    assert (same.gain, same.low, same.high, same.may_be_chance) == (0, 0, 0, True)


def test_a_rule_that_finds_few_is_held_against_as_many_of_the_surest() -> None:
    panel = many_silences()
    fires = panel.silent_days >= 15
    (found,) = [each for each in few(panel, fires) if each.name == "k own median gaps"]
    assert found.as_many
    assert found.quality.warnings < quality_of(panel, fires).warnings
    assert found.quality.recall is not None
    assert found.quality.recall < 0.95
    # The index knows who is gone; the gaps do not.
    assert found.gain > 0
    assert found.low <= found.gain <= found.high


def many_silences() -> Panel:
    """Forty silences of a row every five days: half are churns, of which the index knows; half have
    a usual gap that their silence outlasts, of which it is no sign."""
    base = a_panel()
    count, days = 40, np.arange(105, 141, 5)
    gone = np.arange(count) % 2 == 0
    silence = np.repeat(np.arange(count), len(days))
    return replace(
        base,
        silences=replace(
            base.silences,
            user=[f"user-{n}" for n in range(count)],
            since=np.full(count, 100),
            until=np.where(gone, 180, 142),
            reference=np.ones(count),
            orders=np.full(count, 3),
            median_gap=np.where(np.arange(count) // 2 % 2 == 0, 5.0, 0.0),
            counted=np.ones(count, bool),
        ),
        silence=silence,
        day=np.tile(days, count),
        clv=np.ones(len(silence)),
        reference=np.full(len(silence), 2.0),
        churn=np.full(len(silence), 0.5),
        index=gone[silence].astype(np.float64),
        alive=np.full(len(silence), np.nan),
        spend=np.ones(len(silence)),
        better=np.ones(len(silence), bool),
        model=np.zeros(len(silence), np.int64),
    )


def test_suggestions_are_plain_settings(panel: Panel) -> None:
    quality = quality_of(panel, panel.silent_days >= 15)
    good = replace_quality(quality, strict_precision=0.72)
    points = [Point(0.9, 30.0, quality), Point(0.1, 10.0, good)]
    rules = Rules(Policy(budget_per_day=2), 40, 0, (), ())
    budget, sure = suggestions(points, rules, learned(20), 0.7)
    assert budget.settings == {"CLV_BUDGET_PER_DAY": "2", "CLV_EARLY": "0.1"}
    # The past promises 0.7 at the threshold that keeps it here.
    assert sure.settings == {"CLV_PRECISION": "0.7"}
    (nothing,) = suggestions(points, Rules(Policy(), 40, 0, (), ()), learned(20), 0.99)
    assert (nothing.settings, nothing.point) == ({}, None)
    # Promised for less than what is wished, but reached here.
    points = [Point(0.5, 30.0, replace_quality(quality, strict_precision=0.75))]
    (other,) = suggestions(points, Rules(Policy(), 40, 0, (), ()), learned(20), 0.74)
    assert other.settings == {"CLV_EARLY": "0.5"}


def replace_quality(quality: Quality, **changes: float) -> Quality:
    return msgspec.structs.replace(quality, **changes)


def test_lists_are_made_at_several_weights_of_money(panel: Panel) -> None:
    found = moneys(panel, Policy(), [15])
    assert [each.money for each in found] == [0.0, 0.5, 2.0]
    weighed = rankings(panel, Policy(money=2), [15])
    assert found[-1].list == weighed[budget_name(Policy(money=2))]


def test_a_rule_that_warns_much_later_is_not_one_of_the_same_lead() -> None:
    def quality(lead: float) -> Quality:
        return Quality(1, 1, lead / 100, None, 1, 1.0, None, None, lead)

    found = [(float(lead), quality(lead)) for lead in (4.0, 9.5, 14.0)]
    assert _closest(found, 10.0, "mean", within_days=1.0) == found[1]
    assert _closest(found, 11.0, "mean", within_days=1.0) is None


def test_without_a_churner_found_there_is_nothing_to_compare(panel: Panel) -> None:
    nothing = np.zeros(len(panel.day), bool)
    assert quality_of(panel, nothing).mean_lead_days is None
    assert baselines(panel, nothing) == []


def test_the_rule_is_read_off_with_the_threshold_of_each_rows_model(panel: Panel) -> None:
    two = (learned(20), NOTHING_LEARNED)
    rows = replace(
        panel,
        learned=two,
        index=np.where(panel.day >= 15, 9.0, -9.0),
        model=(panel.silence == 2).astype(np.int64),
    )
    rules = Rules(Policy(), 40, 0, (), ())
    # From a third of 40 days on where something was learnt, from half of it where nothing was.
    fires = silence_fires(rows, rules)
    assert rows.day[first_of_each(rows, fires)].tolist() == [15, 15, 25]
