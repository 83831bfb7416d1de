"""Order logs in files, read one row at a time: CSV, JSON Lines and Parquet, the first two also .gz.

A CSV has the header `order_id,user_id,ts,amount`, and perhaps `type`, `currency`, `refund_id` and
`updated_at`, in any order of columns and spelling of capitals; JSON Lines and Parquet have the same
names. Other columns are ignored. A negative amount is a refund of that size without a known order.
The whole file is never in memory, nor a line, row group or value beyond a bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from features.events.ids import is_unicode
from features.events.orders import Order, OrderRules, Reason, Rejected, from_fields
from features.times import Calendar, comes_twice
from model.files.csv_rows import CsvRows, Misshapen, comma_decimals, known_name
from model.files.pages import Column, PlainOrders, PlainReader
from model.files.text_files import (
    OrderLogError,
    blocks,
    check_length,
    opened,
    text_blocks,
    unreadable,
    utf16,
)

REQUIRED: Final = ("order_id", "user_id", "ts", "amount")
OPTIONAL: Final = ("type", "currency", "refund_id", "updated_at")
REJECTED_FILE: Final = "rejected.csv"

_BATCH_ROWS: Final = 10_000
# What a row group's columns may take once unpacked, and one of their values.
_MOST_GROUP_BYTES: Final = 1 << 30
_MOST_VALUE_BYTES: Final = 65_536
_KNOWN: Final = frozenset((*REQUIRED, *OPTIONAL))
_T = TypeVar("_T")
_QUOTED: Final = tuple(f'"{name}"'.encode() for name in (*REQUIRED, *OPTIONAL))


@dataclass(frozen=True, slots=True)
class FileRules:
    """What a file's orders must satisfy (`orders`), and how its times are read.

    `now_ms`: the clock that orders may not be ahead of; None: any. `zone`: that of times without an
    offset; None: they are set aside. `reader` gives the rows of files that need a mapping
    (`model.intake`).
    """

    orders: OrderRules = field(default_factory=OrderRules)
    now_ms: int | None = None
    zone: Calendar | None = None
    reader: Callable[[FileRules], Iterator[Row]] | None = None

    def plain(self) -> PlainReader:
        """What reads plain rows under these rules."""
        return PlainReader(self.orders, self.now_ms, self.zone)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that breaks a rule. `line` counts from 1 (in Parquet: rows)."""

    path: Path
    line: int
    rejected: Rejected

    def __str__(self) -> str:
        reason, detail = self.rejected.reason.value, self.rejected.detail
        return f"{self.path}, line {self.line}: {reason}: {detail}"


@dataclass(frozen=True, slots=True)
class DoubtedRow:
    """An order of a time without an offset that came twice, as clocks were put back: it is taken
    for the first."""

    order: Order


Row: TypeAlias = Order | RejectedRow | DoubtedRow
Rows: TypeAlias = Row | PlainOrders


def read_orders(paths: Sequence[str | Path], rules: OrderRules | FileRules) -> Iterator[Row]:
    """The rows of the files, file by file, in the order in which they stand there.

    All files are looked for before the first row is read. Raises OrderLogError for a file that is
    missing, empty, of an unknown kind, without a required column, or damaged.
    """
    given = rules if isinstance(rules, FileRules) else FileRules(rules)
    return one_by_one(read_pages(paths, given))


def read_pages(paths: Sequence[str | Path], rules: FileRules) -> Iterator[Rows]:
    """The same, those that are plain in columns."""
    if rules.reader is not None:
        return rules.reader(rules)
    readers = check_paths(paths)
    return (row for path, reader in readers for row in reader(path, rules))


def one_by_one(rows: Iterable[_T | PlainOrders]) -> Iterator[_T | Order]:
    """Rows, each by itself."""
    for row in rows:
        if isinstance(row, PlainOrders):
            yield from row
        else:
            yield row


_Reader: TypeAlias = Callable[[Path, FileRules], Iterator[Rows]]


def check_paths(paths: Sequence[str | Path]) -> list[tuple[Path, _Reader]]:
    """Each of the files with what reads it. Raises OrderLogError for one that is not there, or not
    of a known kind."""
    return [(path, _reader_of(path)) for path in map(Path, paths)]


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


def _read_csv(path: Path, rules: FileRules) -> Iterator[Rows]:
    with opened(path) as binary:
        rows = CsvRows(path, text_blocks(binary, path), REQUIRED, OPTIONAL)
        rows.read_header()
        plain, commas = rules.plain(), rows.separator != ","
        for page in rows.pages():
            if isinstance(page, Misshapen):
                yield _misshapen(path, page.line, page.fields, len(rows.header))
                continue
            columns = page.columns
            if commas:
                columns["amount"] = list(map(comma_decimals, columns["amount"]))
            by_row = partial(_of_columns, columns, page.lines, path, rules)
            yield from plain.read(columns, len(page.lines), by_row)


def _of_columns(
    columns: Mapping[str, Column], lines: Sequence[int], path: Path, rules: FileRules, at: int
) -> Row:
    return _row({name: values[at] for name, values in columns.items()}, path, lines[at], rules)


def _read_jsonl(path: Path, rules: FileRules) -> Iterator[Rows]:
    # Numbers keep the digits they are written with: no float ever touches money.
    decoder, plain = msgspec.json.Decoder(float_hook=str), rules.plain()
    with opened(path) as binary:
        if utf16(binary):
            raise OrderLogError(f"order log {path} is UTF-16; save it as UTF-8")
        first, any_row = 1, False
        for block in blocks(binary):
            physical = block.split(b"\n")
            contents, numbers = [], []
            for number, content in enumerate(physical, first):
                check_length(content, path, number)
                if content and not content.isspace():
                    contents.append(content)
                    numbers.append(number)
            first += len(physical) - 1
            if not contents:
                continue
            if not any_row and contents[0].lstrip()[:1] == b"[":
                raise OrderLogError(
                    f"order log {path}, line {numbers[0]}: it begins with a JSON array; write one"
                    " object a line, as jq -c '.[]' does"
                )
            any_row = True

            def by_row(at: int, contents: Any = contents, numbers: Any = numbers) -> Row:
                return _json_row(decoder.decode, contents[at], path, numbers[at], rules)

            columns = _json_columns(decoder, contents)
            if columns is None:
                yield from map(by_row, range(len(contents)))
            else:
                yield from plain.read(columns, len(contents), by_row)
        if not any_row:
            raise _empty(path)


def _json_columns(
    decoder: msgspec.json.Decoder[Any], contents: Sequence[bytes]
) -> dict[str, list[Any]] | None:
    """Our fields of many lines, numbers as text; None where one of them is no object, or names a
    field twice or in other letters."""
    block = b"\n".join(contents)
    try:
        documents = decoder.decode_lines(block)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if len(documents) != len(contents) or set(map(type, documents)) != {dict}:
        return None
    names = set().union(*documents)
    if any(known_name(name, _KNOWN) in _KNOWN for name in names - _KNOWN):
        return None
    columns = {}
    for name, quoted in zip((*REQUIRED, *OPTIONAL), _QUOTED, strict=True):
        if name in names or name in REQUIRED:
            if block.count(quoted) != sum(name in document for document in documents):
                return None
            found = [document.get(name) for document in documents]
            columns[name] = [str(one) if type(one) is int else one for one in found]
    return columns


def _json_row(
    decode: Callable[[bytes], Any], content: bytes, path: Path, line: int, rules: FileRules
) -> Row:
    """What a line says; every line that is not blank is a row."""
    try:
        document = decode(content)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        detail = f"the line is not JSON in UTF-8: {str(error)[:120]}"
        return RejectedRow(path, line, Rejected(Reason.NOT_JSON, detail))
    if not isinstance(document, dict):
        detail = f"the line is a JSON {type(document).__name__}; write an object"
        return RejectedRow(path, line, Rejected(Reason.NOT_AN_OBJECT, detail))
    fault = _names_fault(document, content)
    if fault is not None:
        return RejectedRow(path, line, fault)
    fields = {name: _as_text(document.get(name)) for name in _KNOWN}
    return _row(fields, path, line, rules)


def _names_fault(document: dict[str, Any], content: bytes) -> Rejected | None:
    """Names of a JSON line brought to how we write them; what is wrong with them, if anything."""
    if not document.keys() <= _KNOWN:
        for name in [name for name in document if name not in _KNOWN]:
            if (known := known_name(name, _KNOWN)) in _KNOWN:
                if known in document:
                    return Rejected(Reason.MISSING_FIELD, _twice(known))
                document[known] = document.pop(name)
    suspect = any(content.count(quoted) > 1 for quoted in _QUOTED)
    if suspect and (twice := _repeated(content)) is not None:
        return Rejected(Reason.MISSING_FIELD, _twice(twice))
    missing = [name for name in REQUIRED if name not in document]
    if missing:
        there = ", ".join(repr(name)[:40] for name in list(document)[:8]) or "nothing"
        noun = "is" if len(missing) == 1 else "are"
        detail = f"{', '.join(missing)} {noun} missing; there is {there}"
        return Rejected(Reason.MISSING_FIELD, detail)
    return None


def _twice(name: str) -> str:
    return f"{name} is there twice; leave out the one that is not meant"


def _repeated(content: bytes) -> str | None:
    """The first of our names that the outermost object of a JSON line has twice."""
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        # The outermost object comes last.
        found[:] = [name for name, _ in items]
        return {}

    try:
        json.loads(content, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return None
    return next((name for name in found if name in _KNOWN and found.count(name) > 1), None)


def _read_parquet(path: Path, rules: FileRules) -> Iterator[Rows]:
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
            columns = _parquet_columns(pa, path, file, rules.zone)
        texts = [name for name, kind in columns.values() if pa.types.is_string(kind)]
        # Texts as numbers into a list of them: a page of one value, a million times, stays small.
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            line, plain = 0, rules.plain()
            names = [name for name, _ in columns.values()]
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                found = {
                    known: _parquet_texts(pa, path, batch.column(name))
                    for known, (name, _) in columns.items()
                }
                lines = range(line + 1, line + 1 + batch.num_rows)
                by_row = partial(_of_columns, found, lines, path, rules)
                yield from plain.read(found, batch.num_rows, by_row)
                line += batch.num_rows
            if line != file.metadata.num_rows:
                raise OrderLogError(
                    f"order log {path}: {line:,} rows were read, and its footer says"
                    f" {file.metadata.num_rows:,}; write the file again"
                )
    except (pa.ArrowMemoryError, MemoryError):
        raise OrderLogError(
            f"order log {path} takes more memory than there is; write smaller row groups"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, "Parquet file", error) from None


def _parquet_columns(
    pa: Any, path: Path, file: Any, zone: Calendar | None
) -> dict[str, tuple[str, Any]]:
    """Our names, each with the file's own and its type. Raises OrderLogError."""
    schema, found = file.schema_arrow, {}
    for name in schema.names:
        if (known := known_name(name, _KNOWN)) in _KNOWN:
            if known in found:
                raise OrderLogError(f"order log {path}: column {_twice(known)}")
            found[known] = (name, schema.field(name).type)
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        there = ", ".join(repr(name)[:40] for name in schema.names[:12]) or "nothing"
        raise OrderLogError(
            f"order log {path} has no {'column' if len(missing) == 1 else 'columns'}"
            f" {', '.join(missing)}; there is {there}; there must be {', '.join(REQUIRED)}"
        )
    for name in ("ts", "updated_at"):
        kind = found[name][1] if name in found else None
        naive = kind is not None and pa.types.is_timestamp(kind) and not kind.tz
        if naive and zone is None:
            raise OrderLogError(
                f"order log {path}: column {name} holds times without a zone; name it (--timezone),"
                " or store them as timestamps in UTC"
            )
    wanted = {name for name, _ in found.values()}
    for group in range(file.metadata.num_row_groups):
        about = file.metadata.row_group(group)
        chunks = [about.column(at) for at in range(about.num_columns)]
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema in wanted)
        if size > _MOST_GROUP_BYTES:
            raise OrderLogError(
                f"order log {path}: row group {group + 1} takes {size >> 20:,} MiB; write smaller"
                f" ones, of {_MOST_GROUP_BYTES >> 20:,} MiB at most"
            )
    return found


def _parquet_texts(pa: Any, path: Path, column: Any) -> list[object]:
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type):
        # Nanoseconds of an exporter are dropped here; event time is in milliseconds.
        zone = column.type.tz
        column = column.cast(pa.timestamp("ms", "UTC" if zone else None), safe=False)
        column = column.cast(pa.timestamp("ms")).cast(pa.string())
        if zone:
            column = pc.binary_join_element_wise(column, "Z", "")
    held, is_dictionary = column, pa.types.is_dictionary(column.type)
    if is_dictionary:
        held = column.dictionary.take(column.indices.drop_null().unique())
    if not pa.types.is_string(held.type) and not pa.types.is_large_string(held.type):
        return list(map(_as_text, column.to_pylist()))
    longest = pc.max(pc.binary_length(held)).as_py() or 0
    if longest > _MOST_VALUE_BYTES:
        raise OrderLogError(
            f"order log {path}: a value has {longest:,} bytes; ids have 128 characters at most"
        )
    texts = column.dictionary_decode() if is_dictionary else column
    values: list[object] = texts.to_numpy(zero_copy_only=False).tolist()
    return values


def _as_text(value: object) -> object:
    """A number as text, the shortest form that says the same; other values as they are."""
    if value is None or isinstance(value, str | bool | list | dict):
        return value
    return str(value)


_ID_REASONS: Final = {"order_id": Reason.BAD_ORDER_ID, "user_id": Reason.BAD_USER_ID}


def _row(fields: dict[str, Any], path: Path, line: int, rules: FileRules) -> Row:
    for name, reason in _ID_REASONS.items():
        value = fields.get(name)
        if isinstance(value, str) and not value.isascii() and not is_unicode(value):
            detail = f"{name} {ascii(value)[:80]} is not UTF-8; save the file in UTF-8"
            return RejectedRow(path, line, Rejected(reason, detail))
    for name in REQUIRED[2:] + OPTIONAL:
        if not isinstance(value := fields.get(name), str | None):
            fields[name] = repr(value)  # true, [] and {} are not text: shown as they are, refused
    order = from_fields(fields, rules.orders, rules.now_ms, rules.zone)
    if isinstance(order, Rejected):
        return RejectedRow(path, line, order)
    if rules.zone is not None and comes_twice(fields["ts"], rules.zone):
        return DoubtedRow(order)
    return order


def _misshapen(path: Path, line: int, found: int, expected: int) -> RejectedRow:
    detail = f"the row has {found} fields where the header has {expected}; quote commas in values"
    return RejectedRow(path, line, Rejected(Reason.MISSING_FIELD, detail))


def _empty(path: Path) -> OrderLogError:
    return OrderLogError(f"order log {path} is empty; it must have at least a header")


_READERS: Final[dict[str, _Reader]] = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".tsv": _read_csv,
    ".tsv.gz": _read_csv,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".ndjson.gz": _read_jsonl,
    ".parquet": _read_parquet,
}
