"""One partition of the orders topic, from its records to what is stored and published.

Everything is decided in `streamer.pipeline.batch`; here it is carried out. The order of effects,
each of which may happen twice and none of which may be left out:

1. claim a new epoch, which fences every older owner, and learn where to read from;
2. take records that continue what was applied; load the customers they touch;
3. plan (pure): parse, fold, score, decide, write down messages and states;
4. publish dead letters and scores, and wait for the acks: redone identically after a crash;
5. one write: states, due times, warnings in the outbox, next offset, under epoch and sequence;
6. publish what is in the outbox, wait for the acks, trim it: the same ids and bytes each time;
7. plan for the customers that have fallen due, and carry it out by the same steps 4 to 6.

Under a budget of warnings, step 7 comes before step 2 wherever a record closes an instant, and
takes one instant at a time for all of the partition: candidates are written last, once all are
known.

An erasure (`streamer.pipeline.erasures`) is a record too, and applied in its turn: a tombstone to
the scores, then one write that removes the customer. A customer whose stored bytes turn out damaged
at step 2 is rebuilt from the log first, in a write of its own that keeps the damaged bytes in the
quarantine (`streamer.pipeline.rebuild`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from features.times import rfc3339
from model.judge.budget import joined
from model.judge.isolate import Isolated, judge_isolated
from model.judge.judge import Judge
from model.judge.judged import JudgedBatch
from model.judge.together import Arrived
from streamer import log
from streamer.clock import Clock
from streamer.errors import StreamerError, where
from streamer.pipeline.batch import (
    Apply,
    Counters,
    Erase,
    Parsed,
    Pipeline,
    Plan,
    WriteContext,
    plan_batch,
    plan_contested,
    plan_due,
    steps,
    take_in,
)
from streamer.pipeline.claim import Lease
from streamer.pipeline.customers import Customers
from streamer.pipeline.dead_letters import DeadLettersExceeded
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.messages import beginning
from streamer.pipeline.outbox import OutboxDrain, publish
from streamer.pipeline.partitioner import partition_for
from streamer.pipeline.read import read
from streamer.pipeline.rebuild import History
from streamer.records import LogRange, Message, Partition, Publisher, Record
from streamer.store.base import StartAt, StateStore

_log = log.get(__name__)

_ALL = 2**31


class OutOfSequence(StreamerError):
    """The records do not continue what was applied. Seek to `expected` and read again."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"offset {expected} is next to apply, {found} came")
        self.expected = expected


class Observer(Protocol):
    """Hears of what is written, once it is. Nobody waits for it: it returns at once, and whatever
    it raises is told in the log and goes no further."""

    def opened(self, partition: int) -> None:
        """What was heard of the partition before may have been overtaken."""
        ...

    def wrote(self, partition: int, context: WriteContext) -> None: ...
    def erased(self, partition: int, user_id: str) -> None: ...


Judging = Callable[[Judge, Arrived], Awaitable[Isolated]]


async def judge_alone(judge: Judge, asked: Arrived) -> Isolated:
    """See `model.judge.isolate.judge_isolated`."""
    return judge_isolated(judge, *asked)


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a partition is run, and what is shared with others or heard by them.

    `history`: where damaged customers are rebuilt from; `rebuild_partly`: also where it has lost
    orders of theirs. `erasures`: erased customers, which partitions may share. `clock`: what orders
    may not be ahead of; also to know a process that was stopped for a while. None: neither.
    `judging`: who judges records, perhaps those of several partitions in one go.
    """

    cache_customers: int = 100_000
    due_batch: int = 500
    start_at: StartAt = StartAt.AUTO
    rebuild_partly: bool = False
    history: History | None = None
    erasures: Erasures = field(default_factory=Erasures)
    clock: Clock | None = None
    observer: Observer | None = None
    judging: Judging = judge_alone


class PartitionRunner:
    """Runs one partition between being assigned and being revoked. Not safe for concurrent calls:
    the owner calls `process` and `tick` one after the other."""

    def __init__(
        self,
        partition: Partition,
        store: StateStore,
        publisher: Publisher,
        pipeline: Pipeline,
        options: RunnerOptions | None = None,
    ) -> None:
        options = options or RunnerOptions()
        self.partition = partition
        self.counters = Counters()
        self._store = store
        self._publisher = publisher
        self._pipeline = self._adopted = pipeline
        self._erasures = options.erasures
        self._observer = options.observer
        self._judging = options.judging
        self._clock = options.clock
        self._due_batch = options.due_batch
        self._lease = Lease(partition, store, options.start_at, options.clock)
        self.customers = Customers(
            self._lease,
            store,
            options.erasures,
            room=options.cache_customers,
            history=options.history,
            rebuild_partly=options.rebuild_partly,
            clock=options.clock,
        )
        self._sought: int | None = None
        self._outbox = OutboxDrain(self._lease, store, options.erasures)

    @property
    def outbox_pending(self) -> int:
        """Warnings in the outbox, as far as we have heard."""
        return self._outbox.pending

    @property
    def next_offset(self) -> int:
        """Offset of the next record to apply."""
        return self._lease.next_offset

    @property
    def watermark_ms(self) -> int | None:
        """Event time before which no order is waited for any more; None before the first order."""
        return self._lease.position.watermark_ms(self._pipeline.allowed_lateness_ms)

    def adopt(self, pipeline: Pipeline) -> None:
        """Judges by another pipeline from the next batch or tick on; the one under way is finished
        by the one that it was begun with."""
        self._adopted = pipeline

    async def claim(self, log: LogRange) -> int:
        """Claims the partition and returns the offset to read from; for what is raised see
        `streamer.pipeline.claim.check_log`."""
        moved_at = self._erasures.moved_at(self.partition.topic, self.partition.number)
        if await self._lease.claim(log, moved_at):
            self.counters.lost_writes += 1
        self._sought = self.next_offset
        self._tell_ahead()
        await self._settled(overtaken=True)
        return self.next_offset

    def _tell_ahead(self) -> None:
        """Says where event time has run ahead of the clock, which silences everybody after it."""
        mark_ms, clock = self.watermark_ms, self._clock
        if mark_ms is None or clock is None:
            return
        if mark_ms > clock.now_ms() + self._pipeline.order_rules.max_future_ms:
            self.counters.ran_ahead += 1
            _log.warning(
                "watermark.ahead",
                partition=self.partition.number,
                watermark=rfc3339(mark_ms),
                remedy="check this machine's clock; if it is right, stop the worker of the"
                f" partition, run `python -m streamer rebuild --partition {self.partition.number}"
                " --yes`, and start it: every order is read again",
            )

    async def process(self, records: Sequence[Record]) -> None:
        """Applies records of the partition; returns when all is written and published.

        Records already applied are skipped. Raises OutOfSequence, Fenced, LostWrites, and what
        store and publisher raise; in each case processing the batch again is right. Raises
        DeadLettersExceeded when all before the record that it names is applied.
        """
        await self._settle()
        fresh = self._continuing(records)
        if fresh:
            now_ms = None if self._clock is None else self._clock.now_ms()
            position, pipeline = self._lease.position, self._adopted
            await self.process_parsed(read(fresh, position, pipeline, self._erasures, now_ms))

    async def process_parsed(self, batch: Sequence[Parsed]) -> None:
        """Applies records that have been read; see `process`."""
        self._pipeline = self._adopted
        for step in steps(batch, self._lease.position, self._pipeline):
            if isinstance(step, Erase):
                await self._erase(step)
            else:
                await self._apply(step)

    async def tick(self, idle_watermark_ms: int | None, limit: int | None = None) -> int:
        """Judges the customers that are due up to the watermark, or up to `idle_watermark_ms`
        where that is later; returns how many instants were judged. From `limit` on it leaves the
        rest to the next call."""
        self._pipeline = self._adopted
        return await self._judge_due(idle_watermark_ms, limit)

    async def list_again(self, user_ids: Sequence[str], *, whole: bool = False) -> None:
        """Lists open warnings as the states have them; see `Customers`."""
        await self._settle()
        await self.customers.list_again(user_ids, self._adopted, self.counters, whole=whole)

    async def unlist(self) -> None:
        """Takes off the list whose horizon is over."""
        await self._settle()
        await self.customers.unlist()

    async def check(self) -> None:
        """Raises Fenced or LostWrites unless the partition is ours, as the store confirmed it."""
        await self._settled(overtaken=await self._lease.check())

    # --- steps ------------------------------------------------------------------------------

    async def _apply(self, step: Apply) -> None:
        """Steps 2 to 7, for records."""
        if step.close_ms is not None:
            await self._judge_by_instants(step.close_ms)
        position, pipeline, erasures = self._lease.position, self._pipeline, self._erasures
        intake = take_in(step.batch, position, pipeline, erasures)
        customers = await self.customers.load(list(intake.events), pipeline, self.counters)
        judged = await self._judging(pipeline.judge, Arrived.of(customers, intake.events))
        plan, exceeded = plan_batch(intake, customers, position, pipeline, erasures, judged)
        if plan is not None:
            await self._carry_out(plan)
            await self._judge_due(None)
        if exceeded is not None:
            raise DeadLettersExceeded(self.partition, exceeded)

    async def _judge_due(self, idle_watermark_ms: int | None, limit: int | None = None) -> int:
        """Step 7, by the pipeline of the batch; returns how many instants were judged."""
        await self._settle()
        marks = [at for at in (self.watermark_ms, idle_watermark_ms) if at is not None]
        if not marks:
            return 0
        until_ms, before = max(marks), self.counters.instants
        if self._pipeline.judge.rules.policy.budget_per_day is not None:
            await self._judge_by_instants(until_ms)
        else:
            while due := await self._store.due(self.partition, until_ms, self._due_batch):
                await self._judge_users([user_id for user_id, _ in due], until_ms)
                if limit is not None and self.counters.instants - before >= limit:
                    break
        return self.counters.instants - before

    async def _judge_by_instants(self, until_ms: int) -> None:
        """Judges everyone who is due, one instant after the other: who is warned of under a budget
        depends on all who are due with them. Nothing of a candidate is written before all of the
        partition's are known, so a worker that takes over finds the same ones."""
        while earliest := await self._store.due(self.partition, until_ms, 1):
            instant_ms = earliest[0][1]
            users = [u for u, _ in await self._store.due(self.partition, instant_ms, _ALL)]
            candidates = JudgedBatch()
            for start in range(0, len(users), self._due_batch):
                chunk = users[start : start + self._due_batch]
                candidates = joined(candidates, await self._judge_users(chunk, instant_ms))
            if candidates.contested:
                position, pipeline = self._lease.position, self._pipeline
                await self._carry_out(plan_contested(candidates, instant_ms, position, pipeline))

    async def _judge_users(self, user_ids: Sequence[str], until_ms: int) -> JudgedBatch:
        """Judges customers who are due; under a budget, those for whom a warning was raised are
        returned instead."""
        customers = await self.customers.load(user_ids, self._pipeline, self.counters)
        plan, contested = plan_due(customers, until_ms, self._pipeline)
        await self._carry_out(plan)
        return contested

    async def _carry_out(self, plan: Plan) -> None:
        """Steps 4 to 6."""
        if (failed := plan.isolated) is not None:
            _log.error(
                "customers.not_scored",
                partition=self.partition.number,
                customers=len(failed.users),
                orders=len(failed.unscored),
                put_off=len(failed.rescheduled),
                error=where([*failed.unscored.values(), *failed.rescheduled][0]),
            )
        if plan.dead_letters or plan.scores:
            await self._settled(overtaken=await self._lease.check_if_long_ago())
            await publish(plan.dead_letters, plan.scores, self._publisher)
        await self._lease.write(plan.write, plan.tally)
        if self._observer is not None and plan.context is not None:
            _tell(partial(self._observer.wrote, self.partition.number, plan.context))
        self.customers.remember(plan.customers)
        self.counters.add(plan.counters)
        self._outbox.wrote(len(plan.warnings))
        await self._settle()

    async def _erase(self, step: Erase) -> None:
        """Removes a customer; what is erased twice is gone all the same."""
        user_id, at_ms = step.erasure.user_id, step.erasure.at_ms
        key, count = user_id.encode(), self._lease.position.partition_count
        topics = self._pipeline.topics
        # What the records before it closed is judged first, also by an owner who took over here.
        await self._judge_due(None)
        (stored,) = await self._store.load(self.partition, [user_id])
        if partition_for(key, count) == self.partition.number or stored.state is not None:
            await self._publisher.publish([Message(topics.scores, key, None)])
        await self._lease.erase(user_id, beginning(topics.warnings, key), step.offset + 1)
        self.customers.forget(user_id)
        if self._observer is not None:
            _tell(partial(self._observer.erased, self.partition.number, user_id))
        self._erasures.add(user_id, at_ms)
        self.counters.erasures += 1
        _log.info("customer.erased", partition=self.partition.number, offset=step.offset)

    async def _settle(self) -> None:
        """Learns whether the write of an interrupted call got in; publishes what waits."""
        await self._settled(overtaken=await self._lease.settle())

    async def _settled(self, *, overtaken: bool) -> None:
        """`overtaken`: what is known of the customers may be out of date, and warnings may wait."""
        if overtaken:
            self.customers.forget_all()
            if self._observer is not None:
                _tell(partial(self._observer.opened, self.partition.number))
            self._outbox.may_wait()
        await self._outbox.drain(self._publisher)

    def _continuing(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records that were not applied yet.

        A batch that begins later than what comes next may have been fetched before a rebalance
        (FAUST D7 upstream): it is refused once, and the owner seeks. If the log, asked from
        exactly there, has a hole (a transaction marker, a compacted record), the hole is real.
        """
        expected = self.next_offset
        fresh = [r for r in records if r.offset >= expected] if records else []
        if fresh and fresh[0].offset > expected and self._sought != expected:
            self._sought = expected
            raise OutOfSequence(expected, fresh[0].offset)
        return fresh


def _tell(news: Callable[[], None]) -> None:
    try:
        news()
    except Exception as error:
        _log.exception("observer.failed", error)
