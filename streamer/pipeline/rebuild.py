"""Customers whose stored bytes are damaged, made again from the partition's log.

Their orders are folded and judged by the same code as the first time, up to the offset and the
instant to which that had come, so the result is what was there before the damage. Nothing is sent
on the way: what was to be sent has been sent, or waits in the outbox. Where model or policy have
changed meanwhile, the rule state is the one that today's would have made. Under a budget of
warnings, a customer is taken to have been warned at the first instant that raised: who else was due
then is not worked out again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from features.events.orders import Order
from model.decide.codec import UNKNOWN
from model.decide.rule_state import RaisedWarning
from model.explain.reasons import explain
from model.judge.judged import Event, ScheduledCustomer, Scoring
from model.judge.kept import read as read_customers
from streamer.pipeline.batch import Pipeline, Position
from streamer.pipeline.erasures import Erasure, Erasures
from streamer.pipeline.event_time import START, EventClock
from streamer.pipeline.messages import pack
from streamer.pipeline.read import read
from streamer.records import Partition, Record
from streamer.store.base import Stored, StoreRefused

MAX_REBUILDS: Final = 20
"""Readings of one partition's log by one owner. More damage than that is no accident."""

_FOREVER_MS: Final = 2**52
_KEPT_BYTES: Final = 65_536


class History(Protocol):
    """The records of a partition that were applied before."""

    async def start(self, partition: Partition) -> int:
        """The offset at which the log begins now. Raises LogUnavailable."""
        ...

    def read(self, partition: Partition, until: int) -> AsyncIterator[Sequence[Record]]:
        """All records before offset `until`, from the log's start, in order, in lists of any
        length. Raises LogUnavailable."""
        ...


class CustomerUnrecoverable(StoreRefused):
    """Restore the store from a backup from before the damage; or set `CLV_REBUILD_PARTLY=on` to
    rebuild the customers from the orders that the log still has."""

    def __init__(self, partition: Partition, count: int, why: str) -> None:
        super().__init__(
            f"{partition.tag}: {count} customers of this batch have damaged states in the store,"
            f" and {why}. Restore the store from a backup from before the damage, or set"
            " CLV_REBUILD_PARTLY=on to rebuild them from the orders that the log still has"
        )


class StoreDamaged(StoreRefused):
    """Restore the store from a backup, or rebuild the whole partition."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(
            f"{partition.tag}: damaged states were found in {MAX_REBUILDS} batches, so the store"
            " is not to be trusted. Look for what damages it; then restore it from a backup, or run"
            f" `python -m streamer rebuild --partition {partition.number}`"
        )


class Quarantined(msgspec.Struct, frozen=True, array_like=True):
    """What the quarantine keeps of a damaged customer.

    `next_offset`: how far the partition was applied; `complete`: whether the log still had all
    orders to rebuild the customer from; `state`: the damaged bytes, the first 64 KiB of them.
    """

    why: str
    next_offset: int
    complete: bool
    state: bytes


def damage_of(stored: Stored) -> str:
    """What is wrong with it, for a person."""
    if (stored.state or b"").startswith(b"\0"):
        return "a key of another type, or bytes that no program wrote"
    _, refused = read_customers([""], [stored.state], [stored.due_ms])
    return str(refused.get(0, "nothing"))


def quarantine_entry(stored: Stored, next_offset: int, *, complete: bool) -> bytes:
    """The damaged customer for the quarantine, in MessagePack."""
    state = (stored.state or b"")[:_KEPT_BYTES]
    entry = Quarantined(damage_of(stored), next_offset, complete, state)
    return msgspec.msgpack.encode(entry)


def listed_again(
    customers: Mapping[str, ScheduledCustomer], pipeline: Pipeline
) -> dict[str, bytes | None]:
    """The list of open warnings as these customers' states have it: the warning as today's model
    explains it, and None for those without one. Its horizon may be over."""
    judge, open_now = pipeline.judge, list[tuple[str, ScheduledCustomer, RaisedWarning]]()
    for user_id, one in customers.items():
        raised = one.customer.rule_state.raised
        if raised is not None and not one.customer.rule_state.armed:
            open_now.append((user_id, one, raised))
    if not open_now:
        return dict.fromkeys(customers)
    pairs = [(one.customer.facts, raised.as_of_ms) for _, one, raised in open_now]
    scores = judge.scorer.scores(pairs, [user_id for user_id, _, _ in open_now])
    scorings = [
        Scoring(
            user_id=user_id,
            offset=None,
            as_of_ms=raised.as_of_ms,
            trigger=raised.trigger,
            score=msgspec.structs.replace(score, clv_minor=raised.clv_minor),
            reference=raised.reference,
            facts=one.customer.facts,
            raised=raised,
        )
        for (user_id, one, raised), score in zip(open_now, scores, strict=True)
    ]
    shares = explain(judge.scorer, scorings)
    again = {
        scoring.user_id: pack(pipeline.writer.again(scoring, of_one))
        for scoring, of_one in zip(scorings, shares, strict=True)
    }
    return {user_id: again.get(user_id) for user_id in customers}


class Rebuild:
    """Folds a partition's log again, for a few customers. `damaged`: what the store has of them;
    of that only the due time is used, which says what instants have been judged."""

    def __init__(
        self,
        damaged: Mapping[str, Stored],
        position: Position,
        pipeline: Pipeline,
        erasures: Erasures,
        now_ms: int | None,
    ) -> None:
        self._damaged = damaged
        self._position = position
        self._pipeline = pipeline
        self._erasures = erasures
        self._now_ms = now_ms
        self._clock = EventClock(START, pipeline.max_lead_ms)
        self._events: dict[str, list[Event]] = {user_id: [] for user_id in damaged}

    def add(self, records: Sequence[Record]) -> None:
        """Takes the next records of the log, the customers' own and those of all others: they
        move the watermark."""
        lateness_ms = self._pipeline.allowed_lateness_ms
        for parsed in read(records, self._position, self._pipeline, self._erasures, self._now_ms):
            order = parsed.outcome
            if isinstance(order, Erasure) and order.user_id in self._events:
                self._events[order.user_id].clear()
            if not isinstance(order, Order):
                continue
            watermark_ms = self._clock.follow(order.user_id, order.ts_ms) - lateness_ms
            events = self._events.get(order.user_id)
            if events is not None and not self._erasures.covers(order):
                events.append(Event(parsed.offset, order, watermark_ms))

    def customers(self) -> dict[str, ScheduledCustomer]:
        """The customers as they were before the damage."""
        return {user_id: self._customer(user_id) for user_id in self._damaged}

    def _customer(self, user_id: str) -> ScheduledCustomer:
        due_ms = self._damaged[user_id].due_ms
        # What is due has not been judged, and what it says has not been sent; all before it has.
        # Who is not due at all has no instants left.
        until_ms = _FOREVER_MS if due_ms is None else due_ms - 1
        tracks = {user_id: ScheduledCustomer(UNKNOWN, None)}
        judged = self._pipeline.judge.judge(tracks, {user_id: self._events[user_id]}, until_ms)
        return judged.tracks[user_id]
