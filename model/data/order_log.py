"""Order logs in files, read one row at a time: CSV, JSON Lines and Parquet, the first two also .gz.

A CSV has the header `order_id,user_id,ts,amount[,type,currency]`, in any order of columns; JSON
Lines and Parquet have the same names. Other columns are ignored. A negative amount is a refund of
that size without a known order. The whole file is never in memory.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, TypeAlias

import msgspec

from features.orders import Order, OrderRules, Reason, Rejected, from_fields, is_unicode
from model.errors import ModelError

REQUIRED: Final = ("order_id", "user_id", "ts", "amount")
OPTIONAL: Final = ("type", "currency")
REJECTED_FILE: Final = "rejected.csv"

_BATCH_ROWS: Final = 10_000


class OrderLogError(ModelError):
    """A file cannot be read as an order log. Mend or replace the file that the message names."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that breaks a rule. `line` counts from 1 (in Parquet: rows)."""

    path: Path
    line: int
    rejected: Rejected

    def __str__(self) -> str:
        reason, detail = self.rejected.reason.value, self.rejected.detail
        return f"{self.path}, line {self.line}: {reason}: {detail}"


Row: TypeAlias = Order | RejectedRow


@dataclass(slots=True)
class Rejections:
    """Rows that were set aside: counted, the first kept, and all of them written to a CSV of path,
    line, reason and detail where `path` says."""

    path: Path | None = None
    counts: Counter[str] = field(default_factory=Counter)
    first: RejectedRow | None = None
    _file: Any = None
    _rows: Any = None

    def __enter__(self) -> Self:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8", newline="")
            self._rows = csv.writer(self._file)
            self._rows.writerow(("file", "line", "reason", "detail"))
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def accepted(self, rows: Iterable[Row]) -> Iterator[Order]:
        """The rows that are orders; the others are taken down."""
        for row in rows:
            if isinstance(row, Order):
                yield row
            else:
                self._take(row)

    def _take(self, row: RejectedRow) -> None:
        self.first = self.first or row
        self.counts[row.rejected.reason.value] += 1
        if self._rows is not None:
            rejected = row.rejected
            self._rows.writerow((row.path, row.line, rejected.reason.value, rejected.detail))


def read_orders(paths: Sequence[str | Path], rules: OrderRules) -> Iterator[Row]:
    """The rows of the files, file by file, in the order in which they stand there.

    All files are looked for before the first row is read. Raises OrderLogError for a file that is
    missing, empty, of an unknown kind, without a required column, or damaged.
    """
    logs = [Path(path) for path in paths]
    readers = [_reader_of(path) for path in logs]
    return (row for path, reader in zip(logs, readers, strict=True) for row in reader(path, rules))


_Reader: TypeAlias = Callable[[Path, OrderRules], Iterator[Row]]


def _reader_of(path: Path) -> _Reader:
    if not path.exists():
        raise OrderLogError(f"order log {path} does not exist; check the path")
    if path.is_dir():
        raise OrderLogError(f"order log {path} is a directory; name the files in it")
    name = path.name.lower()
    for suffix, reader in _READERS.items():
        if name.endswith(suffix):
            if not path.stat().st_size:
                raise _empty(path)
            return reader
    raise OrderLogError(
        f"order log {path} is of an unknown kind; its name must end in one of {', '.join(_READERS)}"
    )


def _read_csv(path: Path, rules: OrderRules) -> Iterator[Row]:
    with _opened(path) as binary:
        # What is no UTF-8 comes through as surrogates, and sets aside its own row only.
        text = TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(text)
        header = next(_csv_rows(rows, path), None)
        if header is None:
            raise _empty(path)
        header = [name.strip() for name in header]
        _require(path, header)
        for fields in _csv_rows(rows, path):
            if len(fields) == len(header):
                yield _row(dict(zip(header, fields, strict=True)), path, rows.line_num, rules)
            elif fields:  # an empty line is not a row
                yield _misshapen(path, rows.line_num, len(fields), len(header))


def _csv_rows(rows: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        line = getattr(rows, "line_num", 0)
        raise OrderLogError(
            f"order log {path} is no CSV at line {line}: {error}; look for an unclosed quote"
        ) from None


def _read_jsonl(path: Path, rules: OrderRules) -> Iterator[Row]:
    # Numbers keep the digits they are written with: no float ever touches money.
    decode = msgspec.json.Decoder(float_hook=str).decode
    with _opened(path) as binary:
        any_line = False
        for line, content in enumerate(binary, start=1):
            any_line = True
            if content.isspace():
                continue
            try:
                document = decode(content)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                detail = f"the line is not JSON in UTF-8: {str(error)[:120]}"
                yield RejectedRow(path, line, Rejected(Reason.NOT_JSON, detail))
                continue
            if not isinstance(document, dict):
                detail = f"the line is a JSON {type(document).__name__}; write an object"
                yield RejectedRow(path, line, Rejected(Reason.NOT_AN_OBJECT, detail))
                continue
            yield _row(_as_text(document, ("ts", "amount")), path, line, rules)
        if not any_line:
            raise _empty(path)


def _read_parquet(path: Path, rules: OrderRules) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise OrderLogError(
            f"order log {path}: reading Parquet needs pyarrow;"
            ' install it with: pip install "clv-streamer[parquet]"'
        ) from None
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _require(path, names)
            if pa.types.is_timestamp(kind := file.schema_arrow.field("ts").type) and not kind.tz:
                raise OrderLogError(
                    f"order log {path}: column ts holds times without a zone;"
                    " store them as timestamps in UTC"
                )
            wanted = [name for name in (*REQUIRED, *OPTIONAL) if name in names]
            line = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
                columns = [_parquet_values(pa, batch.column(name)) for name in wanted]
                for values in zip(*columns, strict=True):
                    line += 1
                    fields = dict(zip(wanted, values, strict=True))
                    yield _row(_as_text(fields, fields), path, line, rules)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "Parquet file", error) from None


def _parquet_values(pa: Any, column: Any) -> list[object]:
    if pa.types.is_timestamp(column.type):
        # Nanoseconds of an exporter are dropped here; event time is in milliseconds.
        column = column.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
    values: list[object] = column.to_pylist()
    return values


def _as_text(document: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The row with its numbers as text, shortest form that says the same; absent where null."""
    for name in names:
        value = document.get(name)
        if value is not None and not isinstance(value, str | bool):
            document[name] = str(value)
    return document


_ID_REASONS: Final = {"order_id": Reason.BAD_ORDER_ID, "user_id": Reason.BAD_USER_ID}


def _row(fields: dict[str, Any], path: Path, line: int, rules: OrderRules) -> Row:
    for name, reason in _ID_REASONS.items():
        value = fields.get(name)
        if isinstance(value, str) and not value.isascii() and not is_unicode(value):
            detail = f"{name} {ascii(value)[:80]} is not UTF-8; save the file in UTF-8"
            return RejectedRow(path, line, Rejected(reason, detail))
    for name in REQUIRED[2:] + OPTIONAL:
        if not isinstance(value := fields.get(name), str | None):
            fields[name] = repr(value)  # true, [] and {} are not text: shown as they are, refused
    order = from_fields(fields, rules)
    return RejectedRow(path, line, order) if isinstance(order, Rejected) else order


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    compressed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path, "rb") if compressed else path.open("rb") as binary:
            yield binary  # type: ignore[misc]  # GzipFile reads like any binary file
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, "gzip file" if compressed else "file", error) from None


def _require(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        there = ", ".join(repr(name)[:40] for name in names[:12]) or "nothing"
        noun = "column" if len(missing) == 1 else "columns"
        raise OrderLogError(
            f"order log {path} has no {noun} {', '.join(missing)}; there is {there};"
            f" the header must name {', '.join(REQUIRED)}"
        )


def _misshapen(path: Path, line: int, found: int, expected: int) -> RejectedRow:
    detail = f"the row has {found} fields where the header has {expected}; quote commas in values"
    return RejectedRow(path, line, Rejected(Reason.MISSING_FIELD, detail))


def _empty(path: Path) -> OrderLogError:
    return OrderLogError(f"order log {path} is empty; it must have at least a header")


def _unreadable(path: Path, kind: str, error: BaseException) -> OrderLogError:
    fault = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return OrderLogError(f"order log {path} cannot be read as a {kind}: {fault}; copy it again")


_READERS: Final[dict[str, _Reader]] = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".ndjson.gz": _read_jsonl,
    ".parquet": _read_parquet,
}
