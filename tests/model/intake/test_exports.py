"""Ten exports of ten shapes are understood with no option, or ask the one question that they need;
their sums are equal to the cent."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.events.orders import OrderRules
from features.proposal.draft import Answers
from features.times import calendar_of
from model.files.loading import Loaded, load
from model.files.order_log import FileRules
from model.intake.intake import Told, Unanswered, understood
from model.training.trial import net_minor
from tests.support.exports.files import ASKS, EXPORTS, net_cents, shop

ORDERS = shop()


def loaded(path: Path, asked: Told) -> Loaded:
    found = understood([path], asked)
    rules = FileRules(OrderRules(currency=found.currency), reader=found.rows)
    return load([path], rules, found.rows_are)


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_understood_and_its_sum_is_equal_to_the_cent(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    EXPORTS[name](path, ORDERS)
    zone = ASKS.get(name)
    if zone is not None:
        with pytest.raises(Unanswered, match="--timezone"):
            understood([path], Told())
    read = loaded(path, Told(answers=Answers(timezone=zone)))
    assert not read.summary.set_aside
    assert net_minor(read.orders, calendar_of("UTC")) == net_cents(ORDERS)
    assert read.summary.customers == len({one.customer for one in ORDERS})
    placed = sorted(one.ts_ms for one in read.orders if one.type.of_order)
    to_minute = name == "bestellungen.csv"
    times = sorted(int(one.at.timestamp()) // (60 if to_minute else 1) for one in ORDERS)
    assert [ts // (60_000 if to_minute else 1_000) for ts in placed] == times


def test_files_of_one_shop_are_read_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, part in zip(paths, (ORDERS[:30], ORDERS[30:]), strict=True):
        EXPORTS["orders_export.csv"](path, part)
    found = understood(paths, Told())
    read = load(paths, FileRules(OrderRules(currency="EUR"), reader=found.rows), None)
    assert net_minor(read.orders, calendar_of("UTC")) == net_cents(ORDERS)
