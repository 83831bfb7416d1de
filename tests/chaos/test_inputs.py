"""What comes in, and where it has to go out to: F7, F16 to F18, F30, F31, the bad corpus."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from io import BytesIO
from pathlib import Path

import pytest
import redis
from aiohttp import ClientConnectionError, ClientSession

from features.events.orders import Order
from model.data.synthetic import Shop, generate
from streamer.demo.embedded import free_port
from streamer.kafka.unpacking import bound
from streamer.orders import order_message
from streamer.records import Message
from tests.chaos.conftest import SetStage, named
from tests.support import corpus, modelling
from tests.support.chaos.deployment import WITHIN_S, last_words, peak_mb, size
from tests.support.chaos.results import Book

NO_LIMIT = {"CLV_DEAD_LETTER_MAX_RUN": "off", "CLV_DEAD_LETTER_MAX_RATIO": "off"}


async def test_the_corpus_alone(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("corpus", **NO_LIMIT)
    with book.entry("bad", "the corpus of bad records alone", named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        stage.keep()
        bad = list(corpus.bad(stage.settings.orders_topic, _now_ms()).values())
        await stage.put(bad)
        entry.times = len(bad)
        verdict = await stage.verified(entry, orders=False)
        entry.note(f"{verdict.dead_letters} dead letters, each with its origin")
        assert verdict.dead_letters == len(bad)


async def test_the_corpus_among_good_orders(set_stage: SetStage, book: Book) -> None:
    """All of it, one record after every hundred orders, each time with an odd one that counts."""
    count = len(corpus.bad("", 0))
    shop = Shop(customers=20 * count, days=420, arrival_days=300, seed=12)
    stage = set_stage("one-percent", generate(shop).orders[: 100 * count])
    assert len(stage.orders) == 100 * count
    topic = stage.settings.orders_topic
    bad = list(corpus.bad(topic, _now_ms()).values())
    random.Random(1).shuffle(bad)
    what = "the whole corpus as 1 % of good traffic, with odd orders, and a kill -9 in the middle"
    with book.entry("bad", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep()
        for number, one in enumerate(bad):
            await stage.feed(100)
            # What looks like none and is an order, at the time of those around it.
            now_ms = stage.orders[stage.given - 1].ts_ms
            odd = corpus.odd(topic, now_ms)
            share = odd[number * len(odd) // count : (number + 1) * len(odd) // count]
            await stage.put([one, *share])
            entry.times += 1
            if number == count // 2:
                await stage.applied(stage.fed // 2)
                worker.kill()
        verdict = await stage.verified(entry, orders=False)
        entry.note(f"{verdict.dead_letters} dead letters, each with its origin")
        assert verdict.dead_letters == entry.times == count


def _now_ms() -> int:
    return int(time.time() * 1000)


async def test_batches_that_unpack_to_more_than_they_may(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f31", **NO_LIMIT)
    what = "batches of 40 MB, packed four ways to some kilobytes, among good orders"
    bound()  # who verifies reads them as well
    with book.entry("F31", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        # Snappy packs them to 2 MB, more than a topic takes by default.
        await stage.configure(stage.settings.orders_topic, {"max.message.bytes": "4194304"})
        worker = stage.keep()
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            await stage.under_way(200)
            await stage.put_packed(codec, [b" " * 40_000_000])
            entry.times += 1
        await stage.feed_rest()
        verdict = await stage.verified(entry, orders=False)
        assert verdict.dead_letters == entry.times
        entry.note(f"the worker's memory at its peak: {(peak := peak_mb(worker.pid)):,.0f} MB")
        assert peak < 512


async def test_dead_letters_too_large_for_their_topic(set_stage: SetStage, book: Book) -> None:
    stage, limits = set_stage("f32", **NO_LIMIT), (2_097_152, 20_000, 1_000, 400)
    what = "bad records of 3 MB, packed to some kilobytes; the dead-letter topic takes at most " + (
        " B, ".join(f"{limit:,}" for limit in limits)
    )
    with book.entry("F32", f"{what} B", named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep()
        for limit in limits:
            topic = stage.settings.dead_letter_topic
            await stage.configure(topic, {"max.message.bytes": str(limit)})
            await stage.under_way(len(stage.orders) // 5)
            await stage.put_packed("gzip", [b"{" + b" " * 3_000_000])
            await stage.put([Message(stage.settings.orders_topic, b"k" * 5_000, b"[" * 30_000)])
            entry.times += 2
            await stage.finished()
        await stage.feed_rest()
        verdict = await stage.verified(entry, orders=False)
        assert verdict.dead_letters == entry.times
        read = await stage.read(topic)
        whole = ("value_size", b"3000001")
        kept = [len(letter.value or b"") for letter in read if whole in letter.headers]
        entry.note(f"of 3 MB were kept {', '.join(f'{size:,}' for size in sorted(kept))} B")
        assert worker.alive


async def test_a_worker_of_little_memory(set_stage: SetStage, book: Book) -> None:
    port = free_port()
    stage = set_stage("f35", **NO_LIMIT, CLV_WEB_PORT=str(port))
    what = "a worker of 512 MB, given batches of 40 MB and eight bodies of 4 MB at a time"
    with book.entry("F35", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        await stage.configure(stage.settings.orders_topic, {"max.message.bytes": "4194304"})
        worker = stage.keep()
        resource.prlimit(worker.pid, resource.RLIMIT_DATA, (512 << 20, 512 << 20))
        bound()
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            await stage.under_way(200)
            asked = [asyncio.create_task(_predict(port)) for _ in range(8)]
            await stage.put_packed(codec, [b" " * 40_000_000, b" " * 30_000_000])
            await stage.finished()
            entry.times += 2
            answers = set(await asyncio.gather(*asked))
            assert answers <= {200, 503, None}, answers
        await stage.feed_rest()
        await stage.verified(entry, orders=False)
        assert worker.alive, last_words(worker)
        entry.note(f"its memory at its peak: {peak_mb(worker.pid):,.0f} MB")


async def _predict(port: int) -> int | None:
    """The status of an answer to as large a body as there may be; None where it took so long on
    this machine that it was cut off."""
    order = '{"order_id":"%d","user_id":"u","ts":"2025-03-01T00:00:00Z","amount":10}'
    record = '{"orders":[' + ",".join(order % n for n in range(54)) + "]}"
    body = '{"records":[' + ",".join([record] * 1_000) + "]}"
    headers = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/predict"
    data = BytesIO(body.encode())
    try:
        async with ClientSession() as web, web.post(url, data=data, headers=headers) as answer:
            await answer.read()
            return answer.status
    except ClientConnectionError:
        return None


async def test_nothing_but_bad_records(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f18")
    what = "from some record on, everything is bad: stopped at the limit of 500 in a row"
    with book.entry("F18", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep()
        await stage.feed(1_000)
        await stage.finished()
        topic = stage.settings.orders_topic
        entry.times = 4_000
        await stage.put([Message(topic, b"k%d" % n, b"{") for n in range(entry.times)])
        assert await worker.ended(120) == 70
        assert "CLV_DEAD_LETTER_MAX_RUN" in last_words(worker)
        # Started again and again, it sets aside nothing more.
        again = stage.replace(worker)
        assert await again.ended(120) == 70
        letters = len(await stage.read(stage.settings.dead_letter_topic))
        entry.note(f"{letters:,} dead letters when it stood; with the limits off, the rest")
        assert letters <= 500 * stage.settings.partitions
        stage.replace(again, **NO_LIMIT)
        await stage.feed_rest()
        verdict = await stage.verified(entry, orders=False)
        assert verdict.dead_letters == entry.times


@pytest.mark.parametrize(("id", "topic"), [("F16", "warnings"), ("F17", "dead_letter")])
async def test_a_topic_that_takes_nothing(
    set_stage: SetStage, book: Book, tmp_path: Path, id: str, topic: str
) -> None:
    stage, denied = set_stage(id.lower()), tmp_path / "denied"
    what = f"the topic of {topic.rstrip('s').replace('_', ' ')}s takes nothing for a while"
    with book.entry(id, what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep({"deny": [topic, str(denied)]})
        for _ in range(3):
            await stage.under_way(len(stage.orders) // 4)
            await stage.put_bad(stage.fed)
            denied.touch()
            waiting = worker.logged("outage.waiting")
            # Every partition comes to say something, and no further.
            await stage.feed(len(stage.orders) // 12)
            await stage.put_bad(stage.fed)
            await stage.until(lambda w=waiting: worker.logged("outage.waiting") > w)
            entry.times += 1
            denied.unlink()
            await stage.finished()
        await stage.feed_rest()
        await stage.verified(entry, orders=False)
        assert worker.alive


async def test_each_error_of_the_coordinator(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f7", CLV_SESSION_TIMEOUT="6s")
    codes = [("JoinGroup", code) for code in (-1, 23, 24, 26, 30)]
    codes += [("SyncGroup", code) for code in (-1, 15, 16, 22, 25, 27, 30, 42)]
    codes += [("Heartbeat", code) for code in (-1, 15, 16, 22, 25, 27, 30)]
    what = "each of " + ", ".join(
        f"{name} {[code for other, code in codes if other == name]}"
        for name in ("JoinGroup", "SyncGroup", "Heartbeat")
    )
    with book.entry("F7", f"{what} as an answer once", named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep({"codes": codes})
        while worker.alive and _answered(worker.log) < len(codes):
            if stage.given < len(stage.orders) - 100:
                await stage.feed(5)
            await asyncio.sleep(1)
        entry.times = _answered(worker.log)
        assert entry.times == len(codes), last_words(worker)
        await stage.feed_rest()
        await stage.verified(entry)
        entry.note(f"healed by asking {worker.logged('coordinator.healed')} times, no restart")
        assert worker.alive


def _answered(lines: list[str]) -> int:
    return sum(line.startswith("chaos.answered") for line in lines)


async def test_an_erased_customer_after_a_loss_and_a_full_replay(
    set_stage: SetStage, book: Book
) -> None:
    orders = list(modelling.orders())
    stage = set_stage("f30", orders, CLV_ERASURES_TOPIC="f30-erasures")
    user = max({o.user_id for o in orders}, key=lambda u: sum(o.user_id == u for o in orders))
    what = "a customer erased, then FLUSHALL and the whole log read again"
    with book.entry("F30", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep()
        await stage.feed_rest()
        await stage.finished()
        topic, wait_s = stage.settings.orders_topic, f"--wait={WITHIN_S:.0f}"
        forgot = await stage.run("forget", user, wait_s)
        assert (forgot.code, forgot.err) == (0, "")
        stage.fed += stage.settings.partitions  # each is told
        assert worker.logged("customer.erased")
        at_ms = orders[-1].ts_ms + 1
        with redis.Redis.from_url(stage.servers.redis.url) as client:
            for _ in range(size(1, 3)):
                client.flushall()
                entry.times += 1
                await stage.put([order_message(_later(orders[0], at_ms), topic, "USD")])
                await stage.finished()
            keys = [key for key in client.scan_iter(count=1_000) if user.encode() in key]
            due = [
                member
                for key in client.scan_iter(match="*:due:*")
                for member in client.smembers(key)
                if member == user.encode()
            ]
        entry.faults = [f"{key!r} is still there" for key in (*keys, *due)]
        if any(user in line for one in stage.workers for line in one.log):
            entry.faults.append("a log names the customer")
        scores = [
            r for r in await stage.read(stage.settings.scores_topic) if r.key == user.encode()
        ]
        if scores[-1].value is not None:
            entry.faults.append("the last score of the customer is no tombstone")
        entry.records, entry.verified = stage.fed, True
        entry.note("neighbours are held to the fold by `tests/streamer/pipeline/test_erasures.py`")
        assert entry.faults == []


def _later(order: Order, ts_ms: int) -> Order:
    return Order(f"{order.order_id}-again-{ts_ms}", "somebody-new", ts_ms, order.amount_minor)
