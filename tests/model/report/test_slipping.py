"""Who is slipping away: by the warnings that stand, as of now, and safe in a spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest

from features.events.orders import Order
from model.decide import codec
from model.decide.policy import Policy
from model.report.slipping import COLUMNS, OFFERS, SlippingList, slipping, slipping_csv
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    HORIZON_DAYS,
    ORDERS_0,
    an_order,
    at,
    by_time,
    claimed,
    done,
    every,
    judge,
    pipeline,
    records,
    scorer,
    users_of,
)

JUDGE = judge(Policy(floor_percentile=0), scorer(sure_days=20))


def as_of(day: float, orders: list[Order]) -> SlippingList:
    """The list after the orders, when nothing more has come until a day."""
    store, log = MemoryStore(), records(orders)
    runner = claimed(log, store, MemoryPublisher(), pipeline(JUDGE))
    done(runner.process(log))
    done(runner.tick(at(day)))
    users = sorted(users_of(log))
    states = [stored.state for stored in done(store.load(ORDERS_0, users))]
    kept = [(user, codec.decode(state)) for user, state in zip(users, states, strict=True) if state]
    return slipping(kept, JUDGE.scorer, JUDGE.rules, at(day))


def test_a_row_says_what_a_caller_needs() -> None:
    # Last order on day 8.5, so 37 days silent on day 45; every 2 days, so 35 overdue.
    found = as_of(45, every("ada", 2, 5, amount_minor=2_000))
    assert (found.as_of, found.horizon_days, found.currency, found.gone) == (
        "2025-02-15",
        HORIZON_DAYS,
        "USD",
        0,
    )
    (row,) = found.customers
    assert (row.customer, row.last_order) == ("ada", "2025-01-09")
    assert (row.usual_gap_days, row.days_overdue) == (2.0, 35)
    assert row.spend == 40.0  # of the last 40 days: two orders
    assert 0 < row.churn_probability < 1
    assert row.why.startswith("No order for 37 days; usually orders every 2. CLV fell ")
    assert row.offer in OFFERS.values()


def test_what_is_at_stake_is_the_expected_loss_and_comes_first() -> None:
    shop = by_time(*(every(f"user-{n}", 6, 3, amount_minor=1_000 * n) for n in range(1, 8)))
    found = as_of(50, shop)
    stakes = [row.at_stake for row in found.customers]
    assert len(stakes) == 7
    assert stakes == sorted(stakes, reverse=True)
    assert found.customers[0].customer == "user-7"


@pytest.mark.parametrize(
    ("day", "listed", "gone"),
    [
        (20, 0, 0),  # no warning yet
        (47, 1, 0),
        (53.5, 1, 0),  # silent for 40 days, no longer than the horizon
        (54.5, 0, 1),
        (100, 0, 0),  # the warning has come to its end
    ],
)
def test_silent_for_longer_than_the_horizon_is_gone(day: float, listed: int, gone: int) -> None:
    found = as_of(day, every("ada", 6, 3, first_day=1.5))
    assert (len(found.customers), found.gone) == (listed, gone)


def test_an_order_takes_a_customer_off_the_list() -> None:
    orders = every("ada", 6, 3)
    assert as_of(47, orders).customers
    assert not as_of(47, [*orders, an_order("ada", 46.5)]).customers


def test_bought_once_has_no_usual_gap() -> None:
    (row,) = as_of(35, [an_order("ada", 0.5, 90_000)]).customers
    assert (row.usual_gap_days, row.days_overdue) == (None, None)


def test_no_cell_is_a_formula_or_a_line_of_its_own() -> None:
    users = ['=HYPERLINK("x")', "+1", "@sum", "-2;=1+1", 'a\n"=1', "ada"]
    found = as_of(50, by_time(*(every(user, 6, 3) for user in users)))
    text = slipping_csv(found.customers)
    head, *rows = csv.reader(io.StringIO(text))
    assert tuple(head) == COLUMNS
    assert len(rows) == len(users)
    assert len(text.splitlines()) == 1 + len(users)
    # A spreadsheet that parts cells at semicolons sees these.
    cells = [part.lstrip('"') for row in rows for cell in row for part in cell.split(";")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert "ada" in [row[0] for row in rows]
