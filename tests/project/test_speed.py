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


@pytest.mark.parametrize(("each", "slow"), [([26, 90, 10], []), ([10, 27, 28], ["replay"])])
def test_the_medians_ratio_to_the_floors_may_be_a_third_worse_than_published(
    each: list[float], slow: list[str]
) -> None:
    taken = {small.FLOOR_US: [1.0, 10.0, 99.0], "replay": each}
    assert small.worse(taken, {"replay": 2.0}) == slow
