"""Customers of the live state, looked up and scored together: who asks while others are looked up
is in the next batch. So a customer costs a twentieth where many ask, and nobody waits for company.

A batch is worked out in the event loop: in a thread it would compete with it for the interpreter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import msgspec

from features.facts.state import StateError
from model.decide.codec import CustomerRecord
from model.judge.kept import records
from streamer.clock import Clock
from streamer.http.answers import newest_ms
from streamer.http.customer_view import (
    Found,
    Sought,
    UnknownCustomer,
    find_customers,
    views,
)
from streamer.http.requests import BodyRefused, Fault
from streamer.http.schema import instant_of
from streamer.pipeline.batch import Pipeline
from streamer.records import Partition
from streamer.store.base import Claim, StateStore

# Some 20 ms of work.
MAX_TOGETHER: Final = 64
MAX_WAITING: Final = 256
# Within it a store that answers has answered; a redis-py client waits longer for one that does not.
STORE_WITHIN_S: Final = 3.0
RETRY_BUSY_S: Final = 1
_json = msgspec.json.Encoder()

# An answer, or what is to be raised for the one who asked.
Answer: TypeAlias = bytes | Exception


class NotReady(Exception):
    """What is asked for cannot be answered yet: ask again in `retry_s` seconds."""

    def __init__(self, reason: str, retry_s: int) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


def busy() -> NotReady:
    """As many are being answered as may be."""
    return NotReady("busy; ask again in a second", RETRY_BUSY_S)


class Source(Protocol):
    """Where customers are, and by what they are scored."""

    topic: str
    clock: Clock

    @property
    def store(self) -> StateStore: ...
    async def partitions(self) -> int: ...
    def current(self) -> Pipeline: ...


@dataclass(slots=True)
class _Asked:
    user_id: str
    wanted: str
    answer: asyncio.Future[bytes] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Lookups:
    """The customers that are being asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: deque[_Asked] = deque()
        self._working: asyncio.Task[None] | None = None

    async def answer(self, user_id: str, wanted: str) -> bytes:
        """The document of a customer; `wanted`: the parameter `as_of`. Raises NotReady,
        UnknownCustomer, BodyRefused, StateError and what the store does."""
        if len(self._waiting) >= MAX_WAITING:
            raise busy()
        asked = _Asked(user_id, wanted)
        self._waiting.append(asked)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await asked.answer

    async def _work(self) -> None:
        while self._waiting:
            several = min(len(self._waiting), MAX_TOGETHER)
            batch = [self._waiting.popleft() for _ in range(several)]
            try:
                answers = await self._answers([one for one in batch if not one.answer.done()])
            except Exception as error:
                answers = dict.fromkeys(map(id, batch), error)
            for one in batch:
                if one.answer.done():
                    continue  # who asked has gone
                answer = answers[id(one)]
                if isinstance(answer, bytes):
                    one.answer.set_result(answer)
                else:
                    one.answer.set_exception(answer)

    async def _answers(self, batch: Sequence[_Asked]) -> Mapping[int, Answer]:
        source, pipeline = self._source, self._source.current()
        async with asyncio.timeout(STORE_WITHIN_S):
            count = await source.partitions()
            users = [one.user_id for one in batch]
            found = await find_customers(users, source.store, source.topic, count)
            timed = any(one.wanted == "event-time" for one in batch)
            places = list({one[0] for one in found if one is not None}) if timed else []
            claims = await asyncio.gather(*map(source.store.peek, places))
        stands = dict(zip(places, claims, strict=True))
        answers = _seen(batch, found, stands, source.clock.now_ms(), pipeline)
        return dict(zip(map(id, batch), answers, strict=True))


def _seen(
    batch: Sequence[_Asked],
    found: Sequence[Found | None],
    stands: Mapping[Partition, Claim | None],
    now_ms: int,
    pipeline: Pipeline,
) -> list[Answer]:
    """What each is answered."""
    answers: list[Answer] = [UnknownCustomer()] * len(batch)
    sought: dict[int, Sought] = {}
    known = [(at, one, place) for at, one in enumerate(batch) if (place := found[at]) is not None]
    customers = records([state for _, _, (_, state, _) in known])
    for (at, one, place), customer in zip(known, customers, strict=True):
        try:
            sought[at] = _sought(one, place, customer, stands.get(place[0]), now_ms)
        except (BodyRefused, StateError) as error:
            answers[at] = error
    try:
        seen = views(list(sought.values()), pipeline) if sought else []
        answers_of = dict(zip(sought, map(_json.encode, seen), strict=True))
        for at, body in answers_of.items():
            answers[at] = body
    except Exception:
        # One who cannot be scored keeps nobody else from being.
        for at, one_sought in sought.items():
            try:
                answers[at] = _json.encode(views([one_sought], pipeline)[0])
            except Exception as error:
                answers[at] = error
    return answers


def _sought(
    asked: _Asked,
    found: Found,
    customer: CustomerRecord | StateError,
    claim: Claim | None,
    now_ms: int,
) -> Sought:
    """Raises BodyRefused for an `as_of` that is none, and the StateError."""
    if isinstance(customer, StateError):
        raise customer
    earliest_ms = newest_ms(customer)
    if asked.wanted == "now":
        as_of_ms = max(now_ms, earliest_ms)
    elif asked.wanted == "event-time":
        as_of_ms = max((claim.high_ts_ms if claim else None) or 0, earliest_ms)
    else:
        as_of_ms = _as_of(asked.wanted)
        if as_of_ms < earliest_ms:
            raise _bad_as_of("as_of is before what is known of the customer; choose a later one")
    return Sought(asked.user_id, found, customer, as_of_ms)


def _as_of(text: str) -> int:
    try:
        return instant_of(
            int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
        )
    except ValueError as error:
        raise _bad_as_of(f"{error}; or now, or event-time") from None


def _bad_as_of(detail: str) -> BodyRefused:
    return BodyRefused(422, [Fault(detail, "?as_of", field="as_of")])
