"""What a shop knows of customers beside their orders: a CSV keyed by `user_id`, such as

    user_id,age,gender,channel
    ann,34,f,newsletter
    bob,,m,

Numbers go to the model as they are, texts as codes. What is not there, be it a value or a whole
customer, is missing (NaN) until the model's own pipeline fills it in; a text that training never
saw has a code of its own. Attributes are taken to hold at all times: one that changes with a
customer's orders ("status: lost") tells training the future.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, cast

import msgspec
import numpy as np

from features.arrays import Floats
from model.errors import ModelError

USER_ID: Final = "user_id"
# In front of a column's name where it stands among the stream's own features.
PREFIX: Final = "attribute_"
# A text with more values than this names customers instead of describing them.
MAX_CATEGORIES: Final = 50
# Far beyond what anybody is described by.
MAX_NUMBER: Final = 1e15
_MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none"})


class AttributesError(ModelError, ValueError):
    """A file of customer attributes cannot be used; the message names line, column, value and
    remedy."""


class Column(msgspec.Struct, frozen=True):
    """One attribute: a number where `categories` is None, else a text that is one of them."""

    name: str
    categories: tuple[str, ...] | None = None

    @property
    def feature(self) -> str:
        """The name among a model's features."""
        return PREFIX + self.name

    def code(self, text: str) -> float:
        """The value as the model sees it; raises ValueError for a text that is not a number."""
        if is_missing(text):
            return math.nan
        if self.categories is None:
            return _number(text)
        known = text in self.categories
        return float(self.categories.index(text) if known else len(self.categories))

    def code_of(self, value: object) -> float:
        """The same of a value as JSON has it: a number or a text, None for a missing one. Raises
        ValueError with the remedy where it is of another type."""
        if value is None:
            return math.nan
        if self.categories is None:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            number = cast(float, value) if is_number else math.inf
            if not abs(number) <= MAX_NUMBER:
                raise ValueError(f"{self.name} is a number: send one from -1e15 to 1e15, or null")
            return float(number)
        if not isinstance(value, str):
            known = ", ".join(map(repr, self.categories[:3]))
            raise ValueError(f"{self.name} is a text, such as {known}: send one, or null")
        return self.code(value.strip())


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of customers: `values` of shape (m, a), the row of each user in `places`."""

    columns: tuple[Column, ...]
    values: Floats
    places: dict[str, int]

    def rows(self, user_ids: Sequence[str]) -> Floats:
        """Shape (n, a) for n users; NaN for those who are not in the file."""
        found = np.array([self.places.get(user, -1) for user in user_ids], dtype=np.int64)
        out = np.full((len(found), len(self.columns)), np.nan)
        known = found >= 0
        out[known] = self.values[found[known]]
        return out

    def row(self, user_id: str | None) -> list[float]:
        """The same of one user; None is somebody who is not in the file."""
        place = None if user_id is None else self.places.get(user_id)
        return [math.nan] * len(self.columns) if place is None else self.values[place].tolist()

    def match(self, user_ids: Sequence[str]) -> str | None:
        """What is to be said of a log with these customers: None where at least half of them are
        in the file. Raises AttributesError where none is."""
        known = sum(user in self.places for user in user_ids)
        if not user_ids or 2 * known >= len(user_ids):
            return None
        theirs = next(iter(self.places), "")
        if not known:
            raise AttributesError(
                f"attributes of {len(self.places):,} users, none of whom is in the log (log:"
                f" {user_ids[0]!r}, file: {theirs!r}): the ids are written otherwise; correct"
                " them, or leave the file out"
            )
        share = known / len(user_ids)
        return (
            f"attributes are known of {known:,} of {len(user_ids):,} customers of the log"
            f" ({share:.0%}); they are missing for the others"
        )

    def beside(self, X: Floats, user_ids: Sequence[str] | None) -> Floats:
        """Feature vectors with the attributes of their users (None: nobody is known) added."""
        users = [""] * len(X) if user_ids is None else user_ids
        return np.hstack([X, self.rows(users)])


def read_attributes(path: Path, columns: Sequence[Column] | None = None) -> Attributes:
    """The attributes in a CSV. Raises AttributesError.

    `columns` are those of the model that is to score, which then have to be there; others are
    ignored. None is for training: all columns, each a number where at least half of its values
    are.
    """
    header, lines = _table(path)
    if columns is None:
        wanted = tuple(_inferred(path, name, header, lines) for name in header if name != USER_ID)
    else:
        wanted = tuple(columns)
        missing = [column.name for column in wanted if column.name not in header]
        if missing:
            raise AttributesError(
                f"attributes {path} have no column {missing[0]}, which the model was trained with;"
                f" there is {', '.join(header)}: add it, with empty values if need be"
            )
    return _coded(path, wanted, header, lines)


def attributes_for(columns: Sequence[Column], path: Path | None) -> Attributes | None:
    """What a model trained with `columns` is to know of customers; None for one without any.

    Raises AttributesError where it needs a file and there is none.
    """
    if not columns:
        return None
    if path is None:
        raise AttributesError(
            f"the model was trained with customer attributes ({', '.join(c.name for c in columns)})"
            " and there is no file of them: set CLV_ATTRIBUTES, or --attributes FILE"
        )
    return read_attributes(path, columns)


_Line: TypeAlias = tuple[int, list[str]]


def _table(path: Path) -> tuple[list[str], list[_Line]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            found = [(rows.line_num, fields) for fields in rows if fields]
    except OSError as error:
        raise AttributesError(
            f"attributes {path} cannot be read: {error.strerror or error}; check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise AttributesError(
            f"attributes {path} are not UTF-8 at byte {error.start}; save the file in UTF-8"
        ) from None
    except csv.Error as error:
        raise AttributesError(
            f"attributes {path} are no CSV: {error}; look for an unclosed quote"
        ) from None
    if not found:
        raise AttributesError(f"attributes {path} are empty; the first line must name {USER_ID}")
    header = [name.strip() for name in found[0][1]]
    _check_header(path, header)
    return header, list(_checked_lines(path, header, found[1:]))


def _check_header(path: Path, header: Sequence[str]) -> None:
    if USER_ID not in header:
        raise AttributesError(
            f"attributes {path}, line 1: no column {USER_ID}; there is {', '.join(header)}"
        )
    for name in header:
        if not name or header.count(name) > 1:
            fault = "twice" if name else "without a name"
            raise AttributesError(
                f"attributes {path}, line 1: a column {name!r} is there {fault}; rename or drop it"
            )
    if len(header) == 1:
        raise AttributesError(
            f"attributes {path}, line 1: nothing but {USER_ID}; add a column, such as age"
        )


def _checked_lines(path: Path, header: Sequence[str], lines: Sequence[_Line]) -> Iterator[_Line]:
    at = header.index(USER_ID)
    seen: dict[str, int] = {}
    for line, fields in lines:
        if len(fields) != len(header):
            raise AttributesError(
                f"attributes {path}, line {line}: {len(fields)} fields where the header has"
                f" {len(header)}; quote commas in values"
            )
        user = fields[at]
        if not user or user in seen:
            why = f"is on line {seen[user]} already; keep one" if user else "is empty; name one"
            raise AttributesError(
                f"attributes {path}, line {line}, column {USER_ID}: {user!r} {why}"
            )
        seen[user] = line
        yield (
            line,
            [field.strip() for field in fields[:at]]
            + [user]
            + [field.strip() for field in fields[at + 1 :]],
        )


def _inferred(path: Path, name: str, header: Sequence[str], lines: Sequence[_Line]) -> Column:
    at = header.index(name)
    values = [fields[at] for _, fields in lines if not is_missing(fields[at])]
    numbers = sum(map(_is_number, values))
    if 2 * numbers >= len(values):
        return Column(name)
    categories = sorted(set(values))
    if len(categories) > MAX_CATEGORIES:
        raise AttributesError(
            f"attributes {path}, column {name}: {len(categories)} different texts, such as"
            f" {categories[0]!r}; at most {MAX_CATEGORIES}: group them, or drop the column"
        )
    return Column(name, tuple(categories))


def _coded(
    path: Path, columns: tuple[Column, ...], header: Sequence[str], lines: Sequence[_Line]
) -> Attributes:
    values = np.full((len(lines), len(columns)), np.nan)
    places: dict[str, int] = {}
    at = [header.index(column.name) for column in columns]
    user_at = header.index(USER_ID)
    for row, (line, fields) in enumerate(lines):
        places[fields[user_at]] = row
        for i, column in enumerate(columns):
            try:
                values[row, i] = column.code(fields[at[i]])
            except ValueError:
                raise AttributesError(
                    f"attributes {path}, line {line}, column {column.name}: {fields[at[i]]!r} is no"
                    " number; correct it, or leave it empty"
                ) from None
    return Attributes(columns, values, places)


def is_missing(text: str) -> bool:
    """Whether a value stands for none: empty, NA, null and the like."""
    return text.lower() in _MISSING


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return True
