"""A StateStore on Redis or Valkey (6.2 or later), one server or a cluster.

With the hiredis extension beside redis-py, which finds it by itself, reading a customer takes a
quarter of the time (4 µs instead of 15).

Keys, all of one partition under one hash tag and so in one slot of a cluster:

    <namespace>:<kafka cluster id>:{<topic>-<partition>}:meta      hash: epoch, sequence, next,
                                                                   high_ts, partitions, schema,
                                                                   outbox_first, first,
                                                                   topic_id, trail, lead, tally,
                                                                   listed, lister, open, erased
                                                        :c:<user>  the customer's state
                                                        :due       sorted set: user, instant in ms
                                                        :outbox    list
                                                        :feed      list, the last of the outbox
                                                        :open      hash: user, open warning
                                                        :quarantine  hash: user, damaged bytes
    <namespace>:<kafka cluster id>:{<topic>}:partitions            how many the topic had
    <namespace>:<kafka cluster id>:{<dead letters>-<partition>}:redriven:<offset // 65,536>
                                                                   a bit for each dead letter

`partitions` is the topic's own: when a topic grows, its new partitions have no meta that would say
so, and a worker that owns only new ones would score old customers as new. It lies in a slot of its
own, and is only ever read and set by itself, so no write needs two slots.

The Kafka cluster's id is part of the name because offsets mean something in one cluster only.

No key expires. The server's user needs `~<namespace>:*` and +@read +@write +@scripting +info +ping.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from streamer.records import Partition
from streamer.store.base import (
    FEED_SIZE,
    QUARANTINE_SIZE,
    Claim,
    NewerSchema,
    Outbox,
    Outcome,
    PartitionCountChanged,
    Stored,
    StoreRefused,
    TopicRecreated,
    Write,
)
from streamer.store.redis_reader import SCHEMA, RedisReader, maybe
from streamer.store.redis_server import ForeignData, RedisServer
from streamer.store.redis_url import connect

_WRITTEN: Final = (b"meta", b"due", b"outbox", b"quarantine", b"open")

# Customers per round trip of load. It holds the server for 1 µs each, so for 5 ms at most.
_LOAD_CHUNK: Final = 5_000


class RedisStore(RedisReader):
    """Safe for one task per partition at a time, and any number of partitions at once."""

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        cluster_id: str,
        namespace: str = "clv",
        timeout_s: float = 5.0,
        security: Mapping[str, Any] | None = None,
    ) -> Self:
        """A store that connects when first used; see `streamer.store.redis_url.connect`."""
        for name, value in (("namespace", namespace), ("cluster id", cluster_id)):
            if not value or "{" in value or "}" in value:
                raise StoreRefused(
                    f"{name} {value!r} cannot be part of a key: it must not be empty, nor have "
                    "braces in it, which would change the slot that a partition is kept in"
                )
        connection = connect(url, timeout_s, security)
        return cls(RedisServer(connection, f"{namespace}:{cluster_id}:"))

    async def claim(
        self,
        partition: Partition,
        partition_count: int,
        *,
        log_start: int = 0,
        topic_id: str = "",
    ) -> Claim:
        """Also raises ForeignData."""
        count_key = self._count_key(partition.topic)
        prefix = self._prefix(partition)
        async with self.server.errors():
            async with self.server.client.pipeline(transaction=False) as pipeline:
                pipeline.set(count_key, partition_count, nx=True)
                pipeline.get(count_key)
                stored_count = (await pipeline.execute())[1]
            if int(stored_count) != partition_count:
                raise PartitionCountChanged(partition.topic, int(stored_count), partition_count)
        keys = [prefix + name for name in (b"meta", b"due", b"outbox", b"open")]
        args = [partition_count, SCHEMA, log_start, topic_id]
        reply = await self.server.run("claim", keys, args)
        match reply:
            case [b"TOPIC", stored]:
                raise TopicRecreated(partition.topic, stored.decode(), topic_id)
            case _:
                return self._claimed(reply, partition, partition_count)

    def _claimed(self, reply: Any, partition: Partition, partition_count: int) -> Claim:
        prefix = self._prefix(partition)
        match reply:
            case [b"OK", epoch, sequence, next_offset, high_ts, first, window, lead, tally, listed]:
                return Claim(
                    int(epoch),
                    int(sequence),
                    maybe(next_offset),
                    maybe(high_ts),
                    int(first),
                    window,
                    lead,
                    tally,
                    listed is not None,
                )
            case [b"PARTITIONS", stored]:
                raise PartitionCountChanged(partition.topic, int(stored), partition_count)
            case [b"SCHEMA", stored]:
                raise NewerSchema(f"{prefix.decode()}meta", int(stored), SCHEMA)
            case _:
                raise ForeignData(
                    f"the keys {prefix.decode()}* at {self.server.address} are not, or no longer,"
                    " what this program wrote: meta is missing or has no schema; remove them, or"
                    " choose another namespace"
                )

    async def load(self, partition: Partition, user_ids: Sequence[str]) -> list[Stored]:
        prefix = self._prefix(partition)
        due, of_state = prefix + b"due", prefix + b"c:"
        found: list[Stored] = []
        for start in range(0, len(user_ids), _LOAD_CHUNK):
            users: list[Any] = [user.encode() for user in user_ids[start : start + _LOAD_CHUNK]]
            keys = [of_state + user for user in users]
            async with self.server.errors():
                async with self.server.client.pipeline(transaction=False) as pipeline:
                    # Not `mget`: a cluster's pipeline refuses it by name, for keys of many slots.
                    pipeline.execute_command("MGET", *keys)
                    pipeline.zmscore(due, users)
                    states, instants = await pipeline.execute()
                if None in states:
                    await self._add_foreign(keys, states)
            found += [
                Stored(state, None if instant is None else int(instant))
                for state, instant in zip(states, instants, strict=True)
            ]
        return found

    async def _add_foreign(self, keys: list[bytes], states: list[bytes | None]) -> None:
        """MGET answers a key of another type as it answers none: such a customer would be scored
        as new, and its key be written over."""
        missing = [at for at, state in enumerate(states) if state is None]
        if not await self.server.client.exists(*(keys[at] for at in missing)):
            return
        for at in missing:
            dump = await self.server.client.dump(keys[at])
            if dump is not None:
                states[at] = b"\0" + dump

    async def due(self, partition: Partition, until_ms: int, limit: int) -> list[tuple[str, int]]:
        if limit <= 0:
            return []
        key = self._prefix(partition) + b"due"
        async with self.server.errors():
            found: Any = await self.server.client.zrangebyscore(
                key, "-inf", until_ms, start=0, num=limit, withscores=True
            )
        return [(user.decode(), int(score)) for user, score in found]

    async def sample(self, partition: Partition, count: int) -> list[str]:
        key = self._prefix(partition) + b"due"
        async with self.server.errors():
            found: Any = await self.server.client.zrandmember(key, count)
        return [user.decode() for user in found or ()]

    async def write(self, partition: Partition, epoch: int, sequence: int, write: Write) -> Outcome:
        """Also raises ForeignData, before anything is written."""
        prefix = self._prefix(partition)
        of_state = prefix + b"c:"
        keys = [prefix + name for name in _WRITTEN]
        keys += [of_state + user.encode() for user in write.states]
        args: list[Any] = [
            epoch,
            sequence,
            "" if write.next_offset is None else write.next_offset,
            "" if write.high_ts_ms is None else write.high_ts_ms,
            *_packed(write),
            "" if write.dead_letter_window is None else write.dead_letter_window,
            "" if write.lead is None else write.lead,
            "" if write.tally is None else write.tally,
            "1" if write.listed else "",
        ]
        if write.quarantine:
            args.append(QUARANTINE_SIZE)
            for user, damaged in write.quarantine.items():
                args += (user.encode(), damaged)
        return Outcome((await self.server.run("write", keys, args)).decode())

    async def remove(
        self,
        partition: Partition,
        epoch: int,
        sequence: int,
        user_ids: Sequence[str],
        next_offset: int | None,
        said: bytes = b"",
    ) -> Outcome:
        """Also raises ForeignData, before anything is removed."""
        prefix = self._prefix(partition)
        users = [user.encode() for user in user_ids]
        keys = [prefix + name for name in (b"meta", b"due", b"quarantine", b"open", b"feed")]
        keys += [prefix + b"c:" + user for user in users]
        args = [epoch, sequence, "" if next_offset is None else next_offset, said, *users]
        return Outcome((await self.server.run("remove", keys, args)).decode())

    async def outbox(self, partition: Partition, limit: int) -> Outbox:
        prefix = self._prefix(partition)
        async with self.server.errors(), self.server.client.pipeline(transaction=True) as pipeline:
            pipeline.hget(prefix + b"meta", "outbox_first")
            pipeline.lrange(prefix + b"outbox", 0, max(limit, 1) - 1)
            first, entries = await pipeline.execute()
        return Outbox(int(first or 0), entries[: max(limit, 0)])

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        prefix = self._prefix(partition)
        keys = [prefix + b"meta", prefix + b"outbox", prefix + b"feed"]
        reply = await self.server.run("trim", keys, [epoch, first, count, FEED_SIZE])
        return Outcome(reply.decode())


def _packed(write: Write) -> tuple[bytes, bytes, bytes]:
    """The arguments 5 to 7 of write.lua."""
    spoken = list(write.outbox)
    # What is listed nearly always is what is sent, and goes over the wire once.
    at = {id(entry): number for number, entry in enumerate(spoken, 1)}
    opened: list[str | int] = []
    closed: list[str] = []
    for user, entry in write.listing.items():
        if entry is None:
            closed.append(user)
            continue
        if id(entry) not in at:
            spoken.append(entry)
            at[id(entry)] = len(spoken)
        opened += (user, at[id(entry)])
    instants: list[int | str] = []
    silent: list[str] = []
    for user, instant_ms in write.due.items():
        if instant_ms is None:
            silent.append(user)
        else:
            instants += (instant_ms, user)
    values = [*write.states.values(), *spoken]
    return (
        struct.pack(f">{len(values)}i", *map(len, values)),
        b"".join(values),
        msgspec.msgpack.encode((instants, silent, len(write.outbox), opened, closed)),
    )
