"""Exports of many shapes are understood with no option, or ask the one question that they need;
their sums are equal to the cent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.events.orders import OrderRules
from features.proposal.draft import Answers
from features.times import calendar_of
from model.files.loading import Loaded, load
from model.files.order_log import FileRules
from model.intake.intake import Told, Unanswered, understood
from model.training.trial import net_minor
from tests.support.exports import hostile
from tests.support.exports.files import ASKS, EXPORTS, net_cents, shop

ORDERS = shop()
MORE = shop(100)


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


@pytest.mark.parametrize("written", hostile.HOSTILE, ids=lambda written: str(written.__name__))
def test_an_export_that_is_hard_to_read_is_understood_to_the_cent(
    written: Callable[..., bytes], tmp_path: Path
) -> None:
    path, zone = tmp_path / "export.csv", hostile.HOSTILE[written]
    path.write_bytes(written(MORE))
    if zone is not None:
        with pytest.raises(Unanswered, match="--timezone"):
            understood([path], Told())
    read = loaded(path, Told(answers=Answers(timezone=zone)))
    assert not read.summary.set_aside
    assert net_minor(read.orders, calendar_of("UTC")) == net_cents(MORE)
    assert read.summary.customers == len({one.customer for one in MORE})
    days = {one.ts_ms // 86_400_000 for one in read.orders if one.type.of_order}
    assert days == {int(one.at.timestamp()) // 86_400 for one in MORE}


@pytest.mark.parametrize(
    ("written", "option", "answer"),
    [
        (hostile.two_totals, "--column amount=NAME", {"columns": {"amount": "total"}}),
        (hostile.unknown_status, "--left-out 'Gut'", {"left_out": ["Schlecht"]}),
        (hostile.scientific_customers, "--column user_id=NAME", None),
        (
            hostile.lines_and_shipping,
            '--column amount="item-price"',
            {"columns": {"amount": "item-price"}},
        ),
        (hostile.adjusted_totals, '--column amount="Order Total"', None),
    ],
)
def test_what_only_a_person_knows_of_an_export_is_asked(
    written: Callable[..., bytes], option: str, answer: dict[str, Any] | None, tmp_path: Path
) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(written(MORE))
    with pytest.raises(Unanswered, match=r"1 question,") as caught:
        understood([path], Told())
    assert f"[{option}]" in str(caught.value)
    if answer is not None:
        read = loaded(path, Told(answers=Answers(**answer)))
        assert net_minor(read.orders, calendar_of("UTC")) == net_cents(MORE)


@pytest.mark.parametrize("written", [hostile.several_currencies, hostile.signs])
def test_orders_in_other_currencies_are_set_aside_and_told(
    written: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(written(MORE))
    read = loaded(path, Told())
    assert dict(read.summary.set_aside) == {"wrong_currency": 2}
    assert net_minor(read.orders, calendar_of("UTC")) == net_cents(MORE)


def test_lines_that_two_exports_have_count_once(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, part in zip(paths, (MORE[:60], MORE[40:]), strict=True):
        path.write_bytes(hostile.line_totals(part))
    found = understood(paths, Told())
    read = load(paths, FileRules(OrderRules(currency="XXX"), reader=found.rows), found.rows_are)
    assert found.skipped == {"lines that an earlier file or sheet has, too": 40}
    assert net_minor(read.orders, calendar_of("UTC")) == net_cents(MORE)


def test_files_of_one_shop_are_read_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, part in zip(paths, (ORDERS[:30], ORDERS[30:]), strict=True):
        EXPORTS["orders_export.csv"](path, part)
    found = understood(paths, Told())
    read = load(paths, FileRules(OrderRules(currency="EUR"), reader=found.rows), None)
    assert net_minor(read.orders, calendar_of("UTC")) == net_cents(ORDERS)
