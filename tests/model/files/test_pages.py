"""Rows read many at once are what each is by itself: the same orders, the same refusals."""

from __future__ import annotations

import csv
import json
from io import BufferedReader, BytesIO, RawIOBase, StringIO
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import FreeOrders, Order, OrderRules
from features.times import UTC, calendar_of
from model.files import text_files
from model.files.csv_rows import CsvPage, CsvRows
from model.files.order_log import FileRules, Row, _json_row, _row, one_by_one, read_orders
from model.files.pages import PlainOrders
from model.files.text_files import OrderLogError

PATH: Final = Path("log.csv")
NOW_MS: Final = 1_780_000_000_000

_digits = st.integers(0, 99).map(lambda n: f"{n:02}")
_dates = st.sampled_from(["2026-03-01", "2026-02-29", "2024-02-29", "1969-12-31", "1970-01-01"])
_dates |= st.sampled_from(["2026-03-29", "2026-10-25", "2026-13-01", "2026-3-01", "9999-12-31"])
_clocks = st.sampled_from(["12:00", "02:30", "00:00:00", "23:59:60", "24:00", "02:30:59.999999"])
_clocks |= st.tuples(_digits, _digits, _digits).map(":".join)
_ends = st.sampled_from(["", "Z", "z", "+00:00", "+01:00", "-00:00", ".5Z", ".123Z", " UTC", "\0"])
_times = st.tuples(_dates, st.sampled_from("Tt _"), _clocks, _ends).map("".join)
_times |= st.sampled_from(["", "1772366400001", "1772366400001.0", "99", "٢" * 13]) | _dates
_amounts = st.tuples(
    st.sampled_from(["", "-", "+", " "]),
    st.sampled_from(["", "0", "7", "012", "999999999", "1234567890", "٢", "1_0", "1e3", "nan"]),
    st.sampled_from(["", ".", ".5", ".55", ".555", ".0001", ",50", ".-5", ".5 "]),
).map("".join)
_ids = st.sampled_from(["a", "B ", "", "guest", " NaN", "é", "\udce9", "x" * 129, "17850.0"])
_types = st.sampled_from(["", "order", "refund", "cancellation", "Order"])
_odd = st.sampled_from([None, True, 7, [], {}, "x" * 100_000])
_columns = {
    "order_id": _ids,
    "user_id": _ids,
    "ts": _times,
    "amount": _amounts,
    "type": _types,
    "currency": st.sampled_from(["", "USD", " usd", "EUR"]),
    "refund_id": st.sampled_from(["", "r1"]),
    "updated_at": st.sampled_from(["", "2026-03-01T12:00:00Z"]),
}
_plain = st.fixed_dictionaries(
    {
        "order_id": st.sampled_from(["o1", "o2"]),
        "user_id": st.sampled_from(["ann", "bob"]),
        "ts": st.sampled_from(["2026-03-01T12:00:00Z", "2026-03-01", "2026-03-01 12:00"]),
        "amount": st.sampled_from(["12.50", "-7", "0"]),
    }
)
_any = st.fixed_dictionaries({name: values | _odd for name, values in _columns.items()})
_rules = st.builds(
    FileRules,
    st.builds(
        OrderRules,
        currency=st.sampled_from(["USD", "JPY", "KWD"]),
        free_orders=st.sampled_from(FreeOrders),
        merge_ids=st.booleans(),
        same_as=st.sampled_from([{}, {"a": "guest"}, {"ann": "bob"}]),
    ),
    now_ms=st.sampled_from([None, NOW_MS]),
    zone=st.sampled_from([None, UTC, calendar_of("Europe/Berlin")]),
)


def in_columns(rows: list[dict[str, Any]], rules: FileRules) -> list[Row]:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}

    def by_row(at: int) -> Row:
        return _row({name: columns[name][at] for name in columns}, PATH, at, rules)

    found: list[Row] = list(one_by_one(rules.plain().read(columns, len(rows), by_row)))
    return found


@given(st.lists(_plain | _any, min_size=1, max_size=6), _rules)
def test_rows_in_columns_are_what_each_is_by_itself(
    rows: list[dict[str, Any]], rules: FileRules
) -> None:
    alone = [_row(dict(row), PATH, at, rules) for at, row in enumerate(rows)]
    assert in_columns(rows, rules) == alone


def test_what_most_rows_look_like_is_read_in_columns() -> None:
    row = {"order_id": "o1", "user_id": "ann", "ts": "2026-03-01T12:00:00Z", "amount": "12.50"}
    columns = {name: [value] * 3 for name, value in row.items()}
    (found,) = FileRules().plain().read(columns, 3, lambda at: pytest.fail("read by itself"))
    assert isinstance(found, PlainOrders)
    assert list(found) == [Order("o1", "ann", 1_772_366_400_000, 1250)] * 3


_cells = st.sampled_from(["a", "", '"d"', '"g,h"', "é", '"i""j"', "\udce9"])
_texts = st.sampled_from(['"e\nf"', '"\n"']) | _cells
_lines = st.tuples(_cells, _texts, _texts) | st.lists(_cells, min_size=2, max_size=5)


@given(
    st.lists(_lines.map(",".join) | st.just(""), max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from([8, 64, 4096]),
)
def test_the_rows_of_a_csv_are_those_of_the_csv_module(
    lines: list[str], end: str, ended: bool, block_bytes: int
) -> None:
    text = end.join(["ts,y,z", *lines]) + end * ended
    data = BufferedReader(cast(RawIOBase, BytesIO(text.encode(errors="surrogateescape"))))
    expected = [row for row in csv.reader(StringIO(text, newline="")) if row][1:]
    found: list[str] = []
    sizes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_BLOCK_BYTES", block_bytes)
        rows = CsvRows(PATH, text_files.text_blocks(data, PATH), ("ts",), ())
        rows.read_header()
        for page in rows.pages():
            if isinstance(page, CsvPage):
                found += page.columns["ts"]
                sizes += [3] * len(page.lines)
            else:
                sizes.append(page.fields)
    assert sizes == [len(row) for row in expected]
    assert found == [row[0] for row in expected if len(row) == 3]


_names = st.sampled_from([*_columns, "Type", "orderId", "basket"])
_values = (
    _ids.filter(str.isascii)
    | _times.filter(str.isascii)
    | st.sampled_from([None, True, 7, 1_772_366_400_001, 12.5, {"type": "refund"}, 10**30])
)
_objects = st.dictionaries(_names, _values, max_size=8).map(json.dumps) | st.sampled_from(
    [
        *('{"order_id":"o1","user_id":"ann","ts":1772366400001,"amount":12.50}' for _ in range(5)),
        '{"order_id":"o1","user_id":"ann","ts":1772366400001,"amount":1,"amount":2}',
        '{"order_id":"o1","user_id":"ann","ts":1772366400001,"amount":1,"type":null}',
        *("", " ", "[]", "7", "{", '{"order_id":"o1"}{}', "{}\r"),
    ]
)


@given(st.lists(_objects, min_size=1, max_size=8), _rules, st.sampled_from([8, 64, 4096]))
def test_the_lines_of_a_json_log_are_what_each_is_by_itself(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], rules: FileRules, block_bytes: int
) -> None:
    decode = msgspec.json.Decoder(float_hook=str).decode
    first = next((line for line in lines if line.strip()), "[")
    path = tmp_path_factory.getbasetemp() / "log.jsonl"
    path.write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_BLOCK_BYTES", block_bytes)
        if first.startswith("["):
            with pytest.raises(OrderLogError):
                list(read_orders([path], rules))
            return
        found = list(read_orders([path], rules))
    assert found == [
        _json_row(decode, line.encode(), path, number, rules)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
