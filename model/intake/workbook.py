"""The sheets of an Excel workbook, read row by row."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from model.files.text_files import OrderLogError
from model.intake.containers import FilePart
from model.intake.layout import layout_of, unique
from model.intake.table import ROW_NUMBER, Record, Table

_MOST_COLUMNS: Final = 1_000
_MOST_BLANK_ROWS: Final = 1_000
_SAMPLE_ROWS: Final = 50


def sheets(part: FilePart) -> list[Table]:
    """The sheets of a workbook that are tables: the first one, and those with the same header.
    Raises OrderLogError."""
    found: list[Table] = []
    left_out = []
    # Opened once: each time, the texts of all sheets are read.
    book = _open(part)
    for name in [sheet.title for sheet in book.worksheets]:
        cells = _cells(part, book, name)
        sample = [row for _, row in zip(range(_SAMPLE_ROWS), cells, strict=False)]
        shape = _shape(sample)
        if shape is None or (found and shape[1] != found[0].names):
            left_out += [name] if shape is not None else []
            continue
        found.append(_sheet(part, book, name, *shape))
    if not found:
        raise OrderLogError(f"{part} has no sheet with rows below a header; export it again")
    if left_out:
        found[0].notes.append(f"other sheets are left out: {', '.join(left_out[:5])}")
    return found


def _sheet(
    part: FilePart, book: Any, name: str, above: int, names: tuple[str, ...], has_header: bool
) -> Table:
    def numbered() -> Iterator[tuple[int, list[Any]]]:
        return _numbered(_cells(part, book, name), above + has_header)

    def records() -> Iterator[tuple[int, Record | str]]:
        for count, (number, row) in enumerate(numbered(), start=1):
            if any(cell != "" for cell in row[len(names) :]):
                yield number, f"the row has {len(row)} cells where the header has {len(names)}"
                continue
            cells = [*row, *[""] * (len(names) - len(row))][: len(names)]
            record: Record = dict(zip(names, cells, strict=True))
            record[ROW_NUMBER] = str(count)
            yield number, record

    where = f"header in row {above + 1}" if has_header else "no header"
    return Table(part, f"Excel, sheet {name!r}, {where}", names, records)


def _shape(sample: list[list[Any]]) -> tuple[int, tuple[str, ...], bool] | None:
    """Rows above the header, names, and whether there is a header; None where there is no table."""
    texts = ["\t".join(str(cell).replace("\t", " ") for cell in row) for row in sample]
    width = max((len(row) for row in sample), default=0)
    if width < 2 or sum(any(cell != "" for cell in row) for row in sample) < 2:
        return None
    padded = [text + "\t" * (width - 1 - text.count("\t")) for text in texts]
    layout = layout_of([f"{text}\n" for text in padded])
    if layout is None:
        return None
    if not layout.has_header:
        return layout.above, layout.names, False
    header = [str(cell).strip() for cell in sample[layout.above]]
    while header and not header[-1]:
        header.pop()
    return layout.above, unique(header), True


def _numbered(cells: Iterator[list[Any]], skipped: int) -> Iterator[tuple[int, list[Any]]]:
    blank = 0
    for number, row in enumerate(cells, start=1):
        if number <= skipped:
            continue
        if all(cell == "" for cell in row):
            # Formats reach down to row 1,048,576 in some workbooks; rows do not.
            blank += 1
            if blank > _MOST_BLANK_ROWS:
                return
            continue
        blank = 0
        yield number, row


def _cells(part: FilePart, book: Any, name: str) -> Iterator[list[Any]]:
    try:
        sheet = book[name]
        # What a sheet says of its size may be wrong, and would be believed.
        sheet.reset_dimensions()
        for row in sheet.iter_rows(values_only=True):
            if len(row) > _MOST_COLUMNS:
                raise OrderLogError(
                    f"{part}, sheet {name!r}: more than {_MOST_COLUMNS:,} columns; export the"
                    " orders alone"
                )
            yield [_value(cell) for cell in row]
    except (ParseError, zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise _damaged(part, error) from None


def _open(part: FilePart) -> Any:
    try:
        with warnings.catch_warnings():
            # Of styles and validations that it does not know.
            warnings.simplefilter("ignore")
            return load_workbook(part.path, read_only=True, data_only=True, keep_links=False)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, ParseError) as error:
        raise _damaged(part, error) from None
    except (TypeError, AttributeError, OSError, IndexError) as error:
        raise _damaged(part, error) from None


def _damaged(part: FilePart, error: Exception) -> OrderLogError:
    fault = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    return OrderLogError(f"{part} cannot be read as a workbook: {fault}; save it again as .xlsx")


def _value(cell: Any) -> Any:
    """Numbers as the text that they are shown as; times as times, for they have no zone."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, datetime | date):
        return cell
    if isinstance(cell, time):
        return cell.isoformat()
    return str(cell)
