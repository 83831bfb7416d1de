"""What is known of a sample so far: its columns, guesses, questions and the lines of a mapping."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

FIELDS: Final = ("order_id", "user_id", "ts", "amount", "currency", "type")
"""What an answer may name a column for."""
NO_CURRENCY_NAMED: Final = "no currency is named: amounts are in currency units; --currency EUR"
LEAST: Final = 0.4
"""From how much a score makes a column a candidate."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_DEEP: Final = 4


@dataclass(frozen=True, slots=True)
class Answers:
    """What a person said: columns by field, and the rest as options name it."""

    columns: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    time_format: str | None = None
    currency: str | None = None
    decimal: str | None = None
    unit: str | None = None
    rows: str | None = None
    left_out: Sequence[str] | None = None
    """Values of a status that are no orders; none of the unknown ones, if empty."""


@dataclass(frozen=True, slots=True)
class Guess:
    """Where a field comes from: `sure` of 0 to 1, and why."""

    field: str
    path: str
    sure: float
    why: str


@dataclass(frozen=True, slots=True)
class Question:
    """What only a person knows, and the option that says it."""

    option: str
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping as TOML (empty where a question has to be answered first), what led to it, what is
    asked, and what it leaves out or takes for granted."""

    toml: str
    guesses: Sequence[Guess]
    questions: Sequence[Question]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class SampleColumn:
    """The values of a path in the sample: blank ones left out, but counted in `rows`."""

    path: str
    name: str
    values: list[Any]
    rows: int

    @property
    def filled(self) -> float:
        return len(self.values) / self.rows if self.rows else 0.0

    @property
    def texts(self) -> list[str]:
        return [str(value) for value in self.values]


@dataclass(slots=True)
class Draft:
    """A proposal in the making. `lines` of the mapping by key, `blocks` are its tables; `taken` are
    the paths that have a meaning already."""

    columns: dict[str, SampleColumn]
    rows: int
    answers: Answers
    guesses: list[Guess] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)
    skips: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def named(self, which: str) -> SampleColumn | None:
        """The column that an answer names for a field; a question where there is none of that
        name."""
        said = self.answers.columns.get(which)
        if said is None:
            return None
        for column in self.columns.values():
            if said in (column.path, column.name):
                return column
        there = ", ".join(one.name for one in self.columns.values())[:200]
        self.ask(f"--column {which}=NAME", f"there is no column {said!r}; there is {there}")
        return SampleColumn(said, said, [], self.rows)

    def best(self, scores: Mapping[str, float]) -> list[tuple[float, SampleColumn]]:
        """The columns by their scores, the best first, those of less than LEAST left out."""
        ranked = sorted(((found, path) for path, found in scores.items()), key=lambda r: -r[0])
        return [(found, self.columns[path]) for found, path in ranked if found >= LEAST]

    def take(self, which: str, column: SampleColumn, sure: float, why: str) -> None:
        """A field is a column."""
        self.taken.add(column.path)
        self.guesses.append(Guess(which, column.path, min(sure, 1.0), why))

    def guessed(self, which: str) -> Guess | None:
        """What a field was taken to be."""
        return next((one for one in self.guesses if one.field == which), None)

    def ask(self, option: str, text: str) -> None:
        """Something that only a person knows."""
        self.questions.append(Question(option, text))

    def skip(self, when: str, reason: str) -> None:
        """Records that are left out."""
        self.skips.append(f"[[skip]]\nwhen = {toml_text(when)}\nreason = {toml_text(reason)}\n")
        self.notes.append(f"left out are {reason}")


def columns_of(sample: Sequence[Mapping[str, Any]]) -> dict[str, SampleColumn]:
    """The columns of a sample by their paths, those within objects too."""
    values: dict[str, list[Any]] = defaultdict(list)
    names: dict[str, str] = {}
    for record in sample:
        for path, name, value in _leaves(record, "", "", 0):
            names.setdefault(path, name)
            found = values[path]
            if value is not None and str(value).strip():
                found.append(value)
    return {
        path: SampleColumn(path, names[path], found, len(sample)) for path, found in values.items()
    }


def _leaves(
    record: Mapping[str, Any], path: str, name: str, deep: int
) -> Iterator[tuple[str, str, Any]]:
    for key, value in record.items():
        if key == "#":
            continue
        own = name_path(key)
        full = f"{path}.{own}" if path else own
        said = f"{name} {key}" if name else key
        if isinstance(value, Mapping) and deep < _MOST_DEEP:
            yield from _leaves(value, full, said, deep + 1)
        elif not isinstance(value, list | dict):
            yield full, said, value


def name_path(name: str) -> str:
    """The JMESPath of a field."""
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def toml_text(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False)


def raw(text: str) -> str:
    """A JMESPath string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
