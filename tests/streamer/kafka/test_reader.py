"""Topics read beside the group: from an offset to the end, and what silence means."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from streamer.demo.embedded import EmbeddedKafka
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.reader import TopicReader
from streamer.kafka.topics import Topic, ensure_topics
from streamer.records import LogUnavailable, Message, Partition
from tests.support.servers.cluster import ApacheKafka


async def test_a_log_is_read_again_from_its_start_up_to_an_offset(
    kafka: EmbeddedKafka | ApacheKafka,
) -> None:
    name = f"history-{uuid.uuid4().hex}"
    await ensure_topics(kafka.bootstrap, [Topic(name, 1)])
    publisher = KafkaPublisher(kafka.bootstrap)
    await publisher.start()
    await publisher.publish([Message(name, b"key", b"%d" % n) for n in range(2_500)])
    await publisher.close()
    reader = TopicReader(partial(AIOKafkaConsumer, bootstrap_servers=kafka.bootstrap))
    partition = Partition(name, 0)
    assert await reader.start(partition) == 0
    for until in (0, 1, 2_300, 2_500):
        before = reader.records_read
        read = [record.value async for batch in reader.read(partition, until) for record in batch]
        assert read == [b"%d" % n for n in range(until)]
        assert reader.records_read - before == until


async def test_a_log_out_of_reach_says_so() -> None:
    reader = TopicReader(partial(AIOKafkaConsumer, bootstrap_servers="127.0.0.1:1"))
    with pytest.raises(LogUnavailable):
        await reader.start(Partition("orders", 0))


class ScriptedConsumer:
    """Answers each fetch with what comes next: offsets of records, and the position after them."""

    def __init__(self, *fetches: tuple[Sequence[int], int]) -> None:
        self._fetches = list(fetches)
        self._position = 0

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def assign(self, parts: object) -> None: ...

    async def beginning_offsets(self, parts: Sequence[Any]) -> dict[Any, int]:
        return dict.fromkeys(parts, 0)

    def seek(self, part: object, offset: int) -> None:
        self._position = offset

    async def position(self, part: object) -> int:
        return self._position

    async def getmany(self, part: object, **_: object) -> dict[Any, list[Any]]:
        offsets, self._position = self._fetches.pop(0)
        return {part: [SimpleNamespace(offset=offset) for offset in offsets]} if offsets else {}


async def read(until: int, *fetches: tuple[Sequence[int], int]) -> list[int]:
    reader = TopicReader(lambda **_: ScriptedConsumer(*fetches))  # type: ignore[arg-type, return-value]
    found = reader.read(Partition("orders", 0), until)
    return [record.offset async for records in found for record in records]


async def test_offsets_that_hold_nothing_to_read_are_stepped_over() -> None:
    # Compacted away at first, then the marker of a transaction, which no fetch brings.
    assert await read(9, ([2, 3], 4), ([], 7), ([7], 8), ([], 9)) == [2, 3, 7]


async def test_silence_before_the_end_is_told_and_not_taken_for_the_end() -> None:
    with pytest.raises(LogUnavailable, match="gave nothing for 10 s at offset 2, before 9"):
        await read(9, ([0, 1], 2), ([], 2))


async def test_all_of_a_topic_is_read_from_where_one_was_unless_the_log_no_longer_goes_so_far(
    kafka: EmbeddedKafka | ApacheKafka,
) -> None:
    name = f"all-{uuid.uuid4().hex}"
    await ensure_topics(kafka.bootstrap, [Topic(name, 2)])
    publisher = KafkaPublisher(kafka.bootstrap)
    await publisher.start()
    await publisher.publish([Message(name, b"%d" % n, b"%d" % n) for n in range(300)])
    await publisher.close()
    reader = TopicReader(partial(AIOKafkaConsumer, bootstrap_servers=kafka.bootstrap))
    ends = {number: log.end for number, log in (await reader.ranges(name)).items()}
    assert sum(ends.values()) == 300
    since = {0: ends[0] - 1, 1: ends[1] + 1}
    found = [
        (partition.number, record.offset)
        async for partition, records in reader.read_all(name, since=since)
        for record in records
    ]
    assert found == [(0, ends[0] - 1), *((1, offset) for offset in range(ends[1]))]
