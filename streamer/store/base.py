"""Where the customers' states live, and how far each partition has been applied.

A store keeps, for each Kafka partition: the states, the due times, the outbox of warnings that the
broker has not acknowledged yet, and the offset of the next record to apply. One write changes all
of them or none. It carries the epoch of the claim under which it is made and the number of writes
that it follows; together they are the fence:

| the store has                           | outcome           | what the caller does            |
| --------------------------------------- | ----------------- | ------------------------------- |
| our epoch, our sequence                 | `APPLIED`         | goes on with sequence + 1       |
| our epoch, our sequence + 1             | `ALREADY_APPLIED` | the same: an earlier try got in |
| a later epoch, or writes we do not know | `FENCED`          | drops the partition             |
| an earlier epoch, or fewer writes       | `WENT_BACK`       | stops, starts again from there  |
"""

from __future__ import annotations

import enum
import heapq
import random
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from streamer.errors import StreamerError
from streamer.records import Partition

QUARANTINE_SIZE: Final = 1_000
"""Most customers of a partition whose damaged bytes are kept."""


class StoreError(StreamerError):
    """The store could not do what it was asked; the subclass says what to do next."""


class StoreUnavailable(StoreError):
    """Wait and do the same again: the store is down, starting, full or out of reach for now."""


class StoreRefused(StoreError):
    """Stop: doing the same again fails again until someone has changed something."""


class PartitionCountChanged(StoreRefused):
    """Run `python -m streamer repartition`: customers have moved to other partitions than the
    ones that hold their states. Or give the topic its old partition count back."""

    def __init__(self, topic: str, stored: int, found: int) -> None:
        super().__init__(
            f"topic {topic!r} has {found} partitions and the states in the store were written for "
            f"{stored}, so customers would be looked up where they are not; "
            "stop all workers and run `python -m streamer repartition`"
        )
        self.topic = topic
        self.stored = stored
        self.found = found


class NewerSchema(StoreRefused):
    """Upgrade this program: a newer version of it has written to the store, and an older one would
    overwrite what it does not understand."""

    def __init__(self, where: str, stored: int, known: int) -> None:
        super().__init__(
            f"{where} has schema {stored} and this version knows schema {known} at most; "
            "run the version that wrote it, or a newer one"
        )
        self.stored = stored
        self.known = known


class TopicRecreated(StoreRefused):
    """Another topic bears the name: the offsets and states in the store are those of the one that
    was deleted. Give the store another namespace (`CLV_STATE_NAMESPACE`) to start afresh."""

    def __init__(self, topic: str, stored: str, found: str) -> None:
        super().__init__(
            f"topic {topic!r} was deleted and made anew: its id is {found}, and what the store"
            f" holds was read from {stored}; set CLV_STATE_NAMESPACE to a new name to start afresh"
            " with the new topic"
        )
        self.topic = topic
        self.stored = stored
        self.found = found


class EvictionPolicyUnsafe(StoreRefused):
    """Set `maxmemory-policy noeviction` on the server: with any other policy a full server deletes
    customers in silence, while with this one it refuses writes and the worker waits."""

    def __init__(self, address: str, policy: str) -> None:
        super().__init__(
            f"the server at {address} has maxmemory-policy {policy!r}, which deletes states in "
            "silence when memory is full; set it to 'noeviction'"
        )
        self.policy = policy


@dataclass(frozen=True, slots=True)
class Claim:
    """What a partition's owner starts from. `next_offset` is None before the first record.

    `first_offset` is where the log began when the first record was applied: what was deleted
    before that was never part of the states. 0 where nobody said; -1 where customers have moved in
    from other partitions, so that no log has all their orders. `trail`: see `deadletters`.
    """

    epoch: int
    sequence: int
    next_offset: int | None
    high_ts_ms: int | None
    first_offset: int = 0
    trail: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept of one customer; both None for one never seen.

    A key of another type than ours comes as a zero byte and the server's dump of it, which is no
    customer of any version.
    """

    state: bytes | None
    due_ms: int | None


@dataclass(frozen=True, slots=True)
class Write:
    """One change of a partition, applied as a whole.

    `due` names the customers whose due time changes; None removes it. `next_offset`, `high_ts_ms`
    and `trail` stay as they are where None. `quarantine` is kept beside the states, by customer:
    damaged bytes that `states` replaces. Of customers new to it, no more than QUARANTINE_SIZE in
    all are kept.
    """

    states: Mapping[str, bytes]
    due: Mapping[str, int | None]
    outbox: Sequence[bytes]
    next_offset: int | None
    high_ts_ms: int | None
    quarantine: Mapping[str, bytes] = field(default_factory=dict)
    trail: bytes | None = None


class StartAt(enum.StrEnum):
    """Where to begin a partition of which the store knows nothing and the log has lost its first
    orders: in a new installation at the log's start, and nowhere where the group has committed
    offsets, so that there was a store (`AUTO`); at the log's start; or nowhere."""

    AUTO = "auto"
    LOG_START = "log-start"
    REFUSE = "refuse"


class Outcome(enum.Enum):
    """See the table at the top of the module."""

    APPLIED = "APPLIED"
    ALREADY_APPLIED = "ALREADY_APPLIED"
    FENCED = "FENCED"
    WENT_BACK = "WENT_BACK"


@dataclass(frozen=True, slots=True)
class Outbox:
    """The oldest entries that wait; `first` counts the entries trimmed before them, ever."""

    first: int
    entries: list[bytes]


class StateStore(Protocol):
    """Raises StoreUnavailable and StoreRefused, both from every method."""

    async def claim(
        self,
        partition: Partition,
        partition_count: int,
        *,
        log_start: int = 0,
        topic_id: str = "",
    ) -> Claim:
        """A new epoch, later than every one before it, and where the partition stands.

        `log_start` becomes `first_offset` while nothing has been applied. `topic_id` tells topics
        of one name apart; empty where the broker has no ids.
        Raises PartitionCountChanged, NewerSchema, TopicRecreated.
        """
        ...

    async def load(self, partition: Partition, user_ids: Sequence[str]) -> list[Stored]:
        """What is kept of each customer, in the order asked for."""
        ...

    async def due(self, partition: Partition, until_ms: int, limit: int) -> list[tuple[str, int]]:
        """The first `limit` customers due at `until_ms` or before, by instant, then by id."""
        ...

    async def sample(self, partition: Partition, count: int) -> list[str]:
        """At most `count` different customers that have a due time, chosen at random."""
        ...

    async def write(
        self, partition: Partition, epoch: int, sequence: int, write: Write
    ) -> Outcome: ...

    async def remove(
        self,
        partition: Partition,
        epoch: int,
        sequence: int,
        user_ids: Sequence[str],
        next_offset: int | None,
    ) -> Outcome:
        """A write that takes customers out: state, due time, and what is in quarantine."""
        ...

    async def outbox(self, partition: Partition, limit: int) -> Outbox: ...

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        """Drops the entries `first` … `first + count - 1`, which `outbox` returned.

        May be repeated. WENT_BACK where the store no longer has entries that it handed out.
        """
        ...

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        """What `Write.quarantine` has put aside, by customer."""
        ...

    async def peek(self, partition: Partition) -> Claim | None:
        """Where the partition stands, without claiming it; None if it never was claimed."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class MovableStore(StateStore, Protocol):
    """What moving customers to other partitions needs beyond running them."""

    async def partition_count(self, topic: str) -> int | None:
        """How many partitions the states of a topic are spread over; None before the first claim.
        Workers are refused any other number."""
        ...

    async def set_partition_count(self, topic: str, count: int) -> None: ...

    async def seize(self, partition: Partition, old_count: int, new_count: int) -> Claim:
        """A new epoch, under which workers can neither write nor claim until the topic's count is
        `new_count`. Raises PartitionCountChanged where the partition was claimed under another
        count than these two, NewerSchema."""
        ...

    def scan(self, topic: str, chunk: int = 1_000) -> AsyncIterator[list[tuple[Partition, str]]]:
        """Every customer of a topic and where it is kept; some more than once."""
        ...


class DueTimes:
    """Who is due when: change one, or read the earliest, in O(log n).

    A heap of (instant, customer) beside the dictionary that has the truth. A changed due time
    leaves its old heap entry behind; such entries are thrown away when they come to the top, and
    all at once when they are more than half of the heap.
    """

    __slots__ = ("_heap", "_instants")

    def __init__(self) -> None:
        self._instants: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def get(self, user_id: str) -> int | None:
        return self._instants.get(user_id)

    def set(self, user_id: str, instant_ms: int | None) -> None:
        if instant_ms is None:
            self._instants.pop(user_id, None)
        elif self._instants.get(user_id) != instant_ms:
            self._instants[user_id] = instant_ms
            heapq.heappush(self._heap, (instant_ms, user_id))
        if len(self._heap) > 2 * len(self._instants) + 64:
            self._heap = [(at, user) for user, at in self._instants.items()]
            heapq.heapify(self._heap)

    def earliest(self, until_ms: int, limit: int) -> list[tuple[str, int]]:
        """Up to `limit` customers due at `until_ms` or before, by instant, then by id."""
        heap, instants = self._heap, self._instants
        found: list[tuple[int, str]] = []
        while heap and heap[0][0] <= until_ms and len(found) < limit:
            entry = heapq.heappop(heap)
            # A customer moved away and back has the same entry twice, one right after the other.
            if instants.get(entry[1]) == entry[0] and (not found or found[-1] != entry):
                found.append(entry)
        for entry in found:
            heapq.heappush(heap, entry)
        return [(user, at) for at, user in found]


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
    trail: bytes | None = None
    states: dict[str, bytes] = field(default_factory=dict)
    quarantine: dict[str, bytes] = field(default_factory=dict)
    due: DueTimes = field(default_factory=DueTimes)
    outbox: deque[bytes] = field(default_factory=deque)
    outbox_first: int = 0

    def claim(self) -> Claim:
        return Claim(
            self.epoch,
            self.sequence,
            self.next_offset,
            self.high_ts_ms,
            self.first_offset,
            self.trail,
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

    async def sample(self, partition: Partition, count: int) -> list[str]:
        users = [user for user, _ in self._kept(partition).due.earliest(2**62, 2**31)]
        return users if len(users) <= count else random.sample(users, count)

    async def write(self, partition: Partition, epoch: int, sequence: int, write: Write) -> Outcome:
        kept = self._kept(partition)
        if kept.epoch != epoch:
            return Outcome.FENCED if kept.epoch > epoch else Outcome.WENT_BACK
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
        if write.trail is not None:
            kept.trail = write.trail
        kept.sequence += 1
        return Outcome.APPLIED

    async def remove(
        self,
        partition: Partition,
        epoch: int,
        sequence: int,
        user_ids: Sequence[str],
        next_offset: int | None,
    ) -> Outcome:
        due = dict.fromkeys(user_ids)
        outcome = await self.write(
            partition, epoch, sequence, Write({}, due, [], next_offset, None)
        )
        if outcome is Outcome.APPLIED:
            kept = self._kept(partition)
            for user in user_ids:
                kept.states.pop(user, None)
                kept.quarantine.pop(user, None)
        return outcome

    async def outbox(self, partition: Partition, limit: int) -> Outbox:
        kept = self._kept(partition)
        return Outbox(kept.outbox_first, list(islice(kept.outbox, max(limit, 0))))

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        kept = self._kept(partition)
        if kept.epoch != epoch:
            return Outcome.FENCED if kept.epoch > epoch else Outcome.WENT_BACK
        surplus = first + count - kept.outbox_first
        if surplus <= 0:
            return Outcome.ALREADY_APPLIED
        if kept.outbox_first < first or surplus > len(kept.outbox):
            return Outcome.WENT_BACK
        for _ in range(surplus):
            kept.outbox.popleft()
        kept.outbox_first += surplus
        return Outcome.APPLIED

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        return dict(self._kept(partition).quarantine)

    async def peek(self, partition: Partition) -> Claim | None:
        kept = self._partitions.get(partition)
        return kept.claim() if kept is not None and kept.epoch else None

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
        return Outcome.WENT_BACK
    return Outcome.ALREADY_APPLIED if stored == expected + 1 else Outcome.FENCED
