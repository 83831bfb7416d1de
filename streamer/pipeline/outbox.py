"""Getting messages out: dead letters and scores at once, warnings by way of the outbox.

Whatever is interrupted here is done again by whoever comes next, with the same ids and bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamer.pipeline.claim import Lease
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.messages import shortened, unpack
from streamer.records import Message, MessageTooLarge, Publisher
from streamer.store.base import StateStore

_CHUNK = 500


async def publish(
    dead_letters: Sequence[Message], scores: Sequence[Message], publisher: Publisher
) -> None:
    """Returns once all are acknowledged. A dead letter is shortened until its topic takes it,
    whatever that takes."""
    try:
        await publisher.publish([*dead_letters, *scores] if dead_letters else scores)
    except MessageTooLarge:
        if not dead_letters:
            raise
        await publisher.publish(scores)
        for letter in dead_letters:
            await _publish_short(letter, publisher)


async def _publish_short(letter: Message, publisher: Publisher) -> None:
    while True:
        try:
            return await publisher.publish([letter])
        except MessageTooLarge:
            shorter = shortened(letter)
            if shorter is None:
                raise
            letter = shorter


class OutboxDrain:
    """What one partition has written to its outbox and not heard to be acknowledged."""

    def __init__(self, lease: Lease, store: StateStore, erasures: Erasures) -> None:
        self.pending = 0
        self._lease = lease
        self._store = store
        self._erasures = erasures
        self._waits = False

    def wrote(self, warnings: int) -> None:
        """So many more are in the outbox."""
        self.pending += warnings
        self._waits = self._waits or warnings > 0

    def may_wait(self) -> None:
        """Somebody else may have left some there."""
        self._waits = True

    async def drain(self, publisher: Publisher) -> None:
        """Publishes what waits, and takes it out once acknowledged."""
        if not self._waits:
            return
        partition = self._lease.partition
        while (box := await self._store.outbox(partition, _CHUNK)).entries:
            self.pending = max(self.pending, len(box.entries))
            messages = map(unpack, box.entries)
            erasures = self._erasures
            await publisher.publish([m for m in messages if not erasures.covers_warning(m)])
            await self._lease.trim(box.first, len(box.entries))
            self.pending -= len(box.entries)
        self.pending = 0
        self._waits = False
