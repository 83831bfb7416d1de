"""Runners of partitions, from what all partitions of a worker share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamer.admin.forget import KafkaErasures
from streamer.clock import Clock, SystemClock
from streamer.kafka.reader import TopicReader
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.partition import Observer, PartitionRunner, RunnerOptions
from streamer.records import Message, Partition, Publisher
from streamer.settings import Settings
from streamer.store.base import StateStore
from streamer.worker.turn import Turns


class Runners:
    """Makes them."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        publisher: Publisher,
        pipeline: Callable[[], Awaitable[Pipeline]],
        history: TopicReader | None = None,
        erasures: KafkaErasures | None = None,
        observer: Observer | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`pipeline` is asked for each, and may take its time over the first answer; `history`
        when a state in the store is damaged; `observer` hears what they write."""
        self.pipeline = pipeline
        self._settings = settings
        self._store = store
        self._publisher = publisher
        self._history = history
        self._erasures = erasures
        self._forgotten = Erasures(settings.erasure_keys)
        self._observer = observer
        self._turns = Turns()
        self._clock = clock or SystemClock()

    @property
    def records_read(self) -> int:
        """A count that moves while a log is read again."""
        return 0 if self._history is None else self._history.records_read

    def erased(self, message: Message) -> bool:
        """Whether a warning is of a customer who is known to have been erased since."""
        return self._forgotten.covers_warning(message)

    @property
    def forgotten(self) -> int:
        """How many customers are known to have been erased."""
        return len(self._forgotten)

    async def read_erasures(self) -> None:
        """Hears of all erasures until now. Raises LogUnavailable."""
        if self._erasures is not None:
            await self._erasures.read_into(self._forgotten)

    async def make(self, number: int, cache_customers: int) -> PartitionRunner:
        """A runner of a partition of the orders topic, to be claimed."""
        return PartitionRunner(
            Partition(self._settings.orders_topic, number),
            self._store,
            self._publisher,
            await self.pipeline(),
            RunnerOptions(
                cache_customers=cache_customers,
                start_at=self._settings.start_at,
                rebuild_partly=self._settings.rebuild_partly,
                history=self._history,
                erasures=self._forgotten,
                clock=self._clock,
                observer=self._observer,
                judging=self._turns.judge,
            ),
        )
