"""A log that goes through files is the log that fits memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events.orders import Order, OrderRules
from model.data.cleaning import write_orders
from model.files import external, loading
from model.files.loading import load, streamed
from model.files.order_log import FileRules
from model.files.rows import RowsAre
from model.files.summary import Summary
from model.files.text_files import OrderLogError
from tests.support.logs import shop_logs
from tests.support.strategies import arrivals

RULES = FileRules(OrderRules())


@pytest.fixture(scope="module", autouse=True)
def _few_files() -> Iterator[None]:
    """So that a small log has several rows a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external, "_FILES", 4)
        patch.setattr(external, "_FRAME_ROWS", 20)
        yield


def written(folder: Path, orders: Sequence[Order]) -> Path:
    path = folder / "log.csv"
    write_orders(path, orders, "USD")
    return path


@given(events=shop_logs(), data=st.data(), rows_are=st.sampled_from([*RowsAre, None]))
@settings(max_examples=15)
def test_orders_and_summary_are_those_of_a_log_that_fits(
    events: list[Order], data: st.DataObject, rows_are: RowsAre | None
) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), data.draw(arrivals(events)))
        try:
            expected, refused = load([path], RULES, rows_are), ""
        except OrderLogError as error:
            refused = str(error)
        if refused:
            with (
                pytest.raises(OrderLogError) as also,
                streamed([path], RULES, rows_are, in_memory=3),
            ):
                pass
            assert same_but_the_example(str(also.value), refused)
            return
        with streamed([path], RULES, rows_are) as found:
            assert list(found.orders) == list(expected.orders)
        in_memory = data.draw(st.integers(1, 40))
        with streamed([path], RULES, rows_are, in_memory=in_memory) as found:
            assert list(found.orders) == list(expected.orders)
            assert without_examples(found.summary) == without_examples(expected.summary)


def test_what_is_odd_about_customers_is_told_once_and_of_all_of_them(tmp_path: Path) -> None:
    users = ["ada", " ada", "ADA", *["till"] * 60]
    orders = [Order(f"o{n}", user, 1_700_000_000_000 + n, 500) for n, user in enumerate(users)]
    path = written(tmp_path, orders)
    expected = load([path], RULES).summary
    with streamed([path], RULES, in_memory=3) as found:
        assert without_examples(found.summary) == without_examples(expected)
    codes = [odd.code for odd in found.summary.odd]
    assert len(codes) == len(set(codes)) >= 2


def same_but_the_example(one: str, other: str) -> bool:
    def rest(text: str) -> str:
        before, _, after = text.partition("; the first is ")
        return before + after.partition(". Say what")[2]

    return rest(one) == rest(other)


def without_examples(summary: Summary) -> object:
    plain = msgspec.to_builtins(summary)
    plain["odd"] = sorted((odd.code, odd.count) for odd in summary.odd)
    return plain


def test_memory_is_bounded_by_the_rows_that_are_held(tmp_path: Path) -> None:
    count = 8_000
    orders = (Order(f"order-{n:08}", f"user-{n % 50}", 10**12 - n * 1_000, n) for n in range(count))
    path = tmp_path / "log.csv"
    write_orders(path, orders, "USD")
    most = {}
    for in_memory in (200, count):
        tracemalloc.start()
        with streamed([path], RULES, in_memory=in_memory) as found:
            times = [order.ts_ms // 1_000 for order in found.orders]
        most[in_memory] = tracemalloc.get_traced_memory()[1] - len(times) * 40
        tracemalloc.stop()
        assert times == sorted(times)
        assert len(times) == count
    assert most[200] < most[count] / 2


def test_many_rows_of_one_id_that_are_more_than_is_held_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MOST_ROWS", 49)
    path = written(tmp_path, [Order("one", f"user-{n}", 10**12 + n, 5) for n in range(50)])
    with (
        pytest.raises(OrderLogError, match="is order_id an id of the order"),
        streamed([path], RULES, in_memory=10),
    ):
        pass
