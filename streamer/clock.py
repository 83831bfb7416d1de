"""Processing time. Event time never comes from here: it comes from the orders."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, for the outer shell; nothing in `features` or `model` takes one."""

    def now_ms(self) -> int:
        """Epoch milliseconds, UTC. May step when the machine's clock is set."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some fixed instant; never steps, so intervals are measured with it."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to, for tests and replays."""

    __slots__ = ("_elapsed_ms", "_now_ms")

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._elapsed_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._elapsed_ms / 1000

    def advance(self, by_ms: int) -> None:
        """Lets time pass: both clocks move. Raises ValueError on a step back (see `set`)."""
        if by_ms < 0:
            raise ValueError(f"by_ms={by_ms}: time passes forwards; set() steps the wall clock")
        self._now_ms += by_ms
        self._elapsed_ms += by_ms

    def set(self, now_ms: int) -> None:
        """Steps the wall clock alone, in either direction, as a time server would."""
        self._now_ms = now_ms
