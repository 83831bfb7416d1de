"""What happens to Redis: F9 to F12 and F27, and the Redis half of F28."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from streamer.demo.embedded import EmbeddedRedis
from tests.chaos.conftest import SetStage, named
from tests.conftest import required
from tests.support.chaos.deployment import FULL, Stage, last_words, size
from tests.support.chaos.proxy import Proxy
from tests.support.chaos.results import Book, Entry
from tests.support.servers.redis_kit import listening

BACK = "the store has lost writes"


@contextmanager
def client_of(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


async def fed_half(stage: Stage, workers: int = 1) -> None:
    await stage.make_topics()
    for _ in range(workers):
        stage.keep()
    await stage.under_way(len(stage.orders) // 2)


# --- what was stored is gone (F9, F10) -----------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with required(EmbeddedRedis(tmp_path / "redis")) as server:
        yield server


def aof_of(directory: Path) -> Path:
    return max((directory / "appendonlydir").glob("*.incr.aof"))


async def test_the_end_of_the_append_only_file_is_lost(
    set_stage: SetStage, book: Book, kept: EmbeddedRedis, tmp_path: Path
) -> None:
    stage = set_stage("f9-cut", redis=kept)
    shares = (1, 5, 25) if not FULL else (1, 2, 5, 10, 15, 20, 25)
    what = f"power loss: Redis killed, the last {', '.join(map(str, shares))} % of its AOF cut off"
    with book.entry("F9", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        stage.keep()
        for share in shares:
            await stage.under_way(len(stage.orders) // (len(shares) + 1))
            kept.kill()
            aof = aof_of(tmp_path / "redis")
            with aof.open("r+b") as file:
                file.truncate(aof.stat().st_size * (100 - share) // 100)
            await asyncio.to_thread(kept.start)
            entry.times += 1
            await stage.finished()
        await stage.feed_rest()
        await stage.finished()
        entry.note(f"noticed {sum(BACK in stop for stop in stage.stops)} times by a running worker")
        await stage.verified(entry)


async def test_an_older_copy_is_restored(
    set_stage: SetStage, book: Book, kept: EmbeddedRedis, tmp_path: Path
) -> None:
    stage = set_stage("f9-older", redis=kept)
    with book.entry("F9", "an older copy of the AOF restored", named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        stage.keep()
        await stage.feed(len(stage.orders) // 3)
        await stage.finished()
        await asyncio.to_thread(kept.stop)
        shutil.copytree(tmp_path / "redis", tmp_path / "copy")
        await asyncio.to_thread(kept.start)
        await stage.feed(len(stage.orders) // 3)
        await stage.finished()
        kept.kill()
        shutil.rmtree(tmp_path / "redis")
        shutil.copytree(tmp_path / "copy", tmp_path / "redis")
        await asyncio.to_thread(kept.start)
        entry.times += 1
        # Nothing new is fed: a worker that has nothing to write has to notice all the same.
        await stage.verified(entry)
        assert any(BACK in stop for stop in stage.stops)


async def test_everything_is_flushed(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f9-flush")
    what = "FLUSHALL under load, and FLUSHALL while nothing comes in"
    with book.entry("F9", what, named(stage.servers.kafka)) as entry:
        await fed_half(stage, workers=2)
        with client_of(stage.servers.redis) as client:
            client.flushall()
            entry.times += 1
            await stage.feed_rest()
            await stage.finished()
            client.flushall()
            entry.times += 1
            await stage.verified(entry)
        entry.note(f"noticed {sum(BACK in stop for stop in stage.stops)} times by a running worker")


async def test_a_failover_to_a_replica_that_lags(set_stage: SetStage, book: Book) -> None:
    with listening() as master, listening() as replica, ExitStack() as stack:
        del stack
        proxy = Proxy(("127.0.0.1", master.port))
        async with proxy:
            stage = set_stage(
                "f10", redis=replica.server, REDIS_URL=f"redis://127.0.0.1:{proxy.port}"
            )
            what = "failover to a replica that lacks the last writes"
            with (
                book.entry("F10", what, named(stage.servers.kafka)) as entry,
                client_of(replica.server) as lagging,
                client_of(master.server) as leading,
            ):
                lagging.replicaof("127.0.0.1", str(master.port))
                await stage.make_topics()
                stage.keep()
                await stage.feed(len(stage.orders) // 2)
                await stage.finished()
                # The link is cut: what comes from here on, the replica never gets.
                leading.execute_command("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
                leading.execute_command("CLIENT", "KILL", "TYPE", "REPLICA")
                before = leading.dbsize(), leading.info()["master_repl_offset"]
                await stage.feed(len(stage.orders) // 4)
                await asyncio.to_thread(_grown, leading, before[1])
                master.server.kill()
                proxy.reset()
                lagging.replicaof("NO", "ONE")
                proxy.target = ("127.0.0.1", replica.port)
                entry.times += 1
                await stage.feed_rest()
                await stage.verified(entry)
                entry.note(f"stopped once for it: {any(BACK in stop for stop in stage.stops)}")


def _grown(client: redis.Redis, offset: int, by: int = 20_000) -> None:
    while client.info()["master_repl_offset"] < offset + by:
        pass


# --- it does not answer, or says no (F11, F12, F28) ----------------------------------------------


@dataclass
class Behind:
    """A stage whose workers reach their Redis through a proxy."""

    stage: Stage
    proxy: Proxy
    server: EmbeddedRedis


@asynccontextmanager
async def behind_proxy(set_stage: SetStage, name: str, **variables: str) -> AsyncIterator[Behind]:
    with listening() as node:
        async with Proxy(("127.0.0.1", node.port)) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            stage = set_stage(name, redis=node.server, REDIS_URL=url, **variables)
            yield Behind(stage, proxy, node.server)


Injection = Callable[[Behind], Awaitable[None]]


async def _down_for(behind: Behind, seconds: float) -> None:
    behind.server.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(behind.server.start)


async def _down_1(behind: Behind) -> None:
    await _down_for(behind, 1)


async def _down_long(behind: Behind) -> None:
    await _down_for(behind, 300 if FULL else 10)


async def _read_only(behind: Behind) -> None:
    with client_of(behind.server) as client:
        client.replicaof("127.0.0.1", "1")
        await asyncio.sleep(2)
        client.replicaof("NO", "ONE")


async def _full(behind: Behind) -> None:
    with client_of(behind.server) as client:
        client.config_set("maxmemory", 1 << 20)
        await asyncio.sleep(2)
        client.config_set("maxmemory", 0)


async def _slow(behind: Behind) -> None:
    behind.proxy.faults.delay_s = 1.0
    await asyncio.sleep(4)
    behind.proxy.faults.delay_s = 0.0


async def _cut_requests(behind: Behind) -> None:
    behind.proxy.faults.cut_requests = 7
    await behind.stage.until(lambda: not behind.proxy.faults.cut_requests)


async def _half_open(behind: Behind) -> None:
    behind.proxy.faults.silent = True
    await behind.stage.until(lambda: behind.proxy.done.get("swallowed"))
    await asyncio.sleep(6)  # beyond the 5 s for which a worker waits for an answer
    behind.proxy.faults.silent = False
    behind.proxy.reset()


OUTAGES: dict[str, Injection] = {
    "killed and back after 1 s": _down_1,
    f"killed and back after {300 if FULL else 10} s": _down_long,
    "READONLY for 2 s": _read_only,
    "OOM for 2 s": _full,
    "2 s later with every answer": _slow,
    "connections reset halfway through 7 writes": _cut_requests,
    "half open: 6 s without an answer": _half_open,
}


async def test_redis_away_or_unwilling(set_stage: SetStage, book: Book) -> None:
    async with behind_proxy(set_stage, "f11") as behind:
        stage = behind.stage
        what = f"Redis {'; '.join(OUTAGES)}"
        with book.entry("F11", what, named(stage.servers.kafka)) as entry:
            await stage.make_topics()
            worker = stage.keep()
            for inject in OUTAGES.values():
                await stage.under_way(len(stage.orders) // (len(OUTAGES) + 1))
                flowing = asyncio.create_task(stage.feed(60))
                await inject(behind)
                await flowing
                entry.times += 1
                await stage.finished()
            await stage.feed_rest()
            await stage.verified(entry)
            entry.note(f"the same worker all along: {worker.alive}; stops: {stage.stops or 'none'}")


async def test_redis_loading_its_data(set_stage: SetStage, book: Book, tmp_path: Path) -> None:
    slowly = ("--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024")
    with required(EmbeddedRedis(tmp_path / "redis", options=slowly)) as server:
        stage = set_stage("f11-loading", redis=server)
        what = "LOADING: Redis restarted, and slow to read its data"
        with book.entry("F11", what, named(stage.servers.kafka)) as entry:
            await stage.make_topics()
            worker = stage.keep()
            await stage.feed(len(stage.orders) * 3 // 4)
            await stage.finished()
            with client_of(server) as client:
                client.bgrewriteaof()
                await asyncio.to_thread(_rewritten, client)
            server.kill()
            await stage.feed_rest()
            await asyncio.to_thread(server.start)
            entry.times += 1
            await stage.finished()
            seen = any("LOADING" in line or "loading" in line for line in worker.log)
            entry.note(f"the worker was told so: {seen}")
            await stage.verified(entry)
            assert worker.alive


def _rewritten(client: redis.Redis) -> None:
    while client.info("persistence")["aof_rewrite_in_progress"]:
        pass


async def test_a_write_whose_answer_is_lost(set_stage: SetStage, book: Book) -> None:
    async with behind_proxy(set_stage, "f12") as behind:
        stage, entry_of = behind.stage, book.entry
        what = "a write is carried out, and its answer never comes (also when it is tried again)"
        with entry_of("F12", what, named(stage.servers.kafka)) as entry:
            await stage.make_topics()
            worker = stage.keep()
            rounds = size(5, 40)
            for number in range(rounds):
                # Alone, and so often in a row that the client's own second try fails as well.
                behind.proxy.faults.lose_answers = 1 + number % 5
                await stage.under_way(len(stage.orders) // (rounds + 1))
                await stage.until(lambda: not behind.proxy.faults.lose_answers)
            await stage.feed_rest()
            await stage.verified(entry)
            entry.times = behind.proxy.done["lost answers"]
            assert entry.times >= rounds
            assert worker.alive, last_words(worker)


async def test_a_bad_network_to_redis(set_stage: SetStage, book: Book) -> None:
    async with behind_proxy(set_stage, "f28-redis", CLV_BATCH="200") as behind:
        stage = behind.stage
        what = "network to Redis: 20 ms each way, 1 % of packets 0.2 to 0.8 s late, resets"
        with book.entry("F28", what, named(stage.servers.kafka)) as entry:
            behind.proxy.faults.delay_s, behind.proxy.faults.loss = 0.02, 0.01
            await stage.make_topics()
            worker = stage.keep()
            for _ in range(4):
                await stage.under_way(len(stage.orders) // 5)
                entry.times += behind.proxy.reset()
            await stage.feed_rest()
            await stage.verified(entry)
            entry.times += behind.proxy.done.get("lost packets", 0)
            assert worker.alive, last_words(worker)


# --- what is stored is damaged (F27) -------------------------------------------------------------


async def test_damaged_states(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f27", CLV_CACHE_CUSTOMERS="0")
    what = "states with a bit turned, cut short, gone, or of another type, while a worker runs"
    with book.entry("F27", what, named(stage.servers.kafka)) as entry:
        await fed_half(stage)
        with client_of(stage.servers.redis) as client:
            coming = {o.user_id for o in stage.orders[stage.given :]}
            keys = [k for k in client.scan_iter(match="*:c:*", count=1_000) if _user(k) in coming]
            harms: list[Callable[[redis.Redis, bytes], Any]] = [_turn_a_bit, _cut, _remove, _retype]
            for number, key in enumerate(sorted(keys)[:12]):
                harms[number % len(harms)](client, key)
                entry.times += 1
        await stage.feed_rest()
        await stage.finished()
        _without_quarantine(stage, entry)
        await stage.verified(entry)


def _user(key: bytes) -> str:
    return key.decode().partition(":c:")[2]


def _turn_a_bit(client: redis.Redis, key: bytes) -> None:
    client.setbit(key, 77, 1 - int(client.getbit(key, 77)))


def _cut(client: redis.Redis, key: bytes) -> None:
    state = client.get(key)
    assert isinstance(state, bytes)
    client.set(key, state[:-3])


def _remove(client: redis.Redis, key: bytes) -> None:
    client.delete(key)


def _retype(client: redis.Redis, key: bytes) -> None:
    client.delete(key)
    client.lpush(key, b"somebody else's")


def _without_quarantine(stage: Stage, entry: Entry) -> None:
    """The damaged bytes are set aside in a key that no replay has: counted, and taken away."""
    with client_of(stage.servers.redis) as client:
        found = 0
        for key in list(client.scan_iter(match="*:quarantine")):
            found += int(client.hlen(key))
            client.delete(key)
    entry.note(f"{found} set aside and rebuilt from the log")
    assert found
