"""Rows of an order log that break a rule: counted by reason, and saved."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from features.orders import Order
from model.data.order_log import RejectedRow, Row

REJECTED_FILE: Final = "rejected.csv"


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
