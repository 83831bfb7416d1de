"""The page of speed is made of what was measured, and the floor of what the product is made of."""

from __future__ import annotations

import pytest

from benchmarks.speed import page, small
from benchmarks.speed.environments import RIVALS, ROOT
from tests.support.project.licences import pins


def test_the_page_is_made_of_the_results() -> None:
    assert page.PAGE.read_text() == page.page(page.Results())


def test_the_floor_computes_with_what_the_product_computes_with() -> None:
    text = (RIVALS / "floor.txt").read_text()
    ours = dict(pins())
    for name in ("hiredis", "msgspec", "numpy", "redis", "scikit-learn", "scipy"):
        assert f"\n{name}=={ours[name]} " in text
    assert ROOT in RIVALS.parents


@pytest.mark.parametrize(("each", "slow"), [([2.6, 9.0, 1.0], []), ([1.0, 2.7, 2.8], ["replay"])])
def test_the_median_turn_may_be_a_third_worse_than_published(
    each: list[float], slow: list[str]
) -> None:
    assert small.worse({"replay": each}, {"replay": 2.0}) == slow
