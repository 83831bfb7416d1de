"""How far event time has come in a partition, such that no minority can push it far ahead. Pure.

A watermark that follows the newest order believes every clock: one cash desk that is months ahead
makes everybody else look silent. So event time is what two thirds of the last customers agree on.
The newest orders of the last `_CUSTOMERS` who came are laid out in time; above the oldest third, a
gap wider than a day and `_USUAL_GAPS` times what customers usually are apart is one that nobody
crosses alone: event time stands `MAX_LEAD_MS` beyond its lower side until two thirds have come
across. A log in event time has such a gap only where the whole shop paused.

So while more than a third of the last customers are right, who is further ahead than that moves it
by a day, however many orders, customers and devices they are, and whatever the order of arrival.
The first customer alone says nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from features.times import MS_PER_DAY

MAX_LEAD_MS: Final = MS_PER_DAY

# More would keep a sparse partition's wrong orders of weeks ago in sight, until right ones are near
# them; of fewer, a third is easily wrong by chance.
_CUSTOMERS: Final = 32
# A gap of a shop without pauses is as wide once in 10^5 customers or so.
_USUAL_GAPS: Final = 15
# Of fewer customers than this a part is too few to say what is usual.
_FEW: Final = 15


class EventTime(NamedTuple):
    """`high_ms`: how far event time has come, in epoch ms; -1 while it is not known. `arrivals`:
    the last customers as 32 bits of a hash, each once with the time of the last order that came,
    in the order in which they came."""

    high_ms: int = -1
    arrivals: tuple[tuple[int, int], ...] = ()

    @property
    def ts_ms(self) -> int | None:
        """How far event time has come; None while it is not known."""
        return None if self.high_ms < 0 else self.high_ms


START: Final = EventTime()
_decoder = msgspec.msgpack.Decoder(tuple[tuple[int, int], ...])


def encode(stands: EventTime) -> bytes:
    """What the store keeps beside `high_ms`."""
    return msgspec.msgpack.encode(stands.arrivals)


def decode(high_ms: int | None, lead: bytes | None) -> EventTime:
    """What was stored; where no customers were, or those of a version before, `high_ms` counts as
    an order of somebody."""
    try:
        arrivals = _decoder.decode(lead or b"")
    except ValueError:
        arrivals = () if high_ms is None else ((-1, high_ms),)
    return EventTime(-1 if high_ms is None else high_ms, arrivals)


class EventClock:
    """Event time, moved on order by order. `held_back` counts the orders that lay beyond it;
    `max_lead_ms` None: it follows the newest order."""

    __slots__ = ("_in_time", "_last", "_max_lead_ms", "held_back", "high_ms")

    def __init__(self, since: EventTime, max_lead_ms: int | None) -> None:
        self.held_back = 0
        self.high_ms = since.high_ms
        self._max_lead_ms = max_lead_ms
        # By customer in the order of arrival, and the same times sorted.
        self._last: dict[int, int] = dict(since.arrivals)
        self._in_time = sorted(self._last.values())

    def follow(self, user_id: str, ts_ms: int) -> int:
        """How far event time has come with an order of a customer; -1: not known yet."""
        if self._max_lead_ms is None:
            self.high_ms = max(self.high_ms, ts_ms)
            return self.high_ms
        last, in_time = self._last, self._in_time
        customer = crc32(user_id.encode())
        before = last.pop(customer, None)
        if before is None and len(last) == _CUSTOMERS:
            before = last.pop(next(iter(last)))
        if before is not None:
            del in_time[bisect_left(in_time, before)]
        last[customer] = ts_ms
        insort(in_time, ts_ms)
        if len(in_time) > 1:
            self.high_ms = max(self.high_ms, _agreed_ms(in_time, self._max_lead_ms))
            self.held_back += ts_ms > self.high_ms
        return self.high_ms

    def follow_all(self, user_ids: Sequence[str], ts_ms: Sequence[int]) -> list[int]:
        """`follow` of each order."""
        bound_ms, in_time = self._max_lead_ms, self._in_time
        if not ts_ms or (
            bound_ms is not None
            # Where all times are near each other, none of them can stand apart.
            and not (
                len(in_time) > 1
                and self.high_ms >= in_time[-1]
                and max(in_time[-1], *ts_ms) - min(in_time[0], *ts_ms) <= bound_ms
            )
        ):
            return [self.follow(user, ms) for user, ms in zip(user_ids, ts_ms, strict=True)]
        highs = list(accumulate(ts_ms, max, initial=self.high_ms))[1:]
        self.high_ms = highs[-1]
        if bound_ms is not None:
            # Only who came last is kept, so of the others nothing need be known.
            newest: dict[int, int] = {}
            for user, ms in zip(reversed(user_ids), reversed(ts_ms), strict=True):
                newest.setdefault(crc32(user.encode()), ms)
                if len(newest) == _CUSTOMERS:
                    break
            for customer, ms in reversed(self._last.items()):
                if len(newest) < _CUSTOMERS:
                    newest.setdefault(customer, ms)
            self._last = dict(reversed(newest.items()))
            self._in_time = sorted(self._last.values())
        return highs

    def watermark_ms(self, allowed_lateness_ms: int) -> int | None:
        """Event time before which no order is waited for any more; None while it is not known."""
        return None if self.high_ms < 0 else self.high_ms - allowed_lateness_ms

    @property
    def now(self) -> EventTime:
        """Where it stands, to go on from."""
        return EventTime(self.high_ms, tuple(self._last.items()))


def _agreed_ms(in_time: Sequence[int], max_lead_ms: int) -> int:
    """The newest of ascending times, or as far as event time may go where it stands apart."""
    third = len(in_time) // 3
    newest_ms = in_time[-1]
    if newest_ms - in_time[third] <= max_lead_ms:
        return newest_ms
    few = len(in_time) < _FEW
    parts = [in_time] if few else [in_time[: third + 1], in_time[third:]]
    wide_ms = max_lead_ms + _USUAL_GAPS * min(map(_usual_gap_ms, parts))
    for lower_ms, upper_ms in pairwise(in_time[third:]):
        if upper_ms - lower_ms > wide_ms:
            return lower_ms + max_lead_ms
    return newest_ms


def _usual_gap_ms(in_time: Sequence[int]) -> float:
    """The mean distance of ascending times without the widest; 0 for fewer than three."""
    if len(in_time) < 3:
        return 0.0
    widest_ms = max(later - earlier for earlier, later in pairwise(in_time))
    return (in_time[-1] - in_time[0] - widest_ms) / (len(in_time) - 2)
