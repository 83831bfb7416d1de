"""What the lane stands between: the consumer that it reads from, and the sink that it feeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka import ConsumerRecord

from streamer.errors import StreamerError
from streamer.records import LogRange


class OrderSink(Protocol):
    """Where the lists go. One call at a time for each partition; partitions run side by side."""

    async def assigned(self, logs: Mapping[int, LogRange]) -> Mapping[int, int]:
        """The offset to seek to for each partition; those left out are not read.

        Called with every partition that is ours, whether it was before or not. May take as long as
        it needs (an outage is waited out here); raising stops the worker with the reason.
        """
        ...

    async def revoked(self, partitions: Collection[int]) -> None:
        """These are no longer ours, or what was under way in them has been cut off: forget them."""
        ...

    async def records(self, partition: int, batch: Sequence[ConsumerRecord]) -> None:
        """Returns when the records are applied. Raising stops the worker with the reason."""
        ...


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """How the lane reads; times in the unit that their names say.

    `fetch_max_wait_ms`: Kafka answers a fetch as soon as there is a record; the embedded broker
    looks again only now and then, and at 200 ms half of the orders waited 60 ms for it, at 50 ms
    25. An idle worker pays 0.7 % of a core.
    """

    batch: int = 1000
    fetch_max_wait_ms: int = 50
    drain_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A partition's records, the version of its position under which they were fetched, and the
    position after them: further than the last record where nothing to read followed it."""

    partition: int
    version: int
    records: list[ConsumerRecord]
    position: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the consumer is: for the watchdog and for /readyz."""

    lag: int = 0  # records between our positions and the log's ends, as last heard
    # Since any broker last answered a fetch; None before the first.
    fetch_age_s: float | None = None
    error: str | None = None  # what had parked the coordinator
    ends: Mapping[int, int] = field(default_factory=dict)  # of the partitions' logs, as last heard


class LogGone(StreamerError):
    """The position lies outside the partition's log: it was cut or the topic was recreated."""

    def __init__(self, partitions: Collection[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)}")
        self.partitions = frozenset(partitions)


class Port(Protocol):
    """What the lane needs of the consumer; `faust_consumer` has it, tests put a fake there."""

    async def fetch(
        self, partitions: Collection[int], timeout_s: float, limit: int
    ) -> list[Fetched]:
        """What there is of each of the partitions, those with nothing included."""
        ...

    async def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]: ...
    async def ranges(self, partitions: Collection[int]) -> Mapping[int, LogRange]: ...
    async def commit(self, offsets: Mapping[int, int]) -> None: ...

    def end_reached(self, partition: int, version: int) -> int | None:
        """The position of the partition under this version, everything fetched counted as passed,
        if a broker has lately said that nothing is left to read there; None otherwise."""
        ...

    def poke(self) -> None: ...
    def heal(self, timeout_s: float) -> Vitals: ...
