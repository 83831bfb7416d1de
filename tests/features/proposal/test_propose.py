"""Columns are recognised by name and content, and what changes money or time is never guessed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import pytest

from features.mapping.mapping import OrderMapping
from features.proposal.draft import Answers, Proposal
from features.proposal.formats import amounts_of, times_of
from features.proposal.names import meaning, score
from features.proposal.propose import propose


def proposed(text: str, separator: str = ",", **answers: str) -> Proposal:
    rows = list(csv.DictReader(io.StringIO(text), delimiter=separator))
    return propose(rows, Answers(**answers))  # type: ignore[arg-type]  # texts by name


def paths(found: Proposal) -> Mapping[str, str]:
    return {one.field: one.path for one in found.guesses}


@pytest.mark.parametrize(
    "header",
    [
        "Order ID,Customer ID,Order Date,Total",
        "Bestellnummer,Kunde,Bestelldatum,Gesamtsumme",
        "Rechnungsnr,E-Mail,Rechnungsdatum,Endbetrag",
        "Numéro de commande,Client,Date d'achat,Montant total",
        "N° pedido,Cliente,Fecha del pedido,Importe total",
        "orderId,userId,createdAt,grandTotal",
        "invoice_no,member,purchase_date,revenue",
    ],
)
def test_columns_are_known_by_name_in_the_languages_of_exports(header: str) -> None:
    found = proposed(
        f"{header}\nA-1,kim,2024-11-27T05:01:49Z,12.50\nA-2,lee,2024-11-28T05:00Z,5.25\n"
    )
    names = header.split(",")
    named = [paths(found)[field].strip('"') for field in ("order_id", "user_id", "ts", "amount")]
    assert named == names
    assert not found.questions


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("order,customer,date,total\n1,a,2024-11-27 05:01,5.00\n", "--timezone"),
        ("order,customer,date,total\n1,a,03/04/2024,5.00\n", "--time-format"),
        ("order,customer,date,total\n1,a,2024-11-27T05:01Z,1250\n", "--unit"),
        ('order,customer,date,total\n1,a,2024-11-27T05:01Z,"1,250"\n', "--decimal"),
        ("order,customer,date,foo,bar\n1,a,2024-11-27T05:01Z,5.10,6.20\n", "--column amount"),
        ("order,thing,date,total\n1,x,2024-11-27T05:01Z,5.10\n", "--column user_id"),
        ("order,customer,total\n1,a,5.10\n", "--column ts"),
    ],
)
def test_what_is_open_is_asked_with_the_option_that_says_it(text: str, option: str) -> None:
    found = proposed(text)
    assert [one.option for one in found.questions if one.option.startswith(option)]
    assert found.toml == ""


@pytest.mark.parametrize(
    ("values", "formats", "ambiguous"),
    [
        (["27/11/2024", "03/04/2024"], ("%d/%m/%Y",), False),
        (["11/27/2024", "03/04/2024"], ("%m/%d/%Y",), False),
        (["03/04/2024", "05/06/2024"], ("%d/%m/%Y", "%m/%d/%Y"), True),
        (["03.04.2024", "05.06.2024"], ("%d.%m.%Y",), False),
        (["27.11.24 06:01"], ("%d.%m.%y %H:%M",), False),
        (["2024/11/27 06:01:49"], ("%Y/%m/%d %H:%M:%S",), False),
        (["Nov 27, 2024 6:01:49 AM"], ("%b %d, %Y %I:%M:%S %p",), False),
        (["27-Nov-2024"], ("%d-%b-%Y",), False),
        (["20241127"], ("%Y%m%d",), False),
        (["1732683709"], ("epoch-s",), False),
        (["1732683709123"], ("epoch-ms",), False),
        (["1732683709123456"], ("epoch-us",), False),
        (["45623.25"], ("excel-days",), False),
    ],
)
def test_formats_of_times_are_seen(
    values: list[str], formats: tuple[str, ...], ambiguous: bool
) -> None:
    found = times_of(values, named=True)
    assert found is not None
    assert (found.formats, found.ambiguous) == (formats, ambiguous)


@pytest.mark.parametrize(
    "values", [["27/11/2024", "11/27/2024"], ["hello"], ["12.50"], [""], ["5", "6"]]
)
def test_what_is_no_time_or_two_kinds_at_once_is_none(values: list[str]) -> None:
    assert times_of(values, named=True) is None


@pytest.mark.parametrize(
    ("values", "decimal"),
    [
        (["12,50", "1.234,00"], ","),
        (["12.50", "1,234.00"], "."),
        (["1.234", "5,5"], ","),
        (["1,234", "5.5"], "."),
        (["1,234"], None),
        (["1.234"], None),
        (["12,50", "12.50"], None),
        (["5", "7"], "."),
        (["1.234.567"], ","),
    ],
)
def test_the_decimal_mark_is_seen_or_left_open(values: list[str], decimal: str | None) -> None:
    found = amounts_of(values)
    assert found is not None
    assert found.decimal == decimal


def test_an_amount_is_the_whole_of_an_order_and_no_part_of_it() -> None:
    found = proposed(
        "order,customer,date,subtotal,tax,shipping,total\n"
        "1,a,2024-11-27T05:01Z,10.00,1.00,2.50,13.50\n2,a,2024-11-28T05:01Z,9.00,1.00,2.00,12.00\n"
    )
    assert paths(found)["amount"] == "total"


def test_rows_that_are_lines_are_added_up() -> None:
    found = proposed(
        "invoice,customer,date,qty,unit price\n1,a,2024-11-27T05:01Z,2,1.25\n"
        "1,a,2024-11-27T05:01Z,1,2.50\n"
    )
    mapping = OrderMapping.from_toml(found.toml)
    assert mapping.rows == "line-items"


def test_a_status_says_what_counts_and_new_values_of_it_do_not_count_in_silence() -> None:
    found = proposed(
        "order,customer,date,total,status\n1,a,2024-11-27T05:01Z,5.00,paid\n"
        "2,a,2024-11-27T05:01Z,5.00,Cancelled\n3,a,2024-11-27T05:01Z,5.00,refunded\n"
    )
    mapping = OrderMapping.from_toml(found.toml)
    row = {"order": "9", "customer": "a", "date": "2024-11-27T05:01Z", "total": "5.00"}
    kinds = [
        [event["type"] for event in events] if isinstance(events, list) else type(events).__name__
        for status in ("paid", "cancelled", "refunded", "lost at sea")
        for events in [mapping.orders({**row, "status": status})]
    ]
    assert kinds == [["order"], "Skipped", ["order", "refund"], "Unfit"]


def test_an_answer_that_names_no_column_is_told_which_there_are() -> None:
    found = propose([{"a": "1"}], Answers({"ts": "b"}))
    assert "there is no column 'b'; there is a" in " ".join(one.text for one in found.questions)


def test_names_and_values_have_meanings() -> None:
    assert score("Total Tax", "amount") < 0.4 < score("Order Total", "amount")
    assert [meaning(value) for value in ("STORNIERT", "remboursée", "offen", "bezahlt")] == [
        "cancelled",
        "refunded",
        "unpaid",
        "counted",
    ]
    assert meaning("verzaubert") == ""
