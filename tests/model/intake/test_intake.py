"""What is wrong with a file or an option is one clear line."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook

from features.events.orders import OrderRules
from features.mapping.mapping import MappingError
from features.proposal.draft import Answers
from model.files.loading import load
from model.files.order_log import FileRules
from model.files.text_files import OrderLogError
from model.intake.intake import Told, Unanswered, understood
from tests.support.exports.files import german, shop, shopify
from tests.support.exports.records import SHOPIFY_REFUND, shopify_order

PLAIN = (
    "order_id,user_id,ts,amount\n1,kim,2024-11-27T05:01:49Z,12.50\n2,lee,2024-11-28T05:00Z,5.00\n"
)


def fault(path: Path, asked: Told | None = None) -> str:
    def read() -> None:
        found = understood([path], asked or Told())
        list(found.rows(FileRules()))

    with pytest.raises(OrderLogError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_wrong_preset_is_told_with_the_first_record_and_what_it_looks_like(
    tmp_path: Path,
) -> None:
    path = tmp_path / "orders.csv"
    shopify(path, shop())
    message = fault(path, Told(preset="stripe"))
    assert message.startswith("preset stripe fits no record")
    assert "stripe-charge needs id, amount" in message
    assert "--preset shopify" in message
    assert '"#1001"' in message


def test_an_export_that_was_saved_again_is_left_to_a_proposal(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    shopify(path, shop())
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines(keepends=True)))
    for row in rows:
        year, month, day = row["Created at"][:10].split("-")
        row["Created at"] = f"{int(day)}/{int(month)}/{year} {row['Created at'][11:16]}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert "--timezone" in fault(path)
    assert "--time-format answers a question" in fault(
        path, Told(preset="shopify", answers=Answers(time_format="%d/%m/%Y"))
    )


def test_a_mapping_that_matches_nothing_shows_the_first_record(tmp_path: Path) -> None:
    path, mapping = tmp_path / "orders.csv", tmp_path / "shop.toml"
    path.write_text(PLAIN)
    mapping.write_text('order_id = "id"\nuser_id = "user_id"\nts = "ts"\namount = "amount"\n')
    message = fault(path, Told(mapping=mapping))
    assert "line 1: id is missing" in message
    assert '"user_id": "kim"' in message


def test_a_faulty_mapping_and_one_that_is_not_there_are_named(tmp_path: Path) -> None:
    path, mapping = tmp_path / "orders.csv", tmp_path / "shop.toml"
    path.write_text(PLAIN)
    for text in (None, 'order = "id"'):
        if text is not None:
            mapping.write_text(text)
        with pytest.raises(MappingError, match=r"shop\.toml"):
            understood([path], Told(mapping=mapping))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "is empty"),
        ("header.csv", b"order_id,user_id,ts,amount\n", "no row below the header"),
        ("words.csv", b"hello\nworld\n", "is no table"),
        ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "with a password"),
        ("page.pdf", b"%PDF-1.7", "is a PDF"),
        ("picture.csv", b"\x89PNG\0\0\1", "is no text"),
        ("cut.json", b'[{"id": 1}, {"id"', "was cut off"),
        ("cut.xlsx", b"PK\3\4 and no more", "is damaged"),
        ("cut.csv.gz", gzip.compress(PLAIN.encode() * 99, mtime=0)[:60], "was cut off"),
        ("quote.csv", b'a,b,c\n1,"x,2024-11-27\n2,y,2024-11-28\n3,"z",2024-11-29\n', "quote"),
        ("line.csv", b"a,b,c\n1,2,3\n" + b"0" * 2_000_000, "line 3: it is longer"),
        ("line.csv.gz", gzip.compress(b"a,b,c\n1,2,3\n" + b"0" * 90_000_000, mtime=0), "200 times"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_read_is_one_line(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert says in fault(path)


def test_workbooks_with_macros_and_archives_that_explode_are_not_opened(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(["order_id", "amount"])
    book.save(tmp_path / "plain.xlsx")
    for name, member, content in (
        ("macro.xlsm", "xl/vbaProject.bin", b"x"),
        ("bomb.xlsx", "xl/worksheets/sheet9.xml", bytes(90_000_000)),
    ):
        with (
            zipfile.ZipFile(tmp_path / "plain.xlsx") as plain,
            zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as other,
        ):
            for info in plain.infolist():
                other.writestr(info.filename, plain.read(info))
            other.writestr(member, content)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("orders.csv", PLAIN + "3,kim,2024-11-27T05:01:49Z,12.50\n" * 3_000_000)
    assert "macros" in fault(tmp_path / "macro.xlsm")
    assert "200 times" in fault(tmp_path / "bomb.xlsx")
    assert "200 times" in fault(tmp_path / "bomb.zip")


def test_half_a_row_at_the_end_is_set_aside_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "half.csv"
    path.write_text(PLAIN + "3,kim,2024-11")
    found = understood([path], Told())
    *_, last = found.rows(FileRules(OrderRules(currency=found.currency)))
    assert "line 4: missing_field: the row has 3 fields where the header has 4" in str(last)


def test_a_day_and_month_that_cannot_be_told_apart_are_asked_and_the_answer_counts(
    tmp_path: Path,
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("order,customer,date,total\n1,kim,03/04/2024,5.00\n2,kim,05/06/2024,6.50\n")
    with pytest.raises(Unanswered, match="--time-format '%d/%m/%Y' or --time-format '%m/%d/%Y'"):
        understood([path], Told())
    found = understood([path], Told(answers=Answers(time_format="%d/%m/%Y", currency="EUR")))
    rows = load([path], FileRules(OrderRules(currency="EUR"), reader=found.rows))
    assert [one.ts_ms // 86_400_000 for one in rows.orders] == [19816, 19879]


def test_values_of_a_status_that_the_sample_has_not_are_set_aside_and_told(
    tmp_path: Path,
) -> None:
    path = tmp_path / "orders.csv"
    german(path, shop())
    found = understood([path], Told(answers=Answers(timezone="Europe/Berlin")))
    with path.open(encoding="cp1252") as file:
        rows = list(csv.reader(file, delimiter=";"))
    rows[3][rows[0].index("Status")] = "Umtausch"
    with path.open("w", encoding="cp1252", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    told = [
        row for row in found.rows(FileRules(OrderRules(currency="EUR"))) if "Umtausch" in str(row)
    ]
    assert len(told) == 1


def test_refunds_that_name_no_customer_are_of_that_of_their_order(tmp_path: Path) -> None:
    path = tmp_path / "hooks.jsonl"
    path.write_text(f"{json.dumps(SHOPIFY_REFUND)}\n{json.dumps(shopify_order())}\n")
    found = understood([path], Told())
    rows = load([path], FileRules(OrderRules(currency="USD"), reader=found.rows))
    assert {one.user_id for one in rows.orders} == {"115310627314723954"}
    assert sorted(one.type.wire for one in rows.orders) == ["order", "refund"]
