"""Customers moved to other partitions: all of them, whole, and wherever it is interrupted."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderRules
from model.decide import codec as customer_bytes
from model.decide.codec import CustomerRecord
from streamer.admin.backlog import (
    FewerPartitions,
    OrdersMixed,
    OrdersWaiting,
    OtherPartitioner,
    StillWritten,
    WorkersRun,
)
from streamer.admin.repartition import (
    Drain,
    Moved,
    Repartition,
    text,
)
from streamer.demo.embedded import EmbeddedRedis
from streamer.pipeline.claim import CustomersMoved, LogTooShort
from streamer.pipeline.erasures import Erasures, erasure_headers, move
from streamer.pipeline.messages import pack
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.pipeline.partitioner import PARTITIONERS, partition_for
from streamer.records import LogRange, MemoryPublisher, Partition, Record
from streamer.store.base import MovableStore, PartitionCountChanged, StoreUnavailable, Write
from streamer.store.memory import MemoryStore
from streamer.store.redis_admin import RedisAdmin
from tests.support.fakes import TOPICS, Crash, Rec, an_order, at, done, pipeline, records, wire

USERS = [f"user-{number}" for number in range(40)]


@dataclass
class Shop:
    """A topic with its records, and the store that its workers keep."""

    count: int
    store: Any = field(default_factory=MemoryStore)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    logs: dict[int, list[Rec]] = field(default_factory=dict)
    sent: list[Order] = field(default_factory=list)

    def home(self, user: str, count: int | None = None) -> int:
        """Where producers put a customer, that know of so many partitions."""
        return partition_for(user.encode(), count or self.count)

    def send(self, *orders: Order, count: int | None = None) -> None:
        """As a producer does that knows of so many partitions."""
        for order in orders:
            self.sent.append(order)
            number = self.home(order.user_id, count)
            self.put(number, Rec(0, order.user_id.encode(), wire(order), order.ts_ms))

    def put(self, number: int, record: Rec) -> None:
        log = self.logs.setdefault(number, [])
        log.append(replace(record, offset=len(log)))

    def runner(self, number: int) -> PartitionRunner:
        known = Erasures()
        for note in self.publisher.of("clv-erasures"):
            known.read(note.key, note.value)
        partition = Partition("orders", number)
        return PartitionRunner(
            partition,
            self.store,
            self.publisher,
            pipeline(),
            RunnerOptions(due_batch=50, erasures=known),
        )

    async def work(self, upto: Mapping[int, int] | None = None) -> None:
        """Workers on all partitions, up to the log's end or the offsets given."""
        for number in range(self.count):
            log = self.logs.get(number, [])
            runner = self.runner(number)
            start = await runner.claim(LogRange(0, len(log), self.count))
            await runner.process(log[start : (upto or {}).get(number, len(log))])

    # --- Log and Drain ---

    async def ranges(self) -> Mapping[int, LogRange]:
        return {n: LogRange(0, len(self.logs.get(n, [])), self.count) for n in range(self.count)}

    async def read(self, number: int, start: int, until: int) -> AsyncIterator[Sequence[Record]]:
        for offset in range(start, until):
            yield [self.logs[number][offset]]

    async def drain(self, partition: Partition, log: LogRange, until: int) -> int:
        runner = self.runner(partition.number)
        start = await runner.claim(log)
        await runner.process(self.logs[partition.number][start:until])
        return runner.counters.orders

    def move(self, *, drain: bool = True, store: MovableStore | None = None) -> Repartition:
        applies: Drain | None = self.drain if drain else None
        return Repartition(
            store or self.store,
            self,
            self.publisher,
            "orders",
            OrderRules(),
            drain=applies,
            notes_topic="clv-erasures",
        )

    async def customers(self) -> dict[str, tuple[int, CustomerRecord]]:
        """Where each customer is, and what is known of them; fails for one in two places."""
        found: dict[str, tuple[int, CustomerRecord]] = {}
        async for chunk in self.store.scan("orders"):
            for partition in {place for place, _ in chunk}:
                users = [user for place, user in chunk if place == partition]
                for user, kept in zip(users, await self.store.load(partition, users), strict=True):
                    assert user not in found
                    found[user] = partition.number, customer_bytes.decode(kept.state)
        return found

    async def check(self) -> None:
        """Everybody is where orders will look for them, with every order of theirs counted once."""
        one = Shop(1)
        one.send(*self.sent)
        await one.work()
        expected = {user: customer.facts for user, (_, customer) in (await one.customers()).items()}
        found = await self.customers()
        assert {user: customer.facts for user, (_, customer) in found.items()} == expected
        for user, (number, _) in found.items():
            assert number == self.home(user)


def orders_of(users: Sequence[str] = USERS, day: float = 1) -> list[Order]:
    return [an_order(user, day + n / 1000) for n, user in enumerate(users)]


async def a_shop(count: int = 4, **options: Any) -> Shop:
    """Some customers, everything applied."""
    shop = Shop(count, **options)
    for day in (1, 9, 17):
        shop.send(*orders_of(day=day))
    await shop.work()
    return shop


@pytest.mark.parametrize(("old", "new"), [(1, 2), (4, 8), (4, 6), (3, 7)])
async def test_everybody_is_where_their_next_orders_come_to(old: int, new: int) -> None:
    shop = await a_shop(old)
    before = await shop.customers()
    due = {user: (await due_of(shop, user)) for user in USERS}
    shop.count = new
    moved = await shop.move().run()
    after = await shop.customers()
    assert {user: customer for user, (_, customer) in after.items()} == {
        user: customer for user, (_, customer) in before.items()
    }
    assert {user: (await due_of(shop, user)) for user in USERS} == due
    gone = sum(before[user][0] != after[user][0] for user in USERS)
    assert moved == Moved(old, new, customers=len(USERS), moved=gone)
    assert gone > 0
    shop.send(*orders_of(day=20))
    await shop.work()
    await shop.check()


async def due_of(shop: Shop, user: str) -> int | None:
    number = (await shop.customers())[user][0]
    (kept,) = await shop.store.load(Partition("orders", number), [user])
    return kept.due_ms


async def test_a_second_run_has_nothing_to_do() -> None:
    shop = await a_shop()
    shop.count = 8
    await shop.move().run()
    assert await shop.move().run() is None
    assert await Shop(8).move().run() is None


async def test_workers_are_refused_until_it_is_done_and_old_ones_are_fenced() -> None:
    shop = await a_shop()
    zombie = shop.runner(0)
    await zombie.claim(LogRange(0, len(shop.logs[0]), 4))
    shop.count = 8
    with pytest.raises(PartitionCountChanged, match="repartition"):
        await shop.work()
    dying = Dying(shop.store, 12)
    with pytest.raises(Crash):
        await shop.move(store=dying).run()
    with pytest.raises(PartitionCountChanged):
        await shop.work()
    shop.count = 4
    with pytest.raises(PartitionCountChanged):
        await shop.work()
    with pytest.raises(Exception, match="newer owner"):
        await zombie.process(records([an_order("zoe", 30)], first=len(shop.logs[0])))
    shop.count = 8
    await shop.move().run()
    await shop.work()
    await shop.check()


async def test_a_worker_that_is_claiming_meanwhile_stops_the_move() -> None:
    shop = await a_shop()
    shop.count = 8

    class Stolen(MemoryPublisher):
        async def publish(self, messages: Any) -> None:
            await shop.store.seize(Partition("orders", 0), 4, 8)

    for number in range(4):
        partition = Partition("orders", number)
        claim = await shop.store.claim(partition, 4)
        entry = pack(shop.publisher.messages[0])
        write = Write({}, {}, [entry], None, None)
        await shop.store.write(partition, claim.epoch, claim.sequence, write)
    move = shop.move()
    move.publisher = Stolen()
    with pytest.raises(WorkersRun):
        await move.run()
    moved = await shop.move().run()
    assert moved is not None
    assert moved.said == 4
    await shop.check()


# --- orders that wait ---------------------------------------------------------------------------


async def test_orders_sent_before_the_topic_grew_are_applied_first() -> None:
    shop = await a_shop()
    shop.send(*orders_of(day=20))
    shop.count = 8
    shop.send(*orders_of(day=21))
    with pytest.raises(OrdersWaiting, match="CLV_MODEL"):
        await shop.move(drain=False).run()
    moved = await shop.move().run()
    assert moved is not None
    assert 0 < moved.applied <= len(USERS)
    await shop.work()
    await shop.check()


async def test_orders_of_customers_who_come_wait_for_them() -> None:
    shop = await a_shop(4)
    shop.send(*orders_of(day=20))
    shop.count = 6
    shop.send(*orders_of(day=21))
    await shop.move().run()
    await shop.work()
    await shop.check()


async def test_orders_of_those_who_come_and_those_who_leave_in_one_tail_are_refused() -> None:
    shop = await a_shop(4)
    for day in (20, 21):
        shop.send(*orders_of(day=day), count=6)
        shop.send(*orders_of(day=day + 0.5), count=4)
    shop.count = 6
    with pytest.raises(OrdersMixed, match="CLV_ORDERS_TOPIC"):
        await shop.move().run()


async def test_orders_that_come_to_old_partitions_while_customers_move_are_not_lost() -> None:
    shop = await a_shop()
    shop.count = 8
    shop.send(an_order(USERS[0], 19), count=4)
    late = iter([[], orders_of(day=20), [], orders_of(day=21)])
    sends_while_scanned(shop, lambda: next(late, []))
    await shop.move().run()
    assert list(late) == []
    await shop.work()
    await shop.check()


def sends_while_scanned(shop: Shop, orders: Callable[[], list[Order]]) -> None:
    """Producers that know the old partitions only send, each time customers are looked for."""

    async def scan(topic: str) -> AsyncIterator[Any]:
        async for chunk in MemoryStore.scan(shop.store, topic):
            yield chunk
        shop.send(*orders(), count=4)

    shop.store.scan = scan


async def test_producers_that_never_learn_are_refused_and_nothing_is_lost() -> None:
    shop = await a_shop()
    shop.count = 8
    days = iter(range(20, 1000))
    sends_while_scanned(shop, lambda: orders_of(day=next(days)))
    with pytest.raises(StillWritten, match="Stop them"):
        await shop.move().run()
    del shop.store.scan
    await shop.move().run()
    await shop.work()
    await shop.check()


async def test_an_order_that_comes_to_where_its_customer_was_waits_to_be_redriven() -> None:
    shop = await a_shop()
    shop.count = 8
    await shop.move().run()
    await shop.work()
    strays = [o for o in orders_of(day=30) if partition_for(o.user_id.encode(), 8) >= 4]
    shop.send(*orders_of(day=30), count=4)
    await shop.work()
    letters = shop.publisher.of("orders-dead-letter")
    assert {letter.value for letter in letters} == {wire(order) for order in strays}
    assert {dict(letter.headers)["reason"] for letter in letters} == {b"wrong_partition"}
    assert len(await shop.customers()) == len(USERS)
    # What redriving does: their bytes, to where their keys belong.
    for letter in letters:
        assert letter.key is not None
        shop.put(partition_for(letter.key, 8), Rec(0, letter.key, letter.value, at(30)))
    await shop.work()
    assert len(shop.publisher.of("orders-dead-letter")) == len(strays)
    await shop.check()


async def test_where_a_move_does_not_say_by_what_it_was_made_every_order_is_taken() -> None:
    shop = await a_shop()
    shop.publisher.messages.append(move("orders", dict.fromkeys(range(4), 0), "clv-erasures"))
    assert partition_for(b"elsewhere", 4) != 0
    shop.send(an_order("elsewhere", 40), count=1)
    await shop.work()
    assert shop.publisher.of("orders-dead-letter") == []
    assert "elsewhere" in await shop.customers()


async def test_an_erasure_that_waits_is_applied_before_its_customer_moves() -> None:
    shop = await a_shop()
    gone = next(u for u in USERS if partition_for(u.encode(), 8) >= 4)
    for number in range(4):
        shop.put(number, Rec(0, gone.encode(), None, at(18), tuple(erasure_headers(at(18)))))
    shop.count = 8
    await shop.move().run()
    await shop.work()
    shop.sent = [order for order in shop.sent if order.user_id != gone]
    await shop.check()


async def test_the_watermark_of_a_new_partition_is_the_lowest_of_the_old() -> None:
    shop = await a_shop()
    shop.count = 8
    await shop.move().run()
    old = [await shop.store.peek(Partition("orders", n)) for n in range(4)]
    new = [await shop.store.peek(Partition("orders", n)) for n in range(4, 8)]
    assert {claim.high_ts_ms for claim in new} == {min(claim.high_ts_ms for claim in old)}
    assert {claim.next_offset for claim in new} == {0}


async def test_partitions_that_never_had_an_order_are_opened_as_well() -> None:
    shop = Shop(4)
    shop.send(*orders_of(USERS[:1]))
    await shop.work()
    shop.count = 6
    await shop.move().run()
    for claim in [await shop.store.peek(Partition("orders", n)) for n in range(6)]:
        assert claim.next_offset is not None
    shop.send(*orders_of(day=20))
    await shop.work()
    await shop.check()


async def test_a_store_lost_after_a_move_is_not_rebuilt_from_logs_that_are_not_whole() -> None:
    shop = await a_shop()
    shop.count = 8
    await shop.move().run()
    forgotten = Erasures()
    for note in shop.publisher.of("clv-erasures"):
        forgotten.read(note.key, note.value)
    forgotten.read(b"move:orders", b"{}")
    for key in (b"move:orders", b"somebody"):
        forgotten.read(key, b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}")
    forgotten.read(b"move:orders", b'{"schema": "move/2", "topic": "orders", "ends": {"0": 99}}')
    await shop.work()
    for number in range(8):
        end = len(shop.logs.get(number, []))
        runner = PartitionRunner(
            Partition("orders", number),
            MemoryStore(),
            shop.publisher,
            pipeline(),
            RunnerOptions(erasures=forgotten),
        )
        with pytest.raises(CustomersMoved, match="CLV_ORDERS_TOPIC"):
            await runner.claim(LogRange(0, end, 8))
        # Once none of the orders of before are in the log, it is as whole as any.
        assert await runner.claim(LogRange(end + 1, end + 1, 8)) == end + 1


# --- what is refused ----------------------------------------------------------------------------


async def test_fewer_partitions_are_refused() -> None:
    shop = await a_shop()
    shop.count = 3
    with pytest.raises(FewerPartitions, match="takes no partition away"):
        await shop.move().run()


async def test_another_partitioner_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await a_shop()
    shop.count = 8
    monkeypatch.setattr("streamer.admin.repartition.partition_for", lambda key, count: key[-1] % 3)
    with pytest.raises(OtherPartitioner, match="partitioner=murmur2_random"):
        await shop.move().run()


async def test_a_topic_that_was_made_anew_is_refused() -> None:
    shop = await a_shop()
    shop.count = 8
    shop.logs.clear()
    with pytest.raises(LogTooShort):
        await shop.move().run()


def test_a_note_of_a_move_by_crc32_of_an_earlier_version_is_understood() -> None:
    # rd_crc32 of "foobar" is zlib's 0x9EF61F95.
    assert PARTITIONERS["crc32"](b"foobar", 1000) == 0x9EF61F95 % 1000


# --- interrupted ---------------------------------------------------------------------------------


class Dying:
    """A store that ends the process at one of its calls: before it takes place or after."""

    def __init__(self, kept: Any, at: int, raises: type[Exception] = Crash, only: str = "") -> None:
        self.kept = kept
        self._only = only
        self.at = at
        self.count = 0
        self._raises = raises

    def _point(self) -> None:
        self.count += 1
        if self.count - 1 == self.at:
            raise self._raises("here")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.kept, name)
        if name == "scan":
            return found

        async def call(*args: Any, **options: Any) -> Any:
            if self._only not in ("", name):
                return await found(*args, **options)
            self._point()
            result = await found(*args, **options)
            self._point()
            return result

        return call


async def a_waiting_shop(new: int) -> Shop:
    shop = await a_shop(4)
    shop.send(*orders_of(USERS[:6], day=20))
    shop.count = new
    shop.send(*orders_of(USERS[3:9], day=21))
    return shop


def points(new: int) -> int:
    shop = done(a_waiting_shop(new))
    counting = Dying(shop.store, -1)
    shop.store, kept = counting, shop.store
    done(shop.move().run())
    shop.store = kept
    return counting.count


@given(st.sampled_from([6, 8]), st.data())
def test_broken_off_anywhere_again_and_again_it_ends_right(new: int, data: st.DataObject) -> None:
    end = points(new)
    shop = done(a_waiting_shop(new))
    kept = shop.store
    for strike in data.draw(st.lists(st.integers(0, end - 1), max_size=4)):
        shop.store = Dying(kept, strike, data.draw(st.sampled_from([Crash, StoreUnavailable])))
        try:
            done(shop.move().run())
        except (Crash, StoreUnavailable):
            continue
    shop.store = kept
    done(shop.move().run())
    done(shop.work())
    done(shop.check())
    letters = shop.publisher.of(TOPICS.dead_letters)
    assert letters == []


def test_the_result_is_told_in_a_few_lines() -> None:
    assert "nothing to move" in text(None, "orders")
    told = text(Moved(4, 8, customers=20_000, moved=9_876, applied=12, said=3), "orders")
    assert "9,876 of 20,000 customers moved" in told
    assert "workers may start" in told


# --- on a server --------------------------------------------------------------------------------


async def test_thousands_of_customers_move_on_a_server_killed_half_way(
    embedded_redis: EmbeddedRedis,
) -> None:
    store = RedisAdmin.from_url(embedded_redis.url, cluster_id=uuid.uuid4().hex)
    users = [f"customer {{{number}}}:*" for number in range(2_500)]
    shop = Shop(4, store)
    shop.send(*orders_of(users))
    await shop.work()
    before = {user: customer for user, (_, customer) in (await shop.customers()).items()}
    shop.count = 8
    for call, strike in (("write", 4), ("remove", 4), ("remove", 3)):
        with pytest.raises(Crash):
            await shop.move(store=Dying(store, strike, only=call)).run()
    places = [place.number async for chunk in store.scan("orders") for place, _ in chunk]
    assert (
        0
        < sum(number >= 4 for number in places)
        < sum(partition_for(user.encode(), 8) >= 4 for user in users)
    )
    with pytest.raises(PartitionCountChanged):
        await shop.work()
    moved = await shop.move().run()
    assert moved is not None
    assert 0 < moved.moved < 3_000
    after = await shop.customers()
    assert {user: customer for user, (_, customer) in after.items()} == before
    shop.send(*orders_of(users[:500], day=20))
    await shop.work()
    await shop.check()
    await store.close()
