"""Order files as shops really send them: counted as meant, or told of with line and remedy."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.events.ids import is_placeholder, placeholders_of, plain_id
from features.events.orders import OrderRules, OrderType
from features.facts.state import EMPTY, apply
from features.times import calendar_of, rfc3339
from model.data.attributes import AttributesError, read_attributes
from model.files import text_files
from model.files.loading import Loaded, load
from model.files.order_log import FileRules
from model.files.rejections import Rejections
from model.files.rows import RowsAre
from model.files.text_files import OrderLogError, for_spreadsheets

HEAD = "order_id,user_id,ts,amount"
NOW_MS = 1_790_000_000_000


def read(
    folder: Path,
    content: str | bytes,
    rows_are: str | None = None,
    name: str = "log.csv",
    *,
    merge_ids: bool = False,
    rules: OrderRules | None = None,
) -> Loaded:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    how = None if rows_are is None else RowsAre(rows_are)
    return load([path], FileRules(replace(rules or OrderRules(), merge_ids=merge_ids), NOW_MS), how)


def refusal(folder: Path, content: str | bytes, name: str = "log.csv") -> str:
    with pytest.raises(OrderLogError) as refused:
        read(folder, content, name=name)
    return str(refused.value)


def net(loaded: Loaded) -> dict[str, tuple[int, float]]:
    """Orders and net revenue of each customer, by the fold that the worker uses."""
    states = defaultdict(lambda: EMPTY)
    for order in loaded.orders:
        states[order.user_id] = apply(states[order.user_id], order).state
    from features.columns.table import tabulate

    found = {}
    for user, state in states.items():
        table = tabulate([(state, NOW_MS)])
        money = (table.gross.sum() - table.refunded.sum()) / 100
        found[user] = (int(table.orders.sum()), float(money))
    return found


def csv(*rows: str, head: str = HEAD) -> str:
    return "\n".join([head, *rows]) + "\n"


LINES = csv(
    "1001,kim,2024-01-10T10:00:00Z,10.00",
    "1001,kim,2024-01-10T10:00:00Z,25.00",
    "1002,lee,2024-01-11T10:00:00Z,80.00",
    "1001,kim,2024-01-10T10:00:00Z,5.00",
    "1002,lee,2024-01-11T10:00:00Z,2.00",
)
RECEIPTS = csv(
    "0001,kim,2024-01-10T10:00:00Z,20.00",
    "0002,lee,2024-01-10T11:00:00Z,30.00",
    "0001,kim,2024-02-10T10:00:00Z,25.00",
    "0002,kim,2024-02-10T11:00:00Z,35.00",
    "0001,kim,2024-03-10T10:00:00Z,40.00",
)
DRAFTS = csv(
    "E4,draft,2024-01-10T10:00:00Z,0.00",
    "E4,draft,2024-01-10T10:05:00Z,100.00",
    "E3,later,2024-01-10T10:00:00Z,120.00",
    "E3,later,2024-01-10T12:00:00Z,100.00",
)


# --- several rows of one id ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told", "likely"),
    [
        (LINES, "2 order ids stand on several rows", "line-items"),
        (RECEIPTS, "1 order id stands on several rows", "orders"),
        (DRAFTS, "2 order ids stand on several rows", "corrections"),
    ],
)
def test_an_id_on_several_rows_is_asked_about_and_never_guessed(
    tmp_path: Path, content: str, told: str, likely: str
) -> None:
    said = refusal(tmp_path, content)
    assert told in said
    assert f"It looks like {likely}" in said
    assert "--rows line-items" in said


def test_lines_of_an_order_are_added_up(tmp_path: Path) -> None:
    loaded = read(tmp_path, LINES, "line-items")
    assert net(loaded) == {"kim": (1, 40.0), "lee": (1, 82.0)}
    assert (loaded.summary.orders, loaded.summary.lines_added_up) == (2, 5)
    assert loaded.summary.repeats == 0


def test_two_lines_that_are_alike_are_two_and_a_negative_one_is_a_discount(tmp_path: Path) -> None:
    rows = ["1,kim,2024-01-10T10:00:00Z,10"] * 2 + ["1,kim,2024-01-10T10:00:00Z,-3"]
    back = ["1,kim,2024-01-20T10:00:00Z,-2"] * 2
    loaded = read(tmp_path, csv(*rows, *back), "line-items")
    assert net(loaded) == {"kim": (1, 13.0)}
    assert loaded.summary.refunds == 1


def test_lines_shipped_on_several_days_are_one_order_of_the_first(tmp_path: Path) -> None:
    lines = [
        {"order_id": "1", "user_id": "kim", "ts": f"2024-01-1{day}T10:00:00Z", "amount": amount}
        for day, amount in ((2, 5), (0, 10), (1, 25))
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    loaded = read(tmp_path, content, "line-items", "log.jsonl")
    (order,) = loaded.orders
    assert (order.ts_ms, order.amount_minor) == (1_704_880_800_000, 4_000)


def test_ids_that_are_used_again_are_orders_of_their_own(tmp_path: Path) -> None:
    loaded = read(tmp_path, RECEIPTS, "orders")
    assert net(loaded) == {"kim": (4, 120.0), "lee": (1, 30.0)}
    assert len({order.order_id for order in loaded.orders}) == 4
    assert (loaded.summary.corrections, loaded.summary.ids_reused) == (0, 0)


def test_what_takes_back_an_id_that_is_used_again_takes_back_the_last_one(tmp_path: Path) -> None:
    rows = RECEIPTS.replace(HEAD, f"{HEAD},type").replace(".00\n", ".00,order\n")
    gone = rows + "0001,kim,2024-02-11T10:00:00Z,25,cancellation\n"
    assert net(read(tmp_path, gone, "orders"))["kim"] == (3, 95.0)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("2024-01-10T10:00:00Z,120.00,", "2024-01-10T10:00:00Z,100.00,", 1),
        ("2024-01-10T10:00:00Z,120.00,", "2024-01-10T12:00:00Z,100.00,", 0),
        ("2024-01-10T10:00:00Z,120.00,", "2024-01-10T10:00:00Z,120.00,", 0),
        (
            "2024-01-10T10:00:00Z,120.00,2024-01-10T10:00:00Z",
            "2024-01-10T10:00:00Z,100.00,2024-01-10T11:00:00Z",
            0,
        ),
    ],
)
def test_versions_of_which_nothing_says_the_newest_are_told(
    tmp_path: Path, first: str, second: str, told: int
) -> None:
    log = csv(f"E2,kim,{first}", f"E2,kim,{second}", head=f"{HEAD},updated_at")
    found = [odd.count for odd in read(tmp_path, log, "corrections").summary.odd]
    assert sum(found) == told


def test_of_corrections_the_newest_counts(tmp_path: Path) -> None:
    loaded = read(tmp_path, DRAFTS, "corrections")
    assert net(loaded) == {"draft": (1, 100.0), "later": (1, 100.0)}
    assert (loaded.summary.corrections, loaded.summary.repeats) == (2, 0)


def test_a_file_that_says_when_it_was_updated_needs_no_answer(tmp_path: Path) -> None:
    head = f"{HEAD},Updated_At"
    rows = [
        "E2,low,2024-01-10T10:00:00Z,100,2024-01-12T00:00:00Z",
        "E2,low,2024-01-10T10:00:00Z,120,2024-01-11T00:00:00Z",
    ]
    assert net(read(tmp_path, csv(*rows, head=head))) == {"low": (1, 100.0)}


def test_a_row_that_comes_again_as_it_was_is_a_repeat(tmp_path: Path) -> None:
    loaded = read(tmp_path, csv(*["1,kim,2024-01-10T10:00:00Z,10"] * 3))
    assert (net(loaded), loaded.summary.repeats) == ({"kim": (1, 10.0)}, 2)


def test_refunds_of_one_order_are_told_apart_by_time_and_amount(tmp_path: Path) -> None:
    rows = [
        "S1,kim,2024-01-10T10:00:00Z,100.00,order",
        "S1,kim,2024-01-12T10:00:00Z,15.00,refund",
        "S1,kim,2024-01-20T10:00:00Z,35.00,refund",
    ]
    loaded = read(tmp_path, csv(*rows, head=f"{HEAD},type"))
    assert net(loaded) == {"kim": (1, 50.0)}
    assert (loaded.summary.refunds, loaded.summary.repeats) == (2, 0)


_row = st.tuples(
    st.sampled_from("12"), st.sampled_from("ab"), st.integers(10, 40), st.integers(0, 900)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_row, min_size=1, max_size=20))
def test_lines_add_up_as_a_dictionary_would(
    tmp_path: Path, rows: list[tuple[str, str, int, int]]
) -> None:
    content = csv(*(f"{o},{u},2024-01-{d}T00:00:00Z,{a}" for o, u, d, a in rows if d <= 31))
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for order_id, user, day, amount in rows:
        if day <= 31:
            sums[user, order_id] += amount * 100
    if not sums:
        return
    loaded = read(tmp_path, content, "line-items")
    assert {(o.user_id, o.order_id): o.amount_minor for o in loaded.orders} == sums
    assert [o.ts_ms for o in loaded.orders] == sorted(o.ts_ms for o in loaded.orders)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_row, min_size=1, max_size=20), data=st.data())
def test_the_order_of_the_rows_changes_nothing(
    tmp_path: Path, rows: list[tuple[str, str, int, int]], data: st.DataObject
) -> None:
    lines = [f"{o},{u},2024-02-{d % 29 + 1:02d}T00:00:00Z,{a}" for o, u, d, a in rows]
    shuffled = data.draw(st.permutations(lines))
    for how in RowsAre:
        one, other = (net(read(tmp_path, csv(*some), how.value)) for some in (lines, shuffled))
        assert one == other


# --- rows and columns that vanish ----------------------------------------------------------------


@pytest.mark.parametrize("column", ["note", "user_id"])
@pytest.mark.parametrize("closes", [True, False])
def test_a_quote_that_swallows_rows_is_told_with_its_line(
    tmp_path: Path, column: str, *, closes: bool
) -> None:
    rows = [f"o{n},u{n},2024-01-01T10:00:00Z,10,note" for n in range(20)]
    swallows = ("note", '"note') if column == "note" else (",u7", ',"u7')
    rows[7] = rows[7].replace(*swallows)
    if closes:
        end = ("note", 'note"') if column == "note" else (",u12", ',u12"')
        rows[12] = rows[12].replace(*end)
    said = refusal(tmp_path, csv(*rows, head=f"{HEAD},note"))
    assert "line 9" in said
    assert "quote" in said


def test_a_note_of_several_lines_is_a_field_like_any_other(tmp_path: Path) -> None:
    rows = [
        'o1,kim,2024-01-01T10:00:00Z,10,"leave it, please,\nat the neighbours, 2nd floor"',
        'o2,lee,2024-01-02T10:00:00Z,10,"a ""quoted"" word"',
    ]
    loaded = read(tmp_path, csv(*rows, head=f"{HEAD},note"))
    assert (loaded.summary.rows, loaded.summary.orders) == (2, 2)


@pytest.mark.parametrize(
    ("head", "name"),
    [(f"{HEAD},amount", "amount"), (f"user_id,{HEAD}", "user_id"), (f"{HEAD},Amount ", "amount")],
)
def test_a_column_named_twice_is_refused(tmp_path: Path, head: str, name: str) -> None:
    said = refusal(tmp_path, csv("1,a,2024-01-10T10:00:00Z,12.50,1890", head=head))
    assert f"line 1: column {name} is there twice" in said


@pytest.mark.parametrize("name", ["Type", " type ", "TYPE"])
def test_optional_columns_are_known_in_any_spelling(tmp_path: Path, name: str) -> None:
    rows = ["1,a,2024-01-10T10:00:00Z,100.00,order", "1,a,2024-01-12T10:00:00Z,100.00,refund"]
    assert net(read(tmp_path, csv(*rows, head=f"{HEAD},{name}"))) == {"a": (1, 0.0)}


def test_names_of_json_lines_are_known_in_any_spelling(tmp_path: Path) -> None:
    rows = [
        {"Order ID": 1, "USER_ID": 2, "ts": "2024-01-10T10:00:00Z", "amount": "49.90"},
        {
            "Order ID": 1,
            "USER_ID": 2,
            "ts": "2024-01-11T10:00:00Z",
            "amount": 9.9,
            "Type": "refund",
        },
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert net(read(tmp_path, content, name="log.jsonl")) == {"2": (1, 40.0)}


@pytest.mark.parametrize(
    "content",
    [
        "\r\n\r\n" + csv("1,a,2024-01-10T10:00:00Z,12.50").replace("\n", "\r\n"),
        "sep=,\r\n" + csv("1,a,2024-01-10T10:00:00Z,12.50"),
        "sep=;\n" + csv("1,a,2024-01-10T10:00:00Z,12.50").replace(",", ";"),
        csv("1;a;2024-01-10T10:00:00Z;12,50", head=HEAD.replace(",", ";")),
        csv("1\ta\t2024-01-10T10:00:00Z\t12.50", head=HEAD.replace(",", "\t")),
        csv("1,a,2024-01-10T10:00:00Z,12.50").encode("utf-16"),
        csv("1,a,2024-01-10T10:00:00Z,12.50").encode("utf-8-sig"),
        csv("1,a,2024-01-10T10:00:00Z,12.50").replace("\n", "\r"),
    ],
)
def test_a_file_out_of_a_spreadsheet_is_read(tmp_path: Path, content: str | bytes) -> None:
    assert net(read(tmp_path, content)) == {"a": (1, 12.5)}


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        ("", "log.csv", "is empty"),
        (" \n\n", "log.csv", "is empty"),
        ("\n \n", "log.jsonl", "is empty"),
        (HEAD + "\n", "log.csv", "no rows below its header"),
        (csv("1,a,2024-01-10T10:00:00,1"), "log.csv", "none of its 1 rows is an order"),
        (
            '[{"order_id":"B1"},\n{"order_id":"B2"}]',
            "log.jsonl",
            "line 1: it begins with a JSON array",
        ),
        ("{}\n".encode("utf-16"), "log.jsonl", "is UTF-16; save it as UTF-8"),
        (
            csv("1,a,b", head="id,customer,total"),
            "log.csv",
            "no columns order_id, user_id, ts, amount",
        ),
        (",".join([HEAD] + ["x"] * 2_000) + "\n", "log.csv", "more than 1,000 columns"),
        (csv("1,a,2024-01-10T10:00:00Z,1").encode("utf-16")[:-1], "log.csv", "damaged UTF-16"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, content: str | bytes, name: str, told: str
) -> None:
    assert told in refusal(tmp_path, content, name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.sampled_from('ab,;"\n\r\t1 -:TZ'), max_size=30) | st.just("1,a,1704880800000,5"),
        max_size=12,
    )
)
def test_every_row_of_a_file_is_an_order_or_set_aside_or_the_file_is_refused(
    tmp_path: Path, rows: list[str]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv(*rows), newline="")
    rejections = Rejections()
    try:
        loaded = load([path], FileRules(), RowsAre.CORRECTIONS, rejections=rejections)
    except OrderLogError:
        return
    by_hand = path.read_bytes().decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if '"' not in "".join(by_hand):
        assert loaded.summary.rows == sum(bool(line) for line in by_hand) - 1
    assert loaded.summary.rows == len(loaded.orders) + rejections.counts.total()


# --- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.csv.gz", "log.jsonl.gz"])
def test_a_line_without_an_end_is_refused_and_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(text_files, "MAX_LINE", 10_000)
    head = HEAD + "\n" if name == "log.csv.gz" else ""
    content = gzip.compress((head + "1" * 50_000).encode())
    assert "is longer than 10,000 characters" in refusal(tmp_path, content, name)


def test_a_value_of_a_parquet_file_is_bounded(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {
        "order_id": ["x" * 100_000] * 3,
        "user_id": ["a"] * 3,
        "ts": [1] * 3,
        "amount": [1] * 3,
    }
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    with pytest.raises(OrderLogError, match="a value has 100,000 bytes"):
        load([tmp_path / "log.parquet"], FileRules())


def test_what_strangers_wrote_does_not_run_as_a_formula() -> None:
    assert for_spreadsheets("=cmd|' /C calc'!A0") == "'=cmd|' /C calc'!A0"
    assert for_spreadsheets("kim") == "kim"


# --- who is who ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user", ["nan", "NULL", "None", "\\N", "N/A", "guest", "0", "GUEST ", "undefined", "-", "0.0"]
)
def test_an_id_that_names_nobody_is_set_aside(tmp_path: Path, user: str) -> None:
    rows = [f"1,{user},2024-01-10T10:00:00Z,10", "2,kim,2024-01-10T10:00:00Z,10"]
    loaded = read(tmp_path, csv(*rows))
    assert loaded.summary.set_aside["placeholder_user"] == 1
    assert net(loaded) == {"kim": (1, 10.0)}


def test_the_list_of_placeholders_can_be_changed(tmp_path: Path) -> None:
    rules = OrderRules(placeholders=placeholders_of(["Till-1"]))
    rows = ["1,till-1,2024-01-10T10:00:00Z,10", "2,guest,2024-01-10T10:00:00Z,10"]
    assert net(read(tmp_path, csv(*rows), rules=rules)) == {"guest": (1, 10.0)}
    assert is_placeholder("", placeholders_of([]))


SPELT = csv(
    "1,Kim@Shop.test,2024-01-10T10:00:00Z,10",
    "2,kim@shop.test,2024-01-11T10:00:00Z,10",
    "3,kim@shop.test ,2024-01-12T10:00:00Z,10",
    "4,17850,2024-01-10T10:00:00Z,10",
    "5,17850.0,2024-01-11T10:00:00Z,10",
)


def test_ids_that_differ_in_spelling_are_told_and_merged_only_when_asked(tmp_path: Path) -> None:
    apart = read(tmp_path, SPELT)
    assert len(net(apart)) == 5
    assert [odd.count for odd in apart.summary.odd if odd.code == "ids_alike"] == [3]
    merged = read(tmp_path, SPELT, merge_ids=True)
    assert net(merged) == {"kim@shop.test": (3, 30.0), "17850": (2, 20.0)}
    assert not merged.summary.odd


@given(st.text(max_size=20))
def test_a_plain_id_stays_as_it_is(text: str) -> None:
    assert plain_id(plain_id(text).casefold()) == plain_id(plain_id(text))


def test_one_order_of_two_customers_is_told(tmp_path: Path) -> None:
    rows = ["W1,guest:kim,2024-01-10T10:00:00Z,60", "W1,kim,2024-01-10T10:00:00Z,60"]
    (odd,) = read(tmp_path, csv(*rows)).summary.odd
    assert (odd.code, odd.count) == ("two_customers_of_one_order", 1)


def test_a_customer_for_each_order_is_told(tmp_path: Path) -> None:
    rows = [f"{n},c{n},2024-01-10T10:00:{n}Z,60" for n in range(10, 50)]
    (odd,) = read(tmp_path, csv(*rows)).summary.odd
    assert "40 orders of 40 customers: nobody ordered twice" in odd.detail


def test_a_customer_with_a_large_share_of_all_orders_is_told(tmp_path: Path) -> None:
    rows = [
        f"{n},{'till' if n < 70 else f'c{n % 9}'},2024-01-10T10:00:{n % 50 + 10}Z,{n}"
        for n in range(99)
    ]
    (odd,) = read(tmp_path, csv(*rows)).summary.odd
    assert "customer 'till' has 70 orders of 99" in odd.detail


def test_more_refunded_than_ordered_is_told(tmp_path: Path) -> None:
    rows = ["1,kim,2024-01-10T10:00:00Z,60,order", "1,kim,2024-01-11T10:00:00Z,600,refund"]
    (odd,) = read(tmp_path, csv(*rows, head=f"{HEAD},type")).summary.odd
    assert (odd.code, "a refund of 600.00" in odd.detail) == ("refunded_more_than_ordered", True)


def test_attributes_that_match_nobody_are_an_error_and_few_are_told(tmp_path: Path) -> None:
    path = tmp_path / "attributes.csv"
    path.write_text("user_id,age\n10088,34\n10089,35\n")
    known = read_attributes(path)
    with pytest.raises(AttributesError, match=r"none of whom is in the log \(log: '10088.0'"):
        known.match(["10088.0", "10089.0"])
    assert "1 of 3 customers" in str(known.match(["10088", "x", "y"]))
    assert known.match(["10088", "x"]) is None


# --- the summary ---------------------------------------------------------------------------------


def test_the_summary_counts_every_row_once(tmp_path: Path) -> None:
    rows = [
        "1,kim,2024-01-12T10:00:00Z,10,order",
        "1,kim,2024-01-13T10:00:00Z,4,refund",
        "2,kim,2024-01-10T10:00:00Z,0,order",
        "2,kim,2024-01-10T10:00:00Z,0,order",
        "3,guest,2024-01-10T10:00:00Z,10,order",
        "4,lee,2062-01-10T10:00:00Z,10,order",
        "5,lee,1970-01-01T00:00:00Z,10,order",
        "6,lee,2024-01-11T10:00:00Z,12.3456,order",
    ]
    summary = read(tmp_path, csv(*rows, head=f"{HEAD},type")).summary
    assert summary.set_aside == {"future_ts": 1, "past_ts": 1, "placeholder_user": 1}
    assert (summary.rows, summary.orders, summary.refunds, summary.repeats) == (8, 4, 1, 1)
    assert (summary.rounded, summary.free_orders, summary.out_of_order) == (1, 2, 3)
    assert summary.text().splitlines()[0] == (
        "8 rows = 4 orders + 1 refund + 3 set aside; 2 customers"
    )


def test_an_order_type_is_known_by_its_word() -> None:
    assert [one.wire for one in OrderType] == ["order", "refund", "cancellation", "order"]


def berlin(folder: Path, *times: str, name: str = "log.csv") -> Loaded:
    rows = [f"{n},kim,{time},10" for n, time in enumerate(times)]
    path = folder / name
    path.write_text(csv(*rows))
    return load([path], FileRules(now_ms=NOW_MS, zone=calendar_of("Europe/Berlin")))


def test_times_without_an_offset_are_of_the_zone_that_is_named(tmp_path: Path) -> None:
    loaded = berlin(
        tmp_path,
        "2024-01-10 00:30:00",
        "2024-07-10T00:30",
        "2024-07-11",
        "2024-07-12 00:30:00 +0000",
        "1720828800000",
    )
    assert [rfc3339(order.ts_ms) for order in loaded.orders] == [
        "2024-01-09T23:30:00Z",
        "2024-07-09T22:30:00Z",
        "2024-07-10T22:00:00Z",
        "2024-07-12T00:30:00Z",
        "2024-07-13T00:00:00Z",
    ]
    assert loaded.summary.twice_shown == 0


def test_a_time_that_clocks_showed_twice_is_the_first_and_told(tmp_path: Path) -> None:
    loaded = berlin(tmp_path, "2024-10-27 02:30:00", "2024-10-27T02:30:00+01:00", "1729989000000")
    first, second = "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"
    assert [rfc3339(order.ts_ms) for order in loaded.orders] == [first, first, second]
    assert loaded.summary.twice_shown == 1
    assert "1 time that clocks showed twice, taken for the first" in loaded.summary.text()


def test_a_time_that_clocks_skipped_is_set_aside(tmp_path: Path) -> None:
    loaded = berlin(tmp_path, "2024-03-31 02:30:00", "2024-03-31 03:30:00")
    assert loaded.summary.set_aside == {"bad_ts": 1}
    assert [rfc3339(order.ts_ms) for order in loaded.orders] == ["2024-03-31T01:30:00Z"]


def test_without_a_zone_the_remedy_is_named(tmp_path: Path) -> None:
    assert "name the zone of such times (--timezone)" in refusal(
        tmp_path, csv("1,kim,2024-01-10 00:30:00,10")
    )


def test_parquet_times_without_a_zone_are_of_the_zone_that_is_named(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    times = [1_704_846_600_000_000_000, 1_729_996_200_123_456_789]  # as clocks showed them
    table = {
        "order_id": ["1", "2"],
        "user_id": ["a"] * 2,
        "ts": pa.array(times, pa.timestamp("ns")),
        "amount": [1] * 2,
    }
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    rules = FileRules(now_ms=NOW_MS, zone=calendar_of("Europe/Berlin"))
    loaded = load([tmp_path / "log.parquet"], rules)
    assert [rfc3339(order.ts_ms) for order in loaded.orders] == [
        "2024-01-09T23:30:00Z",
        "2024-10-27T00:30:00.123Z",
    ]
    assert loaded.summary.twice_shown == 1


def test_rows_are_the_sum_of_what_became_of_them_in_every_kind_of_file(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        ("1", "a", "2024-01-10T10:00:00Z", "5"),
        ("1", "a", "2024-01-10T10:00:00Z", "7"),
        ("2", "guest", "2024-01-10T10:00:00Z", "5"),
        ("3", "b", "nonsense", "5"),
        ("3", "b", "2024-01-11T10:00:00Z", "-5"),
    ]
    names = HEAD.split(",")
    (tmp_path / "a.csv").write_text(csv(*map(",".join, rows)))
    (tmp_path / "b.jsonl").write_text(
        "\n\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows) + "\n{\n\n"
    )
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    for name, more in (("a.csv", 0), ("b.jsonl", 1), ("c.parquet", 0)):
        summary = load([tmp_path / name], FileRules(), RowsAre.LINE_ITEMS).summary
        assert summary.rows == summary.accounted == 5 + more
        assert summary.text().splitlines()[0] == (
            f"{5 + more} rows = 1 order + 1 refund + 1 further line + {2 + more} set aside;"
            " 2 customers"
        )


def test_a_log_of_one_is_told_in_the_singular(tmp_path: Path) -> None:
    text = read(tmp_path, csv("1,kim,2024-01-10T00:30:00Z,10.5555")).summary.text()
    assert text.splitlines() == [
        "1 row = 1 order; 1 customer",
        "        1 amount rounded to the currency's decimals",
    ]


def test_our_columns_are_known_in_any_letters(tmp_path: Path) -> None:
    row = "1,kim,2024-01-10T00:30:00Z,10,refund,r-1,2024-01-11T00:00:00Z"
    for head in (
        "orderId,userId,Ts,Amount,Type,refundId,updatedAt",
        "ORDER ID,User-Id,ts,amount,type,refundid,Updated At",
    ):
        (order,) = read(tmp_path, csv(row, head=head)).orders
        assert (order.refund_id, order.updated_ms) == ("r-1", 1_704_931_200_000)
        line = json.dumps(dict(zip(head.split(","), row.split(","), strict=True)))
        assert list(read(tmp_path, line, name="log.jsonl").orders) == [order]


def test_a_blank_before_a_quote_is_told(tmp_path: Path) -> None:
    told = refusal(tmp_path, csv('1, "kim",2024-01-10T00:30:00Z,10'))
    assert "line 2: a blank stands before the quote of user_id" in told


def test_tabs_go_with_decimal_commas(tmp_path: Path) -> None:
    head, row = HEAD.replace(",", "\t"), "1\tkim\t2024-01-10T00:30:00Z\t1.234,50"
    (order,) = read(tmp_path, f"{head}\n{row}\n", name="log.tsv").orders
    assert order.amount_minor == 123_450


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32"])
def test_another_encoding_without_its_mark_is_told(tmp_path: Path, encoding: str) -> None:
    content = csv("1,kim,2024-01-10T00:30:00Z,10").encode(encoding).removeprefix(b"\xff\xfe\0\0")
    assert "is it UTF-16 or UTF-32? Save it as UTF-8" in refusal(tmp_path, content)


def test_epoch_milliseconds_of_a_program_that_knows_only_floats_are_read(tmp_path: Path) -> None:
    loaded = read(tmp_path, csv("1,kim,1704880800000.0,10", "2,kim,1704880800.0,10"))
    assert [order.ts_ms for order in loaded.orders] == [1_704_880_800_000]
    assert loaded.summary.set_aside == {"bad_ts": 1}
