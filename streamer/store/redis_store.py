"""A StateStore on Redis or Valkey (6.2 or later), one server or a cluster.

With the hiredis extension beside redis-py, which finds it by itself, reading a customer takes a
quarter of the time (4 µs instead of 15).

Keys, all of one partition under one hash tag and so in one slot of a cluster:

    <namespace>:<four letters>:{<topic>-<partition>}:meta      hash: epoch, sequence, next,
                                                               high_ts, partitions, schema,
                                                               cluster, outbox_first, first,
                                                               topic_id, trail, lead, tally,
                                                               listed, lister, open, erased
                                                    :c:<user>  when the customer is due (6 bytes),
                                                               and the state
                                                    :due       sorted set: the instants at which
                                                               anybody is due, in ms
                                                    :due:<ms>  set: who is due then
                                                    :outbox    list
                                                    :feed      list, the last of the outbox
                                                    :open      hash: user, open warning
                                                    :quarantine  hash: user, damaged bytes
    <namespace>:<four letters>:{<topic>}:partitions            how many the topic had
    <namespace>:<four letters>:{<dead letters>-<partition>}:redriven:<offset // 65,536>
                                                               a bit for each dead letter

`partitions` is the topic's own: when a topic grows, its new partitions have no meta that would say
so, and a worker that owns only new ones would score old customers as new. It lies in a slot of its
own, and is only ever read and set by itself, so no write needs two slots.

The four letters stand for the Kafka cluster's id, because offsets mean something in one cluster
only; `meta` has all of it, and a partition of another cluster whose letters are the same is
refused. How the version before had its keys: `streamer.store.layout`.

No key expires. The server's user needs `~<namespace>:*` and +@read +@write +@scripting +info +ping.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
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
from streamer.store.layout import SCHEMA, KeyLayout, root_of
from streamer.store.redis_reader import RedisReader, maybe
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
        server = RedisServer(connection, root_of(namespace, cluster_id))
        return cls(server, KeyLayout(server, cluster_id, f"{namespace}:{cluster_id}:"))

    async def claim(
        self,
        partition: Partition,
        partition_count: int,
        *,
        log_start: int = 0,
        topic_id: str = "",
    ) -> Claim:
        """Also raises ForeignData."""
        stored_count = await self.partition_count(partition.topic)
        if stored_count is None:
            count_key = self.layout.of_topic(partition.topic, "partitions")[0]
            async with self.server.errors():
                await self.server.client.set(count_key, partition_count, nx=True)
            stored_count = await self.partition_count(partition.topic)
        if stored_count != partition_count:
            raise PartitionCountChanged(partition.topic, stored_count or 0, partition_count)
        await self.layout.move(partition)
        prefix = self.layout.prefix(partition)
        keys = [prefix + name for name in (b"meta", b"due", b"outbox", b"open")]
        args = [partition_count, SCHEMA, log_start, topic_id, self.layout.cluster_id]
        reply = await self.server.run("claim", keys, args)
        match reply:
            case [b"TOPIC", stored]:
                raise TopicRecreated(partition.topic, stored.decode(), topic_id)
            case _:
                return self._claimed(reply, partition, partition_count)

    def _claimed(self, reply: Any, partition: Partition, partition_count: int) -> Claim:
        prefix = self.layout.prefix(partition)
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
            case [b"CLUSTER", stored]:
                raise ForeignData(
                    f"the keys {prefix.decode()}* at {self.server.address} are of the Kafka cluster"
                    f" {stored.decode()!r}, and this one is {self.layout.cluster_id!r}; set"
                    " CLV_STATE_NAMESPACE to another name"
                )
            case _:
                raise ForeignData(
                    f"the keys {prefix.decode()}* at {self.server.address} are not, or no longer,"
                    " what this program wrote: meta is missing or has no schema; remove them, or"
                    " choose another namespace"
                )

    async def load(self, partition: Partition, user_ids: Sequence[str]) -> list[Stored]:
        prefix, former = self.layout.prefix(partition), await self.layout.former(partition)
        found: list[Stored] = []
        for start in range(0, len(user_ids), _LOAD_CHUNK):
            users: list[Any] = [user.encode() for user in user_ids[start : start + _LOAD_CHUNK]]
            keys = [prefix + b"c:" + user for user in users]
            async with self.server.errors():
                # Not `mget`: a cluster's client refuses it by name, for keys of many slots.
                records = await self.server.client.execute_command("MGET", *keys)
                missing = [at for at, record in enumerate(records) if record is None]
                if missing:
                    await self._add_foreign(keys, records)
                    if former:
                        await self._add_former(former, users, records)
            of_chunk = list(map(_stored, records))
            lost = [at for at in missing if records[at] is None]
            times = await self.due_times(partition, [user_ids[start + at] for at in lost])
            for at, due_ms in zip(lost, times, strict=True):
                of_chunk[at] = Stored(None, due_ms)
            found += of_chunk
        return found

    async def _add_former(
        self, former: bytes, users: Sequence[Any], records: list[bytes | None]
    ) -> None:
        """Those whom the version before has written last."""
        missing = [at for at, record in enumerate(records) if record is None]
        if not missing:
            return
        keys = [former + b"c:" + users[at] for at in missing]
        async with self.server.client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("MGET", *keys)
            pipeline.zmscore(former + b"due", [users[at] for at in missing])
            states, instants = await pipeline.execute()
        if None in states:
            await self._add_foreign(keys, states)
        for at, state, instant in zip(missing, states, instants, strict=True):
            if state is not None or instant is not None:
                records[at] = _head(None if instant is None else int(instant)) + (state or b"")

    async def _add_foreign(self, keys: list[bytes], states: list[bytes | None]) -> None:
        """MGET answers a key of another type as it answers none: such a customer would be scored
        as new, and its key be written over."""
        missing = [at for at, state in enumerate(states) if state is None]
        if not await self.server.client.exists(*(keys[at] for at in missing)):
            return
        for at in missing:
            dump = await self.server.client.dump(keys[at])
            if dump is not None:
                states[at] = _NEVER + b"\0" + dump

    async def due(self, partition: Partition, until_ms: int, limit: int) -> list[tuple[str, int]]:
        if limit <= 0:
            return []
        former = await self.layout.former(partition)
        keys = [self.layout.prefix(partition) + b"due"]
        reply: list[Any] = await self.server.run("due", keys, [until_ms, limit, former])
        found = [(int(at), user.decode()) for at, user in zip(reply[::2], reply[1::2], strict=True)]
        return [(user, at) for at, user in sorted(found)[:limit]]

    async def due_times(self, partition: Partition, user_ids: Sequence[str]) -> list[int | None]:
        prefix, former = self.layout.prefix(partition), await self.layout.former(partition)
        found: list[int | None] = [None] * len(user_ids)
        for start in range(0, len(user_ids), _LOAD_CHUNK):
            users: list[Any] = [user.encode() for user in user_ids[start : start + _LOAD_CHUNK]]
            listed = await self.server.run("listed", [prefix + b"due"], users)
            for number, instant in zip(listed[::2], listed[1::2], strict=True):
                found[start + number - 1] = int(instant)
            if former:
                async with self.server.errors():
                    waiting = await self.server.client.zmscore(former + b"due", users)
                for at, instant in enumerate(waiting, start):
                    if found[at] is None and instant is not None:
                        found[at] = int(instant)
        return found

    async def sample(self, partition: Partition, count: int) -> list[str]:
        prefix, former = self.layout.prefix(partition), await self.layout.former(partition)
        async with self.server.errors(), self.server.client.pipeline(transaction=False) as pipeline:
            instants: Any = await self.server.client.zrange(prefix + b"due", 0, -1)
            for instant in instants:
                pipeline.scard((prefix + b"due:" + instant).decode())
            several = [prefix + b"due:" + instant for instant in instants]
            if former:
                several.append(former + b"due")
                pipeline.zcard(several[-1].decode())
            sizes = await pipeline.execute() if several else []
            if not any(sizes):
                return []
            chosen = Counter(random.sample(several, min(count, sum(sizes)), counts=sizes))
            for key, some in chosen.items():
                command = "SRANDMEMBER" if key.startswith(prefix) else "ZRANDMEMBER"
                pipeline.execute_command(command, key, some)
            found = await pipeline.execute()
        return [user.decode() for users in found for user in users]

    async def write(self, partition: Partition, epoch: int, sequence: int, write: Write) -> Outcome:
        """Also raises ForeignData, before anything is written."""
        prefix = self.layout.prefix(partition)
        keys = [prefix + name for name in _WRITTEN]
        of_customer = prefix + b"c:"
        others = [user for user in write.due if user not in write.states]
        keys += [of_customer + user.encode() for user in (*write.states, *others)]
        args: list[Any] = [
            epoch,
            sequence,
            "" if write.next_offset is None else write.next_offset,
            "" if write.high_ts_ms is None else write.high_ts_ms,
            *_packed(write, others),
            "" if write.dead_letter_window is None else write.dead_letter_window,
            "" if write.lead is None else write.lead,
            "" if write.tally is None else write.tally,
            "1" if write.listed else "",
            await self.layout.former(partition),
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
        prefix, former = self.layout.prefix(partition), await self.layout.former(partition)
        users = [user.encode() for user in user_ids]
        keys = [prefix + name for name in (b"meta", b"due", b"quarantine", b"open", b"feed")]
        keys += [prefix + b"c:" + user for user in users]
        args = [epoch, sequence, "" if next_offset is None else next_offset, said, former, *users]
        return Outcome((await self.server.run("remove", keys, args)).decode())

    async def outbox(self, partition: Partition, limit: int) -> Outbox:
        prefix = await self.layout.home(partition)
        async with self.server.errors(), self.server.client.pipeline(transaction=True) as pipeline:
            pipeline.hget(prefix + b"meta", "outbox_first")
            pipeline.lrange(prefix + b"outbox", 0, max(limit, 1) - 1)
            first, entries = await pipeline.execute()
        return Outbox(int(first or 0), entries[: max(limit, 0)])

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        prefix = self.layout.prefix(partition)
        keys = [prefix + b"meta", prefix + b"outbox", prefix + b"feed"]
        reply = await self.server.run("trim", keys, [epoch, first, count, FEED_SIZE])
        return Outcome(reply.decode())


_NEVER: Final = b"\xff" * 6
_HEAD: Final = struct.Struct(">HI")


def _head(due_ms: int | None) -> bytes:
    """When a customer is due, as a record begins; within 4,000 years of 1970."""
    return _NEVER if due_ms is None else _HEAD.pack(*divmod(due_ms + 2**47, 2**32))


def _stored(record: bytes | None) -> Stored:
    if record is None:
        return Stored(None, None)
    head, state = record[:6], record[6:]
    if len(head) < len(_NEVER):
        return Stored(record, None)  # damaged
    high, low = _HEAD.unpack(head)
    return Stored(state, None if head == _NEVER else (high << 32 | low) - 2**47)


def _packed(write: Write, others: Sequence[str]) -> tuple[bytes, bytes, bytes]:
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
    when = (write.due.get(user, True) for user in (*write.states, *others))
    instants = [False if at is None else at for at in when]
    values = [*write.states.values(), *spoken]
    return (
        struct.pack(f">{len(values)}i", *map(len, values)),
        b"".join(values),
        msgspec.msgpack.encode((len(write.states), instants, len(write.outbox), opened, closed)),
    )
