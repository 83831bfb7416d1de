"""Order logs of every kind give the same orders; bad rows and bad files say what is wrong."""

from __future__ import annotations

import gzip
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from features.events.orders import Order, OrderRules, OrderType, Reason
from model.files.order_log import OrderLogError, RejectedRow, Row, read_orders

_RULES = OrderRules()
_CSV = (
    "order_id,user_id,ts,amount,type,currency\n"
    "o1,ann,2026-03-01T12:00:00Z,12.50,,\n"
    "o2,bob,1772366400001,0.1,order,USD\n"
    "o1,ann,2026-03-02T12:00:00+01:00,2,refund,\n"
    'o3,"b,ob",2026-03-03T00:00:00Z,-7,,\n'
)
_ORDERS = [
    Order("o1", "ann", 1_772_366_400_000, 1250),
    Order("o2", "bob", 1_772_366_400_001, 10),
    Order("o1", "ann", 1_772_449_200_000, 200, OrderType.REFUND),
    Order("o3", "b,ob", 1_772_496_000_000, 700, OrderType.REFUND),
]
_JSONL = (
    '{"order_id":"o1","user_id":"ann","ts":"2026-03-01T12:00:00Z","amount":12.50,"basket":[1]}\n'
    '{"order_id":"o2","user_id":"bob","ts":1772366400001,"amount":0.1,"type":"order"}\n'
    "\n"
    '{"order_id":"o1","user_id":"ann","ts":"2026-03-02T12:00:00+01:00","amount":2,"type":"refund"}\n'
    '{"order_id":"o3","user_id":"b,ob","ts":"2026-03-03T00:00:00Z","amount":-7,"type":null}\n'
)


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def _rows(*paths: Path) -> list[Row]:
    return list(read_orders(paths, _RULES))


def _rejected(*paths: Path) -> list[RejectedRow]:
    return [row for row in _rows(*paths) if isinstance(row, RejectedRow)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", _CSV),
        ("LOG.CSV", _CSV),
        ("log.csv.gz", _CSV),
        ("windows.csv", "\ufeff" + _CSV.replace("\n", "\r\n")),
        ("log.jsonl", _JSONL),
        ("log.jsonl.gz", _JSONL),
        ("log.ndjson", _JSONL),
    ],
)
def test_every_kind_of_file_gives_the_same_orders(tmp_path: Path, name: str, content: str) -> None:
    assert _rows(_file(tmp_path, name, content)) == _ORDERS


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    log = "amount,shop,ts,user_id,order_id\n12.50,x,2026-03-01T12:00:00Z,ann,o1\n"
    assert _rows(_file(tmp_path, "log.csv", log)) == _ORDERS[:1]


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    one, other = _file(tmp_path, "1.csv", _CSV), _file(tmp_path, "2.jsonl", _JSONL)
    assert _rows(one, other) == _ORDERS * 2


def test_parquet_gives_the_same_orders(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table(
        {
            "order_id": ["o1", "o2", "o1", "o3"],
            "user_id": ["ann", "bob", "ann", "b,ob"],
            "ts": pa.array([order.ts_ms for order in _ORDERS]).cast(pa.timestamp("ms", "UTC")),
            "amount": pa.array([Decimal("12.50"), Decimal("0.10"), Decimal(2), Decimal(-7)]),
            "type": [None, "order", "refund", None],
        }
    )
    path = tmp_path / "log.parquet"
    pq.write_table(table, path)
    assert _rows(path) == _ORDERS
    pq.write_table(table.set_column(3, "amount", [[12.5, 0.1, 2.0, -7.0]]), path)
    assert _rows(path) == _ORDERS


def test_a_long_parquet_file_gives_what_the_same_lines_give(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [
        {
            "order_id": f"o{n % 7}",
            "user_id": None if n % 9_999 == 1 else f"ann-{n % 500}",
            "ts": "2026-03-01T12:00:00Z" if n % 3_000 else f"{n} days ago",
            "amount": f" {n % 3}" if n % 5_000 == 2 else f"{n % 100}.5",
        }
        for n in range(25_000)
    ]
    lines, path = tmp_path / "log.jsonl", tmp_path / "log.parquet"
    lines.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    pq.write_table(pa.Table.from_pylist(rows), path)
    found, expected = (
        [(row.line, row.rejected) if isinstance(row, RejectedRow) else row for row in _rows(one)]
        for one in (path, lines)
    )
    assert found == expected
    assert sum(isinstance(row, Order) for row in found) == 25_000 - 9 - 3


def test_parquet_times_without_a_zone_are_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    times = pa.array([0], pa.timestamp("ms"))
    path = tmp_path / "log.parquet"
    pq.write_table(
        pa.table({"order_id": ["o"], "user_id": ["u"], "ts": times, "amount": [1]}), path
    )
    with pytest.raises(OrderLogError, match="times without a zone"):
        _rows(path)


def test_parquet_without_pyarrow_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OrderLogError, match=r"pip install .*parquet"):
        _rows(_file(tmp_path, "log.parquet", "PAR1"))


def test_a_bad_row_is_set_aside_with_its_line_and_the_rest_is_read(tmp_path: Path) -> None:
    log = _CSV + "o9,ann,yesterday,1,,\no9,ann\n" + "o4,ann,2026-03-04T00:00:00Z,1,,\n"
    rows = _rows(_file(tmp_path, "log.csv", log))
    bad = [row for row in rows if isinstance(row, RejectedRow)]
    assert [(row.line, row.rejected.reason) for row in bad] == [
        (6, Reason.BAD_TS),
        (7, Reason.MISSING_FIELD),
    ]
    assert "line 6: bad_ts: ts 'yesterday'" in str(bad[0])
    assert len(rows) - len(bad) == len(_ORDERS) + 1


def test_bytes_that_are_no_utf8_set_aside_their_own_row_only(tmp_path: Path) -> None:
    log = _CSV.encode() + b"o9,J\xfcrgen,2026-03-04T00:00:00Z,1,,\n"
    rows = _rows(_file(tmp_path, "log.csv", log))
    assert rows[:-1] == _ORDERS
    assert isinstance(rows[-1], RejectedRow)
    assert rows[-1].rejected.reason is Reason.BAD_USER_ID


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", Reason.NOT_JSON),
        ("[1]", Reason.NOT_AN_OBJECT),
        ('{"order_id":[5],"user_id":"a","ts":1772366400001,"amount":1}', Reason.BAD_ORDER_ID),
        ('{"order_id":"o","user_id":"a","ts":1772366400001}', Reason.MISSING_FIELD),
        ('{"id":5,"customer":{"id":6},"created_at":1}', Reason.MISSING_FIELD),
        (
            '{"order_id":"o","user_id":"a","ts":1772366400001,"amount":1,"amount":2}',
            Reason.MISSING_FIELD,
        ),
        (
            '{"order_id":"o","user_id":"a","ts":1772366400001,"amount":1,"Amount":2}',
            Reason.MISSING_FIELD,
        ),
        ('{"order_id":"o","user_id":"a","ts":1772366400001,"amount":true}', Reason.BAD_AMOUNT),
        ('{"order_id":"o","user_id":"a","ts":1772366400001,"amount":[1]}', Reason.BAD_AMOUNT),
        ('{"order_id":"o","user_id":"a","ts":1772366400001,"amount":1e999}', Reason.BAD_AMOUNT),
        ('{"order_id":"o","user_id":"a","ts":1,"amount":1}', Reason.BAD_TS),
        ('{"order_id":"o","user_id":"a","ts":{},"amount":1}', Reason.BAD_TS),
    ],
)
def test_a_bad_json_line_is_set_aside(tmp_path: Path, line: str, reason: Reason) -> None:
    (row,) = _rejected(_file(tmp_path, "log.jsonl", _JSONL + line + "\n"))
    assert (row.line, row.rejected.reason) == (6, reason)


def test_json_amounts_are_read_without_floats(tmp_path: Path) -> None:
    log = '{"order_id":"o","user_id":"a","ts":1772366400001,"amount":123456789.005000000001}'
    (row,) = _rows(_file(tmp_path, "log.jsonl", log))
    assert isinstance(row, Order)
    assert row.amount_minor == 12_345_678_901


def test_a_missing_file_is_named_before_the_first_row_is_read(tmp_path: Path) -> None:
    good = _file(tmp_path, "log.csv", _CSV)
    with pytest.raises(OrderLogError, match=r"nowhere\.csv does not exist"):
        read_orders([good, tmp_path / "nowhere.csv"], _RULES)


def test_a_missing_column_is_named_with_what_is_there(tmp_path: Path) -> None:
    path = _file(tmp_path, "log.csv", "order_id,customer,ts,amount\n")
    with pytest.raises(OrderLogError, match=r"no column user_id; there is .*'customer'"):
        _rows(path)


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet", "log.csv.gz"])
def test_an_empty_file_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(OrderLogError, match="is empty"):
        _rows(_file(tmp_path, name, ""))


def test_a_header_alone_is_a_log_without_orders(tmp_path: Path) -> None:
    assert _rows(_file(tmp_path, "log.csv", "order_id,user_id,ts,amount\n")) == []


def test_a_cut_off_gzip_file_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, "log.csv.gz", _CSV * 200)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(OrderLogError, match=r"log\.csv\.gz cannot be read as a gzip file"):
        _rows(path)


def test_a_file_that_is_no_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_text(_CSV)
    with pytest.raises(OrderLogError, match="cannot be read as a gzip file"):
        _rows(path)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(OrderLogError, match="cannot be read as a Parquet file"):
        _rows(_file(tmp_path, "log.parquet", "PAR1 and nothing else"))


def test_an_unclosed_quote_does_not_swallow_the_log_in_silence(tmp_path: Path) -> None:
    log = _CSV + '"o5,ann,' + "2026-03-04T00:00:00Z,1,,\n" * 10_000
    with pytest.raises(OrderLogError, match="unclosed quote"):
        _rows(_file(tmp_path, "log.csv", log))


def test_what_stands_within_a_quote_is_measured_once_a_line(tmp_path: Path) -> None:
    # Measured anew with every line, half a million of them take hours.
    log = 'order_id,user_id,ts,amount\no1,"' + "x\n" * 500_000
    with pytest.raises(OrderLogError, match="unclosed quote"):
        _rows(_file(tmp_path, "log.csv", log))


@pytest.mark.parametrize("name", ["log.txt", "log.parquet.gz", "log"])
def test_an_unknown_kind_of_file_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(OrderLogError, match=r"must end in one of \.csv"):
        _rows(_file(tmp_path, name, _CSV))


def test_a_directory_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(OrderLogError, match="is a directory"):
        _rows(tmp_path)


def test_rows_come_before_the_damage_that_follows_them(tmp_path: Path) -> None:
    """A log is never read as a whole before its first row comes out."""
    path = _file(tmp_path, "log.csv.gz", _CSV + "".join(f"{i},a,{i},,,\n" for i in range(60_000)))
    path.write_bytes(path.read_bytes()[:-30])
    rows = read_orders([path], _RULES)
    assert next(rows) == _ORDERS[0]
    with pytest.raises(OrderLogError):
        list(rows)
