"""What decodes the records of each schema id, asked of the registry once and kept.

A registry that does not answer is waited for as long as it takes. One that answers that it has no
such schema is asked once more, a second later, for its other nodes may know more; then the records
are set aside, and for a minute nobody asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Final, Protocol

from features.events.orders import Reason, Rejected
from streamer import log
from streamer.clock import Clock
from streamer.ingest.plan import Decoders
from streamer.ingest.registry import UnknownSchema
from streamer.ingest.schemas import Decode, Schema, SchemaRefused, decoder
from streamer.process.outage import Outage

_log = log.get(__name__)

ASK_AGAIN_S: Final = 1.0
REFUSED_FOR_S: Final = 60.0
# Ids of strangers' making would otherwise be remembered without end.
MAX_REFUSED: Final = 10_000
_AT_ONCE: Final = 8


class SchemaSource(Protocol):
    """Where schemas come from: `streamer.ingest.registry.Registry`."""

    async def schema(self, number: int) -> Schema:
        """Raises UnknownSchema, SchemaRefused and RegistryUnavailable."""
        ...


class DecoderCache:
    """The decoders of all ids that were asked for."""

    def __init__(self, source: SchemaSource, outage: Outage, clock: Clock) -> None:
        self._source = source
        self._outage = outage
        self._clock = clock
        self._known: dict[int, Decode] = {}
        self._refused: dict[int, tuple[float, Rejected]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def of(self, numbers: Collection[int]) -> Decoders:
        """The decoder of each id, or why its records are set aside. Raises FormatMissing."""
        now = self._clock.monotonic_s()
        missing = [number for number in numbers if not self._has(number, now)]
        if missing:
            await self._ask(missing)
        return {number: self._known.get(number) or self._refused[number][1] for number in numbers}

    def _has(self, number: int, now: float) -> bool:
        refused = self._refused.get(number)
        return number in self._known or (refused is not None and now < refused[0])

    async def _ask(self, numbers: Collection[int]) -> None:
        unknown = await self._asked(numbers)
        if unknown:
            await asyncio.sleep(ASK_AGAIN_S)
            unknown = await self._asked(unknown)
        for number in unknown:
            self._refuse(number, "is not in the registry; check that it is the producers' own")

    async def _asked(self, numbers: Collection[int]) -> list[int]:
        """Those of the ids that the registry does not know."""
        known = await asyncio.gather(*map(self._found, numbers))
        return [number for number, there in zip(numbers, known, strict=True) if not there]

    async def _found(self, number: int) -> bool:
        async with self._places:
            try:
                ask = partial(self._source.schema, number)
                schema = await self._outage.outlast(ask)
                self._known[number] = await asyncio.to_thread(decoder, schema)
            except UnknownSchema:
                return False
            except SchemaRefused as refused:
                self._refuse(number, str(refused))
        return True

    def _refuse(self, number: int, why: str) -> None:
        _log.warning("schema.refused", schema=number, reason=why)
        while len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        rejected = Rejected(Reason.UNKNOWN_SCHEMA, f"schema {number} {why}")
        until = self._clock.monotonic_s() + REFUSED_FOR_S
        self._refused[number] = (until, rejected)
