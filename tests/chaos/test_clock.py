"""What the clock does: F21 to F23."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, cast

import msgspec

from model.artifact import artifact
from streamer.assemble import pipeline_of
from streamer.clock import ManualClock
from streamer.demo.embedded import EmbeddedRedis
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.claim import Fenced
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.records import LogRange, MemoryPublisher, Partition
from streamer.settings import Settings
from streamer.store.memory import MemoryStore
from streamer.store.redis_store import RedisStore
from streamer.worker.partitions import TICK_LIMIT, Partitions
from streamer.worker.runners import Runners
from tests.support.chaos.deployment import size
from tests.support.chaos.results import Book
from tests.support.fakes import (
    HOUR_MS,
    ORDERS_0,
    TOPICS,
    an_order,
    at,
    by_time,
    done,
    every,
    left,
    log_of,
    pipeline,
    records,
    users_of,
)

HOUR_DAYS = 1 / 24


def test_a_clock_that_jumps(book: Book) -> None:
    log = records(by_time(*(every(f"user-{n}", 7 + n, 12) for n in range(9))))
    with book.entry(
        "F21", "the clock of an idle partition an hour forward, back, a day back", "none"
    ) as entry:
        found = []
        for jumps in ([0.0], [HOUR_DAYS, -HOUR_DAYS, 2 * HOUR_DAYS, -1.0, 0.0]):
            store, publisher = MemoryStore(), MemoryPublisher()
            runner = PartitionRunner(ORDERS_0, store, publisher, pipeline())
            done(runner.claim(log_of(log)))
            done(runner.process(log))
            for day in range(100, 300):
                for jump in jumps:
                    done(runner.tick(at(day + jump)))
            done(runner.tick(at(301)))
            said = publisher.of(TOPICS.warnings)
            assert len(said) == len(set(said)) > 5
            found.append(left(store, publisher, users_of(log)))
            entry.times += 200 * (len(jumps) - 1)
        entry.records, entry.warnings = len(log), len(found[0].messages[TOPICS.warnings])
        entry.faults = [] if found[0] == found[1] else ["jumps make a difference"]
        entry.verified = True
        entry.note(
            "orders dated into the future are dead letters (`future_ts`); a clock years ahead"
            " **does warn** of everybody in idle partitions: it is believed"
        )
        assert entry.faults == []


async def test_many_customers_due_at_once(
    book: Book, model: Path, embedded_redis: EmbeddedRedis
) -> None:
    count = size(20_000, 100_000)
    settings, clock = Settings(model=model, idle_after_ms=1), ManualClock(at(8))
    what = f"{count:,} customers of one partition due at one instant, orders meanwhile"
    with book.entry("F22", what, "none, real Redis") as entry:
        store = RedisStore.from_url(embedded_redis.url, cluster_id="f22")
        publisher = MemoryPublisher()
        through = pipeline_of(settings, artifact.load(model))
        topic = settings.orders_topic

        async def pipeline_read() -> Pipeline:
            return through

        partitions = Partitions(
            settings, Runners(settings, store, publisher, pipeline_read, clock=clock), clock
        )
        partitions.lane = cast(Any, _CaughtUp())
        log = records([an_order(f"user-{n}", 0.5, 4_000) for n in range(count + 20)])
        await partitions.assigned({0: LogRange(0, len(log), 1)})
        for start in range(0, count, 2_000):
            await partitions.records(0, cast(Any, log[start : min(start + 2_000, count)]))
        clock.advance(1_000)
        ticking = asyncio.create_task(partitions.tick())
        waited = []
        for number in range(count, count + 20):
            await asyncio.sleep(0)
            before = partitions.scored
            await partitions.records(0, cast(Any, [log[number]]))
            waited.append(partitions.scored - before)
        entry.note(f"an order waited for at most {max(waited):,} others to be judged")
        assert max(waited) <= TICK_LIMIT + 500
        await ticking
        # Where orders came in, the clock waits until it is quiet again.
        clock.advance(1_000)
        await partitions.tick()
        entry.times = partitions.scored
        of_the_clock = [
            message.key
            for message in publisher.of(settings.scores_topic)
            if msgspec.json.decode(message.value or b"")["trigger"] != "order"
        ]
        assert len(of_the_clock) == len(set(of_the_clock)) == count + 20
        assert not await store.due(Partition(topic, 0), at(8) - 2 * HOUR_MS, 1)
        entry.records, entry.verified = len(log), True
        await store.close()


class _CaughtUp:
    records_delivered = 0

    def caught_up(self, _: int) -> bool:
        return True


async def test_two_owners_of_the_clock(book: Book, embedded_redis: EmbeddedRedis) -> None:
    log = records(by_time(*(every(f"user-{n}", 7 + n % 5, 12) for n in range(40))))
    with book.entry("F23", "two owners of one partition's clock", "none, real Redis") as entry:
        alone = await _ticked(RedisStore.from_url(embedded_redis.url, cluster_id="alone"), log, 1)
        both = await _ticked(RedisStore.from_url(embedded_redis.url, cluster_id="both"), log, 2)
        entry.times, entry.records, entry.warnings = 20, len(log), len(alone)
        entry.duplicates = len(both) - len(set(both))
        entry.faults = [] if set(alone) == set(both) else ["two owners make a difference"]
        entry.verified = True
        assert entry.faults == []
        assert alone


async def _ticked(store: RedisStore, log: list[object], owners: int) -> list[object]:
    """The warnings of a clock that so many owners drive at once, who claim now and then."""
    publisher, rng = MemoryPublisher(), random.Random(1)
    runners = [
        PartitionRunner(ORDERS_0, store, publisher, pipeline(), RunnerOptions(due_batch=3))
        for _ in range(owners)
    ]
    await runners[0].claim(log_of(log))  # type: ignore[arg-type]
    await runners[0].process(log)  # type: ignore[arg-type]
    claimed = [runners[0]]
    for day in range(100, 300, 10):
        claimed.append(rng.choice(runners))
        await claimed[-1].claim(log_of(log))  # type: ignore[arg-type]
        ticks = [runner.tick(at(day)) for runner in runners if runner in claimed]
        for result in await asyncio.gather(*ticks, return_exceptions=True):
            assert isinstance(result, int | Fenced), result
    claimed.append(rng.choice(runners))
    await claimed[-1].claim(log_of(log))  # type: ignore[arg-type]
    ticks = [runner.tick(at(300)) for runner in runners if runner in claimed]
    await asyncio.gather(*ticks, return_exceptions=True)
    await store.close()
    return list(publisher.of(TOPICS.warnings))
