"""A table that was looked at, whatever kind of file it is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from model.intake.containers import FilePart

Record: TypeAlias = dict[str, Any]

ROW_NUMBER: Final = "#"
"""The key under which a record of a table has its row's number, for rows without ids."""


HEADER_AGAIN: Final = "the header again"
"""What stands for a row that repeats the header, as in files that were put together."""


@dataclass(slots=True)
class Table:
    """A table that was looked at: `about` says how it is written, `names` are its columns (none of
    JSON). `reader` reads it from its start; a text instead of a record is a row that is none, and
    says why."""

    part: FilePart
    about: str
    names: tuple[str, ...]
    reader: Callable[[], Iterator[tuple[int, Record | str]]]
    notes: list[str] = field(default_factory=list)

    def records(self) -> Iterator[tuple[int, Record | str]]:
        """Each record with its line."""
        return self.reader()
