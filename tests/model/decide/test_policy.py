"""What a user may set, and the name that it gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model.decide.policy import Policy, PolicyError, Rules

DEFAULT_VERSION = "f8d2a822"


@pytest.mark.parametrize(
    ("clv", "segment"),
    [(9_000, "top"), (8_999, "high"), (7_000, "high"), (4_000, "middle"), (3_999, "low")],
)
def test_a_segment_begins_at_its_percentile(clv: int, segment: str) -> None:
    rules = Rules(Policy(), 40, 0, (9_000, 7_000, 4_000), (9_500, 8_500))
    assert rules.segment(clv) == segment


def test_the_version_of_the_default_policy_is_stable() -> None:
    # A change here changes the id of every warning: then say so in the changelog.
    assert Policy().version == DEFAULT_VERSION
    assert Policy(early=0.5, money=0.5).version == DEFAULT_VERSION


@pytest.mark.parametrize(
    "other",
    [
        Policy(floor_percentile=71),
        Policy(floor=100),
        Policy(min_orders=2),
        Policy(early=0.4),
        Policy(precision=0.5),
        Policy(budget_per_day=10),
        Policy(segment_percentiles=(90, 70, 41)),
        Policy(severity_percentiles=(95, 86)),
        Policy(holdout_share=0.1),
    ],
)
def test_another_policy_has_another_version(other: Policy) -> None:
    assert other.version != Policy().version


def test_how_a_budget_ranks_is_part_of_a_policy_that_has_one() -> None:
    assert Policy(money=2).version == Policy().version
    assert Policy(budget_per_day=1, money=2).version != Policy(budget_per_day=1).version


def test_a_number_written_in_another_way_is_the_same_policy() -> None:
    assert Policy(floor_percentile=70, holdout_share=0).version == Policy().version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("floor_percentile", 100.5),
        ("floor_percentile", -1),
        ("floor", -1),
        ("floor", float("nan")),
        ("floor", float("inf")),
        ("min_orders", 0),
        ("early", 0),
        ("early", 1),
        ("early", float("nan")),
        ("precision", 0),
        ("precision", 50),
        ("budget_per_day", 0),
        ("money", -1),
        ("money", float("nan")),
        ("segment_percentiles", (70, 90, 40)),
        ("segment_percentiles", (101, 90, 40)),
        ("severity_percentiles", (85, 95)),
        ("severity_percentiles", (95, -1)),
        ("holdout_share", 1.5),
        ("holdout_share", -0.1),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_a_remedy(field: str, value: Any) -> None:
    with pytest.raises(PolicyError) as refusal:
        Policy(**{field: value})
    said = str(refusal.value)
    assert said.startswith(f"{field} is {value}; it must be ")
    assert not said.endswith("must be ")


def test_policies_are_values() -> None:
    assert replace(Policy(), early=0.4) == Policy(early=0.4)
