"""The rows of a CSV, read strictly: what a row or the header lacks is told, and nothing vanishes.

Separators are commas, semicolons or tabs, as the header has them or a first line `sep=;` says. A
quoted field may hold line ends, but not whole rows: a quote that is not closed swallows every row
up to the next one, and by the letter of CSV that is a field like any other.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from model.files.text_files import MAX_LINE, OrderLogError, check_length, lines_of

SEPARATORS: Final = (",", ";", "\t", "|")
_MOST_COLUMNS: Final = 1_000
_LONGEST_NAME: Final = 100
# Longer ones are left to the `csv` module, which refuses long values.
_LONGEST_LINE: Final = 65_536
_SEP_LINE: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# In a file that does not separate by commas: 12,50 and 1.234,50, of which there is one reading.
_COMMA_DECIMALS: Final = re.compile(r"-?(\d+|\d{1,3}(\.\d{3})+),\d{1,2}")


@lru_cache(maxsize=256)
def known_name(name: str, known: Iterable[str]) -> str:
    """The one of the known names that a column has in other letters (`Order ID `, `orderId`), or
    its own."""
    plain = _plain(name[:_LONGEST_NAME])
    return next((one for one in known if _plain(one) == plain), name)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


class CsvPage(NamedTuple):
    """Some rows in a row: on which line each begins, and the values of each of our columns."""

    lines: Sequence[int]
    columns: dict[str, list[str]]


class Misshapen(NamedTuple):
    """A row with another number of fields than the header has."""

    line: int
    fields: int


@dataclass(slots=True)
class CsvRows:
    """The rows of a CSV.

    `blocks` are those of the file (`model.files.text_files`); after the header has been read,
    `header` has the names of all columns, ours as we write them.
    """

    path: Path
    blocks: Iterator[str]
    needed: Sequence[str]
    optional: Sequence[str]
    header: list[str] = field(default_factory=list)
    separator: str = ","
    first_spanning: int = 0
    line: int = 0
    _record: list[str] = field(default_factory=list)
    _ours: list[int] = field(default_factory=list)
    _block: StringIO = field(default_factory=StringIO)

    def read_header(self) -> None:
        """Reads up to and including the header. Raises OrderLogError where it does not name what is
        needed, each once."""
        first = self._first_line()
        said = _SEP_LINE.fullmatch(first)
        if said:
            self.separator, first = said[1], self._first_line()
        else:
            counts = [first.count(separator) for separator in SEPARATORS]
            self.separator = SEPARATORS[counts.index(max(counts))]
        if "\0" in first:
            raise OrderLogError(
                f"order log {self.path}, line {self.line}: it has zero bytes; is it UTF-16 or"
                " UTF-32? Save it as UTF-8"
            )
        if first.count(self.separator) >= _MOST_COLUMNS:
            raise OrderLogError(
                f"order log {self.path}, line {self.line}: more than {_MOST_COLUMNS:,} columns; the"
                f" header must name {', '.join(self.needed)}"
            )
        self._record = [first]
        try:
            names = next(csv.reader([first], strict=False, delimiter=self.separator), [])
        except csv.Error as error:
            raise OrderLogError(
                f"order log {self.path} is no CSV at line {self.line}: {error}; the header must"
                f" name {', '.join(self.needed)}"
            ) from None
        ours = (*self.needed, *self.optional)
        self.header = [known_name(name, ours) for name in names]
        self._check_header(names)
        self._ours = [at for at, name in enumerate(self.header) if name in ours]

    def _first_line(self) -> str:
        """The next line that is not blank."""
        while True:
            for line in self._block:
                self.line += 1
                check_length(line, self.path, self.line)
                if not line.isspace():
                    return line
            block = next(self.blocks, None)
            if block is None:
                raise OrderLogError(
                    f"order log {self.path} is empty; it must have at least a header"
                )
            self._block = lines_of(block)

    def _check_header(self, names: Sequence[str]) -> None:
        missing = [name for name in self.needed if name not in self.header]
        if missing:
            there = ", ".join(repr(name)[:40] for name in names[:12]) or "nothing"
            noun = "column" if len(missing) == 1 else "columns"
            raise OrderLogError(
                f"order log {self.path} has no {noun} {', '.join(missing)}; there is {there};"
                f" the header must name {', '.join(self.needed)}, separated by commas, semicolons"
                " or tabs"
            )
        for name in (*self.needed, *self.optional):
            if self.header.count(name) > 1:
                at = [n for n, other in enumerate(self.header, start=1) if other == name]
                raise OrderLogError(
                    f"order log {self.path}, line {self.line}: column {name} is there twice, as"
                    f" columns {' and '.join(map(str, at))}; rename or drop the one that is not"
                    " meant"
                )

    def pages(self) -> Iterator[CsvPage | Misshapen]:
        """The rows below the header, in their order, blank lines left out. Raises OrderLogError
        where a quote swallows rows or is never closed."""
        for block in chain([self._block.read()], self.blocks):
            page = self._unquoted(block)
            if page is None:
                yield from self._strictly(block)
            else:
                yield page

    def _unquoted(self, block: str) -> CsvPage | None:
        """The rows of a block without quotes, all of the header's width, as the `csv` module has
        them; None for any other."""
        if '"' in block or "\0" in block or block.count("\r") != block.count("\r\n"):
            return None
        text = block.replace("\r\n", "\n").removesuffix("\n")
        try:
            raw = np.frombuffer(f"{text}\n".encode(), np.uint8)
        except UnicodeEncodeError:
            return None
        width, ends = len(self.header), np.flatnonzero(raw == ord("\n"))
        cuts = np.flatnonzero(raw == ord(self.separator)) if self.separator.isascii() else ends[:0]
        number = np.arange(1, len(ends) + 1) * (width - 1)
        if not np.array_equal(np.searchsorted(cuts, ends), number):
            return None
        if np.diff(ends, prepend=-1).max() > _LONGEST_LINE:
            return None
        values = text.replace("\n", self.separator).split(self.separator)
        first, self.line = self.line + 1, self.line + len(ends)
        return CsvPage(
            range(first, self.line + 1), {self.header[at]: values[at::width] for at in self._ours}
        )

    def _strictly(self, block: str) -> Iterator[CsvPage | Misshapen]:
        """The rows that begin in a block, which may end in others."""
        lines: list[int] = []
        rows: list[list[str]] = []
        refused = None
        try:
            for line, fields in self._rows(block):
                if len(fields) == len(self.header):
                    lines.append(line)
                    rows.append(fields)
                    continue
                if rows:
                    yield self._page(lines, rows)
                    lines, rows = [], []
                yield Misshapen(line, len(fields))
        except OrderLogError as error:
            refused = error
        if rows:
            yield self._page(lines, rows)
        if refused is not None:
            raise refused

    def _page(self, lines: list[int], rows: list[list[str]]) -> CsvPage:
        columns = list(zip(*rows, strict=True))
        return CsvPage(lines, {self.header[at]: list(columns[at]) for at in self._ours})

    def _rows(self, block: str) -> Iterator[tuple[int, list[str]]]:
        """Each row that begins in a block, with its first line."""
        reader = csv.reader(self._physical(block), strict=True, delimiter=self.separator)
        record = self._record
        begins = self.line + 1
        record.clear()
        line_before, told = self.line, 0
        try:
            for fields in reader:
                told += len(record)
                if len(record) > 1:
                    self._check_spanning(begins, record, fields)
                if fields:
                    self._check_quotes(begins, fields)
                    yield begins, fields
                begins = self.line + 1
                record.clear()
        except csv.Error as error:
            raise OrderLogError(
                f"order log {self.path} is no CSV at line {begins}: {error}; look for an unclosed"
                ' quote, and double a quote inside a quoted field ("")'
            ) from None
        if told != self.line - line_before:
            raise OrderLogError(
                f"order log {self.path}: {self.line - line_before - told:,} of its lines came to no"
                " row; report this with the file's first lines"
            )

    def _physical(self, block: str | None) -> Iterator[str]:
        """The lines of a block, and of those after it while a row goes on; those of the present row
        are kept beside."""
        record, chars = self._record, 0
        while block is not None:
            for line in lines_of(block):
                self.line += 1
                check_length(line, self.path, self.line)
                chars = chars + len(line) if record else len(line)
                record.append(line)
                if len(record) > 1 and chars >= MAX_LINE:
                    raise csv.Error(f"a row of more than {MAX_LINE:,} characters")
                yield line
            block = next(self.blocks, None) if record else None

    def _check_quotes(self, begins: int, fields: Sequence[str]) -> None:
        """Raises OrderLogError where a blank before a quote makes both part of a value."""
        for at in self._ours:
            if at < len(fields) and fields[at][:1] == " " and fields[at].lstrip()[:1] == '"':
                raise OrderLogError(
                    f"order log {self.path}, line {begins}: a blank stands before the quote of"
                    f" {self.header[at]}, so that both would belong to it; leave the blank out"
                )

    def _check_spanning(self, begins: int, record: Sequence[str], fields: Sequence[str]) -> None:
        """Raises OrderLogError where the lines of a row are rows of their own."""
        self.first_spanning = self.first_spanning or begins
        ours = {*self.needed, *self.optional}
        broken = any(
            name in ours and ("\n" in value or "\r" in value)
            for name, value in zip(self.header, fields, strict=False)
        )
        if broken or len(fields) != len(self.header) or any(map(self._is_row, record[1:])):
            raise OrderLogError(
                f"order log {self.path}, line {begins}: a quote opens here and closes"
                f" {len(record) - 1} lines further down, so that the rows between would be one"
                ' field; close the quote, or double it ("") where it belongs to the text'
            )

    def _is_row(self, line: str) -> bool:
        """Whether a line, taken by itself, has a time where the header says."""
        fields = line.split(self.separator)
        at = self.header.index("ts")
        return len(fields) >= len(self.header) and len(re.findall(r"\d", fields[at])) >= 8


def comma_decimals(text: str) -> str:
    """An amount of a file that does not separate by commas, with a point: `1.234,50` is 1234.50."""
    if _COMMA_DECIMALS.fullmatch(text.strip()):
        return text.replace(".", "").replace(",", ".")
    return text
