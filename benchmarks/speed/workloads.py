"""The orders that are measured with: made from a seed, the same on every machine.

Imports nothing of the product, because the driver runs in an environment without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

DAY_MS = 86_400_000
# Within CDNOW, by whose model everything is scored.
START_MS = 888_710_400_000
_CHUNK = 100_000


class Row(NamedTuple):
    """An order as files and records have it."""

    order_id: str
    user_id: str
    ts: str
    amount: str

    @property
    def record(self) -> tuple[bytes, bytes]:
        """Key and value in the orders topic."""
        value = (
            f'{{"order_id":"{self.order_id}","user_id":"{self.user_id}","ts":"{self.ts}",'
            f'"amount":{self.amount},"type":"order","currency":"USD"}}'
        )
        return self.user_id.encode(), value.encode()


@dataclass(frozen=True)
class Workload:
    """Orders at even steps of time, of customers drawn evenly, or (`each`) one after the other; or
    the rows of a file."""

    orders: int
    customers: int = 0
    span_ms: int = DAY_MS // 2
    start_ms: int = START_MS
    seed: int = 1
    each: bool = False
    file: str = ""

    @classmethod
    def of(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def text(self) -> str:
        return json.dumps(asdict(self))

    def rows(self) -> Iterator[Row]:
        if self.file:
            lines = Path(self.file).read_text().splitlines()[1 : self.orders + 1]
            yield from (Row(*line.split(",")) for line in lines)
            return
        draws = np.random.default_rng(self.seed)
        for first in range(0, self.orders, _CHUNK):
            numbers = np.arange(first, min(first + _CHUNK, self.orders))
            drawn = draws.integers(0, self.customers, len(numbers))
            users = numbers % self.customers if self.each else drawn
            cents = np.rint(draws.lognormal(3, 0.7, len(numbers)) * 100)
            times = stamps(self.start_ms + numbers * self.span_ms // self.orders)
            for number, user, ts, amount in zip(
                numbers.tolist(), users.tolist(), times, (cents / 100).tolist(), strict=True
            ):
                yield Row(f"o{self.seed}-{number}", f"u{user}", ts, f"{amount:.2f}")


def stamps(times_ms: np.ndarray) -> list[str]:
    """RFC 3339 of instants in milliseconds."""
    return np.datetime_as_string(times_ms.astype("datetime64[ms]"), timezone="UTC").tolist()


def burst(orders: int = 200_000) -> Workload:
    """I1: ten orders of each customer within half a day: no silence to be judged."""
    return Workload(orders, orders // 10)


def write_shop(path: Path, orders: int, customers: int, days: int, seed: int = 3) -> None:
    """A shop's order log as CSV: customers come at even rates, buy at rates of their own, and
    leave; so many orders, in the order of time."""
    draws = np.random.default_rng(seed)
    born = draws.uniform(0, days, customers)
    lives = np.minimum(draws.exponential(days, customers), days - born)
    weights = lives * draws.gamma(1.0, 1.0, customers)
    # Everybody's first order is at birth.
    more = draws.choice(customers, orders - customers, p=weights / weights.sum())
    users = np.concatenate([np.arange(customers), more])
    days_in = np.concatenate([born, born[more] + lives[more] * draws.random(len(more))])
    order = np.argsort(days_in, kind="stable")
    users, times_ms = users[order], START_MS + (days_in[order] * DAY_MS).astype(np.int64)
    cents = np.rint(draws.lognormal(3, 0.7, orders) * 100)
    partial = path.with_suffix(".part")
    with partial.open("w") as file:
        file.write("order_id,user_id,ts,amount\n")
        for first in range(0, orders, _CHUNK):
            part = slice(first, first + _CHUNK)
            lines = zip(users[part].tolist(), stamps(times_ms[part]), cents[part], strict=True)
            file.writelines(
                f"o{number},u{user},{ts},{amount / 100:.2f}\n"
                for number, (user, ts, amount) in enumerate(lines, first)
            )
    partial.replace(path)


def day_of(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).date().isoformat()
