"""The loop of an ingester, and the one order of its effects:

1. fetch records of the partitions that the group gives us;
2. ask the registry for schemas that are not known yet;
3. plan, purely (`streamer.ingest.plan`);
4. publish dead letters and orders, and wait until the broker has acknowledged all of them;
5. commit the next offsets, each with the window of the dead-letter limits as its note.

Whoever is cut off before 5 is followed by somebody who does 1 to 4 again, with the same orders
under the same ids, which change nothing twice. Nothing is committed that was not acknowledged.
A plain consumer of aiokafka's, not Faust's: docs/decisions/0015-ingest.md says why.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import OffsetAndMetadata

from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.errors import StreamerError
from streamer.ingest.decoders import DecoderCache
from streamer.ingest.metrics import LOST, UNCOMMITTED, IngestMetrics
from streamer.ingest.plan import Decoders, IngestPlan, IngestTerms, bounded_plan, ingest_plan
from streamer.ingest.plan import schema_ids as ids_of
from streamer.kafka.topics import KafkaUnreachable
from streamer.pipeline import dead_letters, outbox
from streamer.pipeline.dead_letters import CLEAN, DeadLettersExceeded, DeadLetterWindow, Limits
from streamer.process.outage import Outage
from streamer.records import Partition, Publisher

_log = log.get(__name__)

POLL_MS: Final = 200
COMMIT_WITHIN_S: Final = 10.0
# A rebalance waits for what is under way, so that it is not done twice; not for an outage.
REVOKE_WITHIN_S: Final = 5.0
ERROR_WAIT_S: Final = 1.0
# Kafka takes 4,096 bytes of note with an offset.
MAX_NOTE_CHARS: Final = 4_000

Committed = Callable[
    [Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, OffsetAndMetadata]]
]


class NotAllowed(StreamerError):
    """Allow this user to read the topic and the group (docs/security.md)."""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """Where an ingester reads, how much at a time, and how much it may set aside."""

    topic: str
    terms: IngestTerms
    limits: Limits
    batch: int = 1000


@dataclass(frozen=True, slots=True)
class _Done:
    """What is to be committed for a partition."""

    next_offset: int
    window: DeadLetterWindow


class IngestLoop(ConsumerRebalanceListener):  # type: ignore[misc]
    """Brings the records of a topic into the orders topic, until cancelled."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        committed: Committed,
        publisher: Publisher,
        options: IngestOptions,
        decoders: DecoderCache | None,
        *,
        outage: Outage,
        metrics: IngestMetrics,
        clock: Clock | None = None,
    ) -> None:
        """`committed` tells what the group has committed, notes included."""
        self.outage = outage
        self.assigned = False
        self._polls = 0
        self._consumer = consumer
        self._committed = committed
        self._publisher = publisher
        self._options = options
        self._decoders = decoders
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._windows: dict[TopicPartition, DeadLetterWindow] = {}
        self._next: dict[TopicPartition, int] = {}
        self._busy = asyncio.Lock()
        self._begun = asyncio.Event()

    @property
    def progress(self) -> int:
        """A count that moves whenever work does."""
        return self._polls + self.outage.attempts

    def lags(self) -> dict[int, int]:
        """Records that are not read, of each partition of ours where that is known."""
        ends = {part: self._consumer.highwater(part) for part in self._consumer.assignment()}
        return {
            part.partition: max(0, end - self._next[part])
            for part, end in ends.items()
            if end is not None and part in self._next
        }

    async def run(self) -> None:
        """Raises DeadLettersExceeded, NotAllowed, FormatMissing, and PublishFailed where repeating
        does not help."""
        self._consumer.subscribe([self._options.topic], listener=self)
        while True:
            found = await self._fetched()
            if found:
                # Records may come before it is known what was committed with their partition.
                await self._begun.wait()
                async with self._busy:
                    await self._bring(found)

    # --- the group --------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._begun.clear()
        try:
            async with asyncio.timeout(REVOKE_WITHIN_S), self._busy:
                pass
        except TimeoutError:
            _log.info("ingest.cut_off", count=len(revoked))

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        while assigned:
            try:
                await self._begin(assigned)
                break
            except (KafkaUnreachable, KafkaError) as error:
                # Raised from here, it would be logged and forgotten.
                _log.warning("ingest.failing", error=type(error).__name__)
                await asyncio.sleep(ERROR_WAIT_S)
        self.assigned = True
        self._begun.set()
        _log.info("partitions.assigned", count=len(assigned))

    async def _begin(self, assigned: Collection[TopicPartition]) -> None:
        found = await self._committed(assigned)
        self._windows = {part: _window(found[part].metadata) for part in found}
        self._next = {part: one.offset for part, one in found.items()}
        for part in assigned:
            if part not in found:
                await self._from_start(part, None)

    async def _from_start(self, part: TopicPartition, wanted: int | None) -> None:
        """Goes to the beginning of a partition's log, and tells of what is lost to it."""
        start = (await self._consumer.beginning_offsets([part]))[part]
        self._consumer.seek(part, start)
        self._next[part] = start
        if wanted is not None and wanted < start:
            self._metrics.count(LOST, start - wanted)
            _log.error("ingest.lost", partition=part.partition, wanted=wanted, start=start)
        elif wanted is not None:
            _log.warning("ingest.again", partition=part.partition, wanted=wanted, start=start)

    # --- effects ----------------------------------------------------------------------------

    async def _fetched(self) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        try:
            found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await self._consumer.getmany(
                timeout_ms=POLL_MS, max_records=self._options.batch
            )
        except OffsetOutOfRangeError as error:
            # Deleted by its retention, or deleted and made anew.
            for part, wanted in error.args[0].items():
                await self._from_start(part, wanted)
            return {}
        except NoOffsetForPartitionError:
            await asyncio.sleep(POLL_MS / 1000)  # `_begin` is about to say where
            return {}
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
            raise NotAllowed(
                f"{type(error).__name__}: allow this user to read the topic"
                f" {self._options.topic!r} and the group (docs/security.md)"
            ) from error
        except KafkaError as error:
            # What had parked the group's coordinator: told once, it goes on by itself.
            _log.warning("ingest.failing", error=type(error).__name__)
            await asyncio.sleep(ERROR_WAIT_S)
            return {}
        self._polls += 1
        return found

    async def _bring(self, found: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        decoders = await self._decoded_by(found)
        now_ms, terms = self._clock.now_ms(), self._options.terms
        total, done, stop, count = IngestPlan(), dict[TopicPartition, _Done](), None, 0
        for part, records in found.items():
            source = Partition(part.topic, part.partition)
            plan, window, next_offset, exceeded = bounded_plan(
                records,
                partial(_planned, source, decoders, terms, now_ms),
                self._windows.get(part, CLEAN),
                self._options.limits,
            )
            total.add(plan)
            done[part] = _Done(next_offset, window)
            count += sum(record.offset < next_offset for record in records)
            if exceeded is not None and stop is None:
                stop = DeadLettersExceeded(source, exceeded)
        await self.outage.outlast(
            lambda: outbox.publish(total.letters, total.orders, self._publisher)
        )
        for reason in self._metrics.brought(count, total):
            _log.info("ingest.skipping", reason=reason)
        for part, one in done.items():
            self._windows[part], self._next[part] = one.window, one.next_offset
        await self._commit(done)
        if stop is not None:
            raise stop

    async def _decoded_by(
        self, found: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> Decoders | None:
        if self._decoders is None:
            return None
        return await self._decoders.of({n for records in found.values() for n in ids_of(records)})

    async def _commit(self, done: Mapping[TopicPartition, _Done]) -> None:
        """Commits; where that fails, the records are read again by whoever has them next."""
        ours = self._consumer.assignment()
        notes = {p: (one.next_offset, _note(one.window)) for p, one in done.items() if p in ours}
        try:
            async with asyncio.timeout(COMMIT_WITHIN_S):
                await self._consumer.commit(notes)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            self._metrics.count(UNCOMMITTED)
            _log.warning("ingest.uncommitted", error=type(error).__name__)


def _planned(
    source: Partition,
    decoders: Decoders | None,
    terms: IngestTerms,
    now_ms: int,
    records: Sequence[ConsumerRecord],
) -> IngestPlan:
    return ingest_plan(records, source, decoders, terms, now_ms)


def _note(window: DeadLetterWindow) -> str:
    """A window as text; nothing for a clean one, and only the run of one that has no room."""
    if window == CLEAN:
        return ""
    for one in (window, DeadLetterWindow(window.run_start, window.run)):
        text = base64.b85encode(dead_letters.encode(one)).decode()
        if len(text) <= MAX_NOTE_CHARS:
            return text
    return ""


def _window(note: str | None) -> DeadLetterWindow:
    """The window in a note; a clean one where there is none, or one of somebody else's."""
    try:
        return dead_letters.decode(base64.b85decode(note or "") or None)
    except (ValueError, binascii.Error):
        return CLEAN
