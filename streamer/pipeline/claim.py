"""Whose a partition is: claimed against the log, written to under a fence, and given up.

A store answers a write by whether it was made under the newest claim (`streamer.store.base`); a
write whose answer was lost is looked up before the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from streamer import log as logs
from streamer.clock import Clock
from streamer.errors import StreamerError
from streamer.listing import tally
from streamer.listing.tally import Tally
from streamer.pipeline import dead_letters, event_time
from streamer.pipeline.batch import Position
from streamer.records import LogRange, Partition
from streamer.store.base import Claim, Outcome, StartAt, StateStore, StoreRefused, Write

_log = logs.get(__name__)

# For so long after the store has answered, nobody else can have been given the partition.
_HEARD_WITHIN_S = 1.0


class Fenced(StreamerError):
    """Another worker has claimed the partition. Drop it; nothing of ours was applied."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(f"{partition.tag} has a newer owner")


class LostWrites(StreamerError):
    """The store has lost writes that it had confirmed. Stop, and start from what it has."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(
            f"{partition.tag}: the store has lost writes that it had confirmed; the worker starts"
            " again from what the store has"
        )


class RetentionGap(StoreRefused):
    """Orders have been deleted from the log before they were applied. Restore them from elsewhere,
    or rebuild the partition from what the log still has."""

    def __init__(self, partition: Partition, next_offset: int, start: int) -> None:
        super().__init__(
            f"{partition.tag}: offset {next_offset} is next to apply, but the"
            f" log begins at {start}; {start - next_offset} orders are missing. Lengthen the"
            " topic's retention; to go on without them, run `python -m streamer rebuild"
            f" --partition {partition.number} --partly --yes` and start the worker with"
            " CLV_START_AT=log-start"
        )


class StoreLost(StoreRefused):
    """The store knows nothing of a partition that the group has worked on, and the log has lost
    its first orders. Restore the store; or start over with the orders that the log still has."""

    def __init__(self, partition: Partition, committed: int, start: int) -> None:
        super().__init__(
            f"{partition.tag}: the store knows nothing of this partition, while the group has"
            f" applied it up to offset {committed}; the log begins at {start}, so it cannot give"
            " all orders back. Restore the store from a backup; or, to start over with the orders"
            " that the log still has, set CLV_START_AT=log-start"
        )


class NothingStored(StoreRefused):
    """`CLV_START_AT=refuse`, and the store knows nothing of a partition whose log has lost its
    first orders. Restore the store, or say CLV_START_AT=log-start."""

    def __init__(self, partition: Partition, start: int) -> None:
        super().__init__(
            f"{partition.tag}: the store knows nothing of this partition, the log begins at"
            f" {start}, and CLV_START_AT=refuse. Restore the store from a backup, or set"
            " CLV_START_AT=log-start to begin with the orders that the log still has"
        )


class CustomersMoved(StoreRefused):
    """The store knows nothing of a partition from or to which customers have been moved: its log
    does not have all of their orders. Restore the store from a backup of after the move."""

    def __init__(self, partition: Partition, moved_at: int) -> None:
        super().__init__(
            f"{partition.tag}: the store knows nothing of this partition, and its log cannot give"
            " the customers back: they were moved between partitions when it reached offset"
            f" {moved_at}, so their orders are in several logs. Restore the store from a backup of"
            " after the move; or send all orders into a new topic (CLV_ORDERS_TOPIC); or, to begin"
            " with the orders since, delete the older records (kafka-delete-records.sh) and set"
            " CLV_START_AT=log-start"
        )


class LogTooShort(StoreRefused):
    """The log ends before what was applied: it is another topic than the one that was read. Give
    the store another namespace (`CLV_STATE_NAMESPACE`), or bring the old topic back."""

    def __init__(self, partition: Partition, next_offset: int, end: int) -> None:
        super().__init__(
            f"{partition.tag}: offset {next_offset} is next to apply, but the"
            f" log ends at {end}. Was the topic deleted and recreated? Set CLV_STATE_NAMESPACE to a"
            " new name to start afresh"
        )


def check_log(
    partition: Partition,
    applied: int | None,
    log: LogRange,
    moved_at: int | None,
    start_at: StartAt,
) -> bool:
    """Whether the store has lost writes while nobody looked.

    `applied`: the offset that is next by the store, None where it knows nothing; `moved_at`: where
    the log ended when customers were moved. The group's committed offset is written after the
    store, so one that is ahead of the store means lost writes.
    Raises RetentionGap, LogTooShort, StoreLost, NothingStored or CustomersMoved where the log does
    not fit what was applied, or nothing was and the log is not whole.
    """
    if applied is not None and applied < log.start:
        raise RetentionGap(partition, applied, log.start)
    if applied is not None and applied > log.end:
        raise LogTooShort(partition, applied, log.end)
    if applied is None and moved_at is not None and log.start < max(moved_at, 1):
        raise CustomersMoved(partition, moved_at)
    if applied is None and log.start > 0:
        if start_at is StartAt.REFUSE:
            raise NothingStored(partition, log.start)
        if start_at is StartAt.AUTO and log.committed is not None:
            raise StoreLost(partition, log.committed, log.start)
    begin = log.start if applied is None else applied
    return log.committed is not None and log.committed > begin


class Lease:
    """A partition of the store under a claim of ours. `position` and `next_offset` are those of the
    last write that the store confirmed; `first_offset`, `listed`: see `streamer.store.base.Claim`.
    """

    def __init__(
        self,
        partition: Partition,
        store: StateStore,
        start_at: StartAt = StartAt.AUTO,
        clock: Clock | None = None,
    ) -> None:
        """`clock`: to know a process that was stopped for a while."""
        self.position = Position(partition)
        self.next_offset = 0
        self.first_offset = 0
        self.listed = True
        self._store = store
        self._start_at = start_at
        self._clock = clock
        self._heard_s = 0.0
        self._epoch = 0
        self._sequence = 0
        self._unsettled = False

    @property
    def partition(self) -> Partition:
        return self.position.partition

    async def claim(self, log: LogRange, moved_at: int | None) -> bool:
        """Claims the partition, to be read from `next_offset`; whether the store had lost writes.

        Raises what `check_log` does, and what the store refuses.
        """
        known = await self._store.peek(self.partition)
        applied = known.next_offset if known else None
        lost = check_log(self.partition, applied, log, moved_at, self._start_at)
        if lost:
            _log.warning(
                "store.went_back",
                partition=self.partition.number,
                applied=applied,
                committed=log.committed,
                reading_from=log.start if applied is None else applied,
            )
        claim = await self._store.claim(
            self.partition, log.partition_count, log_start=log.start, topic_id=log.topic_id
        )
        self.position = replace(self.position, partition_count=log.partition_count)
        self.next_offset, self.first_offset = log.start, claim.first_offset
        self.listed = claim.listed
        self._epoch = claim.epoch
        self._take_over(claim)
        self._unsettled = False
        self._heard()
        return lost

    async def settle(self) -> bool:
        """Learns whether a write got in whose answer was lost; where it did, what is known of the
        customers is out of date. Raises Fenced and LostWrites."""
        if not self._unsettled:
            return False
        stored = await self._store.peek(self.partition)
        if stored is None or stored.epoch < self._epoch or stored.sequence < self._sequence:
            raise LostWrites(self.partition)
        if stored.epoch > self._epoch or stored.sequence > self._sequence + 1:
            raise Fenced(self.partition)
        got_in = stored.sequence == self._sequence + 1
        if got_in:
            self._take_over(stored)
        self._unsettled = False
        self._heard()
        return got_in

    async def check(self) -> bool:
        """As `settle`, asking in any case: where nothing is written, nothing else would tell."""
        self._unsettled = True
        return await self.settle()

    async def check_if_long_ago(self) -> bool:
        """As `check`, where somebody else may have claimed the partition meanwhile: a worker that
        was stopped for longer than its session must not publish scores that are out of date."""
        if self._clock and self._clock.monotonic_s() - self._heard_s > _HEARD_WITHIN_S:
            return await self.check()
        return False

    async def write(self, write: Write, more: Tally = tally.NOTHING) -> None:
        """Makes a write, and adds to the counts. Raises Fenced, LostWrites, and what the store
        raises."""
        counted = self.position.tally.plus(more) if more else self.position.tally
        if more:
            write = replace(write, tally=tally.encode(counted))
        await self._made(
            self._store.write(self.partition, self._epoch, self._sequence, write), write.next_offset
        )
        if write.lead is not None:
            time = event_time.decode(write.high_ts_ms, write.lead)
            self.position = replace(self.position, time=time)
        if write.dead_letter_window is not None:
            window = dead_letters.decode(write.dead_letter_window)
            self.position = replace(self.position, window=window)
        if more:
            self.position = replace(self.position, tally=counted)
        self.listed = self.listed or write.listed

    async def erase(self, user_id: str, said: bytes, next_offset: int) -> None:
        """A write that removes a customer, and every message of the feed that begins so."""
        epoch, sequence = self._epoch, self._sequence
        erasing = self._store.remove(self.partition, epoch, sequence, [user_id], next_offset, said)
        await self._made(erasing, next_offset)

    async def trim(self, first: int, count: int) -> None:
        """Takes entries that were published out of the outbox."""
        self._mine(await self._store.trim(self.partition, self._epoch, first, count))

    async def _made(self, writing: Awaitable[Outcome], next_offset: int | None) -> None:
        self._unsettled = True
        outcome = await writing
        self._unsettled = False
        self._mine(outcome)
        self._sequence += 1
        self._heard()
        if next_offset is not None:
            self.next_offset = next_offset

    def _mine(self, outcome: Outcome) -> None:
        if outcome is Outcome.FENCED:
            raise Fenced(self.partition)
        if outcome is Outcome.LOST_WRITES:
            raise LostWrites(self.partition)

    def _take_over(self, stored: Claim) -> None:
        """What the store says of the partition, which is ours."""
        self._sequence = stored.sequence
        if stored.next_offset is not None:
            self.next_offset = stored.next_offset
        self.position = replace(
            self.position,
            time=event_time.decode(stored.high_ts_ms, stored.lead),
            window=dead_letters.decode(stored.dead_letter_window),
            tally=tally.decode(stored.tally),
        )

    def _heard(self) -> None:
        """The store has just told that the partition is ours."""
        if self._clock:
            self._heard_s = self._clock.monotonic_s()
