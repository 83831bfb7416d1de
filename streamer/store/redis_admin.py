"""What operators' commands do to the states in Redis beside running them: move, reset, mark."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from streamer.records import Partition
from streamer.store.base import Claim, NewerSchema
from streamer.store.layout import SCHEMA
from streamer.store.redis_store import RedisStore

# Bits of one key of marks: 8 kB at most, however far the offsets of a topic have come.
_MARKS: Final = 65_536

# Keys deleted in one command.
_RESET_CHUNK: Final = 500


class RedisAdmin(RedisStore):
    """A RedisStore whose partitions can be moved and reset, and that marks dead letters."""

    async def redriven(self, partition: Partition, offsets: Sequence[int]) -> set[int]:
        """Those of the dead letters, `partition` being one of their topic, marked as redriven."""
        if not offsets:
            return set()
        async with self.server.errors(), self.server.client.pipeline(transaction=False) as pipeline:
            for offset in offsets:
                for key in self._mark_keys(partition, offset):
                    pipeline.getbit(key, offset % _MARKS)
            bits = await pipeline.execute()
        marked = zip(offsets, bits[::2], bits[1::2], strict=True)
        return {offset for offset, here, there in marked if here or there}

    async def mark_redriven(self, partition: Partition, offsets: Sequence[int]) -> None:
        """Marks dead letters as redriven."""
        async with self.server.errors(), self.server.client.pipeline(transaction=False) as pipeline:
            for offset in offsets:
                pipeline.setbit(self._mark_keys(partition, offset)[0], offset % _MARKS, 1)
            await pipeline.execute()

    def _mark_keys(self, partition: Partition, offset: int) -> tuple[str, str]:
        return self.layout.of_topic(partition.tag, f"redriven:{offset // _MARKS}")

    async def set_partition_count(self, topic: str, count: int) -> None:
        async with self.server.errors():
            await self.server.client.set(self.layout.of_topic(topic, "partitions")[0], count)

    async def seize(self, partition: Partition, old_count: int, new_count: int) -> Claim:
        """Also raises ForeignData."""
        await self.layout.move(partition)
        prefix = self.layout.prefix(partition)
        keys = [prefix + b"meta", prefix + b"due", prefix + b"outbox"]
        args = [old_count, new_count, SCHEMA, self.layout.cluster_id]
        reply = await self.server.run("seize", keys, args)
        return self._claimed(reply, partition, new_count)

    async def reset(self, partition: Partition) -> int:
        """Deletes all that is kept of a partition, and returns of how many customers.

        Interrupted, it is to be run again; until then nobody can claim the partition. Its owner is
        fenced. Raises NewerSchema.
        """
        await self.layout.move(partition)
        prefix, former = self.layout.prefix(partition), await self.layout.former(partition)
        customers = 0
        async with self.server.errors():
            reply = await self.server.run("reset", [prefix + b"meta"], [SCHEMA])
            if reply[0] == b"SCHEMA":
                raise NewerSchema(f"{prefix.decode()}meta", int(reply[1]), SCHEMA)
            for begin in filter(None, (former, prefix)):
                customers += await self._unlink(begin)
        return customers

    async def _unlink(self, prefix: bytes) -> int:
        """Deletes all that begins so, `meta` last; of how many customers."""
        customers = 0
        theirs: list[bytes] = []
        others = []
        # A scan may name a key twice: counted is what was deleted.
        async for name in self.layout.customers(prefix, b"", 1_000):
            if name.startswith(b"c:"):
                theirs.append(prefix + name)
            elif name != b"meta":
                others.append(prefix + name)
            if len(theirs) >= _RESET_CHUNK:
                customers += await self.server.client.unlink(*theirs)
                theirs = []
        if theirs:
            customers += await self.server.client.unlink(*theirs)
        await self.server.client.unlink(*others, prefix + b"meta")
        return customers

    async def scan(
        self, topic: str, chunk: int = 1_000
    ) -> AsyncIterator[list[tuple[Partition, str]]]:
        """See `KeyLayout.customers`."""
        found: list[tuple[Partition, str]] = []
        heads = [f"{root}{{{topic}-".encode() for root in self.layout.roots]
        async with self.server.errors():
            async for rest in self.layout.customers(heads[0], heads[1], chunk):
                number, is_one, user = rest.partition(b"}:c:")
                # Else it is of a topic whose name begins with this one's.
                if is_one and number.isdigit():
                    found.append((Partition(topic, int(number)), user.decode()))
                if len(found) >= chunk:
                    yield found
                    found = []
        if found:
            yield found
