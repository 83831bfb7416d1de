"""Dead letters back into the orders topic, with the key and the bytes that they came with.

What has been redriven is marked in the store, one bit for each dead letter, after the broker has
acknowledged it: a run that is interrupted repeats its last chunk at most, which changes nothing,
since an order known by its id is counted once. A record that is bad again becomes a dead letter
again; a header counts the rounds, and after a few it stays where it is.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import AsyncIterable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from features.events.orders import Reason
from features.times import rfc3339
from streamer.pipeline.messages import REDRIVEN, is_cut, times_redriven
from streamer.pipeline.partitioner import partition_for
from streamer.records import Message, Partition, Publisher, Record

SAMPLES: Final = 5


class LetterRecord(Record, Protocol):
    """A record of the dead-letter topic; aiokafka's ConsumerRecord is one."""

    @property
    def partition(self) -> int: ...


class Marks(Protocol):
    """Remembers which dead letters have been redriven."""

    async def redriven(self, partition: Partition, offsets: Sequence[int]) -> set[int]:
        """Those of the offsets that have been marked."""
        ...

    async def mark_redriven(self, partition: Partition, offsets: Sequence[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: what to send, why it was set aside, and where it came from."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    reason: Reason
    source: Partition
    source_offset: int
    redriven: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are wanted, and whether they are sent (not on a `dry_run`).

    Times are those of the dead letter's record, from `since_ms` up to but without `until_ms`;
    `max_times`: more rounds than that are refused.
    """

    reasons: frozenset[Reason] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int | None = None
    max_times: int = 3
    again: bool = False
    dry_run: bool = False


class Left(enum.StrEnum):
    """Why a dead letter stays where it is, as the summary says it."""

    DONE = "redriven before (--again takes them)"
    TOO_OFTEN = "came back too often (--max-times)"
    NOT_CHOSEN = "not chosen by --reason, --since, --until or --limit"
    CUT = "cut, since they were too large: send the records from where they came from again"
    FOREIGN = "not dead letters of this orders topic, or empty"


@dataclass(slots=True)
class Redriven:
    """What a run did, or would do. `moved` went to another partition than they came from."""

    taken: Counter[Reason] = field(default_factory=Counter)
    left: Counter[Left] = field(default_factory=Counter)
    samples: list[Letter] = field(default_factory=list)
    moved: int = 0


def letter_of(record: LetterRecord) -> Letter | None:
    """The dead letter in a record; None where it lacks what ours have."""
    headers = dict(record.headers)
    try:
        return Letter(
            offset=record.offset,
            timestamp_ms=record.timestamp,
            key=record.key,
            value=record.value,
            reason=Reason(headers["reason"].decode()),
            source=Partition(
                headers["source_topic"].decode(), int(headers["source_partition"].decode())
            ),
            source_offset=int(headers["source_offset"].decode()),
            redriven=times_redriven(record.headers),
            cut=is_cut(record.headers),
        )
    except (KeyError, ValueError):
        return None


def left(
    letter: Letter | None, choice: Choice, topic: str, taken: int, done: Collection[int]
) -> Left | None:
    """Why a dead letter is not redriven; None where it is."""
    if letter is None or letter.source.topic != topic or (letter.key is letter.value is None):
        return Left.FOREIGN
    if (
        (choice.reasons and letter.reason not in choice.reasons)
        or (choice.since_ms is not None and letter.timestamp_ms < choice.since_ms)
        or (choice.until_ms is not None and letter.timestamp_ms >= choice.until_ms)
    ):
        return Left.NOT_CHOSEN
    if letter.offset in done and not choice.again:
        return Left.DONE
    if letter.redriven >= choice.max_times:
        return Left.TOO_OFTEN
    if letter.cut:
        return Left.CUT
    if choice.limit is not None and taken >= choice.limit:
        return Left.NOT_CHOSEN
    return None


def message_of(letter: Letter, topic: str) -> Message:
    """The record as it was, with the round and the origin in its headers."""
    headers = (
        (REDRIVEN, str(letter.redriven + 1).encode()),
        ("source_partition", str(letter.source.number).encode()),
        ("source_offset", str(letter.source_offset).encode()),
    )
    return Message(topic, letter.key, letter.value, headers)


def to_source(message: Message, count: int) -> int | None:
    """The partition that a redriven record came from, where the topic has it."""
    number = next((int(value) for name, value in message.headers if name == "source_partition"), -1)
    return number if 0 <= number < count else None


async def redrive(
    chunks: AsyncIterable[tuple[Partition, Sequence[LetterRecord]]],
    marks: Marks,
    publisher: Publisher,
    topic: str,
    partition_count: int,
    choice: Choice,
    progress: Callable[[int], object] = lambda letters: None,
) -> Redriven:
    """Sends the chosen dead letters to `topic`; for each chunk: publish, wait for the acks, mark.

    A dry run reads only. Raises what marks and publisher raise; running it again is right.
    """
    result = Redriven()
    async for partition, records in chunks:
        done = await marks.redriven(partition, [record.offset for record in records])
        chosen: list[Letter] = []
        for letter in map(letter_of, records):
            why = left(letter, choice, topic, result.taken.total(), done)
            if why is not None:
                result.left[why] += 1
                continue
            assert letter is not None
            chosen.append(letter)
            result.taken[letter.reason] += 1
            if letter.key is not None:
                result.moved += partition_for(letter.key, partition_count) != letter.source.number
        result.samples += chosen[: SAMPLES - len(result.samples)]
        if chosen and not choice.dry_run:
            await publisher.publish([message_of(letter, topic) for letter in chosen])
            await marks.mark_redriven(partition, [letter.offset for letter in chosen])
        progress(len(records))
    return result


def text(result: Redriven, *, dry_run: bool, by_key: bool) -> str:
    """The result for a person: counts and samples, nothing of a customer."""
    what = "would be redriven" if dry_run else "redriven"
    lines = [f"{result.taken.total():,} dead letters {what}"]
    lines += [f"  {count:>9,}  {reason}" for reason, count in result.taken.most_common()]
    if dry_run and result.samples:
        lines.append("the first of them:")
        lines += [
            f"  {letter.reason}  {letter.source.tag} offset {letter.source_offset}"
            f"  set aside {rfc3339(letter.timestamp_ms)}  {len(letter.value or b''):,} bytes"
            + (f"  redriven {letter.redriven} times" if letter.redriven else "")
            for letter in result.samples
        ]
    if result.left:
        lines.append("left where they are:")
        lines += [f"  {count:>9,}  {why}" for why, count in result.left.most_common()]
    if result.moved and by_key:
        lines.append(
            f"note: {result.moved:,} go to another partition than they came from. That is right"
            " after partitions were added; where the shop's producers do not use Kafka's own"
            " partitioner, take --to source"
        )
    return "\n".join(lines)
