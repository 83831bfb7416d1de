"""The records of a file, one after the other, whatever kind it is; memory is bounded by a row."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import IO, Any, Final

import msgspec

from model.files.text_files import MAX_LINE, OrderLogError
from model.intake.containers import CHUNK, FilePart, chunks, unpacked
from model.intake.layout import SEPARATORS, Layout, is_header, layout_of
from model.intake.table import HEADER_AGAIN, ROW_NUMBER, Record, Table

_SAMPLE_LINES: Final = 200
# A JSON document that is not one object a line has to be held whole.
_MOST_DOCUMENT: Final = 256 << 20
_LISTS: Final = ("orders", "data", "items", "results", "records", "charges", "events", "rows")
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def tables_of(part: FilePart, encoding: str | None = None) -> list[Table]:
    """The tables of one part of a file. Raises OrderLogError."""
    if part.kind == "workbook":
        from model.intake.workbook import sheets

        return sheets(part)
    if part.kind == "parquet":
        from model.intake.parquet import parquet_table

        return [parquet_table(part)]
    chosen = encoding or _encoding(part)
    with _Text(part, chosen) as text:
        sample = list(islice(_lines(text, part), _SAMPLE_LINES))
    if not any(line.strip() for line in sample):
        raise OrderLogError(f"{part} is empty; export it again")
    start = next(line for line in sample if line.strip()).lstrip()
    if start.startswith(("{", "[")):
        return [_json(part, chosen, sample)]
    layout = layout_of(sample)
    if layout is None:
        raise OrderLogError(
            f"{part} is no table: its first lines have no columns in common, separated by commas,"
            " semicolons, tabs or bars; export the orders as CSV"
        )
    return [_table(part, chosen, layout)]


def _encoding(part: FilePart) -> str:
    """By byte order mark, else UTF-8 where the whole file is, else what Windows writes."""
    with unpacked(part) as binary:
        head = binary.read(CHUNK)
        for mark, name in _BOMS:
            if head.startswith(mark):
                return name
        # Every second byte of a Latin text in UTF-16 is 0.
        if head[1:200:2].count(0) > 40:
            return "utf-16-le"
        if head[0:200:2].count(0) > 40:
            return "utf-16-be"
        if b"\0" in head:
            raise OrderLogError(f"{part} is no text; export the orders as CSV")
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for chunk in chain([head], chunks(binary)):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


class _Text:
    """The text of a part, in a `with`."""

    def __init__(self, part: FilePart, encoding: str) -> None:
        self._part, self._encoding = part, encoding
        self._binary = unpacked(part)

    def __enter__(self) -> IO[str]:
        binary = self._binary.__enter__()
        # A byte that the encoding has not becomes a mark in its own cell.
        return io.TextIOWrapper(binary, self._encoding, errors="replace", newline="")

    def __exit__(self, *error: Any) -> bool | None:
        return self._binary.__exit__(*error)


def _lines(text: IO[str], part: FilePart) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) >= MAX_LINE:
            raise OrderLogError(
                f"{part}, line {number}: it is longer than {MAX_LINE:,} characters; an order is a"
                " row or a line"
            )
        yield line


def _table(part: FilePart, encoding: str, layout: Layout) -> Table:
    where = f"header in line {layout.above + 1}" if layout.has_header else "no header"
    about = f"CSV in {_shown(encoding)}, separated by {SEPARATORS.get(layout.separator, '?')}"

    def rows() -> Iterator[tuple[int, Record | str]]:
        return _rows(part, encoding, layout)

    table = Table(part, f"{about}, {where}", layout.names, rows)
    if layout.above and layout.has_header:
        table.notes.append(f"what is above line {layout.above + 1}, the header, is left out")
    if encoding == "cp1252":
        table.notes.append("it is not UTF-8 and taken for cp1252; --encoding NAME says otherwise")
    return table


def _shown(encoding: str) -> str:
    return encoding.removesuffix("-sig").upper() if encoding.startswith("utf") else encoding


@dataclass(slots=True)
class _Physical:
    """The lines of a file, of which those of the present row are kept."""

    lines: Iterator[str]
    number: int = 0
    row: list[str] = field(default_factory=list)
    chars: int = 0  # of it

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.number += 1
            self.chars = self.chars + len(line) if self.row else len(line)
            self.row.append(line)
            if len(self.row) > 1 and self.chars >= MAX_LINE:
                raise csv.Error(f"a row of more than {MAX_LINE:,} characters")
            yield line


def _rows(part: FilePart, encoding: str, layout: Layout) -> Iterator[tuple[int, Record | str]]:
    names, width = layout.names, len(layout.names)
    with _Text(part, encoding) as text:
        physical = _Physical(_lines(text, part))
        for _ in islice(physical, layout.above + layout.has_header):
            physical.row.clear()
        split = (line.split() for line in physical) if layout.separator == " " else None
        reader = split or csv.reader(physical, delimiter=layout.separator, strict=True)
        count = 0
        while True:
            begins = physical.number + 1
            physical.row.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise OrderLogError(
                    f"{part}, line {begins}: {error}; look for a quote that is not closed, and"
                    ' double a quote within a quoted field ("")'
                ) from None
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if row[0].strip() == names[0] and is_header(row, layout):
                yield begins, HEADER_AGAIN
                continue
            if len(physical.row) > 1:
                _check_spanning(part, begins, physical.row, row, layout)
            count += 1
            if len(row) > width and not any(row[width:]):
                row = row[:width]
            if len(row) != width:
                yield begins, f"the row has {len(row)} fields where the header has {width}"
                continue
            record: Record = dict(zip(names, row, strict=True))
            record[ROW_NUMBER] = str(count)
            yield begins, record


def _check_spanning(
    part: FilePart, begins: int, lines: list[str], row: list[str], layout: Layout
) -> None:
    """Raises OrderLogError where a quote swallowed rows: what it holds looks like rows itself."""
    swallowed = [line.split(layout.separator) for line in lines[1:]]
    like_rows = any(
        len(cells) >= len(layout.names) and any(len(re.findall(r"\d", c)) >= 8 for c in cells)
        for cells in swallowed
    )
    if like_rows or len(row) != len(layout.names):
        raise OrderLogError(
            f"{part}, line {begins}: a quote opens here and closes {len(lines) - 1} lines further"
            ' down, over whole rows; close it, or double it ("") where it belongs to the text'
        )


def _json(part: FilePart, encoding: str, sample: list[str]) -> Table:
    lined = _is_lines(sample)
    if lined:
        return Table(part, "JSON, an object a line", (), lambda: _json_lines(part, encoding))
    return Table(part, "JSON, one document", (), lambda: _document(part, encoding))


def _is_lines(sample: list[str]) -> bool:
    """Whether each line is an object of its own."""
    filled = [line for line in sample if line.strip()]
    return all(line.lstrip().startswith("{") for line in filled[:20]) and (
        len(filled) > 1 or _is_json(filled[0])
    )


def _is_json(text: str) -> bool:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(document, dict) and _listed(document) is None


# Numbers keep the digits they are written with: no float ever touches money.
_decode = msgspec.json.Decoder(float_hook=str).decode


def _json_lines(part: FilePart, encoding: str) -> Iterator[tuple[int, Record | str]]:
    with _Text(part, encoding) as text:
        for number, line in enumerate(_lines(text, part), start=1):
            if not line.strip():
                continue
            try:
                document = _decode(line.lstrip("\ufeff"))
            except (msgspec.DecodeError, RecursionError) as error:
                yield number, f"the line is not JSON: {str(error)[:100]}"
                continue
            if isinstance(document, dict):
                yield number, document
            else:
                yield number, f"the line is a JSON {type(document).__name__}; write an object"


def _document(part: FilePart, encoding: str) -> Iterator[tuple[int, Record | str]]:
    with _Text(part, encoding) as text:
        content = text.read(_MOST_DOCUMENT + 1)
    if len(content) > _MOST_DOCUMENT:
        raise OrderLogError(
            f"{part} is one JSON document of more than {_MOST_DOCUMENT >> 20} MiB; write one object"
            " a line, as jq -c '.[]' does"
        )
    try:
        document = _decode(content.lstrip("\ufeff"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise OrderLogError(
            f"{part} is no JSON, or was cut off: {str(error)[:100]}; export it again"
        ) from None
    listed = document if isinstance(document, list) else _listed(document)
    if listed is None:
        listed = [document]
    for number, one in enumerate(listed, start=1):
        yield number, one if isinstance(one, dict) else f"item {number} is no object"


def _listed(document: dict[str, Any]) -> list[Any] | None:
    """The records of an answer of an API: the list under a name that such have."""
    for name in _LISTS:
        found = document.get(name)
        # An order has items too, and an amount or id beside them.
        if isinstance(found, list) and found and isinstance(found[0], dict) and len(document) <= 8:
            return None if {"id", "client_id", "total"} & document.keys() else found
    return None
