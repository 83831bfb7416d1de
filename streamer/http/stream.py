"""`GET /warnings/stream`: what the warnings topic gets, as server-sent events, as it gets it.

Any worker tells of all partitions, from the feeds in the store. The id of an event is how many
messages of each partition had been said with it, so a client that comes back with the last one that
it has, to whichever worker, is told of all that came since, and of nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp.web import Request, StreamResponse

from streamer import log
from streamer.pipeline.messages import unpack
from streamer.records import Partition
from streamer.store.base import Said, StateStore, StoreUnavailable
from streamer.web.lobby import SAFE_HEADERS, SERVER

_log = log.get(__name__)

LOOK_S: Final = 0.5
# A comment for who waits, so that neither side takes the other for gone.
ALIVE_S: Final = 15.0
# Whoever has not read what was sent within this time is dropped.
SLOW_S: Final = 5.0
# From then until the connection is cut: for what was sent, and for being told.
CUT_S: Final = 5.0
_CHUNK: Final = 200
_MOST_PARTITIONS: Final = 10_000
_MOST_DIGITS: Final = 15

Position = list[int]


class PositionRefused(Exception):
    """Send the id of an event as it came, or none."""


class _Kind(msgspec.Struct):
    kind: str


_kind = msgspec.json.Decoder(_Kind)


class Feeds:
    """What the partitions have said, read once for all who listen."""

    def __init__(self, store: StateStore, topic: str, now_s: Callable[[], float]) -> None:
        self._store = store
        self._topic = topic
        self._now_s = now_s
        self._ends: Position = []
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()
        self._read: dict[tuple[int, int], Said] = {}

    async def ends(self, partitions: int) -> Position:
        """How much each partition has said by now."""
        async with self._looking:
            if len(self._ends) != partitions or self._now_s() - self._looked_s >= LOOK_S:
                named = [Partition(self._topic, number) for number in range(partitions)]
                found = await self._store.standings(named)
                self._ends = [0 if one is None else one.said for one in found]
                self._looked_s = self._now_s()
                self._read.clear()
            return self._ends

    async def after(self, number: int, position: int) -> Said:
        """The next that a partition said after so much."""
        key = number, position
        if key not in self._read:
            partition = Partition(self._topic, number)
            self._read[key] = await self._store.feed(partition, position, _CHUNK)
        return self._read[key]


def read_position(text: str) -> Position:
    """The position in the id of an event. Raises PositionRefused."""
    parts = text.split(".")
    if len(parts) > _MOST_PARTITIONS or not all(
        part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS for part in parts
    ):
        raise PositionRefused
    return [int(part) for part in parts]


def event_id(position: Position) -> str:
    """The id of an event."""
    return ".".join(map(str, position))


class Listener:
    """One client, from its position on."""

    def __init__(self, feeds: Feeds, response: StreamResponse, position: Position) -> None:
        self._feeds = feeds
        self._response = response
        self._position = position

    async def tell(self) -> bool:
        """Sends what is new; whether there was anything. Raises TimeoutError for who is slow."""
        told = False
        ends = await self._feeds.ends(len(self._position))
        for number, end in enumerate(ends):
            # A store that went back says again what it lost, under the numbers that it lost.
            self._position[number] = min(self._position[number], end)
            while self._position[number] < end:
                feed = await self._feeds.after(number, self._position[number])
                if not feed.entries:
                    break
                await self.send(self._events(number, feed))
                told = True
        return told

    def _events(self, number: int, feed: Said) -> bytes:
        missed = feed.first - self._position[number]
        out = []
        if missed > 0:
            detail = msgspec.json.encode({"partition": number, "missed": missed}).decode()
            out.append(f"event: gap\ndata: {detail}\n\n")
        self._position[number] = feed.first
        for entry in feed.entries:
            self._position[number] += 1
            if entry:
                value = unpack(entry).value or b"{}"
                kind = _kind.decode(value).kind
                name = event_id(self._position)
                out.append(f"id: {name}\nevent: {kind}\ndata: {value.decode()}\n\n")
        return "".join(out).encode()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(SLOW_S):
            await self._response.write(data)


async def stream(
    request: Request,
    feeds: Feeds,
    partitions: Callable[[], Awaitable[int]],
    closing: asyncio.Event,
) -> StreamResponse:
    """Answers with events until the client goes, is too slow, or the worker ends.

    Without an id it begins with what is said from now on; with `from=start`, with all that is kept.
    Raises PositionRefused.
    """
    count = await partitions()
    last = request.headers.get("Last-Event-ID")
    if last is not None:
        # Partitions that the topic was given since have said nothing that is known.
        position = [*read_position(last), *[0] * count][:count]
    elif request.query.get("from") == "start":
        position = [0] * count
    else:
        position = list(await feeds.ends(count))
    response = StreamResponse(headers={**SAFE_HEADERS, "Content-Type": "text/event-stream"})
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = SERVER
    response.headers["X-Accel-Buffering"] = "no"
    response.force_close()
    listener = Listener(feeds, response, position)
    try:
        await response.prepare(request)
        # Who is cut off before the first event comes back to where this began.
        await listener.send(
            f"retry: 1000\nid: {event_id(position)}\nevent: begin\ndata:\n\n".encode()
        )
        await _serve(listener, closing)
    except TimeoutError:
        _log.warning("stream.dropped", reason="too slow", within_s=SLOW_S)
        # It is read after what already waits to be.
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(0.01):
                await response.write(b'event: dropped\ndata: {"reason":"too slow"}\n\n')
        if request.transport is not None:
            asyncio.get_running_loop().call_later(CUT_S, request.transport.abort)
    except ConnectionError:
        pass  # the client has gone
    return response


async def _serve(listener: Listener, closing: asyncio.Event) -> None:
    quiet_s = 0.0
    while not closing.is_set():
        try:
            told = await listener.tell()
        except StoreUnavailable:
            told = False  # it is looked at again, and nothing is missed
        quiet_s = 0.0 if told else quiet_s + LOOK_S
        if quiet_s >= ALIVE_S:
            quiet_s = 0.0
            await listener.send(b": nothing new\n\n")
        with suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), LOOK_S)
