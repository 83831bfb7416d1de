"""Orders in: whole lists of records from Kafka to the sink, past Faust's per-record machinery.

The only module that knows private names of Faust and aiokafka; `tests/streamer/kafka` holds each of
them. What stays Faust's: group membership, rebalancing, the subscription, the web server. What is
replaced: `_drain_messages` (two asyncio tasks per record, 45 us), `perform_seek` (positions come
from the store, Kafka's committed offset is only a hint for lag tools) and everything about acks
and commits, which counts failed work as done.

Three parties, each knowing only the next:

    Lane            which partitions are ours, one list of each in the sink at a time, backpressure
    LaneConsumer    Faust's consumer, with the overrides; hands Faust's callbacks to the lane
    LaneThread      Faust's consumer thread: aiokafka lives here, so fetches and seeks run here

**Order and loss.** Every seek gives its partition a new version, in the consumer thread; every
fetched list carries the version under which it was fetched, from the same thread. The lane takes a
list only under the version that it knows, so a list from before a seek or a rebalance can never be
taken for one from after it, nor be lost without a seek following it.

**Backpressure.** For each partition there is one list in the sink and at most two lists' worth
waiting; a partition with a full list waiting is left out of the next fetch, and its records stay
in aiokafka's buffer (1 MiB per partition), then on the broker. So one partition that waits for its
store or its publisher does not hold up the others.

**Rebalance.** On revocation nothing new is begun, lists in process get `drain_s` to finish, and
what does not finish is cancelled and forgotten (`sink.revoked`); the store's epoch fences whatever
was still under way. Partitions that stay ours over consecutive generations keep their runners,
because nobody else can have owned them in between.

**The log's end.** ListOffsets "latest" is wrong on Tansu (the base offset of the newest batch plus
one), and comparing a stored `next` with it would refuse a good log. The high watermark in a fetch
response is right on every broker, so the end is read from a fetch at "latest": on Kafka an empty
answer, on Tansu the newest batch. The greater of the two counts. A position beyond the high
watermark is silently idle on Tansu, out of range on Kafka: both end in `reopen`, so the sink sees
the log's true range and refuses by itself, with a reason; nothing is ever reset on the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

import faust
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import OffsetAndMetadata
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from streamer import log
from streamer.errors import StreamerError
from streamer.kafka.topic_id import topic_id
from streamer.records import LogRange

_log = log.get(__name__)
# mode gives every service a logger; ours tell of starting and stopping as Faust's own do.
_service_log = logging.getLogger("faust.lane")
_T = TypeVar("_T")

# How long a fetch may find nothing before the lane looks around again.
POLL_S: Final = 0.25
# A leader that has just taken over may show an older high watermark for a moment (KIP-207).
BEYOND_END_S: Final = 5.0
RETRY_S: Final = 0.5
# How old a broker's word may be that there is nothing left to read.
AT_END_S: Final = 5.0
# Errors that no repetition cures (authorisation, a codec) may be repeated for this long.
GIVE_UP_S: Final = 30.0
PROBE_WAIT_MS: Final = 200
# How long the consumer may take to leave the group and close; a broker may be down.
STOP_S: Final = 3.0


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
    """How the lane reads; times in the unit that their names say."""

    batch: int = 1000
    fetch_max_wait_ms: int = 200
    drain_s: float = 5.0


@dataclass(slots=True)
class _Feed:
    """One partition that is ours."""

    partition: int
    version: int
    waiting: list[ConsumerRecord] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A partition's records, and the version of its position under which they were fetched."""

    partition: int
    version: int
    records: list[ConsumerRecord]


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the consumer is: for the watchdog and for /readyz."""

    lag: int = 0  # records between our positions and the log's ends, as last heard
    fetch_age_s: float | None = (
        None  # since any broker last answered a fetch; None before the first
    )
    error: str | None = None  # what had parked the coordinator
    ends: Mapping[int, int] = field(default_factory=dict)  # of the partitions' logs, as last heard


class LogGone(StreamerError):
    """The position lies outside the partition's log: it was cut or the topic was made anew."""

    def __init__(self, partitions: Collection[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)}")
        self.partitions = frozenset(partitions)


class Port(Protocol):
    """What the lane needs of the consumer; `LaneConsumer` is it, tests put a fake there."""

    async def fetch(
        self, partitions: Collection[int], timeout_s: float, limit: int
    ) -> list[Fetched]: ...
    async def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]: ...
    async def ranges(self, partitions: Collection[int]) -> Mapping[int, LogRange]: ...
    async def commit(self, offsets: Mapping[int, int]) -> None: ...
    def at_end(self, partition: int, version: int) -> bool: ...
    def poke(self) -> None: ...
    def heal(self, timeout_s: float) -> Vitals: ...


class Lane:
    """The partitions that are ours, and the records on their way to the sink.

    `on_failure` is called once, with the reason, when the worker must stop.
    """

    def __init__(
        self,
        topic: str,
        sink: OrderSink,
        on_failure: Callable[[BaseException], None],
        options: LaneOptions | None = None,
    ) -> None:
        self.topic = topic
        self.options = options or LaneOptions()
        self.rebalancing_since_s: float | None = time.monotonic()
        self.records_delivered = 0
        self.records_dropped = 0
        self._sink = sink
        self._on_failure = on_failure
        self._port: Port | None = None
        self._feeds: dict[int, _Feed] = {}
        self._ours: frozenset[int] = frozenset()
        self._generation: int | None = None
        self._taking = False
        self._closed = False
        self._failed = False
        self._asked: frozenset[int] = frozenset()
        self._room = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._later: set[asyncio.Task[None]] = set()

    # --- for the worker ---------------------------------------------------------------------

    @property
    def owned(self) -> frozenset[int]:
        """Partitions that are ours, claimed and positioned."""
        return frozenset(self._feeds) if self._taking else frozenset()

    @property
    def assigned(self) -> frozenset[int]:
        """Partitions that the group gave us, whether we read them yet or not."""
        return self._ours

    @property
    def ready(self) -> bool:
        """Whether all that the group gave us is being read."""
        return self.rebalancing_since_s is None and self._feeds.keys() >= self._ours

    @property
    def behind(self) -> bool:
        """Whether records are waiting or in the sink: a lane that is behind has to move."""
        return any(feed.waiting or not feed.idle.is_set() for feed in self._feeds.values())

    async def reseek(self, partition: int, offset: int) -> None:
        """Reads the partition again from `offset`; what waits of it is dropped.

        To be called from within `records`, or when nothing of the partition is in the sink.
        """
        feed = self._feeds.get(partition)
        if feed is None or self._port is None:
            return
        feed.waiting.clear()
        # Until the new version is known, no list can match.
        feed.version = -1
        versions = await self._port.seek({partition: offset})
        if partition in versions:
            feed.version = versions[partition]
        feed.waiting.clear()

    def reopen(self, partition: int, after_s: float = 0.0) -> None:
        """Forgets the partition and, if it is still ours after `after_s`, has it claimed again."""
        self._spawn(self._reopen(partition, after_s, self._generation))

    async def log_range(self, partition: int) -> LogRange:
        """The partition's log as the broker has it now; waits for a broker that answers."""
        return (await self._ranges([partition]))[partition]

    def caught_up(self, partition: int) -> bool:
        """Whether everything in the partition's log, as a broker said just now, is applied."""
        feed = self._feeds.get(partition)
        return (
            self._taking
            and self._port is not None
            and feed is not None
            and not feed.waiting
            and feed.idle.is_set()
            and self._port.at_end(partition, feed.version)
        )

    async def commit_hint(self, offsets: Mapping[int, int]) -> None:
        """Tells Kafka the next offsets, for lag tools. Never raises: nothing depends on it."""
        ours = {number: offset for number, offset in offsets.items() if number in self._feeds}
        if not ours or self._port is None or not self._taking:
            return
        try:
            await self._port.commit(ours)
        except (KafkaError, TimeoutError, RuntimeError) as error:
            _log.warning("commit_hint.failed", error=type(error).__name__)

    def heal(self, timeout_s: float = 3.0) -> Vitals:
        """Wakes a group coordinator that an error has parked, and says how the consumer is.

        From any thread but the event loop's. The error named in the answer is cured by asking: the
        coordinator joins again. Raises TimeoutError when the consumer's thread does not answer.
        """
        return Vitals() if self._port is None else self._port.heal(timeout_s)

    async def close(self) -> None:
        """Stops taking records and waits for those in the sink, at most `drain_s`."""
        self._closed = True
        await self._quiesce()
        self._cancel_opening()
        await self._forget(frozenset(self._feeds))
        self._ours = frozenset()

    # --- for the consumer -------------------------------------------------------------------

    def attach(self, port: Port) -> None:
        self._port = port

    async def revoking(self) -> None:
        """The group rebalances: begin nothing, finish what runs."""
        if self.rebalancing_since_s is None:
            self.rebalancing_since_s = time.monotonic()
        self._cancel_opening()
        await self._quiesce()

    async def settle(self, partitions: frozenset[int], generation: int) -> None:
        """The group has decided: forgets what is no longer ours."""
        lost = self._feeds.keys() - partitions
        if self._generation is None or generation != self._generation + 1:
            # A generation without us: somebody else may have owned anything.
            lost = set(self._feeds)
        self._ours, self._generation = partitions, generation
        await self._forget(lost)
        if not partitions:
            self.rebalancing_since_s = None
        _log.info("partitions.assigned", count=len(partitions), generation=generation)

    async def open(self, wait_s: float) -> None:
        """Claims and positions what is ours; after `wait_s` goes on with it in the background."""
        self._cancel_opening()
        if self._closed:
            return
        self._opening = asyncio.create_task(self._open(self._ours), name="lane.open")
        await asyncio.wait({self._opening}, timeout=wait_s)

    async def drain(self, stopped: Callable[[], bool]) -> None:
        """Fetches and hands over, until `stopped`."""
        try:
            await self._drain(stopped)
        except Exception as error:
            self._fail(error)

    # --- inside -----------------------------------------------------------------------------

    async def _drain(self, stopped: Callable[[], bool]) -> None:
        failing_since: float | None = None
        while not stopped() and not self._closed:
            ready = frozenset(self._with_room())
            if not ready or self._port is None:
                await self._wait_for_room()
                continue
            self._asked = ready
            try:
                fetched = await self._port.fetch(ready, POLL_S, self.options.batch)
            except LogGone as gone:
                for number in gone.partitions:
                    _log.warning("partition.out_of_range", partition=number)
                    if number in self._feeds:
                        # Left out of the fetches at once, or the next one says the same again.
                        self._feeds[number].version = -1
                    self.reopen(number)
                continue
            except IllegalStateError:
                await asyncio.sleep(POLL_S)  # a rebalance was faster
                continue
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                now = time.monotonic()
                failing_since = failing_since or now
                if isinstance(error, RecordTooLargeError):
                    raise  # aiokafka has stepped over the record: going on would lose it
                if not error.retriable and now - failing_since > GIVE_UP_S:
                    raise
                _log.warning("fetch.failed", error=type(error).__name__)
                await asyncio.sleep(RETRY_S)
                continue
            failing_since = None
            for one in fetched:
                self._take(one)

    def _with_room(self) -> list[int]:
        if not self._taking:
            return []
        batch = self.options.batch
        return [
            number
            for number, feed in self._feeds.items()
            if len(feed.waiting) < batch and feed.version >= 0
        ]

    async def _wait_for_room(self) -> None:
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), POLL_S)
        except TimeoutError:
            return

    def _take(self, fetched: Fetched) -> None:
        feed = self._feeds.get(fetched.partition)
        if not self._taking or feed is None or feed.version != fetched.version:
            self.records_dropped += len(fetched.records)
            return
        if feed.waiting:
            feed.waiting.extend(fetched.records)
        else:
            feed.waiting = fetched.records
        feed.arrived.set()

    async def _feed(self, feed: _Feed) -> None:
        """Hands the partition's lists to the sink, one after the other, while it is ours."""
        batch = self.options.batch
        # Not for ever: redis-py sends every command through asyncio's `wait_for`, which before
        # Python 3.12 loses a cancellation that comes as the command has just been sent. The sink
        # then returns as if there had been none.
        while self._feeds.get(feed.partition) is feed:
            await feed.arrived.wait()
            records, feed.waiting = feed.waiting[:batch], feed.waiting[batch:]
            if not feed.waiting:
                feed.arrived.clear()
            if not records:
                continue
            feed.idle.clear()
            if feed.partition not in self._asked and len(feed.waiting) < batch:
                self._room.set()
                if self._port is not None:
                    self._port.poke()
            try:
                await self._sink.records(feed.partition, records)
            except Exception as error:
                self._fail(error)
                return
            finally:
                feed.idle.set()
            self.records_delivered += len(records)
            # A sink that never waits would otherwise starve the fetches.
            await asyncio.sleep(0)

    async def _open(self, partitions: Collection[int]) -> None:
        try:
            logs = await self._ranges(partitions)
            offsets = await self._sink.assigned(logs)
            versions = await self._seek({n: o for n, o in offsets.items() if n in partitions})
        except Exception as error:
            self._fail(error)
            return
        if being_cancelled():
            return  # a rebalance decides anew
        for number, version in versions.items():
            feed = self._feeds.get(number)
            if feed is None:
                feed = self._feeds[number] = _Feed(number, version)
                feed.idle.set()
            feed.version = version
            feed.waiting.clear()
            if feed.task is None or feed.task.done():
                feed.task = asyncio.create_task(self._feed(feed), name=f"lane.{number}")
            _log.info("partition.opened", partition=number, offset=offsets[number])
        self._taking = not self._closed
        self.rebalancing_since_s = None
        self._room.set()
        if self._port is not None:
            self._port.poke()

    async def _ranges(self, partitions: Collection[int]) -> Mapping[int, LogRange]:
        while True:
            try:
                if self._port is None:
                    raise ConsumerStoppedError
                return await self._port.ranges(partitions)
            except (KafkaError, TimeoutError) as error:
                _log.warning("log_range.failed", error=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        if self._port is None:
            raise ConsumerStoppedError
        return await self._port.seek(offsets)

    async def _reopen(self, partition: int, after_s: float, generation: int | None) -> None:
        # Shielded: a rebalance cancels this task, and the sink must hear of it all the same.
        await asyncio.shield(self._forget([partition]))
        await asyncio.sleep(after_s)
        if partition in self._ours and generation == self._generation and self._taking:
            await self._open([partition])

    async def _quiesce(self) -> None:
        """No list begins; those in the sink end, or are cut off and their partitions forgotten."""
        self._taking = False
        for feed in self._feeds.values():
            feed.waiting.clear()
            feed.arrived.clear()
        busy = [feed for feed in self._feeds.values() if not feed.idle.is_set()]
        if busy:
            waits = [asyncio.ensure_future(feed.idle.wait()) for feed in busy]
            _, late = await asyncio.wait(waits, timeout=self.options.drain_s)
            for wait in late:
                wait.cancel()
        cut = [feed.partition for feed in busy if not feed.idle.is_set()]
        if cut:
            _log.warning("batch.cut_off", partitions=len(cut), after_s=self.options.drain_s)
            await self._forget(cut)

    async def _forget(self, partitions: Collection[int]) -> None:
        gone = [feed for number in partitions if (feed := self._feeds.pop(number, None))]
        if not gone:
            return
        current = asyncio.current_task()
        tasks = [feed.task for feed in gone if feed.task is not None and feed.task is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            # A rebalance that waits for one who does not end keeps the whole group waiting: what it
            # still does, the store's epoch fences.
            _, late = await asyncio.wait(tasks, timeout=self.options.drain_s)
            if late:
                _log.warning("batch.not_cancelled", partitions=len(late))
        try:
            await self._sink.revoked(frozenset(feed.partition for feed in gone))
        except Exception as error:
            self._fail(error)

    def _cancel_opening(self) -> None:
        """A rebalance decides anew: it claims and positions whatever will be ours."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        for task in self._later:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _fail(self, error: BaseException) -> None:
        self._taking = False
        if not self._failed:
            self._failed = True
            self._on_failure(error)


class LaneThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, where aiokafka's consumer lives. `..._here` runs in this thread."""

    logger = _service_log

    def __post_init__(self) -> None:
        super().__post_init__()
        self._versions: dict[int, int] = {}
        self._wake: asyncio.Event | None = None
        self._beyond_since: dict[int, float] = {}
        self._at_end: dict[int, tuple[int, float]] = {}

    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        options = cast("LaneTransport", transport).lane.options
        # Faust hard-codes 1,500 ms. All three are read when the consumer starts.
        consumer._fetch_max_wait_ms = options.fetch_max_wait_ms
        consumer._auto_offset_reset = "none"
        # An order in a transaction that its producer takes back was never made.
        consumer._isolation_level = "read_committed"
        return consumer

    async def on_thread_stop(self) -> None:
        """Leaves the group and closes; in time, and whatever aiokafka raises while doing so.

        Without a broker its fetcher ends in a CancelledError of its own making, which would end
        this thread before it has told the main thread that it is done.
        """
        try:
            async with asyncio.timeout(STOP_S):
                await super().on_thread_stop()
        except (Exception, asyncio.CancelledError) as error:
            _log.debug("consumer.stopped_badly", error=type(error).__name__)

    async def run_here(self, work: Coroutine[Any, Any, _T], timeout_s: float | None = None) -> _T:
        """The coroutine's result, run in this thread; called from the event loop's."""
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))
        return await (future if timeout_s is None else asyncio.wait_for(future, timeout_s))

    def poke(self) -> None:
        """Ends a fetch that waits, without losing what it may have."""
        if self._wake is not None:
            self.thread_loop.call_soon_threadsafe(self._wake.set)

    async def fetch_here(
        self, topic: str, partitions: Collection[int], timeout_s: float, limit: int
    ) -> list[Fetched]:
        consumer: AIOKafkaConsumer = self._ensure_consumer()
        if self._wake is None:
            self._wake = asyncio.Event()
        tps = [TopicPartition(topic, number) for number in partitions]
        timeout_ms = 0 if self._wake.is_set() else int(timeout_s * 1000)
        # The public call also checks the coordinator for errors, which Faust's own path never does:
        # without it one such error parks the group membership for good.
        getting = asyncio.ensure_future(
            consumer.getmany(*tps, timeout_ms=timeout_ms, max_records=limit)
        )
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({getting, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            self._wake.clear()
            if not getting.done():
                # In this thread, so there is no moment between taking records and returning them.
                getting.cancel()
        try:
            records = await getting
        except asyncio.CancelledError:
            return []
        except OffsetOutOfRangeError as error:
            raise LogGone([tp.partition for tp in error.args[0]]) from error
        except NoOffsetForPartitionError as error:
            raise LogGone([error.args[0].partition]) from error
        gone = self._look_at_ends_here(consumer, tps)
        if gone and not records:
            raise LogGone(gone)
        return [
            Fetched(tp.partition, self._versions.get(tp.partition, -1), batch)
            for tp, batch in records.items()
        ]

    def _look_at_ends_here(
        self, consumer: AIOKafkaConsumer, tps: list[TopicPartition]
    ) -> list[int]:
        """Notes which positions are at the high watermark; those past it for a while come back.

        Kafka answers a fetch from past the end with an error; Tansu with nothing, for ever.
        """
        now = time.monotonic()
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        gone = []
        for tp in tps:
            number = tp.partition
            state = None if assignment is None else assignment.state_value(tp)
            if state is None or not state.has_valid_position or state.highwater is None:
                self._beyond_since.pop(number, None)
                continue
            if state.position >= _readable_end(state) and state.timestamp is not None:
                # aiokafka stamps a fetch's answer with the wall clock.
                answered = now - max(0.0, time.time() - state.timestamp / 1000)
                self._at_end[number] = (self._versions.get(number, -1), answered)
            else:
                self._at_end.pop(number, None)
            if state.position <= state.highwater:
                self._beyond_since.pop(number, None)
            elif now - self._beyond_since.setdefault(number, now) > BEYOND_END_S:
                del self._beyond_since[number]
                gone.append(number)
        return gone

    def at_end(self, partition: int, version: int) -> bool:
        """Whether a fetch under this version was lately answered with nothing left to read."""
        at_version, answered = self._at_end.get(partition, (-1, 0.0))
        return at_version == version and time.monotonic() - answered < AT_END_S

    async def seek_here(self, topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
        consumer: AIOKafkaConsumer = self._ensure_consumer()
        versions = {}
        for number, offset in offsets.items():
            try:
                consumer.seek(TopicPartition(topic, number), offset)
            except IllegalStateError:
                continue  # no longer ours; a rebalance is under way
            versions[number] = self._versions[number] = self._versions.get(number, 0) + 1
        return versions

    async def ranges_here(self, topic: str, partitions: Collection[int]) -> dict[int, LogRange]:
        if not partitions:
            return {}
        consumer: AIOKafkaConsumer = self._ensure_consumer()
        tps = [TopicPartition(topic, number) for number in partitions]
        starts = await consumer.beginning_offsets(tps)
        latest = await consumer.end_offsets(tps)
        ends = await _high_watermarks(consumer, topic, {tp.partition: latest[tp] for tp in tps})
        count = len(consumer.partitions_for_topic(topic) or ())
        committed = await asyncio.gather(*map(consumer.committed, tps))
        made_as = await topic_id(consumer._client, topic)
        return {
            tp.partition: LogRange(
                start=starts[tp],
                end=max(starts[tp], latest[tp], ends[tp.partition]),
                partition_count=count,
                committed=offset,
                topic_id=made_as,
            )
            for tp, offset in zip(tps, committed, strict=True)
        }

    async def commit_here(self, topic: str, offsets: Mapping[int, int]) -> None:
        consumer: AIOKafkaConsumer = self._ensure_consumer()
        mine = {tp for tp in consumer.assignment() if tp.topic == topic}
        hints = {
            tp: OffsetAndMetadata(offset, "")
            for number, offset in offsets.items()
            if (tp := TopicPartition(topic, number)) in mine
        }
        if hints:
            await consumer.commit(hints)

    async def heal_here(self) -> Vitals:
        consumer: AIOKafkaConsumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        # A heartbeat that failed is told of again and again, and begun anew by nothing but a
        # rejoin, for which aiokafka does not ask.
        beat = coordinator._heartbeat_task
        if beat is not None and beat.done() and not beat.cancelled() and beat.exception():
            coordinator.request_rejoin()
        coordinator.check_errors()
        subscription = consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return Vitals()
        states = [subscription.assignment.state_value(tp) for tp in subscription.assignment.tps]
        lag = sum(
            max(0, _readable_end(state) - state.position)
            for state in states
            if state.highwater is not None and state.has_valid_position
        )
        answers = [state.timestamp for state in states if state.timestamp is not None]
        # aiokafka stamps the answers with the wall clock.
        age_s = max(0.0, time.time() - max(answers) / 1000) if answers else None
        ends = {
            tp.partition: _readable_end(state)
            for tp, state in zip(subscription.assignment.tps, states, strict=True)
            if state.highwater is not None
        }
        return Vitals(lag=lag, fetch_age_s=age_s, ends=ends)


def being_cancelled() -> bool:
    """Whether this task was cancelled, also where somebody on the way has lost that (see
    `Lane._feed`): what it would do next is for others to do."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _readable_end(state: Any) -> int:
    """As far as a partition can be read: the high watermark, or where the oldest transaction
    begins that is still open. One that its producer has left open must not count as lag."""
    high: int = state.highwater
    stable: int | None = state.lso
    return high if stable is None or stable < 0 else min(high, stable)


async def _high_watermarks(
    consumer: AIOKafkaConsumer, topic: str, offsets: Mapping[int, int]
) -> dict[int, int]:
    """The next offset to be written of each partition, as a fetch at the given offsets tells it.

    Raises the broker's KafkaError for a partition, retriable ones included.
    """
    client = consumer._client
    by_node: dict[int, list[int]] = {}
    for number in offsets:
        node = client.cluster.leader_for_partition(TopicPartition(topic, number))
        by_node.setdefault(-1 if node is None else node, []).append(number)
    ends: dict[int, int] = {}
    for node, numbers in by_node.items():
        wanted = [(number, offsets[number], 1) for number in numbers]
        # Not a wait of 0: Tansu answers that with nothing at all.
        request = FetchRequest(PROBE_WAIT_MS, 0, 1, 0, [(topic, wanted)])
        response = await client.send(node, request)
        for _, partitions in response.topics:
            for number, code, high_watermark, *_ in partitions:
                error = for_code(code)
                if code:
                    raise error(topic)
                ends[number] = high_watermark
    missing = offsets.keys() - ends.keys()
    if missing:
        raise KafkaError(f"no high watermark for partitions {sorted(missing)}")
    return ends


class LaneConsumer(Consumer):
    """Faust's consumer: its rebalancing, our records and positions, and nobody's commits."""

    logger = _service_log

    _thread: LaneThread

    @property
    def lane(self) -> Lane:
        return cast("LaneTransport", self.transport).lane

    def _new_consumer_thread(self) -> LaneThread:
        return LaneThread(self, loop=self.loop, beacon=self.beacon)

    async def on_start(self) -> None:
        await super().on_start()
        self.lane.attach(_ConsumerPort(self._thread, self.lane.topic))

    async def _drain_messages(self, fetcher: Any) -> None:
        def stopped() -> bool:
            return bool(self.should_stop or fetcher.should_stop)

        try:
            await self.lane.drain(stopped)
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def perform_seek(self) -> None:
        await self.lane.open(wait_s=self.app.conf.broker_session_timeout / 2)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.lane.revoking()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        ours = frozenset(tp.partition for tp in assigned if tp.topic == self.lane.topic)
        await self.lane.settle(ours, generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Nothing: offsets live in the store. See `Lane.commit_hint`."""
        return False

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Nothing, as `commit`."""
        return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: compares clocks of two kinds, and knows only agents. See `watchdog`."""


class _ConsumerPort:
    """The lane's way into the consumer's thread."""

    def __init__(self, thread: LaneThread, topic: str) -> None:
        self._thread = thread
        self._topic = topic

    async def fetch(
        self, partitions: Collection[int], timeout_s: float, limit: int
    ) -> list[Fetched]:
        thread = self._thread
        return await thread.run_here(thread.fetch_here(self._topic, partitions, timeout_s, limit))

    async def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        return await self._thread.run_here(self._thread.seek_here(self._topic, offsets))

    async def ranges(self, partitions: Collection[int]) -> Mapping[int, LogRange]:
        thread = self._thread
        return await thread.run_here(thread.ranges_here(self._topic, partitions), timeout_s=30)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        thread = self._thread
        await thread.run_here(thread.commit_here(self._topic, offsets), timeout_s=5)

    def at_end(self, partition: int, version: int) -> bool:
        return self._thread.at_end(partition, version)

    def poke(self) -> None:
        self._thread.poke()

    def heal(self, timeout_s: float) -> Vitals:
        thread = self._thread
        done: Future[Vitals] = asyncio.run_coroutine_threadsafe(
            thread.heal_here(), thread.thread_loop
        )
        try:
            return done.result(timeout_s)
        except TimeoutError:
            done.cancel()
            raise
        except Exception as error:
            return Vitals(error=f"{type(error).__name__}: {error}")


class LaneTransport(Transport):
    """Faust's aiokafka transport with our consumer in it."""

    Consumer = LaneConsumer
    lane: Lane


class LaneTables(TableManager):
    """No tables here, and so not the second that Faust waits for them before it joins the group."""

    logger = _service_log

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def install(app: faust.App, lane: Lane) -> None:
    """Makes the app read `lane.topic` through the lane; before the app starts."""
    transport = LaneTransport(app.conf.broker_consumer, app)
    transport.lane = lane
    app.transport = transport
    app.tables = LaneTables(app, beacon=app.beacon)
    # A subscription without an agent: the conductor subscribes, and nobody iterates.
    app.topics.add(app.topic(lane.topic, value_type=bytes, value_serializer="raw", acks=False))
