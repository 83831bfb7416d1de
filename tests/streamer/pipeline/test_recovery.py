"""What a partition does when its store loses writes, fails over, or cannot serve, on real servers.

Each test ends in the same comparison: what is kept and what was said equals what an undisturbed run
of the same log leaves.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from streamer.demo.embedded import EmbeddedRedis
from streamer.pipeline.claim import (
    Fenced,
    LogTooShort,
    LostWrites,
    NothingStored,
    RetentionGap,
    StoreLost,
)
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.process import outage as app
from streamer.process.outage import Outage
from streamer.records import LogRange, MemoryPublisher, Message
from streamer.store.base import StartAt, StateStore, Stored, TopicRecreated
from streamer.store.memory import MemoryStore
from streamer.store.redis_store import RedisStore
from tests.conftest import required
from tests.support.fakes import ORDERS_0, TOPICS, Rec, at, by_time, done, every, pipeline, records
from tests.support.servers.redis_kit import (
    SLOTS,
    Node,
    clients,
    cluster,
    cluster_url,
    in_step,
    listening,
)

USERS = ("ada", "ben", "cleo")
END_MS = at(700)
BATCH = 6
# A new replica is sent the data without a wait for others.
AT_ONCE = ("--repl-diskless-sync-delay", "0")


def a_log(first: int = 0) -> list[Rec]:
    """Two customers who stop, one who goes on, and a record that is no order."""
    orders = by_time(every("ada", 7, 21), every("ben", 5, 20, 20_000), every("cleo", 40, 9))
    return records([*orders[:20], b"{", *orders[20:]], first)


LOG = a_log()
TOPIC = LogRange(0, len(LOG), 1)


def said(publisher: MemoryPublisher) -> dict[str, set[Message]]:
    return {
        topic: set(publisher.of(topic))
        for topic in (TOPICS.warnings, TOPICS.scores, TOPICS.dead_letters)
    }


async def left(store: StateStore) -> tuple[list[Stored], int | None, int]:
    stands = await store.peek(ORDERS_0)
    return (
        await store.load(ORDERS_0, USERS),
        stands.next_offset if stands else None,
        len((await store.outbox(ORDERS_0, 10**6)).entries),
    )


def runner_of(
    store: StateStore, publisher: MemoryPublisher, start_at: StartAt = StartAt.AUTO
) -> PartitionRunner:
    return PartitionRunner(ORDERS_0, store, publisher, pipeline(), RunnerOptions(start_at=start_at))


async def feed(runner: PartitionRunner, log: Sequence[Rec], outage: Outage | None = None) -> None:
    """Applies records in batches, waiting outages out."""
    outage = outage or Outage()
    for start in range(0, len(log), BATCH):
        await outage.outlast(partial(runner.process, log[start : start + BATCH]))


async def finish(runner: PartitionRunner, log: Sequence[Rec], outage: Outage | None = None) -> None:
    """Applies the rest of the log and lets time pass."""
    outage = outage or Outage()
    await feed(runner, log, outage)
    await outage.outlast(partial(runner.tick, END_MS))


async def restart(store: StateStore, publisher: MemoryPublisher) -> int:
    """What a new worker does: it claims, reads from where the store stands, and goes on."""
    runner = runner_of(store, publisher)
    offset = await runner.claim(TOPIC)
    await finish(runner, LOG[offset:])
    return offset


async def undisturbed() -> tuple[Any, dict[str, set[Message]]]:
    store, publisher = MemoryStore(), MemoryPublisher()
    await restart(store, publisher)
    return await left(store), said(publisher)


async def assert_undisturbed(store: StateStore, publisher: MemoryPublisher) -> None:
    states, messages = await undisturbed()
    assert messages[TOPICS.warnings]
    assert await left(store) == states
    assert said(publisher) == messages


@asynccontextmanager
async def store_at(url: str, timeout_s: float = 5.0) -> AsyncIterator[RedisStore]:
    store = RedisStore.from_url(url, cluster_id="recovery", timeout_s=timeout_s)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


# --- a store that lost writes


@pytest.mark.parametrize("percent", [1, 10, 25, 90])
async def test_after_a_truncated_append_only_file_the_lost_orders_are_read_again(
    tmp_path: Path, percent: int
) -> None:
    publisher = MemoryPublisher()
    with required(EmbeddedRedis(tmp_path)) as server:
        async with store_at(server.url) as store:
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            await feed(runner, LOG[:40])
            server.kill()
            (log,) = tmp_path.glob("appendonlydir/*.incr.aof")
            kept = log.stat().st_size * (100 - percent) // 100
            with log.open("r+b") as file:
                file.truncate(kept)
            server.start()
            try:
                await finish(runner, LOG[40:])
            except LostWrites:
                assert await restart(store, publisher) <= 40
            else:
                assert percent == 1, "nothing but the trimming of the outbox can have been lost"
            await assert_undisturbed(store, publisher)


@asynccontextmanager
async def rolled_back(
    directory: Path, publisher: MemoryPublisher
) -> AsyncIterator[tuple[RedisStore, PartitionRunner]]:
    """A store that is back where it was after 12 records, and the runner that had applied 36."""
    with required(EmbeddedRedis(directory, options=("--appendonly", "no"))) as server:
        async with store_at(server.url) as store:
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            await feed(runner, LOG[:12])
            async with raw(server.url) as client:
                await client.save()
            await feed(runner, LOG[12:36])
            server.kill()
            server.start()
            yield store, runner


async def test_after_an_older_snapshot_the_lost_orders_are_read_again(tmp_path: Path) -> None:
    publisher = MemoryPublisher()
    async with rolled_back(tmp_path, publisher) as (store, runner):
        with pytest.raises(LostWrites):
            await finish(runner, LOG[36:])
        assert await restart(store, publisher) == 12
        await assert_undisturbed(store, publisher)


async def test_after_everything_was_deleted_all_is_rebuilt_from_a_whole_log() -> None:
    publisher = MemoryPublisher()
    with required(EmbeddedRedis()) as server:
        async with store_at(server.url) as store, raw(server.url) as client:
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            await feed(runner, LOG[:40])
            await client.flushall()
            with pytest.raises(LostWrites):
                await finish(runner, LOG[40:])
            assert await restart(store, publisher) == 0
            await assert_undisturbed(store, publisher)


async def test_a_rollback_while_no_worker_runs_is_made_good_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = MemoryPublisher()
    async with rolled_back(tmp_path, publisher) as (store, _):
        runner = runner_of(store, publisher)
        assert await runner.claim(LogRange(0, len(LOG), 1, committed=36)) == 12
        await finish(runner, LOG[12:])
        await assert_undisturbed(store, publisher)
    (told,) = [r for r in caplog.records if r.message == "store.went_back"]
    assert told.fields == {  # type: ignore[attr-defined]
        "partition": 0,
        "applied": 12,
        "committed": 36,
        "reading_from": 12,
    }


async def test_a_worker_whose_store_went_back_cannot_write_beside_the_next_owner() -> None:
    publisher = MemoryPublisher()
    with required(EmbeddedRedis()) as server:
        async with store_at(server.url) as store, raw(server.url) as client:
            old = runner_of(store, publisher)
            await old.claim(TOPIC)
            await feed(old, LOG[:40])
            await client.flushall()
            new = runner_of(store, publisher)
            await new.claim(TOPIC)
            await new.process(LOG[:BATCH])
            with pytest.raises(Fenced):
                await old.process(LOG[40:])
            await finish(new, LOG[BATCH:])
            await assert_undisturbed(store, publisher)


# --- a store that knows nothing, and a log that has lost its start


def cut_log(committed: int | None) -> LogRange:
    return LogRange(30, len(LOG), 1, committed=committed)


def test_a_new_installation_on_an_old_topic_begins_at_the_logs_start() -> None:
    runner = runner_of(MemoryStore(), MemoryPublisher())
    assert done(runner.claim(cut_log(None))) == 30


def test_a_lost_store_is_not_taken_for_a_new_installation() -> None:
    store = MemoryStore()
    runner = runner_of(store, MemoryPublisher())
    with pytest.raises(StoreLost, match=r"up to offset 44; .*backup.*CLV_START_AT=log-start"):
        done(runner.claim(cut_log(44)))
    assert done(store.peek(ORDERS_0)) is None, "nothing was claimed"


def test_a_lost_store_is_begun_anew_where_that_is_said() -> None:
    runner = runner_of(MemoryStore(), MemoryPublisher(), StartAt.LOG_START)
    assert done(runner.claim(cut_log(44))) == 30


@pytest.mark.parametrize("committed", [None, 44])
def test_beginning_with_part_of_the_log_can_be_refused_at_all(committed: int | None) -> None:
    runner = runner_of(MemoryStore(), MemoryPublisher(), StartAt.REFUSE)
    with pytest.raises(NothingStored, match="CLV_START_AT=refuse"):
        done(runner.claim(cut_log(committed)))


@pytest.mark.parametrize("start_at", list(StartAt))
def test_a_whole_log_is_read_whatever_was_said_and_committed(start_at: StartAt) -> None:
    runner = runner_of(MemoryStore(), MemoryPublisher(), start_at)
    assert done(runner.claim(LogRange(0, len(LOG), 1, committed=44))) == 0


@pytest.mark.parametrize("start_at", list(StartAt))
def test_orders_deleted_before_they_were_applied_stop_the_worker_whatever_was_said(
    start_at: StartAt,
) -> None:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = runner_of(store, publisher)
    done(runner.claim(TOPIC))
    done(runner.process(LOG[:12]))
    before = done(left(store))
    with pytest.raises(RetentionGap, match=r"begins at 30; 18 orders are missing"):
        done(runner_of(store, publisher, start_at).claim(cut_log(12)))
    assert done(left(store)) == before


# --- another topic under the same name


def made_as(topic_id: str, end: int) -> LogRange:
    return LogRange(0, end, 1, topic_id=topic_id)


def test_a_topic_made_anew_is_refused_also_when_it_has_grown_past_what_was_applied() -> None:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = runner_of(store, publisher)
    done(runner.claim(made_as("one", len(LOG))))
    done(runner.process(LOG[:12]))
    with pytest.raises(LogTooShort, match="ends at 5"):
        done(runner_of(store, publisher).claim(made_as("two", 5)))
    with pytest.raises(TopicRecreated, match=r"CLV_STATE_NAMESPACE"):
        done(runner_of(store, publisher).claim(made_as("two", 500)))
    assert done(runner_of(store, publisher).claim(made_as("one", 500))) == 12


def test_brokers_without_topic_ids_are_believed() -> None:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = runner_of(store, publisher)
    done(runner.claim(made_as("one", len(LOG))))
    done(runner.process(LOG[:12]))
    assert done(runner_of(store, publisher).claim(made_as("", 500))) == 12


# --- a store that cannot serve for now


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(app, "LAST_RETRY_S", 0.1)


async def through_an_outage(
    store: StateStore, begin: Callable[[], Any], end: Callable[[], Any], names: str
) -> None:
    """Runs the log with an outage in its middle, which must be waited out where it strikes."""
    publisher, outage = MemoryPublisher(), Outage()
    runner = runner_of(store, publisher)
    await runner.claim(TOPIC)
    await feed(runner, LOG[:40], outage)
    await begin()
    working = asyncio.create_task(finish(runner, LOG[40:], outage))
    async with asyncio.timeout(10):
        while not outage.reasons or outage.attempts < 3:
            await asyncio.sleep(0.01)
    assert names in outage.reasons[0]
    assert not working.done()
    await end()
    async with asyncio.timeout(20):
        await working
    assert outage.reasons == []
    await assert_undisturbed(store, publisher)


async def test_a_full_server_is_waited_for() -> None:
    with required(EmbeddedRedis()) as server:
        async with store_at(server.url) as store, raw(server.url) as client:
            await through_an_outage(
                store,
                lambda: client.config_set("maxmemory", "1"),
                lambda: client.config_set("maxmemory", "0"),
                "maxmemory",
            )


async def test_a_replica_that_takes_no_writes_is_waited_for() -> None:
    with required(EmbeddedRedis()) as server:
        async with store_at(server.url) as store, raw(server.url) as client:
            # Nothing listens at port 1: it keeps its data and has only the role.
            await through_an_outage(
                store,
                lambda: client.replicaof("127.0.0.1", 1),
                lambda: client.replicaof("NO", "ONE"),
                "read only replica",
            )


async def test_a_server_that_goes_away_and_loads_its_data_is_waited_for(tmp_path: Path) -> None:
    slow = ("--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024")
    with required(EmbeddedRedis(tmp_path, options=slow)) as server:
        async with store_at(server.url) as store, raw(server.url) as client:
            for start in range(0, 400, 50):
                await client.mset({f"other:{n}": b"x" * 100 for n in range(start, start + 50)})

            async def end() -> None:
                thread = threading.Thread(target=server.start)
                thread.start()
                await asyncio.to_thread(thread.join)

            async def begin() -> None:
                server.kill()

            await through_an_outage(store, begin, end, "cannot serve now")


async def test_a_connection_reset_in_the_middle_of_a_write_applies_it_once() -> None:
    publisher, outage = MemoryPublisher(), Outage()
    with required(EmbeddedRedis()) as server:
        async with store_at(server.url) as store, raw(server.url) as client:
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            working = asyncio.create_task(finish(runner, LOG, outage))
            killed = 0
            for number in range(40):
                killed += await client.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(number % 5 / 1000)
            async with asyncio.timeout(20):
                await working
            assert killed > 0, "some of them are tried again by the client itself"
            await assert_undisturbed(store, publisher)


# --- failover


async def test_failover_to_a_replica_that_lags_behind_is_noticed_and_made_good() -> None:
    """The name, here the socket's path, comes to lead to the replica."""
    publisher = MemoryPublisher()
    with listening(AT_ONCE) as old, listening(AT_ONCE) as new:
        async with store_at(old.server.url) as store, clients([old, new]) as (master, replica):
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            await replica.replicaof("127.0.0.1", old.port)
            await feed(runner, LOG[:12])
            await in_step(replica, master)
            await replica.replicaof("NO", "ONE")  # promoted here: what follows it never gets
            await feed(runner, LOG[12:36])
            old.server.kill()
            new.server._socket.replace(old.server._socket)
            with pytest.raises(LostWrites):
                await finish(runner, LOG[36:])
            assert await restart(store, publisher) == 12
            await assert_undisturbed(store, publisher)


async def test_failover_to_a_replica_in_step_goes_unnoticed_but_for_the_wait() -> None:
    publisher, outage = MemoryPublisher(), Outage()
    with listening(AT_ONCE) as old, listening(AT_ONCE) as new:
        async with store_at(old.server.url) as store, clients([old, new]) as (master, replica):
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            await replica.replicaof("127.0.0.1", old.port)
            await feed(runner, LOG[:12])
            await in_step(replica, master)
            old.server.kill()
            new.server._socket.replace(old.server._socket)
            working = asyncio.create_task(finish(runner, LOG[12:], outage))
            async with asyncio.timeout(10):
                while not outage.attempts:
                    await asyncio.sleep(0.01)
            assert "read only replica" in outage.reasons[0]
            await replica.replicaof("NO", "ONE")
            await working
            await assert_undisturbed(store, publisher)


# --- a cluster


@pytest.mark.slow
async def test_a_master_of_a_cluster_that_dies_is_waited_for_until_its_replica_takes_over() -> None:
    publisher, outage = MemoryPublisher(), Outage()
    with cluster(3, 3) as nodes:
        async with store_at(cluster_url(nodes), 1.0) as store, clients(nodes) as servers:
            await store.check_server()
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            await feed(runner, LOG[:40], outage)
            place = await owner_of(nodes, servers, store)
            await in_step(servers[place + 3], servers[place])
            nodes[place].server.kill()
            began = time.monotonic()
            async with asyncio.timeout(30):
                await finish(runner, LOG[40:], outage)
            assert outage.attempts > 0
            assert time.monotonic() - began < 30
            await assert_undisturbed(store, publisher)


async def test_a_slot_on_its_way_to_another_master_loses_nothing() -> None:
    publisher, outage = MemoryPublisher(), Outage()
    with cluster(3) as nodes:
        async with store_at(cluster_url(nodes)) as store, clients(nodes) as servers:
            runner = runner_of(store, publisher)
            await runner.claim(TOPIC)
            await feed(runner, LOG[:18], outage)
            place = await owner_of(nodes, servers, store)
            working = asyncio.create_task(finish(runner, LOG[18:], outage))
            await migrate(nodes, servers, place, (place + 1) % 3, slot_of(store))
            async with asyncio.timeout(30):
                await working
            assert await owner_of(nodes, servers, store) == (place + 1) % 3
            await assert_undisturbed(store, publisher)


def slot_of(store: RedisStore) -> int:
    from redis.crc import key_slot

    return int(key_slot(store.layout.prefix(ORDERS_0), SLOTS))


async def owner_of(nodes: Sequence[Node], servers: Sequence[Redis], store: RedisStore) -> int:
    """Which of the masters has the partition."""
    for place, server in enumerate(servers):
        info = await server.info("replication")
        keys = await server.execute_command("CLUSTER COUNTKEYSINSLOT", slot_of(store))
        if info["role"] == "master" and keys:
            return place
    raise AssertionError("no master has it")


async def migrate(
    nodes: Sequence[Node], servers: Sequence[Redis], source: int, target: int, slot: int
) -> None:
    """Moves a slot key by key, as `redis-cli --cluster reshard` does."""
    ids = [(await server.execute_command("CLUSTER MYID")).decode() for server in servers]
    await servers[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    await servers[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    while keys := await servers[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
        await servers[source].execute_command(
            "MIGRATE", "127.0.0.1", nodes[target].port, keys[0], 0, 5000
        )
        await asyncio.sleep(0.05)
    for place in (target, source, 3 - source - target):
        await servers[place].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
