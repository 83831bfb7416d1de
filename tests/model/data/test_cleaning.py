"""Cleaning: every kind of fault is counted, saved with its line, and nothing is dropped unasked."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderRules, OrderType
from features.times import MS_PER_DAY, calendar_of
from model.artifact.artifact import load
from model.commands.cli import cli
from model.data.cleaning import Cleaned, cleaned, write_orders
from model.data.synthetic import write_csv
from model.data.training_rows import population
from model.files.columns import OrderColumns
from model.files.order_log import read_orders
from tests.support import modelling

_DAY = 19_800


def _order(
    order_id: str,
    day: float,
    amount: int,
    kind: OrderType = OrderType.ORDER,
    user: str = "ann",
) -> Order:
    return Order(order_id, user, int((_DAY + day) * MS_PER_DAY), amount, kind)


def _shop() -> list[Order]:
    """A hundred days of ordinary baskets of about 100.00."""
    rng = np.random.default_rng(1)
    amounts = np.exp(rng.normal(9.2, 0.4, 100)).astype(int).tolist()
    return [_order(f"o{i}", i, amount, user=f"u{i % 40}") for i, amount in enumerate(amounts)]


def _cleaned(*more: Order, drop: bool = False) -> Cleaned:
    return cleaned(OrderColumns([*_shop(), *more]), "USD", drop_outliers=drop)


def test_a_log_without_faults_stays_as_it_is() -> None:
    found = _cleaned()
    assert list(found.orders) == _shop()
    report = found.report
    assert (report.rows, report.accepted, report.rejected) == (100, 100, {})
    assert report.repeated == report.refunds_without_order == report.outliers == 0
    assert report.text("USD").splitlines() == [
        "100 rows read, 100 orders, refunds and cancellations"
    ]


def test_repetitions_are_left_out_and_contradictions_told() -> None:
    gone = OrderType.CANCELLATION
    found = _cleaned(
        _order("o1", 1, _shop()[1].amount_minor, user="u1"),
        _order("o1", 50, 1, user="u1"),
        _order("o1", 51, 7, user="u2"),  # another customer's id is another order
        _order("o2", 52, 0, gone, user="u2"),
        _order("o2", 53, 0, gone, user="u2"),
    )
    assert (found.report.repeated, found.report.contradicting) == (3, 2)
    assert len(found.orders) == 102
    assert found.report.cancellations_without_order == 0


def test_an_order_may_be_refunded_in_parts_and_refunds_without_one_are_kept() -> None:
    back = OrderType.REFUND
    found = _cleaned(
        _order("o3", 60, 100, back, user="u3"),
        _order("o3", 61, 100, back, user="u3"),
        _order("x", 62, 250, back, user="u3"),
        _order("o3", 62, 50, back, user="u4"),
        _order("o99", 3, 50, back, user="u19"),  # before its order
        _order("y", 62, 0, OrderType.CANCELLATION, user="u4"),
    )
    assert found.report.repeated == 0
    assert found.report.refunds_without_order == 3
    assert found.report.refunded_without_order == pytest.approx(3.5)
    assert found.report.cancellations_without_order == 1
    assert len(found.orders) == 106


def test_an_outlier_is_told_and_stays_unless_asked() -> None:
    big = _order("big", 70, 90_000_00)
    kept, dropped = _cleaned(big), _cleaned(big, drop=True)
    assert kept.report.outliers == dropped.report.outliers == 1
    assert big in list(kept.orders)
    assert list(dropped.orders) == _shop()
    assert [(o.user_id, o.day, o.orders, o.net) for o in kept.outliers] == [
        ("ann", "2024-05-27", 1, 90_000.0)
    ]
    assert "1 outlying day above" in kept.report.text("USD")
    assert "; kept)" in kept.report.text("USD")
    assert "; left out)" in dropped.report.text("USD")
    assert 0.8 < kept.report.outlier_share < 1


def test_an_outlying_day_is_one_of_the_shops_own() -> None:
    evening = _order("big", 70.1, 90_000_00)  # 02:24 UTC
    los_angeles = cleaned(
        OrderColumns([*_shop(), evening]), "USD", calendar=calendar_of("America/Los_Angeles")
    )
    assert [one.day for one in _cleaned(evening).outliers] == ["2024-05-27"]
    assert [one.day for one in los_angeles.outliers] == ["2024-05-26"]


@pytest.mark.parametrize(
    "undone",
    [
        _order("big", 70.1, 0, OrderType.CANCELLATION),
        _order("big", 70.1, 90_000_00, OrderType.REFUND),
        _order("credit note", 70.1, 90_000_00, OrderType.REFUND),
    ],
)
def test_what_is_taken_back_on_the_same_day_is_no_outlier(undone: Order) -> None:
    assert _cleaned(_order("big", 70, 90_000_00), undone).report.outliers == 0


def test_what_is_taken_back_on_another_day_is_one() -> None:
    undone = _order("big", 71.1, 0, OrderType.CANCELLATION)
    assert _cleaned(_order("big", 70, 90_000_00), undone).report.outliers == 1


@pytest.mark.parametrize("amount", [0, 500])
def test_logs_that_say_little_have_no_outliers(amount: int) -> None:
    same = OrderColumns([_order(f"o{i}", i, amount, user=f"u{i}") for i in range(100)])
    assert cleaned(same, "USD").report.outliers == 0
    few = OrderColumns([_order("a", 1, 1), _order("b", 2, 10**9)])
    assert cleaned(few, "USD").report.outlier_from is None
    assert cleaned(OrderColumns([]), "USD").report.rows == 0


def _customers(orders: Sequence[Order]) -> list[bytes]:
    """What a model sees of each customer, in whatever order they come."""
    return sorted(row.tobytes() for row in population(orders, _DAY + 40))


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from(["ann", "bob"]),
            st.integers(0, 30),
            st.integers(0, 10_000),
            st.sampled_from(OrderType),
        ),
        max_size=40,
    )
)
def test_a_cleaned_log_scores_as_the_log_itself(
    rows: list[tuple[str, str, int, int, OrderType]],
) -> None:
    log = OrderColumns([_order(i, day, amount, kind, user) for i, user, day, amount, kind in rows])
    found = cleaned(log, "USD")
    assert _customers(found.orders) == _customers(log)
    assert found.report.rows == len(rows)
    assert len(found.orders) == len(rows) - found.report.repeated
    again = cleaned(found.orders, "USD").report
    assert again.repeated == 0
    assert again.refunds_without_order == found.report.refunds_without_order


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD"])
def test_what_is_written_reads_as_it_was(tmp_path: Path, currency: str) -> None:
    orders = [*_shop(), _order("o1", 99, 5, OrderType.REFUND, "u1"), _order("o2", 99, 0)]
    write_orders(tmp_path / "o.csv", orders, currency)
    assert list(read_orders([tmp_path / "o.csv"], OrderRules(currency=currency))) == orders


# --- the commands ---


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    """The made-up shop with two rows that break a rule and one that is there twice."""
    path = tmp_path / "orders.csv"
    write_csv(modelling.orders(), path)
    lines = path.read_text().splitlines()
    lines[5:5] = ["x,y,yesterday,1,order", lines[1], "x,y,2024-01-01T00:00:00Z,lots,order"]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_clean_writes_the_log_the_rows_set_aside_and_the_counts(
    dirty: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cleaned"
    result = _run("clean", dirty, "--out", out)
    assert result.exit_code == 0, result.output
    orders = list(read_orders([out / "orders.csv"], OrderRules()))
    assert orders == list(modelling.orders())
    with (out / "rejected.csv").open() as file:
        rejected = list(csv.DictReader(file))
    assert [(row["line"], row["reason"]) for row in rejected] == [
        ("6", "bad_ts"),
        ("8", "bad_amount"),
    ]
    assert rejected[0]["file"] == str(dirty)
    assert "yesterday" in rejected[0]["detail"]
    report = json.loads((out / "cleaning.json").read_text())
    assert report["rejected"] == {"bad_amount": 1, "bad_ts": 1}
    assert report["repeated"] == 1
    assert report["rows"] == len(orders) + 3
    assert "1 set aside: bad_ts" in result.output
    as_json = CliRunner().invoke(cli, ["clean", str(dirty), "--out", str(out), "--json"])
    assert json.loads(as_json.stdout) == report


def test_clean_does_not_overwrite_what_it_reads(dirty: Path) -> None:
    before = dirty.read_bytes()
    result = _run("clean", dirty, "--out", dirty.parent)
    assert result.exit_code == 2
    assert "would overwrite" in result.output
    assert dirty.read_bytes() == before


def test_training_keeps_the_counts_in_the_manifest_and_saves_what_was_set_aside(
    dirty: Path, tmp_path: Path
) -> None:
    model, report = tmp_path / "m", tmp_path / "report"
    result = _run("train", dirty, "--out", model, "--horizon", 60, "--report", report)
    assert result.exit_code == 0, result.output
    manifest = load(model).manifest
    assert manifest.cleaning["rejected"] == {"bad_amount": 1, "bad_ts": 1}
    assert manifest.cleaning["repeated"] == 1
    assert json.loads((report / "cleaning.json").read_text()) == manifest.cleaning
    assert len((report / "rejected.csv").read_text().splitlines()) == 3
    assert "1 repeated (0 with another amount)" in result.output
    assert Counter(manifest.cleaning["rejected"]).total() == 2
