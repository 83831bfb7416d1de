"""The page of who is slipping away: what it says, and what it says where there is nothing."""

from __future__ import annotations

import re
from dataclasses import replace

from model.backtest.result import EndedWarnings
from model.report.slipping import SlippingCustomer, SlippingList
from model.report.slipping_page import SHOWN, ListFound, PastWarnings, slipping_page

ROW = SlippingCustomer(
    customer="ada",
    last_order="2025-01-28",
    usual_gap_days=9.0,
    days_overdue=15,
    spend=60.0,
    churn_probability=0.75,
    at_stake=45.5,
    why="No order for 24 days.",
    offer="call",
)
NOBODY = SlippingList("2025-02-20", 40, "USD", "m-1", [], 0)
PAST = PastWarnings(
    [EndedWarnings("2024-11", 30, 10, 60), EndedWarnings("2024-12", 40, 10, 50)],
    0.4,
    [ListFound("warnings", 0.6, 0.3), ListFound("longest silence", 0.5, 0.4)],
    "Lists of a tenth.",
)


def words(page: str) -> str:
    """What is read on the page."""
    return " ".join(
        re.sub(r"<svg.*?</svg>|<style.*?</style>|<[^>]+>", " ", page, flags=re.S).split()
    )


def test_it_lists_customers_and_says_how_often_such_warnings_were_right() -> None:
    said = words(slipping_page(replace(NOBODY, customers=[ROW, ROW]), PAST, "slipping.csv"))
    assert "2 customers worth keeping have been warned about" in said
    assert "91.00 USD of the next 40 days are at stake" in said
    assert "Of 200 such warnings before, 55% were right" in said
    assert "on a random day of a silence it would have been 40.0%" in said
    assert "No simple sort finds as many" in said
    assert "All of them: slipping.csv" in said


def test_a_simple_sort_that_is_as_good_is_named() -> None:
    better = replace(PAST, lists=[PAST.lists[0], ListFound("fewest orders", 0.6, None)])
    assert "Sorted by fewest orders, a list finds at least as many here" in words(
        slipping_page(NOBODY, better)
    )


def test_without_customers_or_a_past_it_says_what_that_means() -> None:
    said = words(slipping_page(replace(NOBODY, gone=3), PastWarnings([])))
    assert "Nobody worth a warning is slipping away just now; 3 customers" in said
    assert "No warning has come to its end yet: that takes 40 days" in said
    assert "None" not in said


def test_a_long_list_is_cut_and_says_so() -> None:
    rows = [replace(ROW, customer=f"user-{n}") for n in range(SHOWN + 20)]
    page = slipping_page(replace(NOBODY, customers=rows), PAST)
    assert f"The first {SHOWN} of {SHOWN + 20}" in words(page)
    assert f"user-{SHOWN}<" not in page


def test_nothing_of_a_customer_is_markup_and_nothing_comes_from_elsewhere() -> None:
    hostile = replace(ROW, customer="<script>alert(1)</script>", why="<b>&")
    page = slipping_page(replace(NOBODY, customers=[hostile, hostile]), PAST)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=.?(https?:|//)", page)
