"""What anybody may read of the partitions in Redis, beside their owners."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from streamer.records import Partition
from streamer.store.base import Claim, NewerSchema, Said, Standing
from streamer.store.redis_server import RedisServer

SCHEMA: Final = 1
"""Layout of the keys in `redis_store`. A store with a higher one is refused, never overwritten."""

_CLAIMED: Final = [
    *("schema", "epoch", "sequence", "next", "high_ts", "first", "trail", "lead", "tally", "open")
]
_STANDING: Final = ["epoch", "next", "high_ts", "outbox_first", "listed", "open", "tally", "erased"]


class RedisReader:
    """Reads, and claims nothing."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.address}, {self.server.root}*)"

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        async with self.server.errors():
            found: Any = await self.server.client.hgetall(
                (self._prefix(partition) + b"quarantine").decode()
            )
        return {user.decode(): damaged for user, damaged in found.items()}

    async def peek(self, partition: Partition) -> Claim | None:
        key = self._prefix(partition) + b"meta"
        async with self.server.errors():
            found: Any = await self.server.client.hmget(key, _CLAIMED)
        schema, epoch, sequence, next_offset, high_ts, first, window, lead, tally, listed = found
        if epoch is None:
            return None
        if int(schema or 0) > SCHEMA:
            raise NewerSchema(key.decode(), int(schema), SCHEMA)
        return Claim(
            int(epoch),
            int(sequence or 0),
            maybe(next_offset),
            maybe(high_ts),
            int(first or 0),
            window,
            lead,
            tally,
            listed is not None,
        )

    async def standings(self, partitions: Sequence[Partition]) -> list[Standing | None]:
        async with self.server.errors(), self.server.client.pipeline(transaction=False) as pipeline:
            for partition in partitions:
                pipeline.hmget((self._prefix(partition) + b"meta").decode(), _STANDING)
            found = await pipeline.execute()
        return [None if one[0] is None else _standing(*one[1:]) for one in found]

    async def open_warnings(self, partition: Partition) -> list[bytes]:
        key = (self._prefix(partition) + b"open").decode()
        async with self.server.errors():
            entries = self.server.client.hscan_iter(key, count=1_000)
            found = {user: entry async for user, entry in entries}  # some come twice
        return list(found.values())

    async def feed(self, partition: Partition, after: int, limit: int) -> Said:
        prefix = self._prefix(partition)
        keys = [prefix + b"meta", prefix + b"feed"]
        first, entries = await self.server.run("feed", keys, [after, max(limit, 0)])
        return Said(int(first), entries)

    async def users(self, partition: Partition, chunk: int = 1_000) -> AsyncIterator[list[str]]:
        """Reads the names of all keys of the server, ours and others', without blocking it."""
        head = self._prefix(partition) + b"c:"
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", head) + b"*"
        found: list[str] = []
        async with self.server.errors():
            async for key in self.server.client.scan_iter(match=pattern, count=chunk):
                found.append(key[len(head) :].decode())
                if len(found) >= chunk:
                    yield found
                    found = []
        if found:
            yield found

    async def partition_count(self, topic: str) -> int | None:
        async with self.server.errors():
            found: Any = await self.server.client.get(self._count_key(topic))
        return maybe(found)

    async def ping(self) -> None:
        """Returns when the server answers; every master of a cluster."""
        await self.server.ping()

    async def check_server(self) -> None:
        """See `RedisServer.check`."""
        await self.server.check()

    async def close(self) -> None:
        await self.server.close()

    def _count_key(self, topic: str) -> str:
        return f"{self.server.root}{{{topic}}}:partitions"

    def _prefix(self, partition: Partition) -> bytes:
        return f"{self.server.root}{{{partition.tag}}}:".encode()


def _standing(
    next_offset: bytes | None,
    high_ts: bytes | None,
    said: bytes | None,
    changed: bytes | None,
    count: bytes | None,
    tally: bytes | None,
    erased: bytes | None,
) -> Standing:
    return Standing(
        maybe(next_offset),
        maybe(high_ts),
        int(said or 0),
        (changed or b"").decode(),
        maybe(count),
        tally,
        (erased or b"").decode(),
    )


def maybe(number: bytes | None) -> int | None:
    """A number of Redis's; None where there is none."""
    return None if number is None else int(number)
