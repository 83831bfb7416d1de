"""The warnings topic followed to a receiver: in order, at least once, and past nobody who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from streamer.records import Message
from streamer.webhook.follow import Follower


@dataclass(frozen=True)
class Said:
    """A record of the warnings topic."""

    partition: int
    offset: int
    key: bytes
    value: bytes


def said(number: int, offset: int, user: str, name: str = "") -> Said:
    value = {
        "warning_id": name or f"{number}-{offset}",
        "user_id": user,
        "as_of": "2026-01-01T00:00:00Z",
    }
    return Said(number, offset, user.encode(), msgspec.json.encode(value))


class FakeConsumer:
    """A topic's partitions and what is committed of them; paused ones give nothing."""

    def __init__(self, log: Mapping[int, list[Said]], committed: dict[int, int]) -> None:
        self.log, self.committed = log, committed
        self.position = dict(committed)
        self.paused: set[TopicPartition] = set()
        self.stopped = False
        self.breaks = False

    async def start(self) -> None:
        if self.breaks:
            raise KafkaConnectionError

    async def stop(self) -> None:
        self.stopped = True

    def subscribe(self, topics: list[str], *, listener: Any) -> None:
        self.listener = listener

    async def getmany(
        self, *, timeout_ms: int, max_records: int
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        await asyncio.sleep(0)
        found: dict[TopicPartition, Sequence[Any]] = {}
        for number, records in self.log.items():
            part = TopicPartition("warnings", number)
            rest = records[self.position.get(number, 0) :][:3]
            if rest and part not in self.paused:
                found[part] = rest
                self.position[number] = rest[-1].offset + 1
        return found

    def pause(self, *parts: TopicPartition) -> None:
        self.paused |= set(parts)

    def resume(self, *parts: TopicPartition) -> None:
        self.paused -= set(parts)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        for part, offset in offsets.items():
            assert offset >= self.committed.get(part.partition, 0)
            self.committed[part.partition] = offset

    def highwater(self, part: TopicPartition) -> int | None:
        return len(self.log[part.partition])


class Hook:
    """Takes messages, unless they are to wait."""

    def __init__(self, *waits: str) -> None:
        self.got: list[str] = []
        self.waits = {name: asyncio.Event() for name in waits}

    async def deliver(self, name: str, body: bytes) -> None:
        if name in self.waits:
            await self.waits[name].wait()
        self.got.append(name)

    async def close(self) -> None: ...


async def until(told: Any) -> None:
    async with asyncio.timeout(5):
        while not told():
            await asyncio.sleep(0)


async def test_each_partition_is_delivered_in_order_and_waits_for_no_other() -> None:
    log = {n: [said(n, offset, f"u{n}") for offset in range(10)] for n in range(3)}
    committed: dict[int, int] = {}
    consumer, hook = FakeConsumer(log, committed), Hook("1-4")
    follower = Follower(lambda: consumer, "warnings", hook)  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    await until(lambda: committed.get(0) == committed.get(2) == 10)
    assert committed[1] == 4
    assert follower.lag()[1] == 6
    hook.waits["1-4"].set()
    await until(lambda: committed.get(1) == 10)
    for n in range(3):
        of_one = [name for name in hook.got if name.startswith(f"{n}-")]
        assert of_one == [f"{n}-{offset}" for offset in range(10)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert consumer.stopped


async def test_who_takes_over_sends_what_was_not_committed_and_misses_nothing() -> None:
    log = {0: [said(0, offset, "ada") for offset in range(10)]}
    committed: dict[int, int] = {}
    first = Hook("0-5")
    follower = Follower(lambda: FakeConsumer(log, committed), "warnings", first)  # type: ignore[arg-type, return-value]
    running = asyncio.create_task(follower.run())
    await until(lambda: committed.get(0) == 5)
    running.cancel()  # killed while the receiver does not answer
    await asyncio.gather(running, return_exceptions=True)
    second = Hook()
    follower = Follower(lambda: FakeConsumer(log, committed), "warnings", second)  # type: ignore[arg-type, return-value]
    running = asyncio.create_task(follower.run())
    await until(lambda: committed.get(0) == 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert first.got + second.got == [f"0-{offset}" for offset in range(10)]


async def test_a_partition_given_away_is_left_to_the_next_owner() -> None:
    log = {0: [said(0, offset, "ada") for offset in range(5)]}
    committed: dict[int, int] = {}
    consumer, hook = FakeConsumer(log, committed), Hook("0-2")
    follower = Follower(lambda: consumer, "warnings", hook)  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    await until(lambda: committed.get(0) == 2)
    await follower.on_partitions_revoked([TopicPartition("warnings", 0)])
    hook.waits["0-2"].set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert committed == {0: 2}
    assert follower.lag() == {}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_the_topic_has_twice_and_who_was_forgotten_are_not_sent() -> None:
    log = {
        0: [
            said(0, 0, "ada", "one"),
            said(0, 1, "ada", "one"),
            said(0, 2, "bob", "two"),
            Said(0, 3, b"x", b"no warning"),
            said(0, 4, "ada", "three"),
        ]
    }
    committed: dict[int, int] = {}
    consumer, hook = FakeConsumer(log, committed), Hook()

    def erased(message: Message) -> bool:
        return message.key == b"bob"

    follower = Follower(lambda: consumer, "warnings", hook, erased)  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    await until(lambda: committed.get(0) == 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert hook.got == ["one", "three"]
