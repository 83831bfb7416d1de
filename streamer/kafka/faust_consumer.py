"""Faust's consumer with the lane in it. The only module that knows private names of Faust, mode and
aiokafka; `tests/streamer/kafka/test_faust_private_names.py` holds each of them.

What stays Faust's: group membership, rebalancing, the subscription, the web server. What is
replaced: `_drain_messages` (two asyncio tasks per record, 45 us), `perform_seek` (positions come
from the store, Kafka's committed offset is only a hint for lag tools) and everything about acks
and commits, which counts failed work as done.

    LaneConsumer    Faust's consumer, with the overrides; hands Faust's callbacks to the lane
    LaneThread      Faust's consumer thread: aiokafka lives here, so fetches and seeks run here
    ConsumerPort    the lane's way into that thread

**The log's end.** ListOffsets "latest" is wrong on Tansu (the base offset of the newest batch plus
one), and comparing a stored `next` with it would refuse a good log. The high watermark in a fetch
response is right on every broker, so the end is read from a fetch at "latest": on Kafka an empty
answer, on Tansu the newest batch. The greater of the two counts. A position beyond the high
watermark is silently idle on Tansu, out of range on Kafka: both raise `LogGone`, so the sink sees
the log's true range and refuses by itself, with a reason; nothing is ever reset on the way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar, cast

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import OffsetAndMetadata
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from streamer import log
from streamer.kafka.lane import Lane
from streamer.kafka.port import Fetched, LogGone, Vitals
from streamer.kafka.topic_id import topic_id
from streamer.kafka.unpacking import bound, not_copied
from streamer.records import LogRange

_log = log.get(__name__)
# mode gives every service a logger; ours tell of starting and stopping as Faust's own do.
_service_log = logging.getLogger("faust.lane")
_T = TypeVar("_T")

# A leader that has just taken over may show an older high watermark for a moment (KIP-207).
BEYOND_END_S: Final = 5.0
# How old a broker's word may be that there is nothing left to read.
AT_END_S: Final = 5.0
PROBE_WAIT_MS: Final = 200
# How long the consumer may take to leave the group and close; a broker may be down.
STOP_S: Final = 3.0


class LaneThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, where aiokafka's consumer lives. `..._here` runs in this thread."""

    logger = _service_log

    def __post_init__(self) -> None:
        super().__post_init__()
        self._versions: dict[int, int] = {}
        self._wake: asyncio.Event | None = None
        self._beyond_since: dict[int, float] = {}
        self._clock = cast("LaneTransport", self.transport).lane.clock

    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        options = cast("LaneTransport", transport).lane.options
        # Faust hard-codes 1,500 ms. All four are read when the consumer starts.
        consumer._fetch_max_wait_ms = options.fetch_max_wait_ms
        consumer._auto_offset_reset = "none"
        # An order in a transaction that its producer takes back was never made.
        consumer._isolation_level = "read_committed"
        consumer._value_deserializer = not_copied
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
        gone = self._beyond_end_here(tps)
        if gone and not records:
            raise LogGone(gone)
        return [
            Fetched(
                tp.partition,
                self._versions.get(tp.partition, -1),
                records.get(tp, []),
                state.position,
            )
            for tp in tps
            if (state := self._state_of(tp)) is not None
        ]

    def _state_of(self, tp: TopicPartition) -> Any:
        """What aiokafka knows of a partition; None where it is not ours or has no position. Its
        fields may be read from any thread."""
        consumer: AIOKafkaConsumer | None = self._consumer
        subscription = None if consumer is None else consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        state = subscription.assignment.state_value(tp)
        return state if state is not None and state.has_valid_position else None

    def _beyond_end_here(self, tps: list[TopicPartition]) -> list[int]:
        """Those whose position has been past the high watermark for a while.

        Kafka answers a fetch from past the end with an error; Tansu with nothing, for ever.
        """
        now = self._clock.monotonic_s()
        gone = []
        for tp in tps:
            number, state = tp.partition, self._state_of(tp)
            if state is None or state.highwater is None or state.position <= state.highwater:
                self._beyond_since.pop(number, None)
            elif now - self._beyond_since.setdefault(number, now) > BEYOND_END_S:
                del self._beyond_since[number]
                gone.append(number)
        return gone

    def end_reached(self, topic: str, partition: int, version: int) -> int | None:
        """See `Port.end_reached`; from any thread.

        The position is read first. aiokafka moves it as soon as it hands records out, and the high
        watermark as soon as records arrive, so both count what is on its way to the lane.
        """
        state = self._state_of(TopicPartition(topic, partition))
        if state is None:
            return None
        position: int | None = state._position
        if position is None or state.highwater is None or state.timestamp is None:
            return None
        if position < _readable_end(state) or self._age_s(state.timestamp) >= AT_END_S:
            return None
        return position if self._versions.get(partition) == version else None

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
        # A heartbeat that failed is told of again and again, and restarted by nothing but a
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
        age_s = self._age_s(max(answers)) if answers else None
        ends = {
            tp.partition: _readable_end(state)
            for tp, state in zip(subscription.assignment.tps, states, strict=True)
            if state.highwater is not None
        }
        return Vitals(lag=lag, fetch_age_s=age_s, ends=ends)

    def _age_s(self, answered_ms: float) -> float:
        """How long ago a fetch was answered; aiokafka stamps answers with the wall clock."""
        return max(0.0, (self._clock.now_ms() - answered_ms) / 1000)


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
        self.lane.attach(ConsumerPort(self._thread, self.lane.topic))

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


class ConsumerPort:
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

    def end_reached(self, partition: int, version: int) -> int | None:
        return self._thread.end_reached(self._topic, partition, version)

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
    bound()
    transport = LaneTransport(app.conf.broker_consumer, app)
    transport.lane = lane
    app.transport = transport
    app.tables = LaneTables(app, beacon=app.beacon)
    # A subscription without an agent: the conductor subscribes, and nobody iterates.
    app.topics.add(app.topic(lane.topic, value_type=bytes, value_serializer="raw", acks=False))
