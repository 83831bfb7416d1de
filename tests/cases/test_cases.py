"""Order files that shops met in public: each is counted as meant, or told of with the remedy."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from features.columns.table import tabulate
from features.events.orders import FreeOrders, OrderRules
from features.facts.state import EMPTY, apply
from features.times import calendar_of
from model.files.loading import Loaded, load
from model.files.order_log import FileRules
from model.files.rows import RowsAre
from model.files.text_files import OrderLogError

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
NOW_MS = 1_790_000_000_000  # 2026-09-21

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs the case files")

Net = dict[str, tuple[int, int]]


def read(
    name: str,
    rows_are: str | None = None,
    *,
    currency: str = "USD",
    merge_ids: bool = False,
    free: FreeOrders = FreeOrders.COUNT,
) -> Loaded:
    rules = OrderRules(currency=currency, free_orders=free, merge_ids=merge_ids)
    how = None if rows_are is None else RowsAre(rows_are)
    return load([CASES / name], FileRules(rules, NOW_MS), how)


def counted(loaded: Loaded, zone: str = "UTC") -> Net:
    """Days with an order, and net revenue in minor units, of each customer."""
    calendar = calendar_of(zone)
    states = defaultdict(lambda: EMPTY)
    for order in loaded.orders:
        states[order.user_id] = apply(states[order.user_id], order, calendar=calendar).state
    found = {}
    for user, state in states.items():
        table = tabulate([(state, NOW_MS)])
        days = int((table.orders > 0).sum())
        found[user] = (days, int(table.gross.sum() - table.refunded.sum()))
    return found


@pytest.mark.parametrize(
    ("name", "rows_are", "currency", "net"),
    [
        ("C01-partial-refunds.csv", None, "USD", {"kim": (1, 5_000)}),
        ("C02-line-items.csv", "line-items", "USD", {"kim": (1, 4_000), "lee": (1, 8_200)}),
        (
            "C03-pending-then-paid.csv",
            "corrections",
            "USD",
            # Nothing says which of two amounts of one instant is newer: the greater one counts.
            {"draft": (1, 10_000), "lower": (1, 12_000), "lower_later": (1, 10_000)},
        ),
        ("C04-receipt-numbers.csv", "orders", "USD", {"kim": (3, 12_000), "lee": (1, 3_000)}),
        ("C11-type-with-capital.csv", None, "USD", {"a": (1, 0)}),
        ("C14-big-dong.csv", None, "VND", {"b2b": (2, 1_250_350_000)}),
        ("C30-lower-case-currency.csv", None, "USD", {"a": (1, 20_000)}),
        ("C38-negative-cancellation.csv", None, "USD", {"kim": (0, 0), "lee": (0, 0)}),
        ("C39-big-rupiah.jsonl", None, "IDR", {"b2b": (1, 150_000_000_000)}),
        ("C40-split-shipments.jsonl", "line-items", "USD", {"kim": (1, 4_000)}),
    ],
)
def test_what_a_file_means_is_what_is_counted(
    name: str, rows_are: str | None, currency: str, net: Net
) -> None:
    loaded = read(name, rows_are, currency=currency)
    assert not loaded.summary.set_aside
    assert counted(loaded) == net


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("C02-line-items.csv", "It looks like line-items"),
        ("C03-pending-then-paid.csv", "It looks like corrections"),
        ("C04-receipt-numbers.csv", "It looks like orders"),
        ("C08-compact-dates.csv", "it looks like YYYYMMDDhhmmss: write it out"),
        ("C10-stray-quote.csv", "line 51: a quote opens here and closes 300 lines further down"),
        ("C12-column-twice.csv", "column amount is there twice"),
        ("C13-dot-thousands.csv", "write 2 decimals, or none"),
        ("C16-placeholder-ids.csv", "names no customer"),
        ("C32-array.jsonl", "write one object a line"),
        ("C40-split-shipments.jsonl", "or line-items, if lines were shipped apart"),
        ("C41-user-id-twice.csv", "column user_id is there twice"),
    ],
)
def test_a_file_that_cannot_be_counted_as_meant_is_refused_with_the_remedy(
    name: str, told: str
) -> None:
    with pytest.raises(OrderLogError) as refused:
        read(name, currency="EUR" if "C13" in name else "USD")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("name", "set_aside", "odd"),
    [
        ("C06-with.csv", {"future_ts": 1}, "one_customer_has_many"),
        ("C17-same-person-spelt.csv", {}, "--merge-ids"),
        ("C28-times-of-exports.csv", {"bad_ts": 5, "naive_ts": 2}, ""),
        ("C29-numbers-as-ids.jsonl", {"missing_field": 1}, ""),
        ("C37-guest-then-registered.csv", {}, "both count"),
    ],
)
def test_what_is_not_counted_or_looks_odd_is_told(
    name: str, set_aside: dict[str, int], odd: str
) -> None:
    summary = read(name).summary
    assert summary.set_aside == set_aside
    assert odd in str(summary)


def test_versions_of_one_instant_are_told() -> None:
    (odd,) = read("C03-pending-then-paid.csv", "corrections").summary.odd
    assert (odd.code, odd.count) == ("newest_not_told", 1)
    assert "'E2': 100.00 and 120.00" in odd.detail


@pytest.mark.parametrize("name", ["semicolons", "utf16", "sep", "blank"])
def test_every_separator_and_encoding_is_read(name: str) -> None:
    assert len(read(f"C32-{name}.csv").orders) == 1


def test_no_instant_moves_to_the_next_day() -> None:
    assert {o.ts_ms for o in read("C09-nanoseconds.csv").orders} == {1_704_931_199_999}


def test_spellings_of_one_person_are_one_with_the_option() -> None:
    days = counted(read("C17-same-person-spelt.csv", merge_ids=True))
    assert len(days) == 2


def test_accounts_that_the_shop_merged_are_one_customer(tmp_path: Path) -> None:
    records = map(json.loads, (CASES / "C20-merged-customer.jsonl").read_text().splitlines())
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(record["value"]) + "\n" for record in records))
    rules = OrderRules(same_as={"kim-old": "kim-new"})
    assert counted(load([log], FileRules(rules, NOW_MS))) == {"kim-new": (24, 144_000)}


def test_an_evening_is_of_the_shops_own_day() -> None:
    days = {
        n
        for n, _ in counted(read("C22-evening-in-los-angeles.csv"), "America/Los_Angeles").values()
    }
    assert days == {1}


def test_free_orders_can_be_no_purchases() -> None:
    net = counted(read("C34-free-orders.csv", free=FreeOrders.IGNORE))
    assert net["replaced"] == net["once"] == (1, 6_000)
