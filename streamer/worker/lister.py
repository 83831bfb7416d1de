"""Keeps the lists of open warnings whole and short, beside the partitions' records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from streamer import log
from streamer.pipeline.messages import listed_until
from streamer.pipeline.partition import PartitionRunner
from streamer.records import Partition
from streamer.store.base import StateStore, StoreUnavailable
from streamer.worker.partitions import Partitions

_log = log.get(__name__)

# Between two looks for partitions whose list is not whole.
LIST_S: Final = 5.0
# Between two looks for warnings whose horizon is over; readers leave them out meanwhile.
UNLIST_S: Final = 600.0
_CHUNK: Final = 200


class Lister:
    """Lists a partition's open warnings from its customers' states where the list is not whole:
    after an upgrade, a move between partitions, or the loss of the list."""

    def __init__(self, partitions: Partitions, store: StateStore, topic: str) -> None:
        self._partitions = partitions
        self._store = store
        self._topic = topic

    async def list_all(self) -> None:
        """Makes every list of ours whole."""
        for number in self._partitions.unlisted():
            try:
                if await self._list(Partition(self._topic, number)):
                    _log.info("warnings.listed", partition=number)
            except StoreUnavailable as error:
                _log.warning("warnings.not_listed", partition=number, reason=str(error))

    async def unlist(self) -> None:
        """Takes off the lists of ours whose horizon is over."""
        for number in self._partitions.next_offsets():
            await self._partitions.between(number, lambda runner: runner.unlist())

    async def _list(self, partition: Partition) -> bool:
        """Whether the partition was ours to the end."""
        # Also those that have no state any more.
        users = [listed_until(entry)[0] for entry in await self._store.open_warnings(partition)]
        chunks = [users[start : start + _CHUNK] for start in range(0, len(users), _CHUNK)]
        for chunk in chunks:
            if not await self._partitions.between(partition.number, _again(chunk)):
                return False
        async for chunk in self._store.users(partition, _CHUNK):
            if not await self._partitions.between(partition.number, _again(chunk)):
                return False
        return await self._partitions.between(partition.number, _again([], whole=True))


def _again(
    users: Sequence[str], *, whole: bool = False
) -> Callable[[PartitionRunner], Awaitable[None]]:
    return lambda runner: runner.list_again(users, whole=whole)
