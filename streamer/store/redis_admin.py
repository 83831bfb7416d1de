"""What operators' commands do to the states in Redis beside running them: move, reset, mark."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from streamer.records import Partition
from streamer.store.base import Claim, NewerSchema
from streamer.store.redis_reader import SCHEMA
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
                pipeline.getbit(self._mark_key(partition, offset), offset % _MARKS)
            bits = await pipeline.execute()
        return {offset for offset, bit in zip(offsets, bits, strict=True) if bit}

    async def mark_redriven(self, partition: Partition, offsets: Sequence[int]) -> None:
        """Marks dead letters as redriven."""
        async with self.server.errors(), self.server.client.pipeline(transaction=False) as pipeline:
            for offset in offsets:
                pipeline.setbit(self._mark_key(partition, offset), offset % _MARKS, 1)
            await pipeline.execute()

    def _mark_key(self, partition: Partition, offset: int) -> str:
        return f"{self._prefix(partition).decode()}redriven:{offset // _MARKS}"

    async def set_partition_count(self, topic: str, count: int) -> None:
        async with self.server.errors():
            await self.server.client.set(self._count_key(topic), count)

    async def seize(self, partition: Partition, old_count: int, new_count: int) -> Claim:
        """Also raises ForeignData."""
        prefix = self._prefix(partition)
        keys = [prefix + b"meta", prefix + b"due", prefix + b"outbox"]
        reply = await self.server.run("seize", keys, [old_count, new_count, SCHEMA])
        return self._claimed(reply, partition, new_count)

    async def reset(self, partition: Partition) -> int:
        """Deletes all that is kept of a partition, and returns of how many customers.

        Interrupted, it is to be run again; until then nobody can claim the partition. Its owner is
        fenced. Raises NewerSchema.
        """
        prefix = self._prefix(partition)
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix) + b"*"
        customers = 0
        async with self.server.errors():
            reply = await self.server.run("reset", [prefix + b"meta"], [SCHEMA])
            if reply[0] == b"SCHEMA":
                raise NewerSchema(f"{prefix.decode()}meta", int(reply[1]), SCHEMA)
            theirs: list[bytes] = []
            others = []
            # A scan may name a key twice: counted is what was deleted.
            async for key in self.server.client.scan_iter(match=pattern, count=1_000):
                if key.startswith(prefix + b"c:"):
                    theirs.append(key)
                elif key != prefix + b"meta":
                    others.append(key)
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
        """Reads the names of all keys of the server, ours and others', without blocking it."""
        head = f"{self.server.root}{{{topic}-"
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", head) + "*:c:*"
        found: list[tuple[Partition, str]] = []
        async with self.server.errors():
            async for key in self.server.client.scan_iter(match=pattern, count=chunk):
                number, _, user = key[len(head.encode()) :].partition(b"}:c:")
                if number.isdigit():  # else it is of a topic whose name begins with this one's
                    found.append((Partition(topic, int(number)), user.decode()))
                if len(found) >= chunk:
                    yield found
                    found = []
        if found:
            yield found
