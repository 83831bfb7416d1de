"""Rows of an order log that were set aside: counted, written down, and told of."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from features.events.orders import Order
from model.files.order_log import RejectedRow, Rows
from model.files.pages import PlainOrders
from model.files.text_files import for_spreadsheets


@dataclass(slots=True)
class Rejections:
    """Rows that were set aside: counted by reason, the first of each kept, and all of them written
    to a CSV of path, line, reason and detail where `path` says. `also` hears of each. Rows that are
    doubted are counted only."""

    path: Path | None = None
    also: Callable[[RejectedRow], object] = lambda row: None
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, RejectedRow] = field(default_factory=dict)
    doubted: int = 0
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

    def accepted(self, rows: Iterable[Rows]) -> Iterator[Order | PlainOrders]:
        """The rows that are orders; the others are taken down."""
        for row in rows:
            if isinstance(row, (PlainOrders, Order)):
                yield row
            elif isinstance(row, RejectedRow):
                self._take(row)
            else:
                self.doubted += 1
                yield row.order

    def _take(self, row: RejectedRow) -> None:
        reason = row.rejected.reason.value
        self.first.setdefault(reason, row)
        self.counts[reason] += 1
        self.also(row)
        if self._rows is not None:
            cells = (str(row.path), str(row.line), reason, row.rejected.detail)
            self._rows.writerow(map(for_spreadsheets, cells))

    def text(self) -> str:
        """The first row of each reason, a line each."""
        return "\n".join(
            f"{count:,} {'row' if count == 1 else 'rows'} set aside ({reason}), the first:"
            f" {self.first[reason]}"
            for reason, count in self.counts.most_common()
        )
