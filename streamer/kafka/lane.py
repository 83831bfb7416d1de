"""The consumer lane: orders from Kafka to the sink, whole lists at a time.

A worker has one, past Faust's per-record machinery. It knows which partitions the group has given
us, from where each is read, and what to do when the group rebalances:

    Lane            which partitions are ours, and from where each is read (this module)
    Flow            one list of each partition in the sink at a time, and backpressure (`flow`)
    Port            the consumer, in Faust's thread (`faust_consumer`)

**Order and loss.** Every seek gives its partition a new version, in the consumer thread; every
fetched list carries the version under which it was fetched, from the same thread. The flow takes a
list only under the version that it knows, so a list from before a seek or a rebalance can never be
taken for one from after it, nor be lost without a seek following it.

**Rebalance.** On revocation nothing new is begun, lists in process get `drain_s` to finish, and
what does not finish is cancelled and forgotten (`sink.revoked`); the store's epoch fences whatever
was still under way. Partitions that stay ours over consecutive generations keep their runners,
because nobody else can have owned them in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from aiokafka.errors import ConsumerStoppedError, KafkaError

from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.kafka.flow import RETRY_S, Flow, being_cancelled
from streamer.kafka.port import LaneOptions, OrderSink, Port, Vitals
from streamer.records import LogRange

_log = log.get(__name__)


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
        clock: Clock | None = None,
    ) -> None:
        self.topic = topic
        self.options = options or LaneOptions()
        self.clock = clock or SystemClock()
        self.rebalancing_since_s: float | None = self.clock.monotonic_s()
        self._sink = sink
        self._on_failure = on_failure
        self._flow = Flow(sink, self.options, self._fail, self.reopen, self.clock)
        self._port: Port | None = None
        self._ours: frozenset[int] = frozenset()
        self._generation: int | None = None
        self._closed = False
        self._failed = False
        self._opening: asyncio.Task[None] | None = None
        self._later: set[asyncio.Task[None]] = set()

    # --- for the worker ---------------------------------------------------------------------

    @property
    def owned(self) -> frozenset[int]:
        """Partitions that are ours, claimed and positioned."""
        return frozenset(self._flow.feeds) if self._flow.on else frozenset()

    @property
    def assigned(self) -> frozenset[int]:
        """Partitions that the group gave us, whether we read them yet or not."""
        return self._ours

    @property
    def ready(self) -> bool:
        """Whether all that the group gave us is being read."""
        return self.rebalancing_since_s is None and self._flow.feeds.keys() >= self._ours

    @property
    def behind(self) -> bool:
        """Whether records are waiting or in the sink: a lane that is behind has to move."""
        return self._flow.behind

    @property
    def records_delivered(self) -> int:
        """Records that the sink has taken since the start."""
        return self._flow.delivered

    @property
    def records_dropped(self) -> int:
        """Records fetched under a position that was no longer wanted: they are read again."""
        return self._flow.dropped

    async def reseek(self, partition: int, offset: int) -> None:
        """Reads the partition again from `offset`; what waits of it is dropped.

        To be called from within `records`, or when nothing of the partition is in the sink.
        """
        feed = self._flow.feeds.get(partition)
        if feed is None or self._port is None:
            return
        feed.moved(-1)  # until the new version is known, no list can match
        versions = await self._port.seek({partition: offset})
        feed.moved(versions.get(partition, -1))

    def reopen(self, partition: int, after_s: float = 0.0) -> None:
        """Forgets the partition and, if it is still ours after `after_s`, has it claimed again."""
        task = asyncio.create_task(self._reopen(partition, after_s, self._generation))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def log_range(self, partition: int) -> LogRange:
        """The partition's log as the broker has it now; waits for a broker that answers."""
        return (await self._ranges([partition]))[partition]

    def caught_up(self, partition: int) -> bool:
        """Whether everything in the partition's log, as a broker said just now, is applied."""
        applied = self._flow.applied(partition)
        if applied is None or self._port is None:
            return False
        # What has been fetched and has not come to us yet makes the two differ.
        return self._port.end_reached(partition, self._flow.feeds[partition].version) == applied

    async def commit_hint(self, offsets: Mapping[int, int]) -> None:
        """Tells Kafka the next offsets, for lag tools. Never raises: nothing depends on it."""
        ours = {number: offset for number, offset in offsets.items() if number in self._flow.feeds}
        if not ours or self._port is None or not self._flow.on:
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
        await self._forget(frozenset(self._flow.feeds))
        self._ours = frozenset()

    # --- for the consumer -------------------------------------------------------------------

    def attach(self, port: Port) -> None:
        self._port = self._flow.port = port

    async def revoking(self) -> None:
        """The group rebalances: begin nothing, finish what runs."""
        if self.rebalancing_since_s is None:
            self.rebalancing_since_s = self.clock.monotonic_s()
        self._cancel_opening()
        await self._quiesce()

    async def settle(self, partitions: frozenset[int], generation: int) -> None:
        """The group has decided: forgets what is no longer ours."""
        lost = self._flow.feeds.keys() - partitions
        if self._generation is None or generation != self._generation + 1:
            # A generation without us: somebody else may have owned anything.
            lost = set(self._flow.feeds)
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
            await self._flow.run(lambda: stopped() or self._closed)
        except Exception as error:
            self._fail(error)

    # --- inside -----------------------------------------------------------------------------

    async def _open(self, partitions: Collection[int]) -> None:
        try:
            logs = await self._ranges(partitions)
            offsets = await self._sink.assigned(logs)
            if self._port is None:
                raise ConsumerStoppedError
            versions = await self._port.seek(
                {number: offset for number, offset in offsets.items() if number in partitions}
            )
        except Exception as error:
            self._fail(error)
            return
        if being_cancelled():
            return  # a rebalance decides again
        for number, version in versions.items():
            self._flow.place(number, version)
            _log.info("partition.opened", partition=number, offset=offsets[number])
        self.rebalancing_since_s = None
        if not self._closed:
            self._flow.resume()

    async def _ranges(self, partitions: Collection[int]) -> Mapping[int, LogRange]:
        while True:
            try:
                if self._port is None:
                    raise ConsumerStoppedError
                return await self._port.ranges(partitions)
            except (KafkaError, TimeoutError) as error:
                _log.warning("log_range.failed", error=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _reopen(self, partition: int, after_s: float, generation: int | None) -> None:
        # Shielded: a rebalance cancels this task, and the sink must hear of it all the same.
        await asyncio.shield(self._forget([partition]))
        await asyncio.sleep(after_s)
        if partition in self._ours and generation == self._generation and self._flow.on:
            await self._open([partition])

    async def _quiesce(self) -> None:
        """No list begins; those in the sink end, or are cut off and their partitions forgotten."""
        cut = await self._flow.quiesce()
        if cut:
            _log.warning("batch.cut_off", partitions=len(cut), after_s=self.options.drain_s)
            await self._forget(cut)

    async def _forget(self, partitions: Collection[int]) -> None:
        gone = await self._flow.remove(partitions)
        if not gone:
            return
        try:
            await self._sink.revoked(gone)
        except Exception as error:
            self._fail(error)

    def _cancel_opening(self) -> None:
        """A rebalance decides again: it claims and positions whatever will be ours."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        for task in self._later:
            task.cancel()

    def _fail(self, error: BaseException) -> None:
        self._flow.on = False
        if not self._failed:
            self._failed = True
            self._on_failure(error)
