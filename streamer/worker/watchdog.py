"""Ends a worker that sits alive and idle, and says why.

Faust's own checks cannot: one compares two kinds of clocks, none looks at the group coordinator,
and its web server answers 200 throughout. This one runs in a thread of its own, so that a blocked
event loop cannot keep it from looking. `judge` decides; the thread only gathers signs and acts.

What counts as progress: records applied, customers scored on time, and attempts made on a store
or a broker that is known to be down. Waiting for a named outage is no reason to exit: a new process
would wait for the same, and /readyz tells meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.kafka.lane import Lane
from streamer.kafka.port import Vitals

_log = log.get(__name__)

LOOK_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Signs:
    """What the watchdog saw at one look; ages in seconds, None where the thing is well."""

    loop_silent_s: float = 0.0
    consumer_silent_s: float = 0.0
    coordinator_failing_s: float = 0.0
    rebalancing_s: float | None = None
    fetch_age_s: float | None = None  # since records were wanted and no broker answered
    waiting: bool = False  # records to read, or records that were read and are not applied
    still_s: float = 0.0  # since the last progress, or since there last was nothing to do


def judge(signs: Signs, limit_s: float) -> str | None:
    """Why the worker must end, or None. `limit_s` bounds everything that ends by itself;
    a blocked event loop or consumer gets a quarter of it."""
    short_s = limit_s / 4
    if signs.loop_silent_s > short_s:
        return f"the event loop has not answered for {signs.loop_silent_s:.0f} s"
    if signs.consumer_silent_s > short_s:
        return f"the consumer's thread has not answered for {signs.consumer_silent_s:.0f} s"
    if signs.coordinator_failing_s > limit_s:
        return f"the group coordinator has been failing for {signs.coordinator_failing_s:.0f} s"
    if signs.rebalancing_s is not None and signs.rebalancing_s > limit_s:
        return f"no partitions have been assigned for {signs.rebalancing_s:.0f} s"
    if signs.waiting and signs.still_s > limit_s:
        return f"orders are waiting and none has been applied for {signs.still_s:.0f} s"
    if signs.fetch_age_s is not None and signs.fetch_age_s > limit_s:
        return f"no broker has answered a fetch for {signs.fetch_age_s:.0f} s"
    return None


class Watchdog:
    """Looks every two seconds, heals what a look can heal, and calls `on_stuck` once."""

    def __init__(
        self,
        lane: Lane,
        loop: asyncio.AbstractEventLoop,
        progress: Callable[[], int],
        on_stuck: Callable[[str], None],
        limit_s: float,
        clock: Clock | None = None,
    ) -> None:
        """`progress` is any count that moves whenever work does; `on_stuck` runs in our thread."""
        self.signs = Signs()
        self._lane = lane
        self._loop = loop
        self._progress = progress
        self._on_stuck = on_stuck
        self._limit_s = limit_s
        self._clock = clock or SystemClock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        now = self._clock.monotonic_s()
        self._loop_seen = self._consumer_seen = self._coordinator_well = self._moved = now
        self._fed = now
        self._last_progress = -1
        self._vitals = Vitals()

    @property
    def vitals(self) -> Vitals:
        """How the consumer was at the last look."""
        return self._vitals

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def verdict(self) -> str | None:
        """Why the worker will be ended if this goes on, at half the limit; for /healthz."""
        return judge(self.signs, self._limit_s / 2)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self.signs = self._look()
            reason = judge(self.signs, self._limit_s)
            if reason is not None:
                self._on_stuck(reason)
                return

    def _look(self) -> Signs:
        try:
            self._loop.call_soon_threadsafe(self._loop_answers)
            self._vitals = self._lane.heal()
        except TimeoutError:
            pass
        except RuntimeError:
            return Signs()  # a loop is closed: the worker is on its way out
        else:
            self._consumer_seen = self._clock.monotonic_s()
        now = self._clock.monotonic_s()
        if self._vitals.error is None:
            self._coordinator_well = now
        else:
            _log.warning("coordinator.healed", error=self._vitals.error)
        waiting = self._lane.behind or self._vitals.lag > 0
        progress = self._progress()
        if not waiting or progress != self._last_progress:
            self._moved, self._last_progress = now, progress
        if self._lane.behind:
            # Nobody is asked for more than there is room for, however long what is here takes.
            self._fed = now
        answered, since = self._vitals.fetch_age_s, self._lane.rebalancing_since_s
        if not self._lane.assigned or answered is None:
            age_s = None
        else:
            age_s = min(answered, now - self._fed)
        return Signs(
            loop_silent_s=now - self._loop_seen,
            consumer_silent_s=now - self._consumer_seen,
            coordinator_failing_s=now - self._coordinator_well,
            rebalancing_s=None if since is None else now - since,
            fetch_age_s=age_s,
            waiting=waiting,
            still_s=now - self._moved,
        )

    def _loop_answers(self) -> None:
        self._loop_seen = self._clock.monotonic_s()
