"""The prediction API over HTTP, on states that the stream's own code has written."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientSession, ClientTimeout
from yarl import URL

from features.columns.vector import FEATURE_NAMES, FEATURE_VERSION, vectors
from features.events.orders import Order
from model.decide.policy import Policy
from model.decide.scoring import Scorer
from model.explain.shapley import typical
from streamer.clock import ManualClock
from streamer.http.live import Live
from streamer.http.predict import Api
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.partition import PartitionRunner
from streamer.pipeline.partitioner import partition_for
from streamer.records import LogRange, MemoryPublisher, Partition
from streamer.store.base import StoreUnavailable
from streamer.store.memory import MemoryStore
from streamer.web.server import GuardedWeb, listening
from tests.support import modelling
from tests.support.fakes import (
    at,
    facts_of,
    judge,
    pipeline,
    records,
    scorer,
    wire,
)

PARTITIONS: Final = 3
NOW_MS: Final = at(120)
TOKEN: Final = "a-token-of-the-web-pages"
BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}


@cache
def explained_scorer() -> Scorer:
    """The fake scorer, with a typical customer to explain by."""
    return replace(scorer(), typical=tuple(typical(modelling.known()).tolist()))


def a_pipeline() -> Pipeline:
    by = explained_scorer()
    return pipeline(judge(Policy(), by=by))


class PartedStore(MemoryStore):
    """A memory store that says how many partitions the topic had, and may be away."""

    away = False
    count: int | None = PARTITIONS

    async def partition_count(self, topic: str) -> int | None:
        if self.away:
            raise StoreUnavailable("no answer")
        return self.count


@dataclass
class Served:
    """A server with the API, and what asks it. `pipelines[-1]` is the one in use."""

    store: PartedStore
    session: ClientSession
    port: int
    pipelines: list[Pipeline | None]
    answered: list[tuple[str, int]]
    api: Api
    clock: ManualClock
    forgotten: list[str]
    headers: Any = field(default=None)

    async def ask(self, path: str, method: str = "GET", **options: Any) -> tuple[int, str, Any]:
        """Status, content type and document of an answer."""
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, **options) as answer:
            self.headers = answer.headers
            text = await answer.text()
            return answer.status, answer.content_type, json.loads(text) if text else None

    async def post(self, data: bytes, **headers: str) -> tuple[int, str, Any]:
        given = {"Content-Type": "application/json", **headers}
        return await self.ask("/predict", "POST", data=data, headers=given)

    async def predict(self, *given: object, **fields: Any) -> Any:
        """The answer to a good request."""
        status, kind, found = await self.post(request(*given, **fields))
        assert (status, kind) == (200, "application/json"), found
        return found

    async def customer(self, user_id: str, query: str = "") -> Any:
        """The answer about a customer who is known."""
        status, kind, found = await self.ask(f"/customers/{quote(user_id, safe='')}{query}")
        assert (status, kind) == (200, "application/json"), found
        return found

    async def apply(
        self,
        orders: Iterable[Order],
        number: int | None = None,
        until_day: float | None = None,
    ) -> None:
        """Has the stream apply orders, each customer's in its partition or all in one, and judge
        the silences until a day."""
        told = list(orders)
        for partition in range(PARTITIONS):
            own = [
                order
                for order in told
                if partition
                == (partition_for(order.user_id.encode(), PARTITIONS) if number is None else number)
            ]
            place = Partition("orders", partition)
            stands = await self.store.peek(place)
            log = records(own, (stands and stands.next_offset) or 0)
            runner = PartitionRunner(place, self.store, MemoryPublisher(), a_pipeline())
            end = log[-1].offset + 1 if log else ((stands and stands.next_offset) or 0)
            await runner.claim(LogRange(0, end, PARTITIONS))
            if log:
                await runner.process(log)
            if until_day is not None:
                await runner.tick(at(until_day))


@asynccontextmanager
async def served(
    token: str | None = None, listener: socket.socket | None = None
) -> AsyncIterator[Served]:
    store, answered = PartedStore(), list[tuple[str, int]]()
    pipelines: list[Pipeline | None] = [a_pipeline()]
    clock = ManualClock(NOW_MS)
    web = GuardedWeb(token)
    api = Api(
        lambda: pipelines[-1],
        store,
        "orders",
        clock,
        lambda page, status: answered.append((page, status)),
    )
    api.add_to(web)
    told: list[str] = []

    async def forget(user_id: str, at_ms: int, partitions: int) -> None:
        told.append(user_id)

    live = Live(api, forget, lambda: {0: 0}, clock)
    live.add_to(web)
    await web.start_server(listener or listening("127.0.0.1", 0))
    assert web.bound is not None
    async with ClientSession(timeout=ClientTimeout(20)) as session:
        try:
            yield Served(store, session, web.bound[1], pipelines, answered, api, clock, told)
        finally:
            await web.stop_server()
            api.close()


def request(*given: object, **fields: Any) -> bytes:
    return json.dumps({"records": list(given), **fields}).encode()


def of_orders(orders: Iterable[Order], **fields: Any) -> dict[str, Any]:
    return {"orders": [json.loads(wire(order)) for order in orders], **fields}


def of_features(orders: Iterable[Order], as_of_ms: int) -> dict[str, Any]:
    vector = vectors([(facts_of(list(orders)), as_of_ms)])[0].tolist()
    named = dict(zip(FEATURE_NAMES, vector, strict=True))
    return {"features": named, "feature_version": FEATURE_VERSION}
