"""A shop for the page to show, served from a Redis: its warnings, customers and past weeks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from features.times import MS_PER_DAY, day_of, rfc3339
from model.decide.policy import Policy
from streamer.clock import ManualClock
from streamer.demo.embedded import EmbeddedRedis
from streamer.http.live import Live
from streamer.http.predict import Api
from streamer.listing import tally
from streamer.listing.tally import Bad, Tally, Week, week_key
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import ChurnWarning, pack, unpack
from streamer.pipeline.partition import PartitionRunner
from streamer.records import LogRange, MemoryPublisher, Message, Partition
from streamer.store.base import Write
from streamer.store.redis_admin import RedisAdmin
from streamer.web.server import GuardedWeb, listening
from tests.support.fakes import TOPICS, an_order, at, by_time, every, judge, pipeline, records
from tests.support.served import explained_scorer

HOSTILE: Final = '<img src=x onerror="document.title=1">'
RETURNED: Final = "came back"
TODAY_MS: Final = at(75)
PARTITIONS: Final = 4
_WEEKS: Final = 30


@dataclass
class Shop:
    """A running worker's pages. `forgotten`: whom the log was told to forget."""

    port: int
    loop: asyncio.AbstractEventLoop
    store: RedisAdmin
    forgotten: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def run(self, coroutine: Any) -> Any:
        """Runs something where the server runs."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def warn(self, user_id: str) -> str:
        """Has a customer warned of, as a worker does; the id of the warning."""
        return str(self.run(_warn(self.store, user_id)))


def shown_pipeline() -> Pipeline:
    return pipeline(judge(Policy(floor_percentile=0, holdout_share=0.1), by=explained_scorer()))


@contextmanager
def shop(
    server: EmbeddedRedis, cluster: str, warnings: int, customers: int = 0, token: str | None = None
) -> Iterator[Shop]:
    """Serves a shop with so many open warnings, and so many customers beside them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(120)

    found, web, store = run(_begin(server, cluster, warnings, customers, token, loop))
    try:
        yield found
    finally:
        run(web.stop_server())
        run(store.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _begin(
    server: EmbeddedRedis,
    cluster: str,
    warnings: int,
    customers: int,
    token: str | None,
    loop: asyncio.AbstractEventLoop,
) -> tuple[Shop, GuardedWeb, RedisAdmin]:
    store = RedisAdmin.from_url(server.url, cluster_id=cluster)
    found = Shop(0, loop, store)
    await _fill(store, warnings, customers)
    web = GuardedWeb(token)
    through = shown_pipeline()
    api = Api(lambda: through, store, "orders", ManualClock(TODAY_MS))
    api.add_to(web)

    async def forget(user_id: str, at_ms: int, partitions: int) -> None:
        found.forgotten.append(user_id)

    Live(api, forget, lambda: dict.fromkeys(range(PARTITIONS), 12)).add_to(web)
    await web.start_server(listening("127.0.0.1", 0))
    assert web.bound is not None
    found.port = web.bound[1]
    return found, web, store


async def _fill(store: RedisAdmin, warnings: int, customers: int) -> None:
    for number in range(PARTITIONS):
        runner = PartitionRunner(
            Partition("orders", number), store, MemoryPublisher(), shown_pipeline()
        )
        users = [HOSTILE, RETURNED, "ada", "bob", "one order"] if number == 0 else []
        orders = [every(user, 5, 7, 4_000 + 900 * n, n / 3) for n, user in enumerate(users[:4])]
        if users:
            orders += [[an_order(RETURNED, 60.5)], [an_order("one order", 30)]]
        log = records([*by_time(*orders), an_order(f"new {number}", 74.9)])
        await runner.claim(LogRange(0, len(log), PARTITIONS))
        await runner.process(log)
        await runner.tick(TODAY_MS)
        if number == 0:
            sample = unpack((await store.open_warnings(runner.partition))[0])
    for number in range(PARTITIONS):
        await _pour(store, Partition("orders", number), sample, warnings, customers)


async def _pour(
    store: RedisAdmin, partition: Partition, sample: Message, warnings: int, customers: int
) -> None:
    """Many more warnings like one, customers beside them, and counts of past weeks."""
    one = msgspec.json.decode(sample.value or b"", type=ChurnWarning)
    claim = await store.claim(partition, PARTITIONS)
    sequence = claim.sequence
    listing: dict[str, bytes | None] = {}
    for n in range(partition.number, warnings, PARTITIONS):
        loss = round(200 * (n * 7919 % 9973) / 9973, 2)
        like = msgspec.structs.replace(
            one,
            user_id=f"customer-{n:05}",
            warning_id=f"{n:032x}",
            expected_loss=loss,
            severity="high" if loss > 140 else "medium" if loss > 60 else "low",
            holdout=n % 10 == 0,
            as_of=rfc3339(TODAY_MS - (n % 20) * MS_PER_DAY),
        )
        listing[like.user_id] = pack(Message(TOPICS.warnings, b"", msgspec.json.encode(like)))
    state = (await store.load(Partition("orders", 0), ["ada"]))[0].state or b""
    beside = range(partition.number, customers, PARTITIONS)
    weeks = {
        week_key(day_of(TODAY_MS) - 45 - 7 * n, holdout): Week(
            40 + n % 9, 14 + n % 4 + 3 * holdout, 6, 400_000, 140_000, 60_000
        )
        for n in range(_WEEKS)
        for holdout in (False, True)
    }
    bad = {"not_json": Bad(3 + partition.number, 17), "bad_amount": Bad(1, 4)}
    entries = list(listing.items())
    for start in range(0, max(len(entries), 1), 1_000):
        write = Write({}, {}, [], None, None, listing=dict(entries[start : start + 1_000]))
        if not start:
            counted = tally.decode(claim.tally).plus(Tally(weeks, bad))
            write = replace(
                write,
                states={f"beside-{n:05}": state for n in beside},
                tally=tally.encode(counted),
            )
        await store.write(partition, claim.epoch, sequence, write)
        sequence += 1


async def _warn(store: RedisAdmin, user_id: str) -> str:
    """A warning through the outbox into the feed."""
    partition = Partition("orders", 1)
    entry = (await store.open_warnings(Partition("orders", 0)))[0]
    one = msgspec.json.decode(unpack(entry).value or b"", type=ChurnWarning)
    named = msgspec.structs.replace(one, user_id=user_id, warning_id=f"warning of {user_id}")
    message = Message(TOPICS.warnings, user_id.encode(), msgspec.json.encode(named))
    claim = await store.claim(partition, PARTITIONS)
    packed = pack(message)
    write = Write({}, {}, [packed], None, None, listing={user_id: packed})
    await store.write(partition, claim.epoch, claim.sequence, write)
    box = await store.outbox(partition, 100)
    await store.trim(partition, claim.epoch, box.first, len(box.entries))
    return named.warning_id
