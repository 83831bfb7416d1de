"""What becomes of a partition's records and silences: a plan of what to publish and write. Pure:
records, customers and instants come in, a `Plan` comes out.

`streamer.pipeline.partition` has records read (`streamer.pipeline.read`), takes them in the `steps`
given here, loads the customers that each step names, and carries out what is planned for them. A
batch with too many bad records (`streamer.pipeline.dead_letters`) is planned up to the last that is
allowed. A customer whom the model cannot score is left out (`model.judge.isolate`): their orders
become dead letters, what is due is rescheduled for the next day, and everybody else goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from features.events.orders import Order, OrderRules, Reason, Rejected
from features.facts.state import Effect
from features.times import rfc3339
from model.explain.reasons import explain
from model.judge.budget import pieces, settle, share, split
from model.judge.customers import CustomerArrays
from model.judge.isolate import Isolated, judge_isolated
from model.judge.judge import Judge, JudgedArrays
from model.judge.judged import Event, JudgedBatch
from model.judge.together import Arrived
from streamer.errors import where
from streamer.listing.listing import listing
from streamer.listing.tally import NOTHING, Tally, bad_records, tally_of
from streamer.pipeline import dead_letters, event_time
from streamer.pipeline.dead_letters import (
    CLEAN,
    NO_LIMITS,
    DeadLetterWindow,
    Exceeded,
    Limits,
)
from streamer.pipeline.erasures import Erasure, Erasures
from streamer.pipeline.event_time import START, EventClock, EventTime
from streamer.pipeline.messages import Writer, dead_letter, in_holdout, pack, times_redriven
from streamer.records import Message, Partition, Topics
from streamer.store.base import Write

Events: TypeAlias = Mapping[str, Sequence[Event]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything that all partitions share: rules of parsing and judging, and where it goes.
    `max_lead_ms`: see `streamer.pipeline.event_time`."""

    judge: Judge
    writer: Writer
    order_rules: OrderRules
    topics: Topics
    allowed_lateness_ms: int
    publish_scores: bool = True
    max_lead_ms: int | None = None
    dead_letter_limits: Limits = NO_LIMITS

    def without_scores(self) -> Pipeline:
        """The pipeline with the same warnings that publishes no score, and makes none for that."""
        rules = replace(self.judge.rules, refreshes=False)
        return replace(self, judge=replace(self.judge, rules=rules), publish_scores=False)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands: what decisions depend on beside the customers.

    `time`: how far event time has come; `window`: the bad records that limits have to know of;
    `tally`: what was counted.
    """

    partition: Partition
    partition_count: int = 1
    time: EventTime = START
    window: DeadLetterWindow = CLEAN
    tally: Tally = NOTHING

    def watermark_ms(self, allowed_lateness_ms: int) -> int | None:
        """Event time before which no order is waited for any more; None before the first order."""
        return None if self.time.ts_ms is None else self.time.ts_ms - allowed_lateness_ms


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A record read: an order, or why not, or an erasure, or (None) a tombstone; with the raw bytes
    for dead letters."""

    offset: int
    outcome: Order | Rejected | Erasure | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Apply(NamedTuple):
    """Orders and bad records to be applied together, once everyone who is due at `close_ms` or
    before has been judged; None: nobody has to be."""

    batch: Sequence[Parsed]
    close_ms: int | None


class Erase(NamedTuple):
    """An erasure to be applied in its turn, and its offset."""

    erasure: Erasure
    offset: int


class WriteContext(NamedTuple):
    """What one write was judged from: customers before it, their events, and the instant up to
    which those who are due were judged, None where only the events closed any."""

    customers: CustomerArrays
    events: Events
    until_ms: int | None


@dataclass(slots=True)
class Counters:
    """What a partition has done since it was last counted, in events and messages.

    `ran_ahead`: whether the watermark was ahead of the clock when it was claimed; `erased_orders`:
    orders left out since they are from before their customer was erased; `recovered`: warnings
    answered by an order; `deferred`: episodes whose warning the budget had no place for at first;
    `rescheduled`: customers whose instants could not be judged, and are tried again the next day;
    `lost_writes`: whether the store had lost writes when it was claimed.
    """

    orders: int = 0
    duplicates: int = 0
    ran_ahead: int = 0
    dead_letters: int = 0
    scores: int = 0
    warnings: int = 0
    instants: int = 0
    rebuilt: int = 0
    lost_writes: int = 0
    erased_orders: int = 0
    erasures: int = 0
    recovered: int = 0
    deferred: int = 0
    rescheduled: int = 0
    odd: Counter[str] = field(default_factory=Counter)  # orders that were not as sent, by kind
    reasons: Counter[str] = field(default_factory=Counter)  # of the dead letters
    triggers: Counter[str] = field(default_factory=Counter)  # of the warnings

    def add(self, more: Counters) -> None:
        """Counts what another has counted, too."""
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + getattr(more, name))


# What an order did that its shop may not have meant.
ODD: Final = frozenset({Effect.CORRECTION, Effect.ID_REUSED})
ROUNDED: Final = "rounded"
# Orders that came after the watermark had passed them; those further ahead of all others than event
# time may go at once; and what the shop deletes from a compacted topic.
LATE: Final = "late"
AHEAD: Final = "ahead"
TOMBSTONE: Final = "tombstone"

_COUNTED = tuple(counted.name for counted in fields(Counters))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about a batch, in this order: dead letters and scores published, the write
    made, of which the warnings wait in the outbox.

    `customers`: what was judged, for who keeps them; `tally`: what it adds to the counts;
    `context`: what it was judged from, None where others heard of that before; `isolated`: who
    could not be scored, None where everybody could.
    """

    dead_letters: Sequence[Message]
    scores: Sequence[Message]
    warnings: Sequence[Message]
    write: Write
    customers: JudgedArrays
    counters: Counters
    tally: Tally = NOTHING
    context: WriteContext | None = None
    isolated: Isolated | None = None


class BatchPlan(NamedTuple):
    """The plan of records up to the first that goes beyond a limit of dead letters; without any
    plan where that is the first of all."""

    plan: Plan | None
    exceeded: Exceeded | None = None


# --- records ------------------------------------------------------------------------------------


def steps(batch: Sequence[Parsed], position: Position, pipeline: Pipeline) -> list[Apply | Erase]:
    """A batch cut where an erasure stands; under a budget of warnings also before each record that
    closes an instant, since everyone who is due at an instant is judged before anything later is.
    """
    rules, lateness_ms = pipeline.judge.rules, pipeline.allowed_lateness_ms
    found: list[Apply | Erase] = []
    clock, start = EventClock(position.time, pipeline.max_lead_ms), 0
    for end in [*(n for n, p in enumerate(batch) if isinstance(p.outcome, Erasure)), len(batch)]:
        part = batch[start:end]
        if part and rules.policy.budget_per_day is None:
            found.append(Apply(part, None))
        elif part:
            closed_ms = clock.watermark_ms(lateness_ms)
            marks: list[int | None] = []
            for parsed in part:
                if isinstance(parsed.outcome, Order):
                    clock.follow(parsed.outcome.user_id, parsed.outcome.ts_ms)
                marks.append(clock.watermark_ms(lateness_ms))
            found += [
                Apply(part[piece.start : piece.end], piece.until_ms)
                for piece in pieces(marks, closed_ms, rules)
            ]
        if end < len(batch):
            erasure = batch[end].outcome
            assert isinstance(erasure, Erasure)
            found.append(Erase(erasure, batch[end].offset))
        start = end + 1
    return found


@dataclass(frozen=True, slots=True)
class Intake:
    """Orders by customer, in their order, each with the watermark that it brings about; and the
    records that are none. `time`: how far event time has come with them; `erased`: orders from
    before their customer was erased; `odd`: see Counters."""

    batch: Sequence[Parsed]
    events: Mapping[str, list[Event]]
    rejects: Sequence[tuple[Parsed, Rejected]]
    time: EventTime
    erased: int
    odd: Counter[str]


def take_in(
    batch: Sequence[Parsed], position: Position, pipeline: Pipeline, erasures: Erasures
) -> Intake:
    """The records of a batch, by what is to be done with them."""
    events: dict[str, list[Event]] = {}
    clock = EventClock(position.time, pipeline.max_lead_ms)
    erased, late, lateness_ms = 0, 0, pipeline.allowed_lateness_ms
    orders = [(one.offset, one.outcome) for one in batch if isinstance(one.outcome, Order)]
    highs = clock.follow_all([o.user_id for _, o in orders], [o.ts_ms for _, o in orders])
    for (offset, order), high_ms in zip(orders, highs, strict=True):
        late += order.ts_ms < high_ms - lateness_ms
        if erasures and erasures.covers(order):
            erased += 1
            continue
        of_user = events.setdefault(order.user_id, [])
        of_user.append(Event(offset, order, high_ms - lateness_ms))
    rejects, tombstones = [], 0
    if len(orders) < len(batch):
        rejects = [(one, one.outcome) for one in batch if isinstance(one.outcome, Rejected)]
        tombstones = sum(one.outcome is None for one in batch)
    odd = Counter({LATE: late, AHEAD: clock.held_back, TOMBSTONE: tombstones})
    return Intake(batch, events, rejects, clock.now, erased, +odd)


def plan_batch(
    intake: Intake,
    customers: CustomerArrays,
    position: Position,
    pipeline: Pipeline,
    erasures: Erasures,
    isolated: Isolated | None = None,
) -> BatchPlan:
    """What to do about records; `customers` has everyone who is in the events. `isolated`: them
    judged, where they have been."""
    batch, events = intake.batch, intake.events
    isolated = isolated or judge_isolated(pipeline.judge, *Arrived.of(customers, events))
    rejects = [*intake.rejects, *_unapplied(batch, isolated)]
    bad = {parsed.offset: why.reason.value for parsed, why in rejects}
    window, exceeded = dead_letters.follow(
        position.window,
        [parsed.offset for parsed in batch if parsed.outcome is not None],
        bad,
        pipeline.dead_letter_limits,
    )
    if exceeded is not None:
        allowed = [parsed for parsed in batch if parsed.offset < exceeded.offset]
        if not allowed:
            return BatchPlan(None, exceeded)
        fewer = take_in(allowed, position, pipeline, erasures)
        some = [at for at, user in enumerate(customers.users) if user in fewer.events]
        known = customers.take(np.array(some, np.int64))
        return BatchPlan(plan_batch(fewer, known, position, pipeline, erasures).plan, exceeded)
    plan = _plan(isolated.judged, pipeline, isolated, WriteContext(customers, events, None))
    counters = plan.counters
    counters.orders = sum(map(len, events.values())) - (len(rejects) - len(intake.rejects))
    counters.erased_orders = intake.erased
    counters.odd.update(
        effect.value for effect in isolated.judged.effects.values() if effect in ODD
    )
    rounded = sum(event.order.rounded for of_user in events.values() for event in of_user)
    if rounded:
        counters.odd[ROUNDED] = rounded
    counters.odd.update(intake.odd)
    counters.dead_letters = len(rejects)
    counters.reasons.update(bad.values())
    write = replace(
        plan.write,
        next_offset=batch[-1].offset + 1,
        high_ts_ms=intake.time.ts_ms,
        lead=None if intake.time == position.time else event_time.encode(intake.time),
        dead_letter_window=None if window == position.window else dead_letters.encode(window),
    )
    letters = [_dead_letter(parsed, why, position, pipeline) for parsed, why in rejects]
    tally = plan.tally.plus(Tally(bad=bad_records(bad)))
    return BatchPlan(replace(plan, dead_letters=letters, write=write, tally=tally))


# --- silence ------------------------------------------------------------------------------------


def plan_due(
    customers: CustomerArrays, until_ms: int, pipeline: Pipeline
) -> tuple[Plan, JudgedBatch]:
    """What to do about customers who are due at `until_ms` or before; and under a budget those for
    whom a warning was raised, who are left out of the plan."""
    isolated = judge_isolated(pipeline.judge, customers, (), until_ms)
    judged, contested = isolated.judged, JudgedBatch()
    if judged.contested:
        settled, contested = split(judged.batch(customers))
        judged = JudgedArrays.of(settled)
    return _plan(judged, pipeline, isolated, WriteContext(customers, {}, until_ms)), contested


def plan_contested(
    candidates: JudgedBatch, instant_ms: int, position: Position, pipeline: Pipeline
) -> Plan:
    """What to do about all for whom a warning was raised at one instant under a budget."""
    rules = pipeline.judge.rules
    budget = rules.policy.budget_per_day
    assert budget is not None
    number, count = position.partition.number, position.partition_count
    places = share(budget, number, count, rules.calendar.day_of(instant_ms))
    settled = settle(candidates, places, instant_ms, rules)
    plan = _plan(JudgedArrays.of(settled.judged), pipeline)
    plan.counters.deferred = settled.newly_deferred
    return plan


# --- inside -------------------------------------------------------------------------------------


def _plan(
    judged: JudgedArrays,
    pipeline: Pipeline,
    isolated: Isolated | None = None,
    context: WriteContext | None = None,
) -> Plan:
    """What was judged, as messages and a write."""
    writer = pipeline.writer
    # Nearly every scoring is a score and nothing else.
    told = judged.scorings.told
    raised = [scoring for scoring in told if scoring.raised]
    noticed = [scoring for scoring in told if scoring.notice]
    shares = iter(explain(pipeline.judge.scorer, noticed))
    warnings: list[Message] = []
    for scoring in told:
        if scoring.answered:
            warnings.append(writer.recovered(scoring))
        if scoring.notice:
            warnings.append(writer.warning(scoring, next(shares)))
    scores = writer.scores(judged.scorings) if pipeline.publish_scores else []
    outbox = [pack(message) for message in warnings]
    holdout = partial(in_holdout, share=writer.rules.policy.holdout_share)
    failed = isolated if isolated is not None and isolated.users else None
    return Plan(
        dead_letters=(),
        scores=scores,
        warnings=warnings,
        write=Write(
            states=judged.states(),
            due=judged.due_ms(),
            outbox=outbox,
            next_offset=None,
            high_ts_ms=None,
            listing=listing(told, outbox) if outbox else {},
        ),
        customers=judged,
        tally=tally_of(told, writer.rules, holdout) if outbox else NOTHING,
        counters=Counters(
            duplicates=sum(effect is Effect.REPEAT for effect in judged.effects.values()),
            scores=len(scores),
            warnings=len(raised),
            instants=judged.instants,
            recovered=len(warnings) - len(noticed),
            rescheduled=len(failed.rescheduled) if failed else 0,
            triggers=Counter(scoring.trigger.value for scoring in raised),
        ),
        context=context,
        isolated=failed,
    )


def _unapplied(batch: Sequence[Parsed], isolated: Isolated) -> list[tuple[Parsed, Rejected]]:
    """The orders that could not be applied, and why."""
    beyond_memory, unscored = isolated.judged.reach_ms, isolated.unscored
    if not beyond_memory and not unscored:
        return []
    at = {parsed.offset: parsed for parsed in batch}
    return [
        (at[offset], _beyond_memory(at[offset], reach_ms))
        for (_, offset), reach_ms in beyond_memory.items()
    ] + [(at[offset], _not_scored(error)) for (_, offset), error in unscored.items()]


def _dead_letter(parsed: Parsed, why: Rejected, position: Position, pipeline: Pipeline) -> Message:
    return dead_letter(
        why,
        key=parsed.key,
        value=parsed.value,
        source=(position.partition.topic, position.partition.number, parsed.offset),
        topic=pipeline.topics.dead_letters,
        redriven=times_redriven(parsed.headers),
    )


def _beyond_memory(parsed: Parsed, reach_ms: int) -> Rejected:
    order = parsed.outcome
    assert isinstance(order, Order)
    return Rejected(
        Reason.BEYOND_ID_MEMORY,
        f"ts {rfc3339(order.ts_ms)} is not after {rfc3339(max(reach_ms, 0))}, as far back as"
        " this customer's order ids are remembered, so it cannot be told from a repeat; raise"
        " CLV_ID_MEMORY_DAYS or CLV_ID_MEMORY_SIZE and redrive it if it is new",
    )


def _not_scored(error: Exception) -> Rejected:
    return Rejected(
        Reason.NOT_SCORED,
        f"scoring the customer with this order raised {where(error)}; fix the model or the"
        " program, then redrive it",
    )
