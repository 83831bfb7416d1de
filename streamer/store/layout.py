"""Where a partition's keys are, and where the version before had them.

Until schema 1 every key held the Kafka cluster's whole id, and one sorted set of a partition had
everybody's due time. A partition moves when it is first claimed: its few keys are renamed, and a
`meta` of the newer schema is left behind, which the version before refuses. Customers move as they
are written; until then they are read from where they were.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Any, Final

from streamer.records import Partition
from streamer.store.base import NewerSchema
from streamer.store.redis_server import ForeignData, RedisServer

SCHEMA: Final = 2
"""Layout of the keys in `redis_store`. A store with a higher one is refused, never overwritten."""


def root_of(namespace: str, cluster_id: str) -> str:
    """What begins every key: 20 bits of the cluster's id, which `meta` has whole."""
    short = b32encode(blake2b(cluster_id.encode(), digest_size=5).digest())[:4].decode().lower()
    return f"{namespace}:{short}:"


class KeyLayout:
    """Keys of one cluster's partitions."""

    def __init__(self, server: RedisServer, cluster_id: str, former_root: str) -> None:
        self.cluster_id = cluster_id
        self._server = server
        self._former_root = former_root
        # Whether anything of a partition is where the version before had it; it stays as it is
        # once the partition has moved.
        self._former: dict[Partition, bool] = {}

    @property
    def roots(self) -> tuple[str, str]:
        """What begins every key, here and as the version before had it."""
        return self._server.root, self._former_root

    def prefix(self, partition: Partition) -> bytes:
        return f"{self._server.root}{{{partition.tag}}}:".encode()

    def former_prefix(self, partition: Partition) -> bytes:
        return f"{self._former_root}{{{partition.tag}}}:".encode()

    def of_topic(self, topic: str, name: str) -> tuple[str, str]:
        """A key of the topic's own, here and as the version before had it."""
        here, there = self.roots
        return f"{here}{{{topic}}}:{name}", f"{there}{{{topic}}}:{name}"

    async def former(self, partition: Partition) -> bytes:
        """The prefix under which customers may be that have not moved; b"" where there are none."""
        moved = partition in self._former or await self._look(partition)
        return b"" if moved and not self._former[partition] else self.former_prefix(partition)

    async def home(self, partition: Partition) -> bytes:
        """The prefix of all but the customers: the former one until the partition has moved."""
        moved = partition in self._former or await self._look(partition)
        return self.prefix(partition) if moved else self.former_prefix(partition)

    async def move(self, partition: Partition) -> None:
        """Moves a partition that the version before has left; nothing where there is none.

        Raises NewerSchema and ForeignData.
        """
        if partition in self._former:
            return
        here, there = self.prefix(partition), self.former_prefix(partition)
        if not await self._look(partition):
            names = (b"meta", b"outbox", b"feed", b"open", b"quarantine")
            keys = [prefix + name for prefix in (there, here) for name in names]
            reply = await self._server.run("move", keys, [SCHEMA, self.cluster_id])
            if reply[0] == b"SCHEMA":
                raise NewerSchema(f"{there.decode()}meta", int(reply[1]), SCHEMA)
            if reply[0] == b"FOREIGN":
                raise ForeignData(
                    f"the keys {there.decode()}* at {self._server.address} are what is left of a"
                    " partition that has moved; remove them, or choose another namespace"
                )
            self._former[partition] = True

    async def _look(self, partition: Partition) -> bool:
        """Whether what there is of a partition is here."""
        here, there = self.prefix(partition), self.former_prefix(partition)
        client = self._server.client
        async with self._server.errors(), client.pipeline(transaction=False) as pipeline:
            pipeline.exists(here + b"meta")
            pipeline.exists(there + b"meta")
            is_here, was_there = await pipeline.execute()
        if is_here or not was_there:
            self._former[partition] = bool(was_there)
        return bool(is_here or not was_there)

    async def customers(self, head: bytes, former: bytes, chunk: int) -> AsyncIterator[bytes]:
        """The rest of each key that begins with one of the two, some more than once. Reads the
        names of all keys of the server, ours and others', without blocking it."""
        for begin in filter(None, (head, former)):
            pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", begin) + b"*"
            found: Any = self._server.client.scan_iter(match=pattern, count=chunk)
            async for key in found:
                yield key[len(begin) :]
