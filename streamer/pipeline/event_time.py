"""How far event time has come in a partition, such that nobody alone can push it far ahead. Pure.

A watermark that follows the newest order believes every clock: one cash desk that is days ahead
makes everybody else look silent. So event time follows the newest order only as far as another
customer's orders have come too, and `MAX_LEAD_MS` beyond: who alone is further ahead than that is
counted, and moves it by no more.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from features.facts.ledger import id_hash
from features.times import MS_PER_DAY

MAX_LEAD_MS: Final = MS_PER_DAY


class EventTime(NamedTuple):
    """Event times in epoch ms. `high_ms`: how far event time has come, -1 before the first order;
    `newest_ms`: the newest order, by the customer whose id hashes to `leader`; `others_ms`: the
    newest order of anybody else."""

    high_ms: int = -1
    newest_ms: int = -1
    leader: bytes = b""
    others_ms: int = -1

    @property
    def ts_ms(self) -> int | None:
        """How far event time has come; None before the first order."""
        return None if self.high_ms < 0 else self.high_ms


START: Final = EventTime()
_decoder = msgspec.msgpack.Decoder(tuple[int, bytes, int])


def encode(stands: EventTime) -> bytes:
    """What the store keeps beside `high_ms`."""
    return msgspec.msgpack.encode((stands.newest_ms, stands.leader, stands.others_ms))


def decode(high_ms: int | None, lead: bytes | None) -> EventTime:
    """What was stored; where nobody's lead was, `high_ms` counts as everybody's."""
    if high_ms is None:
        return START
    try:
        return EventTime(high_ms, *_decoder.decode(lead or b""))
    except ValueError:
        return EventTime(high_ms, high_ms, b"", high_ms)


class EventClock:
    """Event time, moved on order by order. `held_back` counts the orders that were further ahead of
    everybody else than `max_lead_ms`; None: it follows the newest order."""

    __slots__ = ("_leader", "_max_lead_ms", "held_back", "high_ms", "newest_ms", "others_ms")

    def __init__(self, since: EventTime, max_lead_ms: int | None) -> None:
        self.held_back = 0
        self.high_ms, self.newest_ms, self.others_ms = (
            since.high_ms,
            since.newest_ms,
            since.others_ms,
        )
        self._leader: str | bytes = since.leader
        self._max_lead_ms = max_lead_ms

    def follow(self, user_id: str, ts_ms: int) -> int:
        """How far event time has come with an order of a customer."""
        if self._max_lead_ms is None:
            self.high_ms = max(self.high_ms, ts_ms)
            return self.high_ms
        if ts_ms <= self.others_ms:
            return self.high_ms
        if self.newest_ms < 0:  # the first order: there is nobody to compare it with
            self.newest_ms, self.others_ms, self._leader = ts_ms, ts_ms, user_id
        elif self._leads(user_id):
            self.newest_ms = max(self.newest_ms, ts_ms)
        elif ts_ms > self.newest_ms:
            self.others_ms, self.newest_ms, self._leader = self.newest_ms, ts_ms, user_id
        else:
            self.others_ms = ts_ms
        bound_ms = self.others_ms + self._max_lead_ms
        self.held_back += ts_ms > bound_ms
        self.high_ms = max(self.high_ms, min(self.newest_ms, bound_ms))
        return self.high_ms

    def watermark_ms(self, allowed_lateness_ms: int) -> int | None:
        """Event time before which no order is waited for any more; None before the first order."""
        return None if self.high_ms < 0 else self.high_ms - allowed_lateness_ms

    def _leads(self, user_id: str) -> bool:
        # As a hash only at first: an id costs more to hash than all the rest.
        if isinstance(self._leader, bytes):
            return self._leader == id_hash(user_id)
        return self._leader == user_id

    @property
    def now(self) -> EventTime:
        """Where it stands, to go on from."""
        if self._max_lead_ms is None:
            return EventTime(self.high_ms, self.high_ms, b"", self.high_ms)
        leader = self._leader if isinstance(self._leader, bytes) else id_hash(self._leader)
        return EventTime(self.high_ms, self.newest_ms, leader, self.others_ms)
