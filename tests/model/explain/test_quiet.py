"""What keeps the rule quiet is named, and the day of the warning is the one on which it comes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from features.times import day_of_date, iso_day
from model.backtest.run import trained
from model.backtest.simulate import Simulation
from model.data.synthetic import generate
from model.data.training_rows import TrainingConfig
from model.decide.codec import CustomerRecord
from model.decide.policy import Policy
from model.explain.quiet import why_quiet
from model.judge.judge import Judge
from model.training.build import SHOP

ORDERS = generate(SHOP).orders
DAY = 500


@pytest.fixture(scope="module")
def walked() -> tuple[Judge, Mapping[str, CustomerRecord], dict[str, int]]:
    """The judge, everybody as known on a day, and who is warned of afterwards and when."""
    first = ORDERS[0].ts_ms // 86_400_000
    today = first + DAY
    scorer = trained(ORDERS, today, TrainingConfig(90))
    judge = Judge(scorer, scorer.rules(Policy()))
    known = [order for order in ORDERS if order.ts_ms // 86_400_000 < today]
    simulation = Simulation(known, judge)
    for day in range(first, today + 1):
        simulation.day(day)
    customers = dict(simulation.records())
    fired: dict[str, int] = {}
    for day in range(today + 1, today + 91):
        for scoring in simulation.day(day).raised:
            fired.setdefault(scoring.user_id, day)
    return judge, customers, fired


def test_the_day_that_is_told_is_that_on_which_the_warning_comes(
    walked: tuple[Judge, Mapping[str, CustomerRecord], dict[str, int]],
) -> None:
    judge, customers, fired = walked
    today = (ORDERS[0].ts_ms // 86_400_000) + DAY
    told = {}
    for user, record in customers.items():
        quiet = why_quiet(user, record, judge, today * 86_400_000)
        assert quiet.because
        assert quiet.text.count("\n") >= 1
        if quiet.fires_on is not None:
            told[user] = quiet.fires_on
    assert fired
    assert told == {user: iso_day(day) for user, day in fired.items()}


def test_every_reason_is_met(
    walked: tuple[Judge, Mapping[str, CustomerRecord], dict[str, int]],
) -> None:
    judge, customers, _ = walked
    today = (ORDERS[0].ts_ms // 86_400_000) + DAY
    texts = " ".join(
        why_quiet(user, record, judge, today * 86_400_000).text
        for user, record in customers.items()
    )
    for reason in ("warns once of a silence", "is below", "days ago", "counts as gone"):
        assert reason in texts
    unknown = why_quiet("nobody", CustomerRecord(), judge, today * 86_400_000)
    assert unknown.fires_on is None
    assert "no order that counts" in unknown.text
    assert day_of_date(iso_day(today)) == today
