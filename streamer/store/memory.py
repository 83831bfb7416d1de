"""A StateStore in dictionaries, for replays and tests."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from streamer.records import Partition
from streamer.store.base import (
    FEED_SIZE,
    QUARANTINE_SIZE,
    Claim,
    Outbox,
    Outcome,
    PartitionCountChanged,
    Said,
    Standing,
    Stored,
    TopicRecreated,
    Write,
)


class DueTimes:
    """Who is due when: change one, or read the earliest.

    Due times are midnights, few and of many customers each, in a heap. One of which nobody is left
    stays there until it comes to the top; all go at once when they are more than half of the heap.
    """

    __slots__ = ("_heap", "_instants", "_users")

    def __init__(self) -> None:
        self._instants: dict[str, int] = {}
        self._users: dict[int, dict[str, None]] = {}
        self._heap: list[int] = []

    def get(self, user_id: str) -> int | None:
        return self._instants.get(user_id)

    def set(self, user_id: str, instant_ms: int | None) -> None:
        before_ms = self._instants.get(user_id)
        if instant_ms == before_ms:
            return
        if before_ms is not None:
            users = self._users[before_ms]
            del users[user_id]
            if not users:
                del self._users[before_ms]
        if instant_ms is None:
            del self._instants[user_id]
            return
        self._instants[user_id] = instant_ms
        if instant_ms not in self._users:
            self._users[instant_ms] = {}
            heapq.heappush(self._heap, instant_ms)
            if len(self._heap) > 2 * len(self._users) + 64:
                self._heap = list(self._users)
                heapq.heapify(self._heap)
        self._users[instant_ms][user_id] = None

    def earliest(self, until_ms: int, limit: int) -> list[tuple[str, int]]:
        """Up to `limit` customers due at `until_ms` or before, by instant, then by id."""
        heap, seen, found = self._heap, list[int](), list[tuple[str, int]]()
        while heap and heap[0] <= until_ms and len(found) < limit:
            instant_ms = heapq.heappop(heap)
            # Nobody is left, or it was left and came again.
            if instant_ms not in self._users or instant_ms in seen[-1:]:
                continue
            users = sorted(self._users[instant_ms])
            # In order from now on: who is left is sorted at once the next time.
            self._users[instant_ms] = dict.fromkeys(users)
            seen.append(instant_ms)
            found += [(user, instant_ms) for user in users[: limit - len(found)]]
        for instant_ms in seen:
            heapq.heappush(heap, instant_ms)
        return found


@dataclass(slots=True)
class _Kept:
    """One partition in memory. `epoch` 0 = never claimed."""

    epoch: int = 0
    sequence: int = 0
    next_offset: int | None = None
    high_ts_ms: int | None = None
    first_offset: int = 0
    topic_id: str = ""
    partition_count: int = 0
    dead_letter_window: bytes | None = None
    lead: bytes | None = None
    states: dict[str, bytes] = field(default_factory=dict)
    quarantine: dict[str, bytes] = field(default_factory=dict)
    due: DueTimes = field(default_factory=DueTimes)
    outbox: deque[bytes] = field(default_factory=deque)
    outbox_first: int = 0
    feed: deque[bytes] = field(default_factory=lambda: deque(maxlen=FEED_SIZE))
    tally: bytes | None = None
    listing: dict[str, bytes] = field(default_factory=dict)
    listed: bool = True
    changed: int = 0
    erased: int = 0

    def claim(self) -> Claim:
        return Claim(
            self.epoch,
            self.sequence,
            self.next_offset,
            self.high_ts_ms,
            self.first_offset,
            self.dead_letter_window,
            self.lead,
            self.tally,
            self.listed,
        )


class MemoryStore:
    """A StateStore in dictionaries, gone with the process: for replays and tests.

    Several owners may share one; they are fenced from each other as on a server.
    """

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Kept] = {}
        self._partition_counts: dict[str, int] = {}
        self._redriven: dict[Partition, set[int]] = {}

    def _kept(self, partition: Partition) -> _Kept:
        kept = self._partitions.get(partition)
        if kept is None:
            kept = self._partitions[partition] = _Kept()
        return kept

    def customers(self, topic: str) -> int:
        """How many customers of a topic have a state."""
        return sum(len(k.states) for p, k in self._partitions.items() if p.topic == topic)

    async def claim(
        self,
        partition: Partition,
        partition_count: int,
        *,
        log_start: int = 0,
        topic_id: str = "",
    ) -> Claim:
        stored = self._partition_counts.setdefault(partition.topic, partition_count)
        if stored != partition_count:
            raise PartitionCountChanged(partition.topic, stored, partition_count)
        kept = self._kept(partition)
        if kept.epoch and kept.partition_count != partition_count:
            raise PartitionCountChanged(partition.topic, kept.partition_count, partition_count)
        kept.partition_count = partition_count
        if kept.next_offset is None:
            kept.topic_id = topic_id or kept.topic_id
            kept.first_offset = log_start if kept.first_offset >= 0 else -1
        elif kept.topic_id and topic_id and kept.topic_id != topic_id:
            raise TopicRecreated(partition.topic, kept.topic_id, topic_id)
        kept.topic_id = kept.topic_id or topic_id
        kept.epoch += 1
        return kept.claim()

    async def load(self, partition: Partition, user_ids: Sequence[str]) -> list[Stored]:
        kept = self._kept(partition)
        state, due = kept.states.get, kept.due.get
        return [Stored(state(user), due(user)) for user in user_ids]

    async def due(self, partition: Partition, until_ms: int, limit: int) -> list[tuple[str, int]]:
        return self._kept(partition).due.earliest(until_ms, limit)

    async def due_times(self, partition: Partition, user_ids: Sequence[str]) -> list[int | None]:
        return list(map(self._kept(partition).due.get, user_ids))

    async def sample(self, partition: Partition, count: int) -> list[str]:
        users = [user for user, _ in self._kept(partition).due.earliest(2**62, 2**31)]
        return users if len(users) <= count else random.sample(users, count)

    async def write(self, partition: Partition, epoch: int, sequence: int, write: Write) -> Outcome:
        kept = self._kept(partition)
        if kept.epoch != epoch:
            return Outcome.FENCED if kept.epoch > epoch else Outcome.LOST_WRITES
        if kept.sequence != sequence:
            return _other_sequence(kept.sequence, sequence)
        for user, damaged in write.quarantine.items():
            if user in kept.quarantine or len(kept.quarantine) < QUARANTINE_SIZE:
                kept.quarantine[user] = damaged
        kept.states.update(write.states)
        for user, instant_ms in write.due.items():
            kept.due.set(user, instant_ms)
        kept.outbox.extend(write.outbox)
        if write.next_offset is not None:
            kept.next_offset = write.next_offset
        if write.high_ts_ms is not None:
            kept.high_ts_ms = write.high_ts_ms
        if write.dead_letter_window is not None:
            kept.dead_letter_window = write.dead_letter_window
        if write.lead is not None:
            kept.lead = write.lead
        if write.tally is not None:
            kept.tally = write.tally
        for user, entry in write.listing.items():
            if entry is None:
                kept.listing.pop(user, None)
            else:
                kept.listing[user] = entry
        kept.changed += bool(write.listing or write.listed)
        kept.listed = kept.listed or write.listed
        kept.sequence += 1
        return Outcome.APPLIED

    async def remove(
        self,
        partition: Partition,
        epoch: int,
        sequence: int,
        user_ids: Sequence[str],
        next_offset: int | None,
        said: bytes = b"",
    ) -> Outcome:
        gone = dict.fromkeys(user_ids)
        write = Write({}, gone, [], next_offset, None, listing=gone)
        outcome = await self.write(partition, epoch, sequence, write)
        if outcome is Outcome.APPLIED:
            kept = self._kept(partition)
            for user in user_ids:
                kept.states.pop(user, None)
                kept.quarantine.pop(user, None)
            kept.erased += bool(said)
            for at, entry in enumerate(kept.feed):
                if said and entry.startswith(said):
                    kept.feed[at] = b""
        return outcome

    async def outbox(self, partition: Partition, limit: int) -> Outbox:
        kept = self._kept(partition)
        return Outbox(kept.outbox_first, list(islice(kept.outbox, max(limit, 0))))

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        kept = self._kept(partition)
        if kept.epoch != epoch:
            return Outcome.FENCED if kept.epoch > epoch else Outcome.LOST_WRITES
        surplus = first + count - kept.outbox_first
        if surplus <= 0:
            return Outcome.ALREADY_APPLIED
        if kept.outbox_first < first or surplus > len(kept.outbox):
            return Outcome.LOST_WRITES
        for _ in range(surplus):
            kept.feed.append(kept.outbox.popleft())
        kept.outbox_first += surplus
        return Outcome.APPLIED

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        return dict(self._kept(partition).quarantine)

    async def peek(self, partition: Partition) -> Claim | None:
        kept = self._partitions.get(partition)
        return kept.claim() if kept is not None and kept.epoch else None

    async def standings(self, partitions: Sequence[Partition]) -> list[Standing | None]:
        return [self._standing(partition) for partition in partitions]

    def _standing(self, partition: Partition) -> Standing | None:
        kept = self._partitions.get(partition)
        if kept is None or not kept.epoch:
            return None
        count = len(kept.listing) if kept.listed else None
        return Standing(
            kept.next_offset,
            kept.high_ts_ms,
            kept.outbox_first,
            str(kept.changed),
            count,
            kept.tally,
            str(kept.erased or ""),
        )

    async def open_warnings(self, partition: Partition) -> list[bytes]:
        return list(self._kept(partition).listing.values())

    async def feed(self, partition: Partition, after: int, limit: int) -> Said:
        kept = self._kept(partition)
        begin = kept.outbox_first - len(kept.feed)
        first = min(max(after, begin), kept.outbox_first)
        start = first - begin
        return Said(first, list(islice(kept.feed, start, start + max(limit, 0))))

    async def users(self, partition: Partition, chunk: int = 1_000) -> AsyncIterator[list[str]]:
        found = list(self._kept(partition).states)
        for start in range(0, len(found), chunk):
            yield found[start : start + chunk]

    async def redriven(self, partition: Partition, offsets: Sequence[int]) -> set[int]:
        return self._redriven.get(partition, set()).intersection(offsets)

    async def mark_redriven(self, partition: Partition, offsets: Sequence[int]) -> None:
        self._redriven.setdefault(partition, set()).update(offsets)

    async def partition_count(self, topic: str) -> int | None:
        return self._partition_counts.get(topic)

    async def set_partition_count(self, topic: str, count: int) -> None:
        self._partition_counts[topic] = count

    async def seize(self, partition: Partition, old_count: int, new_count: int) -> Claim:
        kept = self._kept(partition)
        if kept.epoch and kept.partition_count not in (old_count, new_count):
            raise PartitionCountChanged(partition.topic, kept.partition_count, new_count)
        kept.partition_count = new_count
        kept.first_offset = -1
        kept.listed = False
        kept.epoch += 1
        return kept.claim()

    async def scan(
        self, topic: str, chunk: int = 1_000
    ) -> AsyncIterator[list[tuple[Partition, str]]]:
        found = [(p, u) for p, k in self._partitions.items() if p.topic == topic for u in k.states]
        for start in range(0, len(found), chunk):
            yield found[start : start + chunk]

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass


def _other_sequence(stored: int, expected: int) -> Outcome:
    if stored < expected:
        return Outcome.LOST_WRITES
    return Outcome.ALREADY_APPLIED if stored == expected + 1 else Outcome.FENCED
