"""Ends a process whose work stands still, from a thread of its own: a blocked event loop cannot
keep it from looking."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from streamer.clock import Clock

LOOK_EVERY_S: Final = 2.0


class HangWatch:
    """Looks at a count that moves whenever work does, waiting for a named outage included."""

    def __init__(
        self,
        progress: Callable[[], int],
        end: Callable[[str], object],
        limit_s: float,
        clock: Clock,
    ) -> None:
        """`end` runs in the thread, once the count has stood still for `limit_s`."""
        self._progress = progress
        self._end = end
        self._limit_s = limit_s
        self._clock = clock
        self._last = -1
        self._moved_s = clock.monotonic_s()
        self._thread = threading.Thread(target=self._run, name="hang-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def still_s(self) -> float:
        """For how long nothing has moved, as of this look."""
        now, progress = self._clock.monotonic_s(), self._progress()
        if progress != self._last:
            self._last, self._moved_s = progress, now
        return now - self._moved_s

    def _run(self) -> None:
        wait = threading.Event()
        while not wait.wait(LOOK_EVERY_S):
            if (still_s := self.still_s()) > self._limit_s:
                self._end(f"nothing has moved for {still_s:.0f} s")
                return
