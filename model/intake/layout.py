"""How a text is laid out, seen from its first rows: separator, header, lines above it. Pure."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
_SEP_LINE: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_MOST_ABOVE: Final = 20
_LEAST_SCORE: Final = 0.5
_VALUE: Final = re.compile(
    r"[-+(]?\W{0,3}\d[\d.,' ]*\W{0,3}\)?"  # a number, with a currency beside it or not
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?"  # a date
    r"|[^@\s]+@[^@\s]+\.[a-z]+"  # an address
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is written: `separator` (a blank: any number of blanks), `above` lines before
    the header or the first row, `names` of the columns; c1, c2, ... where there is no header."""

    separator: str
    above: int
    names: tuple[str, ...]
    has_header: bool


def layout_of(lines: Sequence[str]) -> Layout | None:
    """The layout of a table that begins with these lines; None where they are no table."""
    above = 0
    given = None
    lines = list(lines)
    while lines and (not lines[0].strip() or _SEP_LINE.fullmatch(lines[0])):
        if found := _SEP_LINE.fullmatch(lines[0]):
            given = found[1]
        above += 1
        lines.pop(0)
    best: tuple[float, str, int, list[tuple[int, list[str]]]] | None = None
    for separator in [given] if given else SEPARATORS:
        rows = split(lines, separator)
        if not rows:
            continue
        counts = Counter(len(row) for _, row in rows)
        width, times = max(counts.items(), key=lambda item: (item[1], item[0]))
        if width < 2:
            continue
        # A row that is no table's has another width; the more columns fit, the surer it is.
        score = times / len(rows) + min(width, 50) / 1000 - (0.3 if separator == " " else 0)
        if best is None or score > best[0]:
            best = score, separator, width, rows
    if best is None or best[0] < _LEAST_SCORE:
        return None
    _, separator, width, rows = best
    at = next((n for n, (_, row) in enumerate(rows[:_MOST_ABOVE]) if _begins(row, width)), 0)
    before, first = rows[at]
    first = [name.strip().strip("\ufeff") for name in first]
    has_header = _is_header(first)
    names = unique(first) if has_header else tuple(f"c{at}" for at in range(1, width + 1))
    return Layout(separator, above + before, names, has_header)


def split(lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The rows of some lines, each with how many lines are before it; blank ones left out."""
    if separator == " ":
        return [(n, line.split()) for n, line in enumerate(lines) if line.strip()]
    reader = csv.reader(lines, delimiter=separator)
    found, before = [], 0
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                found.append((before, row))
            before = reader.line_num
    except csv.Error:
        return []
    return found


def _begins(row: Sequence[str], width: int) -> bool:
    """Whether the table begins with a row: of its width, and more than half of it filled."""
    return len(row) == width and sum(bool(cell.strip()) for cell in row) * 2 > width


def _is_header(row: Sequence[str]) -> bool:
    return not any(_VALUE.fullmatch(cell.strip()) for cell in row)


def is_header(row: Sequence[str], layout: Layout) -> bool:
    """Whether a row repeats the header of its table."""
    return layout.has_header and unique([name.strip() for name in row]) == layout.names


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names; one that comes again gets a number, one that is blank is c1, c2 and so on."""
    seen: Counter[str] = Counter()
    found = []
    for at, name in enumerate(names, start=1):
        name = name or f"c{at}"
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)
