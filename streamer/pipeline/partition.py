"""One partition of the orders topic, from its records to what is stored and said.

The order of effects, each of which may happen twice and none of which may be left out:

1. claim a new epoch, which fences every older owner, and learn where to read from;
2. take records that continue what was applied; decode; load the customers they touch;
3. fold, score, decide (`model.decide.judge`, pure);
4. produce dead letters and scores, and wait for the acks: redone identically after a crash;
5. one write: states, due times, warnings in the outbox, next offset, under epoch and sequence;
6. produce what is in the outbox, wait for the acks, trim it: the same ids and bytes each time;
7. judge the customers that have fallen due, by the same steps 3 to 6.

Under a budget of warnings, step 7 comes before step 2 wherever a record closes an instant, and
takes one instant at a time for all of the partition: candidates are written last, once all are
known.

An erasure (`streamer.pipeline.erasures`) is a record too, and applied in its turn: a tombstone to
the scores, then one write that removes the customer. A batch with too many bad records
(`streamer.pipeline.dead_letters`) is applied up to the last that is allowed.

At step 3 a customer whom the model cannot score is left out (`model.decide.isolate`): their orders
are set aside as dead letters, what is due is put off by a day, and everybody else goes on.

A customer whose stored bytes turn out damaged at step 2 is rebuilt from the log first, in a write
of its own that sets the damaged bytes aside (`streamer.pipeline.rebuild`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
from cachetools import LRUCache

from features.orders import Order, OrderRules, Reason, Rejected, parse
from features.state import BeyondMemory, StateError
from features.times import day_of, rfc3339
from model.decide import codec as customer_bytes
from model.decide.budget import joined, pieces, settle, share, split
from model.decide.codec import UNKNOWN, CustomerDamaged, CustomerNewer
from model.decide.isolate import Isolated, judge_isolated
from model.decide.judge import Event, Judge, JudgedBatch, ScheduledCustomer
from model.decide.reasons import explain
from streamer import log
from streamer.errors import StreamerError
from streamer.pipeline import dead_letters as deadletters
from streamer.pipeline.dead_letters import NO_LIMITS, DeadLettersExceeded, Limits
from streamer.pipeline.erasures import Erasure, Forgotten, digest, erasure_in
from streamer.pipeline.messages import Writer, dead_letter, pack, times_redriven, unpack
from streamer.pipeline.partitioner import partition_for
from streamer.pipeline.rebuild import (
    MOST_REBUILDS,
    CustomerUnrecoverable,
    History,
    Rebuild,
    StoreDamaged,
    set_aside,
)
from streamer.records import LogRange, Message, Partition, Publisher, Record, Topics
from streamer.store.base import (
    NewerSchema,
    Outcome,
    StartAt,
    StateStore,
    Stored,
    StoreRefused,
    Write,
)

_log = log.get(__name__)

_OUTBOX_CHUNK = 500
# For so long after the store has answered, nobody else can have been given the partition.
_HEARD_WITHIN_S = 1.0
_ALL = 2**31


class Fenced(StreamerError):
    """Another worker has claimed the partition. Drop it; nothing of ours was applied."""


class WentBack(StreamerError):
    """The store has lost writes that it had confirmed. Stop, and start from what it has."""


class OutOfSequence(StreamerError):
    """The records do not continue what was applied. Seek to `expected` and read again."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"offset {expected} is next to apply, {found} came")
        self.expected = expected


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
    its first orders. Restore the store; or begin anew with the orders that the log still has."""

    def __init__(self, partition: Partition, committed: int, start: int) -> None:
        super().__init__(
            f"{partition.tag}: the store knows nothing of this partition, while the group has"
            f" applied it up to offset {committed}; the log begins at {start}, so it cannot give"
            " all orders back. Restore the store from a backup; or, to begin anew with the orders"
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
            f" log ends at {end}. Was the topic deleted and made anew? Set CLV_STATE_NAMESPACE to a"
            " new name to start afresh"
        )


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything that all partitions share: rules of parsing and judging, and where it goes."""

    judge: Judge
    writer: Writer
    order_rules: OrderRules
    topics: Topics
    allowed_lateness_ms: int
    publish_scores: bool = True
    dead_letter_limits: Limits = NO_LIMITS

    def without_scores(self) -> Pipeline:
        """The pipeline with the same warnings that publishes no score, and makes none for that."""
        rules = replace(self.judge.rules, refreshes=False)
        return replace(self, judge=replace(self.judge, rules=rules), publish_scores=False)


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A record read: an order, or why not, or an erasure; with the raw bytes for dead letters."""

    offset: int
    outcome: Order | Rejected | Erasure
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class Tally:
    """What a partition has done since it was claimed, in events and messages. `forgotten`: orders
    left out since they are from before their customer was erased; `recovered`: warnings answered by
    an order; `withheld`: episodes whose warning the budget had no place for at first; `put_off`:
    customers whose instants could not be judged, and are tried again the next day."""

    orders: int = 0
    repeats: int = 0
    dead_letters: int = 0
    scores: int = 0
    warnings: int = 0
    instants: int = 0
    rebuilt: int = 0
    went_back: int = 0
    forgotten: int = 0
    erasures: int = 0
    recovered: int = 0
    withheld: int = 0
    put_off: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of the dead letters
    triggers: Counter[str] = field(default_factory=Counter)  # of the warnings


class Seen(NamedTuple):
    """What one write was judged from: customers before it, their events, and the instant up to
    which those who are due were judged, None where only the events closed any."""

    tracks: Mapping[str, ScheduledCustomer]
    events: Mapping[str, Sequence[Event]]
    until_ms: int | None


class Observer(Protocol):
    """Hears of what is written, once it is. Nobody waits for it: it returns at once, and whatever
    it raises is told in the log and goes no further."""

    def opened(self, partition: int) -> None:
        """What was heard of the partition before may have been overtaken."""
        ...

    def wrote(self, partition: int, seen: Seen) -> None: ...
    def erased(self, partition: int, user_id: str) -> None: ...


class PartitionRunner:
    """Runs one partition between being assigned and being revoked. Not safe for concurrent calls:
    the owner calls `process` and `tick` one after the other."""

    def __init__(
        self,
        partition: Partition,
        store: StateStore,
        publisher: Publisher,
        pipeline: Pipeline,
        *,
        cache_customers: int = 100_000,
        due_batch: int = 500,
        history: History | None = None,
        rebuild_partly: bool = False,
        start_at: StartAt = StartAt.AUTO,
        forgotten: Forgotten | None = None,
        monotonic_s: Callable[[], float] | None = None,
        observer: Observer | None = None,
    ) -> None:
        """`history`: where damaged customers are rebuilt from; `rebuild_partly`: also where it
        has lost orders of theirs. `forgotten`: erased customers, which partitions may share.
        `monotonic_s`: a clock, to know a process that was stopped for a while."""
        self.partition = partition
        self.tally = Tally()
        self.unsaid = 0  # warnings in the outbox, as far as we have heard
        self._store = store
        self._publisher = publisher
        self._pipeline = self._adopted = pipeline
        self._due_batch = due_batch
        self._history = history
        self._rebuild_partly = rebuild_partly
        self._start_at = start_at
        self._forgotten = Forgotten() if forgotten is None else forgotten
        self._trail = deadletters.CLEAN
        self._partition_count = 1
        self._rebuilds = 0
        self._first: int = 0
        self._cache: LRUCache[str, ScheduledCustomer] = LRUCache(cache_customers)
        self._epoch = 0
        self._sequence = 0
        self._next: int = 0
        self._high_ts_ms: int | None = None
        self._sought: int | None = None
        self._unsettled = False
        self._unsaid = False
        self._monotonic_s = monotonic_s
        self._observer = observer
        self._heard_s = 0.0

    @property
    def next_offset(self) -> int:
        """Offset of the next record to apply."""
        return self._next

    @property
    def watermark_ms(self) -> int | None:
        """Event time before which no order is waited for any more; None before the first order."""
        if self._high_ts_ms is None:
            return None
        return self._high_ts_ms - self._pipeline.allowed_lateness_ms

    def adopt(self, pipeline: Pipeline) -> None:
        """Judges by another pipeline from the next batch or tick on; the one under way is finished
        by the one that it was begun with."""
        self._adopted = pipeline

    async def claim(self, log: LogRange) -> int:
        """Claims the partition and returns the offset to read from.

        Raises RetentionGap, LogTooShort, StoreLost or NothingStored where the log does not fit
        what was applied, and what the store refuses.
        """
        known = await self._store.peek(self.partition)
        applied = known.next_offset if known else None
        if applied is not None and applied < log.start:
            raise RetentionGap(self.partition, applied, log.start)
        if applied is not None and applied > log.end:
            raise LogTooShort(self.partition, applied, log.end)
        self._compare(applied, log)
        claim = await self._store.claim(
            self.partition, log.partition_count, log_start=log.start, topic_id=log.topic_id
        )
        self._first = claim.first_offset
        self._partition_count = log.partition_count
        self._trail = deadletters.decode(claim.trail)
        self._epoch, self._sequence = claim.epoch, claim.sequence
        self._high_ts_ms = claim.high_ts_ms
        self._next = log.start if claim.next_offset is None else claim.next_offset
        self._heard()
        self._cache.clear()
        self._tell_opened()
        self._sought = self._next
        self._unsettled, self._unsaid = False, True
        await self._settle()
        return self._next

    def _compare(self, applied: int | None, log: LogRange) -> None:
        """Raises StoreLost, NothingStored or CustomersMoved where the store is empty and the log is
        not whole.

        The group's committed offset is written after the store, so one that is ahead of the store
        means that the store lost writes while nobody looked.
        """
        moved_at = self._forgotten.moved_at(self.partition.topic, self.partition.number)
        if applied is None and moved_at is not None and log.start < max(moved_at, 1):
            raise CustomersMoved(self.partition, moved_at)
        if applied is None and log.start > 0:
            if self._start_at is StartAt.REFUSE:
                raise NothingStored(self.partition, log.start)
            if self._start_at is StartAt.AUTO and log.committed is not None:
                raise StoreLost(self.partition, log.committed, log.start)
        begin = log.start if applied is None else applied
        if log.committed is not None and log.committed > begin:
            self.tally.went_back += 1
            _log.warning(
                "store.went_back",
                partition=self.partition.number,
                applied=applied,
                committed=log.committed,
                reading_from=begin,
            )

    async def process(self, records: Sequence[Record]) -> None:
        """Applies records of the partition; returns when all is written and said.

        Records already applied are skipped. Raises OutOfSequence, Fenced, WentBack, and what
        store and publisher raise; in each case processing the batch again is right. Raises
        DeadLettersExceeded when all before the record that it names is applied.
        """
        await self._settle()
        fresh = self._continuing(records)
        if not fresh:
            return
        rules = self._pipeline.order_rules
        batch = [Parsed(r.offset, _outcome(r, rules), r.key, r.value, r.headers) for r in fresh]
        moved_at = self._forgotten.moved_at(self.partition.topic, self.partition.number)
        if moved_at is not None:
            batch = [self._strayed(p) if p.offset >= moved_at else p for p in batch]
        await self.process_parsed(batch)

    def _strayed(self, parsed: Parsed) -> Parsed:
        """The record; set aside where its customer has been moved elsewhere: here, it would begin
        a second customer of the same id."""
        partitioner = self._forgotten.partitioner(self.partition.topic)
        if partitioner is None or not isinstance(parsed.outcome, Order):
            return parsed
        home = partitioner(parsed.outcome.user_id.encode(), self._partition_count)
        if home == self.partition.number:
            return parsed
        return msgspec.structs.replace(parsed, outcome=_wrong_partition(home))

    async def process_parsed(self, batch: Sequence[Parsed]) -> None:
        """Applies records that have been read; see `process`."""
        self._pipeline = self._adopted
        start = 0
        for place, parsed in enumerate(batch):
            if isinstance(parsed.outcome, Erasure):
                if start < place:
                    await self._apply_closing(batch[start:place])
                await self._erase(parsed.outcome, parsed.offset)
                start = place + 1
        if start < len(batch):
            await self._apply_closing(batch[start:])

    async def _apply_closing(self, batch: Sequence[Parsed]) -> None:
        """Applies orders and bad records; under a budget, everyone who is due at an instant is
        judged before the first record that closes it."""
        policy = self._pipeline.judge.rules.policy
        if policy.budget_per_day is None:
            await self._apply(batch)
            return
        for piece in pieces(self._watermarks(batch), self.watermark_ms, policy.grid_days):
            if piece.until_ms is not None:
                await self._tick_by_instants(piece.until_ms)
            await self._apply(batch[piece.start : piece.end])

    def _watermarks(self, batch: Sequence[Parsed]) -> list[int | None]:
        """The watermark after each record of a batch."""
        found: list[int | None] = []
        high = self._high_ts_ms
        for parsed in batch:
            if isinstance(parsed.outcome, Order):
                high = max(high or 0, parsed.outcome.ts_ms)
            found.append(None if high is None else high - self._pipeline.allowed_lateness_ms)
        return found

    async def _apply(self, batch: Sequence[Parsed]) -> None:
        """Applies orders and bad records, in as many writes as limits make of them."""
        rejects = [(p, p.outcome) for p in batch if isinstance(p.outcome, Rejected)]
        events, high_ts_ms = self._events(batch)
        tracks = await self._load(list(events))
        apart = self._judge(tracks, events)
        judged = apart.judged
        left_out = len(judged.beyond_memory) + len(apart.unscored)
        by_offset = {p.offset: p for p in batch} if left_out else {}
        for offset, beyond in judged.beyond_memory:
            rejects.append((by_offset[offset], _beyond_memory(by_offset[offset], beyond)))
        for offset, error in apart.unscored.items():
            rejects.append((by_offset[offset], _not_scored(error)))
        bad = {parsed.offset: why.reason.value for parsed, why in rejects}
        trail, exceeded = deadletters.follow(
            self._trail, [p.offset for p in batch], bad, self._pipeline.dead_letter_limits
        )
        if exceeded is not None:
            allowed = [parsed for parsed in batch if parsed.offset < exceeded.offset]
            if allowed:
                await self._apply(allowed)
            raise DeadLettersExceeded(self.partition, exceeded)
        orders = sum(map(len, events.values())) - left_out
        await self._carry_out(
            judged,
            orders=orders,
            rejects=rejects,
            next_offset=batch[-1].offset + 1,
            high_ts_ms=high_ts_ms,
            trail=trail,
            seen=Seen(tracks, events, None),
        )
        self.tally.forgotten += len(batch) - len(rejects) - orders
        await self._judge_due(None)

    async def _erase(self, erasure: Erasure, offset: int) -> None:
        """Removes a customer; what is erased twice is gone all the same."""
        user_id, key = erasure.user_id, erasure.user_id.encode()
        # What the records before it closed is judged first, also by an owner who took over here.
        await self._judge_due(None)
        (stored,) = await self._store.load(self.partition, [user_id])
        at_home = partition_for(key, self._partition_count) == self.partition.number
        if at_home or stored.state is not None:
            await self._publisher.publish([Message(self._pipeline.topics.scores, key, None)])
        await self._fenced_write(
            self._store.remove(self.partition, self._epoch, self._sequence, [user_id], offset + 1),
            next_offset=offset + 1,
        )
        self._cache.pop(user_id, None)
        if self._observer is not None:
            _tell(partial(self._observer.erased, self.partition.number, user_id))
        self._forgotten.add(digest(user_id), erasure.at_ms)
        self.tally.erasures += 1
        _log.info("customer.erased", partition=self.partition.number, offset=offset)

    async def tick(self, idle_watermark_ms: int | None, limit: int | None = None) -> int:
        """Judges the customers that are due up to the watermark, or up to `idle_watermark_ms`
        where that is later; returns how many instants were judged. From `limit` on it leaves the
        rest to the next call."""
        self._pipeline = self._adopted
        return await self._judge_due(idle_watermark_ms, limit)

    async def _judge_due(self, idle_watermark_ms: int | None, limit: int | None = None) -> int:
        """What `tick` does; also what ends a batch, by the pipeline of the batch."""
        await self._settle()
        until = max(
            (at for at in (self.watermark_ms, idle_watermark_ms) if at is not None), default=None
        )
        if until is None:
            return 0
        before = self.tally.instants
        if self._pipeline.judge.rules.policy.budget_per_day is not None:
            await self._tick_by_instants(until)
            return self.tally.instants - before
        while due := await self._store.due(self.partition, until, self._due_batch):
            tracks = await self._load([user_id for user_id, _ in due])
            judged = self._judge(tracks, {}, until).judged
            seen = Seen(tracks, {}, until)
            await self._carry_out(judged, next_offset=None, high_ts_ms=None, seen=seen)
            if limit is not None and self.tally.instants - before >= limit:
                break
        return self.tally.instants - before

    async def check(self) -> None:
        """Returns where the partition is ours and the store has what it confirmed; raises Fenced or
        WentBack where not. Where nothing is written, nothing else would tell."""
        self._unsettled = True
        await self._settle()

    async def _check_if_long_ago(self) -> None:
        """Asks whose the partition is, where somebody else may have claimed it meanwhile: a worker
        that was stopped for longer than its session must not say scores that are out of date."""
        if self._monotonic_s and self._monotonic_s() - self._heard_s > _HEARD_WITHIN_S:
            await self.check()

    def _tell_opened(self) -> None:
        if self._observer is not None:
            _tell(partial(self._observer.opened, self.partition.number))

    def _heard(self) -> None:
        """The store has just told that the partition is ours."""
        if self._monotonic_s:
            self._heard_s = self._monotonic_s()

    async def _tick_by_instants(self, until_ms: int) -> None:
        """Judges everyone who is due, one instant after the other: who is warned of under a budget
        depends on all who are due with them. Nothing of a candidate is written before all of the
        partition's are known, so a worker that takes over finds the same ones."""
        while earliest := await self._store.due(self.partition, until_ms, 1):
            instant_ms = earliest[0][1]
            due = await self._store.due(self.partition, instant_ms, _ALL)
            candidates = JudgedBatch()
            for start in range(0, len(due), self._due_batch):
                users = [user_id for user_id, _ in due[start : start + self._due_batch]]
                tracks = await self._load(users)
                judged, contested = split(self._judge(tracks, {}, instant_ms).judged)
                candidates = joined(candidates, contested)
                seen = Seen(tracks, {}, instant_ms)
                await self._carry_out(judged, next_offset=None, high_ts_ms=None, seen=seen)
            if candidates.contested:
                rules = self._pipeline.judge.rules
                budget = rules.policy.budget_per_day
                assert budget is not None
                number, count = self.partition.number, self._partition_count
                places = share(budget, number, count, day_of(instant_ms))
                settled = settle(candidates, places, instant_ms, rules)
                await self._carry_out(
                    settled.judged,
                    next_offset=None,
                    high_ts_ms=None,
                    withheld=settled.newly_deferred,
                )

    def _judge(
        self,
        tracks: Mapping[str, ScheduledCustomer],
        events: Mapping[str, Sequence[Event]],
        until_ms: int | None = None,
    ) -> Isolated:
        """What is decided, without customers who cannot be scored; these are told of."""
        apart = judge_isolated(self._pipeline.judge, tracks, events, until_ms)
        if apart.users:
            self.tally.put_off += len(apart.rescheduled)
            _log.error(
                "customers.not_scored",
                partition=self.partition.number,
                customers=len(apart.users),
                orders=len(apart.unscored),
                put_off=len(apart.rescheduled),
                error=log.where([*apart.unscored.values(), *apart.rescheduled][0]),
            )
        return apart

    def _continuing(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records that were not applied yet.

        A batch that begins later than what comes next may have been fetched before a rebalance
        (FAUST D7 upstream): it is refused once, and the owner seeks. If the log, asked from
        exactly there, has a hole (a transaction marker, a compacted record), the hole is real.
        """
        fresh = [r for r in records if r.offset >= self._next] if records else []
        if fresh and fresh[0].offset > self._next and self._sought != self._next:
            self._sought = self._next
            raise OutOfSequence(self._next, fresh[0].offset)
        return fresh

    def _events(self, batch: Sequence[Parsed]) -> tuple[dict[str, list[Event]], int | None]:
        """The orders of a batch by user, in order, each with the watermark it brings about."""
        events: dict[str, list[Event]] = {}
        lateness = self._pipeline.allowed_lateness_ms
        high = self._high_ts_ms if self._high_ts_ms is not None else -1
        for parsed in batch:
            order = parsed.outcome
            if not isinstance(order, Order):
                continue
            high = max(high, order.ts_ms)
            if self._forgotten and self._forgotten.covers(order):
                continue
            events.setdefault(order.user_id, []).append(
                Event(parsed.offset, order, high - lateness)
            )
        return events, None if high < 0 else high

    async def _load(self, user_ids: Sequence[str]) -> dict[str, ScheduledCustomer]:
        """The customers' tracks, from memory where we have them."""
        missing = [user_id for user_id in user_ids if user_id not in self._cache]
        loaded = await self._store.load(self.partition, missing) if missing else []
        fetched: dict[str, ScheduledCustomer] = {}
        damaged: dict[str, Stored] = {}
        for user_id, stored in zip(missing, loaded, strict=True):
            try:
                fetched[user_id] = _track(stored)
            except CustomerNewer as error:
                where = f"a customer in {self.partition.tag}"
                raise NewerSchema(where, error.version, error.known) from None
            except CustomerDamaged:
                damaged[user_id] = stored
        if damaged:
            fetched |= await self._rebuilt(damaged)
        return {
            user_id: fetched[user_id] if user_id in fetched else self._cache[user_id]
            for user_id in user_ids
        }

    async def _rebuilt(self, damaged: Mapping[str, Stored]) -> dict[str, ScheduledCustomer]:
        """The damaged customers, rebuilt from the log and written in place of what was there.

        Raises CustomerUnrecoverable where that cannot be, StoreDamaged where it had to be done too
        often, LogUnavailable, and what a write raises.
        """
        partition, pipeline = self.partition, self._pipeline
        if self._history is None:
            raise CustomerUnrecoverable(partition, len(damaged), "there is no log to read again")
        if self._rebuilds >= MOST_REBUILDS:
            raise StoreDamaged(partition)
        self._rebuilds += 1
        start = await self._history.start(partition)
        complete = start <= self._first
        if not complete and not self._rebuild_partly:
            why = f"the log begins at {start}, after the {self._first} from which they were built"
            raise CustomerUnrecoverable(partition, len(damaged), why)
        rebuild = Rebuild(
            damaged, pipeline.order_rules, pipeline.allowed_lateness_ms, self._forgotten
        )
        async for records in self._history.read(partition, self._next):
            rebuild.add(records)
        tracks = rebuild.tracks(pipeline.judge)
        await self._write(
            Write(
                states={user: customer_bytes.encode(t.customer) for user, t in tracks.items()},
                due={user: track.due_ms for user, track in tracks.items()},
                outbox=[],
                next_offset=None,
                high_ts_ms=None,
                quarantine={
                    user: set_aside(stored, _damage(stored), self._next, complete=complete)
                    for user, stored in damaged.items()
                },
            )
        )
        self.tally.rebuilt += len(tracks)
        _log.error(
            "customers.rebuilt",
            partition=partition.number,
            count=len(tracks),
            complete=complete,
            why=_damage(next(iter(damaged.values()))),
        )
        return tracks

    async def _carry_out(
        self,
        judged: JudgedBatch,
        *,
        orders: int = 0,
        rejects: Sequence[tuple[Parsed, Rejected]] = (),
        next_offset: int | None,
        high_ts_ms: int | None,
        trail: deadletters.Trail | None = None,
        withheld: int = 0,
        seen: Seen | None = None,
    ) -> None:
        """Says and writes what was decided, in the order at the head of this module."""
        pipeline = self._pipeline
        raised = [scoring for scoring in judged.scorings if scoring.raised]
        shares = iter(explain(pipeline.judge.scorer, raised))
        warnings: list[Message] = []
        recovered = 0
        for scoring in judged.scorings:
            if scoring.answered:
                warnings.append(pipeline.writer.recovered(scoring))
                recovered += 1
            if scoring.raised:
                warnings.append(pipeline.writer.warning(scoring, next(shares)))
        scores = (
            [pipeline.writer.score(scoring) for scoring in judged.scorings]
            if pipeline.publish_scores
            else []
        )
        dead_letters = [self._dead_letter(parsed, why) for parsed, why in rejects]
        if dead_letters or scores:
            await self._check_if_long_ago()
            await self._publisher.publish([*dead_letters, *scores])
        write = Write(
            states={
                user_id: customer_bytes.encode(judged.tracks[user_id].customer)
                for user_id in judged.tracks
                if user_id in judged.changed
            },
            due={user_id: track.due_ms for user_id, track in judged.tracks.items()},
            outbox=[pack(message) for message in warnings],
            next_offset=next_offset,
            high_ts_ms=high_ts_ms,
            trail=None if trail is None or trail == self._trail else deadletters.encode(trail),
        )
        await self._write(write)
        if self._observer is not None and seen is not None:
            _tell(partial(self._observer.wrote, self.partition.number, seen))
        if self._cache.maxsize:
            self._cache.update(judged.tracks)
        self.tally.orders += orders
        self.tally.dead_letters += len(rejects)
        self.tally.reasons.update(why.reason.value for _, why in rejects)
        self.tally.repeats += len(judged.duplicates)
        self.tally.scores += len(scores)
        self.tally.warnings += len(raised)
        self.tally.recovered += recovered
        self.tally.withheld += withheld
        self.tally.triggers.update(scoring.trigger.value for scoring in raised)
        self.tally.instants += judged.instants
        self.unsaid += len(warnings)
        self._unsaid = self._unsaid or bool(warnings)
        await self._settle()

    async def _settle(self) -> None:
        """Finishes what an interrupted call left open: learns whether its write got in, and says
        what waits in the outbox."""
        if self._unsettled:
            stored = await self._store.peek(self.partition)
            if stored is None or stored.epoch < self._epoch or stored.sequence < self._sequence:
                raise self._went_back()
            if stored.epoch > self._epoch or stored.sequence > self._sequence + 1:
                raise self._fenced()
            if stored.sequence == self._sequence + 1:
                self._sequence = stored.sequence
                self._high_ts_ms = stored.high_ts_ms
                self._trail = deadletters.decode(stored.trail)
                if stored.next_offset is not None:
                    self._next = stored.next_offset
                self._cache.clear()
                self._tell_opened()
                self._unsaid = True
            self._unsettled = False
            self._heard()
        if self._unsaid:
            await self._drain_outbox()
            self._unsaid = False

    def _fenced(self) -> Fenced:
        return Fenced(f"{self.partition.tag} has a newer owner")

    def _went_back(self) -> WentBack:
        return WentBack(
            f"{self.partition.tag}: the store has lost writes that it had confirmed; the worker"
            " starts again from what the store has"
        )

    async def _write(self, write: Write) -> None:
        await self._fenced_write(
            self._store.write(self.partition, self._epoch, self._sequence, write),
            next_offset=write.next_offset,
        )
        if write.high_ts_ms is not None:
            self._high_ts_ms = write.high_ts_ms
        if write.trail is not None:
            self._trail = deadletters.decode(write.trail)

    async def _fenced_write(self, writing: Awaitable[Outcome], *, next_offset: int | None) -> None:
        self._unsettled = True
        outcome = await writing
        self._unsettled = False
        if outcome is Outcome.FENCED:
            raise self._fenced()
        if outcome is Outcome.WENT_BACK:
            raise self._went_back()
        self._sequence += 1
        self._heard()
        if next_offset is not None:
            self._next = next_offset

    async def _drain_outbox(self) -> None:
        """Produces what the store says is to be said, and takes it out once acknowledged."""
        while True:
            box = await self._store.outbox(self.partition, _OUTBOX_CHUNK)
            self.unsaid = max(self.unsaid, len(box.entries))
            if not box.entries:
                self.unsaid = 0
                return
            messages = map(unpack, box.entries)
            await self._publisher.publish([m for m in messages if not self._forgotten.silences(m)])
            outcome = await self._store.trim(
                self.partition, self._epoch, box.first, len(box.entries)
            )
            self.unsaid -= len(box.entries)
            if outcome is Outcome.FENCED:
                raise self._fenced()
            if outcome is Outcome.WENT_BACK:
                raise self._went_back()

    def _dead_letter(self, parsed: Parsed, why: Rejected) -> Message:
        return dead_letter(
            why,
            key=parsed.key,
            value=parsed.value,
            source=(self.partition.topic, self.partition.number, parsed.offset),
            topic=self._pipeline.topics.dead_letters,
            redriven=times_redriven(parsed.headers),
        )


def _tell(news: Callable[[], None]) -> None:
    try:
        news()
    except Exception as error:
        _log.exception("observer.failed", error)


def _outcome(record: Record, rules: OrderRules) -> Order | Rejected | Erasure:
    if not record.value and record.headers:
        erasure = erasure_in(record.key, record.headers)
        if erasure is not None:
            return erasure
    return parse(record.value, record.key, record.timestamp, rules)


def _track(stored: Stored) -> ScheduledCustomer:
    """Raises CustomerNewer, and CustomerDamaged also for one who is due and has no state: the two
    are written together."""
    if stored.state is None:
        if stored.due_ms is not None:
            raise CustomerDamaged("the state is missing")
        return ScheduledCustomer(UNKNOWN, None)
    return ScheduledCustomer(customer_bytes.decode(stored.state), stored.due_ms)


def _damage(stored: Stored) -> str:
    """What is wrong with it, for a person."""
    if (stored.state or b"").startswith(b"\0"):
        return "a key of another type, or bytes that no program wrote"
    try:
        _track(stored)
    except StateError as error:
        return str(error)
    return "nothing"


def _beyond_memory(parsed: Parsed, beyond: BeyondMemory) -> Rejected:
    order = parsed.outcome
    assert isinstance(order, Order)
    return Rejected(
        Reason.BEYOND_ID_MEMORY,
        f"ts {rfc3339(order.ts_ms)} is not after {rfc3339(max(beyond.reach_ms, 0))}, as far back as"
        " this customer's order ids are remembered, so it cannot be told from a repeat; raise"
        " CLV_ID_MEMORY_DAYS or CLV_ID_MEMORY_SIZE and redrive it if it is new",
    )


def _wrong_partition(home: int) -> Rejected:
    return Rejected(
        Reason.WRONG_PARTITION,
        f"the customer was moved to partition {home} when partitions were added; the producer has"
        " not read the topic's metadata since, or sends no key. Redrive it, and it goes there",
    )


def _not_scored(error: Exception) -> Rejected:
    return Rejected(
        Reason.NOT_SCORED,
        f"scoring the customer with this order raised {log.where(error)}; mend the model or the"
        " program, then redrive it",
    )
