"""What is to be done with the records of a partition: pure, records in, a plan out.

The orders of a record go out keyed by customer, so that Kafka's own rule puts them where the worker
looks for them; a record that breaks a rule goes out as it came, with its headers, as a dead letter.
Of a record with several orders the good ones go out and the record as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from features.events.orders import Order, Reason, Rejected
from features.mapping.mapping import Skipped
from streamer.ingest.schemas import Decode, Undecodable, schema_id
from streamer.orders import order_message
from streamer.pipeline.dead_letters import DeadLetterWindow, Exceeded, Limits, follow
from streamer.pipeline.messages import dead_letter, times_redriven
from streamer.pipeline.read import unreadable
from streamer.reading import OrderReading, Outcome
from streamer.records import Message, Partition, Record, Unreadable

# Beyond that, headers are left out of a dead letter: with its own they would have no room.
MAX_HEADER_BYTES: Final = 16_384
TOMBSTONE: Final = "tombstone"
_EMPTY: Final = Rejected(Reason.EMPTY, "value is empty")
_NO_REGISTRY: Final = Rejected(
    Reason.UNKNOWN_SCHEMA,
    "it begins with the header of a schema registry (a zero byte and the schema's id); set"
    " CLV_SCHEMA_REGISTRY_URL",
)

Decoders = Mapping[int, Decode | Rejected]
"""What decodes the records of each schema id, or why nothing does."""


@dataclass(frozen=True, slots=True)
class IngestTerms:
    """How records are read and where what comes of them goes."""

    reading: OrderReading
    orders_topic: str
    dead_letter_topic: str
    currency: str


@dataclass(slots=True)
class IngestPlan:
    """`letters` are those of the offsets in `bad`, which has the reasons; `reasons` counts them,
    and `skipped` the records that are no orders, by why."""

    orders: list[Message] = field(default_factory=list)
    letters: list[Message] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    rounded: int = 0

    def add(self, other: IngestPlan) -> None:
        """Takes in a plan for another partition, but for its offsets."""
        self.orders += other.orders
        self.letters += other.letters
        self.reasons += other.reasons
        self.skipped += other.skipped
        self.rounded += other.rounded


def schema_ids(records: Sequence[Record]) -> set[int]:
    """The schemas that records need."""
    found = set()
    for record in records:
        value = record.value
        number = None if value is None or isinstance(value, Unreadable) else schema_id(value)
        if number is not None:
            found.add(number)
    return found


def ingest_plan(
    records: Sequence[Record],
    source: Partition,
    decoders: Decoders | None,
    terms: IngestTerms,
    now_ms: int,
) -> IngestPlan:
    """The plan for records of one partition. `decoders` have all of `schema_ids`; None: there is no
    registry to ask. Never raises."""
    plan = IngestPlan()
    for record in records:
        for outcome in outcomes_of(record, decoders, terms.reading, now_ms):
            if isinstance(outcome, Order):
                plan.orders.append(order_message(outcome, terms.orders_topic, terms.currency))
                plan.rounded += outcome.rounded
            elif isinstance(outcome, Skipped):
                plan.skipped[outcome.reason] += 1
            elif record.offset not in plan.bad:
                plan.bad[record.offset] = outcome.reason.value
                plan.reasons[outcome.reason.value] += 1
                plan.letters.append(_letter(record, outcome, source, terms.dead_letter_topic))
    return plan


def outcomes_of(
    record: Record, decoders: Decoders | None, reading: OrderReading, now_ms: int
) -> Sequence[Outcome]:
    """What a record has, at least one outcome. Never raises."""
    value = record.value
    if value is None:
        return (Skipped(TOMBSTONE),)
    if isinstance(value, Unreadable):
        return (unreadable(value),)
    if not value:
        return (_EMPTY,)
    number = schema_id(value)
    if number is None:
        return reading.of_json(value, record.timestamp, now_ms)
    if decoders is None:
        return (_NO_REGISTRY,)
    decode = decoders[number]
    if isinstance(decode, Rejected):
        return (decode,)
    try:
        document = decode(value)
    except Undecodable as error:
        return (Rejected(Reason.NOT_DECODED, f"schema {number}: the record {error}"),)
    return reading.of_document(document, record.timestamp, now_ms)


def _letter(record: Record, rejected: Rejected, source: Partition, topic: str) -> Message:
    """The dead letter, behind the headers that the record had: of two of one name, the later is
    ours."""
    letter = dead_letter(
        rejected,
        key=record.key,
        value=record.value,
        source=(source.topic, source.number, record.offset),
        topic=topic,
        redriven=times_redriven(record.headers),
    )
    # Kafka's headers may have no value, ours have.
    given = tuple((name, value or b"") for name, value in record.headers)
    if sum(len(name) + len(value) for name, value in given) > MAX_HEADER_BYTES:
        return letter
    return msgspec.structs.replace(letter, headers=(*given, *letter.headers))


def bounded_plan(
    records: Sequence[Record],
    plan: Callable[[Sequence[Record]], IngestPlan],
    window: DeadLetterWindow,
    limits: Limits,
) -> tuple[IngestPlan, DeadLetterWindow, int, Exceeded | None]:
    """A plan for as many of the records as the limits of dead letters let through: the plan, the
    window after them, the next offset, and which limit the record there would exceed."""
    made = plan(records)
    offsets = [record.offset for record in records]
    window, exceeded = follow(window, offsets, made.bad, limits)
    if exceeded is None:
        return made, window, offsets[-1] + 1, None
    before = [record for record in records if record.offset < exceeded.offset]
    return plan(before), window, exceeded.offset, exceeded
