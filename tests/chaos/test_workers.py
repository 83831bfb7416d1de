"""What happens to workers: F1 to F5, F8, F13, F20 and F24."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest

from features.facts.state import EMPTY, CustomerState, apply
from model.data.synthetic import Shop, generate
from model.decide import codec as customer
from model.judge.judge import Judge
from streamer.pipeline.partitioner import partition_for
from streamer.records import Partition
from tests.chaos.conftest import SetStage, named
from tests.support.chaos.deployment import FULL, SESSION_S, WITHIN_S, Stage, last_words, owns, size
from tests.support.chaos.fault_injector import STEPS, poisoned_by
from tests.support.chaos.results import Book
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import WorkerProcess

STALE_SCORE = r"the last score of "
OF_A_ZOMBIE = "last clv-score of a customer is an older one of a zombie (decision 0006)"


async def test_kill_a_random_owner(set_stage: SetStage, book: Book) -> None:
    count, kills = size(20_000, 200_000), size(10, 50)
    shop = Shop(customers=count // 5, days=420, arrival_days=300, seed=11)
    stage = set_stage("f1", generate(shop).orders[:count])
    assert len(stage.orders) == count
    what = "kill -9 of a random one of three workers, after it has claimed partitions"
    with book.entry("F1", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        for _ in range(3):
            stage.keep()
        await stage.until(stage.owners)
        for _ in range(kills):
            await stage.under_way(count // (kills + 1))
            claimed = stage.count("partition.claimed")
            (await stage.owner()).kill()
            entry.times += 1
            # Not before somebody has taken over: kills count by claims, not by the clock.
            await stage.until(lambda claimed=claimed: stage.count("partition.claimed") > claimed)
        await stage.feed_rest()
        await stage.verified(entry)


async def test_kill_at_every_step(set_stage: SetStage, book: Book) -> None:
    # Small batches: each worker has something of everything to do before it ends.
    stage = set_stage("f2", CLV_BATCH="15" if FULL else "25")
    rarely = {"claim", "seek", "letters", "hint"}
    kills = [(step, 1 if step.split()[1] in rarely else 2) for step in STEPS] * size(1, 2)
    with book.entry(
        "F2", f"kill -9 at a named step: {', '.join(STEPS)}", named(stage.servers.kafka)
    ) as entry:
        await stage.make_topics()
        while stage.given < len(stage.orders):
            await stage.feed(25)
            await stage.put_bad(stage.given)
        worker = stage.sabotaged({"kills": kills})
        assert await worker.ended(60 + 30 * len(kills)) == 0, worker.log[-5:]
        entry.times += len(kills)
        stage.keep()
        await stage.verified(entry, orders=False)


async def test_zombies(set_stage: SetStage, book: Book) -> None:
    stage, stops = set_stage("f3"), size(4, 12)
    what = "SIGSTOP of an owner for 0.5 to 3 sessions and until others have its partitions, SIGCONT"
    with book.entry("F3", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        for _ in range(2):
            stage.keep()
        await stage.until(lambda: len(stage.owners()) == 2)
        for number in range(stops):
            await stage.under_way(len(stage.orders) // (stops + 1))
            owners = stage.owners()
            victim = stage.random.choice(owners) if owners else await stage.owner()
            claimed = stage.count("partition.claimed")
            victim.pause()
            entry.times += 1
            await asyncio.sleep(SESSION_S * (0.5 + 2.5 * number / max(1, stops - 1)))
            if number:
                await stage.until(lambda c=claimed: stage.count("partition.claimed") > c)
            victim.resume()
        await stage.feed_rest()
        await stage.finished()
        entry.note(f"fenced {stage.count('partition.fenced')} times")
        await stage.verified(entry, known=STALE_SCORE, because=OF_A_ZOMBIE)


async def test_terminate_under_load(set_stage: SetStage, book: Book) -> None:
    stage, times = set_stage("f4"), size(3, 20)
    what = "SIGTERM under load: exit code 0 and nothing said twice"
    with book.entry("F4", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        for _ in range(times):
            worker = stage.keep()
            await stage.under_way(len(stage.orders) // (times + 1))
            stage.let_go(worker)
            assert await worker.terminate() == 0
            entry.times += 1
        stage.keep()
        await stage.feed_rest()
        verdict = await stage.verified(entry)
        assert verdict.warning_copies == verdict.warnings


async def test_scale_out_and_in(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f5")
    part = len(stage.orders) // 6
    hasty = isinstance(stage.servers.kafka, ApacheKafka)
    what = "1 worker, 4, 6 (more than partitions), replaced one after another, 1 again"
    with book.entry("F5", what, named(stage.servers.kafka)) as entry:

        async def settle() -> None:
            """The embedded broker's group can stand still for ever where members leave while it
            rebalances; Apache Kafka's goes on."""
            if not hasty:
                await stage.spread()

        await stage.make_topics()
        stage.keep()
        await stage.under_way(part)
        for number in (4, 6):
            while len(stage.kept) < number:
                stage.keep()
                entry.times += 1
            await stage.under_way(part)
            await stage.until(lambda: len(stage.owners()) == stage.settings.partitions)
        for worker in stage.kept[: size(2, 6)]:
            # Told earlier, a process ends as Python ends, without a word.
            await stage.logged(worker, "worker.ready")
            assert await worker.terminate() == 0
            fresh = stage.replace(worker)
            await settle()
            await stage.logged(fresh, "worker.ready")
            await settle()
            entry.times += 1
        await stage.under_way(part)
        for worker in stage.kept[1:]:
            await stage.logged(worker, "worker.ready")
            stage.let_go(worker)
            assert await worker.terminate() == 0
            await settle()
            entry.times += 1
        await stage.under_way(part)
        await stage.feed_rest()
        if not hasty:
            entry.note("each waits for the group to settle; in haste on Apache Kafka")
        await stage.verified(entry)


async def test_a_fetch_that_stalls(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f8")
    what = "fetches find nothing while the log goes on: the watchdog ends the worker"
    with book.entry("F8", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        await stage.feed_rest()
        worker = stage.keep({"stall": 6}, CLV_WATCHDOG="32s")
        assert await worker.ended(WITHIN_S) == 70
        entry.times += 1
        # What a fetch brought stays in aiokafka, which then asks for no more.
        assert re.search(r"none has been applied|no broker has answered", last_words(worker))
        await stage.verified(entry)


async def test_records_out_of_order(set_stage: SetStage, book: Book, tmp_path: Path) -> None:
    stage, others, held = set_stage("f13"), size(2, 8), tmp_path / "held"
    what = "lists fetched before a rebalance that come after it"
    with book.entry("F13", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep({"hold": str(held)})
        for number in range(1, others + 1):
            await stage.feed(len(stage.orders) // (2 * others + 2))
            await stage.finished()
            held.touch()
            await stage.feed(len(stage.orders) // (2 * others + 2))
            await stage.until(lambda: _said(worker, "chaos.held"))
            other = stage.worker()
            await stage.logged(other, "partition.opened")
            held.unlink()
            await stage.until(lambda n=number: _said(worker, "chaos.stale") >= n)
            assert await other.terminate() == 0
            await stage.finished()
        await stage.feed_rest()
        entry.times = _said(worker, "chaos.stale")
        await stage.verified(entry)
        assert worker.alive


def _said(worker: WorkerProcess, what: str) -> int:
    return sum(line.startswith(what) for line in worker.log)


async def test_a_blocked_event_loop(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f24")
    what = "the event loop blocked for two sessions, and for ever (the watchdog ends the worker)"
    with book.entry("F24", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        third = len(stage.orders) // 3
        brief = stage.keep({"block": [2 * SESSION_S, 3]}, CLV_WATCHDOG="80s")
        await stage.feed(third)
        await stage.finished()
        assert brief.alive
        assert any("chaos.blocked" in line for line in brief.log)
        entry.times += 1
        brief.kill()
        stage.let_go(brief)
        for_ever = stage.keep({"block": [3600, 3]}, CLV_WATCHDOG="40s")
        await stage.feed(third)
        assert await for_ever.ended(WITHIN_S) == 70
        entry.times += 1
        assert "the event loop has not answered" in last_words(for_ever)
        await stage.feed_rest()
        await stage.verified(entry)


async def test_a_customer_who_cannot_be_scored(
    set_stage: SetStage, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = set_stage("f20")
    times = Counter(order.user_id for order in stage.orders)
    user = times.most_common(1)[0][0]
    what = "scoring raises for one customer; later it is mended, and the dead letters redriven"
    with book.entry("F20", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep({"poison": user})
        await stage.feed_rest()
        with monkeypatch.context() as patch:
            # Held against a replay that cannot score the customer either.
            patch.setattr(Judge, "judge_all", poisoned_by(user))
            verdict = await stage.verified(entry)
        assert worker.alive
        entry.times = verdict.dead_letters
        assert verdict.dead_letters == times[user]
        assert worker.logged("customers.not_scored")
        # No customer is named where operators look.
        assert not any(user in line for line in worker.log)
        worker.kill()
        stage.let_go(worker)
        stage.keep()
        redriven = await stage.run("redrive", "--reason", "not_scored")
        assert (redriven.code, redriven.err) == (0, ""), redriven.err
        stage.fed += times[user]
        await stage.finished()
        facts, meant = await _facts(stage, user), _folded(stage, user)
        entry.faults = [] if facts == meant else [f"{user} has other facts than the orders give"]
        assert entry.faults == []
        entry.note("each order of theirs a dead letter, nobody else touched; redriven, all count")


async def _facts(stage: Stage, user: str) -> CustomerState:
    store, number = stage.store(), partition_for(user.encode(), stage.settings.partitions)
    try:
        (stored,) = await store.load(Partition(stage.settings.orders_topic, number), [user])
    finally:
        await store.close()
    assert stored.state is not None
    return customer.decode(stored.state).facts


def _folded(stage: Stage, user: str) -> CustomerState:
    facts = EMPTY
    for order in stage.orders:
        if order.user_id == user:
            facts = apply(facts, order, stage.settings.id_memory).state
    return facts


async def test_terminate_with_a_server_down(set_stage: SetStage, book: Book) -> None:
    stage = set_stage("f4-down")
    what = "SIGTERM while Redis does not answer: exit code 0 within 20 s"
    with book.entry("F4", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep()
        await stage.under_way(len(stage.orders) // 2)
        await stage.owner()
        stage.servers.redis.kill()
        await stage.until(lambda: worker.logged("outage.waiting"))
        stage.let_go(worker)
        assert await worker.terminate() == 0
        entry.times += 1
        await asyncio.to_thread(stage.servers.redis.start)
        stage.keep()
        await stage.feed_rest()
        await stage.verified(entry)
    assert not owns(worker)
