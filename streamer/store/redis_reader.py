"""What anybody may read of the partitions in Redis, beside their owners."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from streamer.records import Partition
from streamer.store.base import Claim, NewerSchema, Said, Standing
from streamer.store.layout import SCHEMA, KeyLayout
from streamer.store.redis_server import RedisServer

_CLAIMED: Final = [
    *("schema", "epoch", "sequence", "next", "high_ts", "first", "trail", "lead", "tally", "open")
]
_STANDING: Final = ["epoch", "next", "high_ts", "outbox_first", "listed", "open", "tally", "erased"]


class RedisReader:
    """Reads, and claims nothing."""

    def __init__(self, server: RedisServer, layout: KeyLayout) -> None:
        self.server = server
        self.layout = layout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.address}, {self.server.root}*)"

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        key = (await self.layout.home(partition) + b"quarantine").decode()
        async with self.server.errors():
            found: Any = await self.server.client.hgetall(key)
        return {user.decode(): damaged for user, damaged in found.items()}

    async def peek(self, partition: Partition) -> Claim | None:
        key = await self.layout.home(partition) + b"meta"
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
        homes = [await self.layout.home(partition) for partition in partitions]
        async with self.server.errors(), self.server.client.pipeline(transaction=False) as pipeline:
            for home in homes:
                pipeline.hmget((home + b"meta").decode(), _STANDING)
            found = await pipeline.execute()
        return [None if one[0] is None else _standing(*one[1:]) for one in found]

    async def open_warnings(self, partition: Partition) -> list[bytes]:
        key = (await self.layout.home(partition) + b"open").decode()
        async with self.server.errors():
            entries = self.server.client.hscan_iter(key, count=1_000)
            found = {user: entry async for user, entry in entries}  # some come twice
        return list(found.values())

    async def feed(self, partition: Partition, after: int, limit: int) -> Said:
        prefix = await self.layout.home(partition)
        keys = [prefix + b"meta", prefix + b"feed"]
        first, entries = await self.server.run("feed", keys, [after, max(limit, 0)])
        return Said(int(first), entries)

    async def users(self, partition: Partition, chunk: int = 1_000) -> AsyncIterator[list[str]]:
        """See `KeyLayout.customers`."""
        former = await self.layout.former(partition)
        heads = [self.layout.prefix(partition) + b"c:", former and former + b"c:"]
        found: list[str] = []
        async with self.server.errors():
            async for user in self.layout.customers(heads[0], heads[1], chunk):
                found.append(user.decode())
                if len(found) >= chunk:
                    yield found
                    found = []
        if found:
            yield found

    async def partition_count(self, topic: str) -> int | None:
        async with self.server.errors(), self.server.client.pipeline(transaction=False) as pipeline:
            for key in self.layout.of_topic(topic, "partitions"):
                pipeline.get(key)
            here, there = await pipeline.execute()
        return maybe(there if here is None else here)

    async def ping(self) -> None:
        """Returns when the server answers; every master of a cluster."""
        await self.server.ping()

    async def check_server(self) -> None:
        """See `RedisServer.check`."""
        await self.server.check()

    async def close(self) -> None:
        await self.server.close()


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
