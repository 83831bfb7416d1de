"""Dead letters back into the orders topic: which, how often, and what is said of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest

from features.events.orders import Reason, Rejected
from streamer.admin.redrive import (
    Choice,
    Left,
    LetterRecord,
    Marks,
    Redriven,
    redrive,
    text,
    to_source,
)
from streamer.demo.embedded import EmbeddedRedis
from streamer.pipeline.messages import dead_letter
from streamer.records import MemoryPublisher, Message, Partition, PublishFailed
from streamer.store.memory import MemoryStore
from streamer.store.redis_admin import RedisAdmin

ALL = Choice()
LETTERS = Partition("orders-dead-letter", 0)


@dataclass(frozen=True)
class Rec:
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Sequence[tuple[str, bytes]]


def a_letter(
    offset: int, reason: Reason = Reason.BAD_TS, redriven: int = 0, **other: object
) -> Rec:
    rejected = Rejected(reason, "ts 'ann@example.com' is no time")
    key = b"ann@example.com"
    message = dead_letter(
        rejected,
        key=key,
        value=b"\xff raw %d" % offset,
        source=("orders", offset % 4, 100 + offset),
        topic=LETTERS.topic,
        redriven=redriven,
    )
    record = Rec(0, offset, key, message.value, 1_000 + offset, message.headers)
    return replace(record, **other)  # type: ignore[arg-type]


LOG = [
    a_letter(0),
    a_letter(1, Reason.NOT_JSON),
    a_letter(2),
    a_letter(3, redriven=3),
    a_letter(4, headers=(("reason", b"bad_ts"),)),
    a_letter(5, Reason.NOT_JSON, redriven=2),
    a_letter(6, headers=(*a_letter(6).headers, ("value_size", b"3000000"))),
]


async def chunks(
    records: Sequence[Rec], size: int = 2
) -> AsyncIterator[tuple[Partition, Sequence[LetterRecord]]]:
    for start in range(0, len(records), size):
        yield LETTERS, records[start : start + size]


async def run(
    records: Sequence[Rec] = LOG,
    choice: Choice = ALL,
    marks: Marks | None = None,
    publisher: MemoryPublisher | None = None,
) -> tuple[Redriven, list[Message]]:
    publisher = publisher or MemoryPublisher()
    result = await redrive(
        chunks(records),
        marks or MemoryStore(),
        publisher,
        "orders",
        4,
        choice,
    )
    return result, publisher.messages


async def test_a_dead_letter_goes_back_with_its_bytes_and_key_and_the_round_it_is_in() -> None:
    result, sent = await run()
    assert [(m.topic, m.key, m.value) for m in sent] == [
        ("orders", LOG[at].key, LOG[at].value) for at in (0, 1, 2, 5)
    ]
    assert [dict(m.headers)["redriven"] for m in sent] == [b"1", b"1", b"1", b"3"]
    assert dict(sent[1].headers)["source_offset"] == b"101"
    assert result.taken == {Reason.BAD_TS: 2, Reason.NOT_JSON: 2}
    assert result.left == {Left.TOO_OFTEN: 1, Left.FOREIGN: 1, Left.CUT: 1}


@pytest.mark.parametrize(
    ("choice", "offsets"),
    [
        (Choice(reasons=frozenset({Reason.NOT_JSON})), [1, 5]),
        (Choice(since_ms=1_001, until_ms=1_005), [1, 2]),
        (Choice(limit=3), [0, 1, 2]),
        (Choice(max_times=4), [0, 1, 2, 3, 5]),
        (Choice(max_times=1), [0, 1, 2]),
    ],
)
async def test_only_what_is_chosen_goes_back(choice: Choice, offsets: list[int]) -> None:
    _, sent = await run(choice=choice)
    assert [m.value for m in sent] == [LOG[at].value for at in offsets]


async def test_nothing_is_redriven_twice_whatever_was_chosen_before() -> None:
    marks = MemoryStore()
    await run(choice=Choice(reasons=frozenset({Reason.NOT_JSON})), marks=marks)
    _, rest = await run(marks=marks)
    assert [m.value for m in rest] == [LOG[0].value, LOG[2].value]
    result, none = await run(marks=marks)
    assert none == []
    assert result.left[Left.DONE] == 4
    _, again = await run(choice=Choice(again=True), marks=marks)
    assert len(again) == 4


async def test_a_dry_run_sends_and_marks_nothing() -> None:
    marks = MemoryStore()
    result, sent = await run(choice=Choice(dry_run=True), marks=marks)
    assert sent == []
    assert result.taken.total() == 4
    assert (await run(marks=marks))[0].taken.total() == 4


async def test_a_failed_run_is_finished_by_the_next() -> None:
    marks, publisher = MemoryStore(), MemoryPublisher()
    await run(LOG[:2], marks=marks, publisher=publisher)
    publisher.fail_next()
    with pytest.raises(PublishFailed):
        await run(marks=marks, publisher=publisher)
    await run(marks=marks, publisher=publisher)
    assert [m.value for m in publisher.messages] == [LOG[at].value for at in (0, 1, 2, 5)]


async def test_the_summary_has_counts_and_nothing_of_a_customer() -> None:
    result, _ = await run(choice=Choice(dry_run=True))
    told = text(result, dry_run=True, by_key=True)
    assert "4 dead letters would be redriven" in told
    assert "2  not_json" in told
    assert "orders-1 offset 101" in told
    assert "ann" not in told
    assert "raw" not in told
    assert "--to source" in told
    assert "--to source" not in text(result, dry_run=True, by_key=False)


def test_a_record_can_go_to_the_partition_that_it_came_from() -> None:
    headers = (("source_partition", b"2"),)
    assert to_source(Message("orders", b"ann", b"", headers), 4) == 2
    assert to_source(Message("orders", b"ann", b"", headers), 2) is None
    assert to_source(Message("orders", b"ann", b""), 4) is None


async def test_marks_are_kept_on_the_server(embedded_redis: EmbeddedRedis) -> None:
    cluster = uuid.uuid4().hex
    store = RedisAdmin.from_url(embedded_redis.url, cluster_id=cluster)
    offsets = [0, 1, 65_535, 65_536, 10**12]
    assert await store.redriven(LETTERS, []) == set()
    assert await store.redriven(LETTERS, offsets) == set()
    await store.mark_redriven(LETTERS, [1, 65_536, 10**12])
    await store.mark_redriven(LETTERS, [1])
    assert await store.redriven(LETTERS, offsets) == {1, 65_536, 10**12}
    assert await store.redriven(replace(LETTERS, number=1), offsets) == set()
    await store.close()
