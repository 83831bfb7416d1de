"""Whatever stands in an order file is loaded or told, within a bound of memory."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from features.times import calendar_of
from model.files.loading import load
from model.files.order_log import FileRules
from model.files.rejections import Rejections
from model.files.rows import RowsAre
from model.files.text_files import OrderLogError
from tests.fuzz.mutate import fuzzed, mutated, seeds_of

SEEDS = seeds_of("order_file")
# Several times the longest line that is read.
MOST_BYTES: Final = 32 << 20
NAMES = st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.jsonl.gz"])
RULES = st.builds(
    FileRules,
    zone=st.sampled_from([None, calendar_of("Europe/Berlin")]),
    now_ms=st.sampled_from([None, 1_772_366_400_000]),
)
# Said many times over, as a compressed file can at little cost.
LONG = st.sampled_from([b"", b" ", b"x", b'"', b"\n", b",", b"[", b"\xff", b"\x00"])


def loaded(name: str, data: bytes, rules: FileRules, rows_are: RowsAre | None) -> int:
    """How many orders the file has; 0 where it is refused."""
    with TemporaryDirectory() as folder, Rejections(Path(folder) / "rejected.csv") as rejections:
        path = Path(folder) / name
        path.write_bytes(data)
        tracemalloc.start()
        try:
            found = load([path], rules, rows_are, rejections=rejections)
        except OrderLogError:
            return 0
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < MOST_BYTES
    assert len(found.orders)
    return len(found.orders)


def test_the_seeds_are_orders() -> None:
    for path in ("plain.csv", "utf16.csv", "tabs.tsv", "lines.jsonl"):
        data = (Path(__file__).parent / "seeds/order_file" / path).read_bytes()
        assert loaded(path, data, FileRules(), None)
    assert not loaded("a.csv", b"x" * 140_000, FileRules(), None)


@fuzzed
@given(
    NAMES,
    mutated(SEEDS),
    LONG,
    st.sampled_from([0, 0, 3, 3, 3, 140_000, 1_100_000]),
    RULES,
    st.sampled_from([None, *RowsAre]),
    st.booleans(),
)
def test_any_file_is_loaded_or_told(
    name: str,
    data: bytes,
    long: bytes,
    times: int,
    rules: FileRules,
    rows_are: RowsAre | None,
    torn: bool,
) -> None:
    data += long * times
    if name.endswith(".gz"):
        data = gzip.compress(data, 1)
        if torn:
            data = data[: len(data) // 2] + data[len(data) // 2 + 1 :]
    loaded(name, data, rules, rows_are)
