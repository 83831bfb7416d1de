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
| an earlier epoch, or fewer writes       | `LOST_WRITES`       | stops, starts again from there  |
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from streamer.errors import StreamerError
from streamer.records import Partition

QUARANTINE_SIZE: Final = 1_000
"""Most customers of a partition whose damaged bytes are kept."""

FEED_SIZE: Final = 5_000
"""Most messages of a partition that are kept once the broker has acknowledged them."""


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
            f"topic {topic!r} was deleted and recreated: its id is {found}, and what the store"
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
    from other partitions, so that no log has all their orders. `dead_letter_window`: see
    `streamer.pipeline.dead_letters`; `lead`: see `streamer.pipeline.event_time`; `tally`: see
    `streamer.listing.tally`. `listed`: whether every open warning is listed; not so where an older
    version has written, customers have moved in, or the list was lost.
    """

    epoch: int
    sequence: int
    next_offset: int | None
    high_ts_ms: int | None
    first_offset: int = 0
    dead_letter_window: bytes | None = None
    lead: bytes | None = None
    tally: bytes | None = None
    listed: bool = True


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

    `due` names the customers whose due time changes; None removes it. `next_offset`, `high_ts_ms`,
    `dead_letter_window`, `lead` and `tally` stay as they are where None. `quarantine` is kept
    beside the states, by customer: damaged bytes that `states` replaces. Of customers new to it, no
    more than QUARANTINE_SIZE in all are kept. `listing` changes the list of open warnings: what is
    listed of a customer, None where nothing is any more; `listed`: with this write the list is
    whole.
    """

    states: Mapping[str, bytes]
    due: Mapping[str, int | None]
    outbox: Sequence[bytes]
    next_offset: int | None
    high_ts_ms: int | None
    quarantine: Mapping[str, bytes] = field(default_factory=dict)
    dead_letter_window: bytes | None = None
    lead: bytes | None = None
    tally: bytes | None = None
    listing: Mapping[str, bytes | None] = field(default_factory=dict)
    listed: bool = False


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
    LOST_WRITES = "LOST_WRITES"


@dataclass(frozen=True, slots=True)
class Outbox:
    """The oldest entries that wait; `first` counts the entries trimmed before them, ever."""

    first: int
    entries: list[bytes]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition stands, for whoever reads beside its owner.

    `said`: how many messages of it the broker has acknowledged, ever; `changed` is another one
    after each change of the list of open warnings, of which there are `open`, None where the list
    is not whole; `erased` is another one after each erasure.
    """

    next_offset: int | None
    high_ts_ms: int | None
    said: int
    changed: str
    open: int | None
    tally: bytes | None
    erased: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Acknowledged messages; `first`: how many there were before them. b"" stands for one whose
    customer was erased."""

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
        """The first `limit` customers due at `until_ms` or before, by instant; those of one instant
        in any order."""
        ...

    async def due_times(self, partition: Partition, user_ids: Sequence[str]) -> list[int | None]:
        """When each is due by what lists them: a damaged customer may say otherwise."""
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
        said: bytes = b"",
    ) -> Outcome:
        """A write that takes customers out: state, due time, what is in quarantine, what is listed.
        Also blots out the acknowledged messages that begin with `said`, if given."""
        ...

    async def outbox(self, partition: Partition, limit: int) -> Outbox: ...

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        """Drops the entries `first` … `first + count - 1`, which `outbox` returned; the last
        FEED_SIZE that were ever dropped stay readable in the feed.

        May be repeated. LOST_WRITES where the store no longer has entries that it handed out.
        """
        ...

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        """What `Write.quarantine` has put aside, by customer."""
        ...

    async def peek(self, partition: Partition) -> Claim | None:
        """Where the partition stands, without claiming it; None if it never was claimed."""
        ...

    async def standings(self, partitions: Sequence[Partition]) -> list[Standing | None]:
        """Where each partition stands, in their order; None for one never claimed."""
        ...

    async def open_warnings(self, partition: Partition) -> list[bytes]:
        """What is listed of the partition's customers, in any order."""
        ...

    async def feed(self, partition: Partition, after: int, limit: int) -> Said:
        """The first `limit` acknowledged messages with `after` or more before them that are still
        kept."""
        ...

    def users(self, partition: Partition, chunk: int = 1_000) -> AsyncIterator[list[str]]:
        """Every customer of a partition; some more than once."""
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
