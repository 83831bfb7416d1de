"""One suite over every StateStore, so that the fast one may stand for the real one elsewhere."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from streamer.demo.embedded import EmbeddedRedis
from streamer.records import Partition
from streamer.store.base import (
    FEED_SIZE,
    QUARANTINE_SIZE,
    Claim,
    EvictionPolicyUnsafe,
    MovableStore,
    NewerSchema,
    Outbox,
    Outcome,
    PartitionCountChanged,
    Said,
    Standing,
    StateStore,
    Stored,
    StoreRefused,
    StoreUnavailable,
    TopicRecreated,
    Write,
)
from streamer.store.layout import SCHEMA
from streamer.store.memory import DueTimes, MemoryStore
from streamer.store.redis_admin import RedisAdmin
from streamer.store.redis_server import ClusterExpected, ForeignData, StoreAccessDenied
from streamer.store.redis_url import StoreUrlInvalid, redacted
from tests.support.servers.limited_user import limited
from tests.support.servers.redis_kit import Node, clients, cluster, cluster_url, listening

ORDERS_3 = Partition("orders", 3)
ODD_IDS = [
    "{}",
    "}{",
    "{orders-0}",
    ":",
    "*",
    "?[a-z]",
    "a:c:b",
    "\r\n",
    "a\r\nSET x 1",
    "\x00",
    " ",
    "🛒",
    "‮abc",
    "é",
    "x" * 128,
    "🛒" * 128,
]


@dataclass(slots=True)
class Owner:
    """A worker that holds a partition: it counts its writes, as the fence wants it to."""

    store: StateStore
    partition: Partition
    epoch: int
    sequence: int

    @classmethod
    async def claims(cls, store: StateStore, partition: Partition = ORDERS_3) -> Owner:
        claim = await store.claim(partition, 4)
        return cls(store, partition, claim.epoch, claim.sequence)

    async def write(self, **change: Any) -> Outcome:
        outcome = await self.store.write(
            self.partition, self.epoch, self.sequence, a_write(**change)
        )
        if outcome in (Outcome.APPLIED, Outcome.ALREADY_APPLIED):
            self.sequence += 1
        return outcome

    async def trim(self, first: int, count: int) -> Outcome:
        return await self.store.trim(self.partition, self.epoch, first, count)

    async def due(self, until_ms: int, limit: int = 100) -> list[tuple[str, int]]:
        return await self.store.due(self.partition, until_ms, limit)

    async def load(self, *user_ids: str) -> list[Stored]:
        return await self.store.load(self.partition, user_ids)

    async def outbox(self, limit: int = 100) -> Outbox:
        return await self.store.outbox(self.partition, limit)


def a_write(
    states: Mapping[str, bytes] | None = None,
    due: Mapping[str, int | None] | None = None,
    outbox: Sequence[bytes] = (),
    next_offset: int | None = None,
    high_ts_ms: int | None = None,
    quarantine: Mapping[str, bytes] | None = None,
    window: bytes | None = None,
    lead: bytes | None = None,
    **more: Any,
) -> Write:
    return Write(
        states or {},
        due or {},
        outbox,
        next_offset,
        high_ts_ms,
        quarantine or {},
        window,
        lead,
        **more,
    )


def redis_store(server: EmbeddedRedis, cluster_id: str | None = None) -> RedisAdmin:
    return RedisAdmin.from_url(server.url, cluster_id=cluster_id or uuid.uuid4().hex)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[list[Node]]:
    """Three masters; each test takes a cluster id of its own."""
    with cluster(3) as nodes:
        yield nodes


@pytest.fixture(params=["memory", "redis", "cluster", "redis user", "cluster user"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StateStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "redis":
        store = redis_store(request.getfixturevalue("embedded_redis"))
    elif request.param == "redis user":
        server = request.getfixturevalue("embedded_redis")
        async with Redis.from_url(server.url) as admin:
            name, password = await limited([admin])
        url = server.url.replace("unix://", f"unix://{name}:{password}@")
        store = RedisAdmin.from_url(url, cluster_id=uuid.uuid4().hex)
    else:
        nodes = request.getfixturevalue("redis_cluster")
        url = cluster_url(nodes)
        if request.param == "cluster user":
            async with clients(nodes) as admins:
                name, password = await limited(admins)
            url = url.replace("://", f"://{name}:{password}@")
        store = RedisAdmin.from_url(url, cluster_id=uuid.uuid4().hex)
    yield store
    await store.close()


@pytest.fixture
async def redis(embedded_redis: EmbeddedRedis) -> AsyncIterator[RedisAdmin]:
    store = redis_store(embedded_redis)
    yield store
    await store.close()


# --- claims and the fence


async def test_what_is_removed_is_gone_and_its_neighbours_stay(store: StateStore) -> None:
    owner = await Owner.claims(store)
    states = {user: user.encode() for user in [*ODD_IDS, "ann", "bob"]}
    await owner.write(
        states=states,
        due=dict.fromkeys(states, 5),
        outbox=[b"w"],
        quarantine={"ann": b"damaged", "bob": b"damaged"},
        next_offset=7,
    )
    gone = [*ODD_IDS, "ann", "never seen"]
    removal = (owner.partition, owner.epoch, owner.sequence, gone, 9)
    assert await store.remove(*removal) is Outcome.APPLIED
    assert await store.remove(*removal) is Outcome.ALREADY_APPLIED
    owner.sequence += 1
    assert await owner.load(*gone) == [Stored(None, None)] * len(gone)
    assert await owner.load("bob") == [Stored(b"bob", 5)]
    assert await owner.due(10) == [("bob", 5)]
    assert await store.quarantined(owner.partition) == {"bob": b"damaged"}
    assert (await owner.outbox()).entries == [b"w"]
    stands = await store.peek(owner.partition)
    assert stands is not None
    assert (stands.next_offset, stands.sequence) == (9, owner.sequence)


async def test_a_removal_is_fenced_as_a_write_is(store: StateStore) -> None:
    old = await Owner.claims(store)
    await old.write(states={"ann": b"1"}, next_offset=1)
    new = await Owner.claims(store)
    assert await store.remove(ORDERS_3, old.epoch, old.sequence, ["ann"], 2) is Outcome.FENCED
    ahead = new.sequence + 1
    assert await store.remove(ORDERS_3, new.epoch, ahead, ["ann"], 2) is Outcome.LOST_WRITES
    assert await new.load("ann") == [Stored(b"1", None)]
    assert await store.remove(ORDERS_3, new.epoch, new.sequence, [], None) is Outcome.APPLIED
    stands = await store.peek(ORDERS_3)
    assert stands is not None
    assert stands.next_offset == 1


async def test_the_window_of_bad_records_is_kept_with_the_next_offset(store: StateStore) -> None:
    owner = await Owner.claims(store)
    assert (await store.claim(ORDERS_3, 4)).dead_letter_window is None
    owner = await Owner.claims(store)
    await owner.write(next_offset=3, window=b"\x00trail")
    await owner.write(next_offset=4)
    assert (await store.claim(ORDERS_3, 4)).dead_letter_window == b"\x00trail"
    stands = await store.peek(ORDERS_3)
    assert stands is not None
    assert stands.dead_letter_window == b"\x00trail"


async def test_a_seized_partition_is_nobodys_until_the_count_is_changed(
    store: MovableStore,
) -> None:
    worker = await Owner.claims(store)
    await worker.write(states={"ann": b"1"}, next_offset=5, high_ts_ms=50)
    mover = await store.seize(ORDERS_3, 4, 6)
    assert (mover.next_offset, mover.high_ts_ms) == (5, 50)
    assert await worker.write(next_offset=6) is Outcome.FENCED
    for count in (4, 6):
        with pytest.raises(PartitionCountChanged):
            await store.claim(ORDERS_3, count)
    again = await store.seize(ORDERS_3, 4, 6)
    assert again.epoch > mover.epoch
    with pytest.raises(PartitionCountChanged):
        await store.seize(ORDERS_3, 5, 8)
    fresh = await store.seize(replace(ORDERS_3, number=5), 4, 6)
    assert fresh.next_offset is None
    await store.set_partition_count("orders", 6)
    assert await store.partition_count("orders") == 6
    assert (await store.claim(ORDERS_3, 6)).next_offset == 5


async def test_scanning_finds_every_customer_of_a_topic_and_of_no_other(
    store: MovableStore,
) -> None:
    kept = set()
    assert await store.partition_count("orders") is None
    for topic in ("orders", "orders-2", "order"):
        for number in (0, 12):
            partition = Partition(topic, number)
            owner = await Owner.claims(store, partition)
            users = [*ODD_IDS, *(f"u{n}" for n in range(50))]
            await owner.write(states=dict.fromkeys(users, b"1"), due=dict.fromkeys(users, 1))
            kept |= {(partition, user) for user in users if topic == "orders"}
    chunks = [chunk async for chunk in store.scan("orders", 20)]
    assert {one for chunk in chunks for one in chunk} == kept


async def test_a_partition_never_claimed_starts_with_nothing(store: StateStore) -> None:
    assert await store.peek(ORDERS_3) is None
    claim = await store.claim(ORDERS_3, 4)
    assert claim == Claim(claim.epoch, 0, None, None)
    assert await store.load(ORDERS_3, ["ann"]) == [Stored(None, None)]
    assert await store.due(ORDERS_3, 2**52, 10) == []
    assert await store.outbox(ORDERS_3, 10) == Outbox(0, [])


async def test_a_claim_finds_what_the_owner_before_has_written(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(next_offset=7, high_ts_ms=1_700_000_000_000)
    claim = await store.claim(ORDERS_3, 4)
    assert claim.epoch > owner.epoch
    assert claim == Claim(claim.epoch, 1, 7, 1_700_000_000_000)


async def test_peeking_claims_nothing(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(next_offset=7)
    assert await store.peek(ORDERS_3) == Claim(owner.epoch, 1, 7, None)
    assert await owner.write(next_offset=8) is Outcome.APPLIED


async def test_an_older_owner_is_fenced_and_changes_nothing(store: StateStore) -> None:
    zombie = await Owner.claims(store)
    await zombie.write(states={"ann": b"1"}, outbox=[b"w"])
    owner = await Owner.claims(store)
    assert await zombie.write(
        states={"ann": b"z"}, due={"ann": 5}, outbox=[b"z"], next_offset=9
    ) is (Outcome.FENCED)
    assert await zombie.trim(0, 1) is Outcome.FENCED
    assert await owner.load("ann") == [Stored(b"1", None)]
    assert await owner.outbox() == Outbox(0, [b"w"])
    assert await store.peek(ORDERS_3) == Claim(owner.epoch, 1, None, None)
    assert await owner.write(states={"ann": b"2"}) is Outcome.APPLIED
    assert await owner.trim(0, 1) is Outcome.APPLIED


async def test_a_write_repeated_is_recognised_and_applied_once(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(outbox=[b"w"], next_offset=1)
    owner.sequence -= 1  # its answer was lost
    assert await owner.write(outbox=[b"w"], next_offset=1) is Outcome.ALREADY_APPLIED
    assert (await owner.outbox()).entries == [b"w"]
    assert await owner.write(next_offset=2) is Outcome.APPLIED


async def test_a_write_of_the_owner_before_is_not_taken_for_ours(store: StateStore) -> None:
    first = await Owner.claims(store)
    second = await Owner.claims(store)
    await second.write(next_offset=5)
    assert await first.write(next_offset=5) is Outcome.FENCED


async def test_writes_that_nobody_knows_fence(store: StateStore) -> None:
    owner = await Owner.claims(store)
    for offset in range(3):
        await owner.write(next_offset=offset)
    owner.sequence = 0
    assert await owner.write(next_offset=9) is Outcome.FENCED


async def test_a_store_with_fewer_writes_than_we_made_has_lost_writes(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(next_offset=1)
    owner.sequence = 5
    assert await owner.write(next_offset=6) is Outcome.LOST_WRITES
    assert await store.peek(ORDERS_3) == Claim(owner.epoch, 1, 1, None)


async def test_a_store_that_lost_our_claim_has_lost_writes(store: StateStore) -> None:
    owner = await Owner.claims(store)
    owner.epoch += 1
    assert await owner.write() is Outcome.LOST_WRITES
    assert await owner.trim(0, 0) is Outcome.LOST_WRITES


async def test_a_write_to_a_store_emptied_meanwhile_has_lost_writes(store: StateStore) -> None:
    assert await store.write(ORDERS_3, 1, 0, a_write()) is Outcome.LOST_WRITES
    assert await store.peek(ORDERS_3) is None


async def test_another_partition_count_is_refused_with_the_remedy(store: StateStore) -> None:
    await store.claim(ORDERS_3, 4)
    with pytest.raises(
        PartitionCountChanged, match=r"8 partitions.*for 4.*-m streamer repart"
    ) as e:
        await store.claim(ORDERS_3, 8)
    assert (e.value.stored, e.value.found) == (4, 8)
    assert (await store.claim(ORDERS_3, 4)).sequence == 0


async def test_a_partition_that_is_new_with_the_other_count_is_refused_too(
    store: StateStore,
) -> None:
    await store.claim(ORDERS_3, 4)
    with pytest.raises(PartitionCountChanged):
        await store.claim(Partition("orders", 7), 8)
    await store.claim(Partition("returns", 7), 8)


async def test_partitions_and_topics_do_not_see_each_other(store: StateStore) -> None:
    for partition in (Partition("orders", 1), Partition("orders", 11), Partition("orders-1", 1)):
        owner = await Owner.claims(store, partition)
        assert await owner.load("ann") == [Stored(None, None)]
        assert await owner.write(states={"ann": b"1"}, due={"ann": 1}) is Outcome.APPLIED


# --- states


@pytest.mark.parametrize("user_id", ODD_IDS, ids=ascii)
async def test_any_user_id_keeps_its_state_and_due_time(store: StateStore, user_id: str) -> None:
    owner = await Owner.claims(store)
    await owner.write(states={user_id: b"odd", "ann": b"plain"}, due={user_id: 5, "ann": 9})
    assert await owner.load("ann", user_id) == [Stored(b"plain", 9), Stored(b"odd", 5)]
    assert await owner.due(5) == [(user_id, 5)]
    await owner.write(due={user_id: None})
    assert await owner.load(user_id) == [Stored(b"odd", None)]


async def test_any_bytes_come_back_as_they_were(store: StateStore) -> None:
    values = [b"", b"\x00", b"\r\n", bytes(range(256)), b"\xff" * 70_000, b"1e400", b"$-1\r\n"]
    owner = await Owner.claims(store)
    states = {f"user-{i}": value for i, value in enumerate(values)}
    await owner.write(states=states, outbox=values)
    assert [found.state for found in await owner.load(*states)] == values
    assert (await owner.outbox()).entries == values


async def test_customers_come_in_the_order_asked_for(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(states={"a": b"1", "b": b"2", "c": b"3"}, due={"b": 2})
    one, two, three = Stored(b"1", None), Stored(b"2", 2), Stored(b"3", None)
    none = Stored(None, None)
    assert await owner.load("c", "b", "new", "a", "c") == [three, two, none, one, three]
    assert await owner.load() == []


async def test_thousands_of_customers_fit_one_write_and_one_load(store: StateStore) -> None:
    users = [f"user-{i}" for i in range(12_000)]
    owner = await Owner.claims(store)
    outcome = await owner.write(
        states={user: user.encode() * 50 for user in users},
        due={user: i for i, user in enumerate(users)},
        outbox=[user.encode() for user in users],
        next_offset=12_000,
    )
    assert outcome is Outcome.APPLIED
    expected = [Stored(user.encode() * 50, i) for i, user in enumerate(users)]
    assert await owner.load(*users) == expected
    assert (await owner.outbox(20_000)).entries == [user.encode() for user in users]
    await owner.write(due=dict.fromkeys(users[:9_000]))
    assert await owner.due(2**52, 2) == [("user-9000", 9_000), ("user-9001", 9_001)]
    assert await owner.trim(0, 11_999) is Outcome.APPLIED
    assert await owner.outbox() == Outbox(11_999, [b"user-11999"])


async def test_what_a_write_does_not_name_stays(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(states={"a": b"1"}, due={"a": 1}, outbox=[b"w"], next_offset=1, high_ts_ms=1)
    await owner.write()
    assert await owner.load("a") == [Stored(b"1", 1)]
    assert await owner.outbox() == Outbox(0, [b"w"])
    assert await store.peek(ORDERS_3) == Claim(owner.epoch, 2, 1, 1)


async def test_offsets_and_times_are_exact_beyond_32_bits(store: StateStore) -> None:
    large, far_ms = 2**53 - 1, 2**47 - 2
    owner = await Owner.claims(store)
    await owner.write(due={"a": far_ms, "b": -far_ms}, next_offset=large, high_ts_ms=-large)
    assert await store.peek(ORDERS_3) == Claim(owner.epoch, 1, large, -large)
    assert await owner.due(large) == [("b", -far_ms), ("a", far_ms)]


# --- due times


async def test_due_customers_come_by_instant(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(due={"b": 2, "a": 2, "é": 2, "z": 1, "🛒": 2, "Z": 2, "later": 3})
    expected = [("z", 1), ("Z", 2), ("a", 2), ("b", 2), ("é", 2), ("🛒", 2)]
    assert sorted(await owner.due(2)) == sorted(expected)
    first, *some = await owner.due(2, limit=3)
    assert first == expected[0]
    assert len(set(some)) == 2
    assert set(some) < set(expected)
    assert sorted(await owner.due(2)) == sorted(expected), "reading takes nothing away"
    assert await owner.due(0) == []
    assert await owner.due(2, limit=0) == []


async def test_a_sample_is_of_different_customers_who_are_due_some_day(store: StateStore) -> None:
    owner = await Owner.claims(store)
    assert await store.sample(owner.partition, 5) == []
    users = [f"user-{n}" for n in range(40)] + ["é", "🛒"]
    await owner.write(states={"idle": b"x"}, due=dict.fromkeys(users, 7) | {"idle": None})
    assert sorted(await store.sample(owner.partition, 1_000)) == sorted(users)
    few = await store.sample(owner.partition, 10)
    assert len(set(few)) == 10
    assert set(few) < set(users)
    assert await store.sample(owner.partition, 0) == []


async def test_a_customer_has_one_due_time_the_last(store: StateStore) -> None:
    owner = await Owner.claims(store)
    for instant in (5, 3, 9, 5, 3):
        await owner.write(due={"a": instant})
    assert await owner.due(100) == [("a", 3)]
    await owner.write(due={"a": None})
    await owner.write(due={"a": None})
    assert await owner.due(100) == []


def test_due_times_forget_what_was_superseded() -> None:
    due = DueTimes()
    for instant in range(100_000):
        due.set(f"user-{instant % 10}", instant)
    assert len(due._heap) < 200
    assert due.earliest(10**9, 3) == [(f"user-{i}", 99_990 + i) for i in range(3)]


def test_due_times_agree_with_sorting_everything_each_time() -> None:
    chance, due, truth = random.Random(7), DueTimes(), dict[str, int]()
    for _ in range(3_000):
        user, instant = f"user-{chance.randrange(60)}", chance.randrange(40)
        if chance.random() < 0.2:
            due.set(user, None)
            truth.pop(user, None)
        else:
            due.set(user, instant)
            truth[user] = instant
        if chance.random() < 0.3:
            until, limit = chance.randrange(45), chance.randrange(20)
            by_instant = sorted((at, name) for name, at in truth.items() if at <= until)
            assert due.earliest(until, limit) == [(name, at) for at, name in by_instant[:limit]]


# --- the outbox


async def test_the_outbox_keeps_its_order_and_counts_what_left(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(outbox=[b"0", b"1"])
    await owner.write(outbox=[b"2"])
    assert await owner.outbox(2) == Outbox(0, [b"0", b"1"])
    assert await owner.trim(0, 2) is Outcome.APPLIED
    assert await owner.outbox() == Outbox(2, [b"2"])
    await owner.write(outbox=[b"3"])
    assert await owner.outbox() == Outbox(2, [b"2", b"3"])
    assert await owner.outbox(0) == Outbox(2, [])


async def test_trimming_again_drops_nothing_more(store: StateStore) -> None:
    owner = await Owner.claims(store)
    await owner.write(outbox=[b"0", b"1", b"2"])
    assert await owner.trim(0, 2) is Outcome.APPLIED
    assert await owner.trim(0, 2) is Outcome.ALREADY_APPLIED
    assert await owner.trim(0, 1) is Outcome.ALREADY_APPLIED
    assert await owner.trim(1, 2) is Outcome.APPLIED, "what is left of a run that is partly gone"
    assert await owner.outbox() == Outbox(3, [])
    assert await owner.trim(3, 0) is Outcome.ALREADY_APPLIED


async def test_trimming_entries_that_the_store_lost_tells_of_lost_writes(
    store: StateStore,
) -> None:
    owner = await Owner.claims(store)
    await owner.write(outbox=[b"0"])
    assert await owner.trim(0, 2) is Outcome.LOST_WRITES
    assert await owner.trim(5, 1) is Outcome.LOST_WRITES
    assert await owner.outbox() == Outbox(0, [b"0"])


# --- the script against its twin

USERS = ["a", "b", "c", "{}", "🛒", "a:c:b"]
INSTANTS = st.integers(0, 6)
WRITES = st.builds(
    Write,
    states=st.dictionaries(st.sampled_from(USERS), st.binary(min_size=1, max_size=7), max_size=4),
    due=st.dictionaries(st.sampled_from(USERS), st.none() | INSTANTS, max_size=4),
    outbox=st.lists(st.binary(max_size=3), max_size=3),
    next_offset=st.none() | st.integers(0, 99),
    high_ts_ms=st.none() | st.integers(-99, 99),
)


@dataclass(slots=True)
class Twins:
    """The same steps on both stores. Epochs differ in value, so owners go by their age.

    Sequences and entries are given by how far they are from the right ones: taken at random they
    would nearly always be refused, and the rest of the scripts would go unseen.
    """

    memory: StateStore
    redis: StateStore
    epochs: list[tuple[int, int]] = field(default_factory=list)

    async def both(self, name: str, *arguments: Any) -> tuple[Any, Any]:
        one = await getattr(self.memory, name)(ORDERS_3, *arguments)
        return one, await getattr(self.redis, name)(ORDERS_3, *arguments)

    async def alike(self, name: str, *arguments: Any) -> None:
        memory, redis = await self.both(name, *arguments)
        assert memory == redis, (name, arguments)

    async def due(self, until_ms: int, limit: int) -> None:
        """Of one instant in any order."""
        memory, redis = await self.both("due", until_ms, limit)
        assert [at for _, at in memory] == [at for _, at in redis]
        assert set(redis) <= set(await self.memory.due(ORDERS_3, until_ms, 99))
        assert len(set(redis)) == len(redis)

    async def claim(self) -> None:
        memory, redis = await self.both("claim", 4)
        self.epochs.append((memory.epoch, redis.epoch))
        assert replace(memory, epoch=0) == replace(redis, epoch=0)

    async def fenced(self, name: str, age: int, *arguments: Any) -> None:
        """As the owner that claimed so many claims ago; -1 has not claimed yet."""
        known = [(2**52, 2**52), *reversed(self.epochs)]
        ours, theirs = known[min(age + 1, len(known) - 1)]
        memory = await getattr(self.memory, name)(ORDERS_3, ours, *arguments)
        redis = await getattr(self.redis, name)(ORDERS_3, theirs, *arguments)
        assert memory is redis, (name, age, arguments)

    async def write(self, age: int, off: int, write: Write) -> None:
        stands = await self.memory.peek(ORDERS_3)
        assert stands is not None
        await self.fenced("write", age, max(stands.sequence + off, 0), write)

    async def trim(self, age: int, off: int, count: int) -> None:
        first = (await self.memory.outbox(ORDERS_3, 0)).first
        await self.fenced("trim", age, max(first + off, 0), count)

    async def look(self) -> None:
        await self.alike("load", USERS)
        await self.due(99, 99)
        await self.alike("outbox", 99)
        memory, redis = await self.both("peek")
        assert replace(memory, epoch=0) == replace(redis, epoch=0)


AGES = st.sampled_from([0, 0, 0, 1, 2, -1])
STEPS = st.one_of(
    st.tuples(st.just("claim")),
    st.tuples(st.just("write"), AGES, st.sampled_from([0, 0, -1, -2, 1]), WRITES),
    st.tuples(st.just("write"), st.just(0), st.just(0), WRITES),
    st.tuples(st.just("trim"), AGES, st.integers(-2, 1), st.integers(0, 4)),
    st.tuples(st.just("due"), INSTANTS, st.integers(0, 5)),
    st.tuples(st.just("alike"), st.just("outbox"), st.integers(0, 5)),
    st.tuples(st.just("look")),
)


@given(moved=st.booleans(), steps=st.lists(STEPS, min_size=8, max_size=40))
def test_redis_and_memory_answer_alike_whatever_is_done(
    embedded_redis: EmbeddedRedis, moved: bool, steps: list[tuple[Any, ...]]
) -> None:
    async def run() -> None:
        redis = redis_store(embedded_redis)
        twins = Twins(MemoryStore(), redis)
        # Nobody has a due time without a state; `moved`: the version before has written these.
        states, due = dict.fromkeys(USERS, b"0"), dict.fromkeys(USERS[:3], 2)
        try:
            if moved:
                meta = {"sequence": "1", "outbox_first": "0", "first": "0"}
                await left_by_schema_1(redis, states, due, **meta)
                there: Any = redis.layout.former_prefix(ORDERS_3) + b"meta"
                await redis.server.client.hdel(there, "next", "high_ts", "topic_id")
                claim = await redis.claim(ORDERS_3, 4)
                await redis.write(ORDERS_3, claim.epoch, 1, a_write(listed=True))
                claim = await twins.memory.claim(ORDERS_3, 4)
                await twins.memory.write(ORDERS_3, claim.epoch, 0, a_write())
                await twins.memory.write(ORDERS_3, claim.epoch, 1, a_write(states, due))
            else:
                await twins.claim()
                await twins.write(0, 0, a_write(states, due))
            await twins.claim()
            for name, *arguments in steps:
                await getattr(twins, name)(*arguments)
            await twins.look()
        finally:
            await redis.close()

    asyncio.run(run())


# --- Redis alone


async def test_the_epoch_is_not_repeated_when_the_server_forgets_a_claim(
    redis: RedisAdmin,
) -> None:
    await redis.claim(ORDERS_3, 4)
    key = next(k for k in await keys_of(redis) if k.endswith(b":meta"))
    before: Any = await redis.server.client.hgetall(key)
    zombie = await Owner.claims(redis)
    await redis.server.client.hset(key, mapping=before)  # the server lost its last second
    owner = await Owner.claims(redis)
    assert owner.epoch != zombie.epoch
    assert await zombie.write(next_offset=1) is Outcome.FENCED


async def keys_of(store: RedisAdmin) -> set[bytes]:
    return {
        key
        async for key in store.server.client.scan_iter(match=f"{store.server.root}*", count=1000)
    }


async def test_every_key_of_a_partition_has_its_hash_tag(redis: RedisAdmin) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states={"{x}": b"1", "ann": b"2"}, due={"{x}": 1}, outbox=[b"w"])
    root = redis.server.root.encode()
    assert await keys_of(redis) == {
        root + b"{orders}:partitions",
        *(
            root + b"{orders-3}:" + name
            for name in (b"meta", b"c:{x}", b"c:ann", b"due", b"due:1", b"outbox")
        ),
    }


async def test_a_newer_schema_is_refused_and_left_alone(redis: RedisAdmin) -> None:
    await redis.claim(ORDERS_3, 4)
    key = next(k for k in await keys_of(redis) if k.endswith(b":meta"))
    await redis.server.client.hset(key, "schema", SCHEMA + 1)
    before = await redis.server.client.hgetall(key)
    with pytest.raises(NewerSchema, match="newer"):
        await redis.claim(ORDERS_3, 4)
    with pytest.raises(NewerSchema):
        await redis.peek(ORDERS_3)
    assert await redis.server.client.hgetall(key) == before


@pytest.mark.parametrize("name", ["meta", "due", "outbox"])
async def test_a_foreign_key_is_refused_before_anything_is_written(
    redis: RedisAdmin, name: str
) -> None:
    owner = await Owner.claims(redis)
    key = f"{redis.server.root}{{orders-3}}:{name}"
    await redis.server.client.delete(key)
    await redis.server.client.set(key, "somebody else's")
    with pytest.raises(ForeignData):
        await owner.write(states={"a": b"1"}, due={"a": 1}, outbox=[b"w"], next_offset=1)
    assert not [key for key in await keys_of(redis) if b":c:" in key]


async def test_a_partition_whose_meta_is_gone_is_refused(redis: RedisAdmin) -> None:
    owner = await Owner.claims(redis)
    await owner.write(due={"a": 1})
    await redis.server.client.delete(f"{redis.server.root}{{orders-3}}:meta")
    with pytest.raises(ForeignData, match="meta is missing"):
        await redis.claim(ORDERS_3, 4)


async def test_scripts_come_back_after_the_server_forgot_them(redis: RedisAdmin) -> None:
    owner = await Owner.claims(redis)
    await redis.server.client.script_flush()
    assert await owner.write(next_offset=1) is Outcome.APPLIED


async def test_a_full_server_takes_all_of_a_write_or_nothing(redis: RedisAdmin) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states={"a": b"1"}, due={"a": 1})
    await redis.server.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="memory"):
            await owner.write(states={"a": b"2"}, due={"a": None}, next_offset=1)
        with pytest.raises(StoreUnavailable, match="memory"):
            await owner.write(due={"a": None})
    finally:
        await redis.server.client.config_set("maxmemory", "0")
    assert await owner.load("a") == [Stored(b"1", 1)]
    assert await owner.write(states={"a": b"2"}) is Outcome.APPLIED


async def test_only_a_server_that_never_evicts_is_trusted(redis: RedisAdmin) -> None:
    await redis.check_server()
    await redis.server.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(EvictionPolicyUnsafe, match=r"allkeys-lru.*noeviction"):
            await redis.check_server()
    finally:
        await redis.server.client.config_set("maxmemory-policy", "noeviction")


async def test_a_server_out_of_reach_is_unavailable(tmp_path: Any) -> None:
    store = RedisAdmin.from_url(f"unix://{tmp_path}/none", cluster_id="c", timeout_s=0.2)
    for attempt in (store.ping(), store.claim(ORDERS_3, 4), store.load(ORDERS_3, ["a"])):
        with pytest.raises(StoreUnavailable):
            await attempt
    await store.close()


async def test_a_write_whose_answer_never_came_is_applied_once(
    embedded_redis: EmbeddedRedis,
) -> None:
    impatient = RedisAdmin.from_url(embedded_redis.url, cluster_id=uuid.uuid4().hex, timeout_s=0.1)
    owner = await Owner.claims(impatient)
    await owner.write(outbox=[b"0"])
    os.kill(embedded_redis.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            await owner.write(outbox=[b"1"])
    finally:
        os.kill(embedded_redis.pid, signal.SIGCONT)
    # What was sent is still read from the socket, before or after the next try.
    assert await owner.write(outbox=[b"1"]) in (Outcome.ALREADY_APPLIED, Outcome.APPLIED)
    assert await owner.write(outbox=[b"2"]) is Outcome.APPLIED
    assert await owner.outbox() == Outbox(0, [b"0", b"1", b"2"])
    await impatient.close()


async def test_a_wrong_password_stops_and_is_not_repeated_to_anybody(
    embedded_redis: EmbeddedRedis,
) -> None:
    url = embedded_redis.url.replace("unix://", "unix://someone:hunter2@")
    store = RedisAdmin.from_url(url, cluster_id="c")
    with pytest.raises(StoreAccessDenied) as refusal:
        await store.ping()
    await store.close()
    assert "hunter2" not in f"{refusal.value!r} {store!r} {refusal.value.__cause__!r}"


@pytest.mark.parametrize(
    "url",
    ["localhost:6379", "http://h", "redis://:hunter2@h:port", "redis://u:hunt/er2@h:6379", ""],
)
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(StoreUrlInvalid, match="rediss://") as refusal:
        RedisAdmin.from_url(url, cluster_id="c")
    assert "hunt" not in str(refusal.value)
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:p@host:6380/2?password=p", "redis://host:6380/2"),
        ("rediss://:p@[::1]/0", "rediss://[::1]:6379/0"),
        ("unix://u:p@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis://", "redis://localhost:6379"),
    ],
)
def test_an_address_shows_no_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert shown in repr(RedisAdmin.from_url(url, cluster_id="c"))


@pytest.mark.parametrize(
    ("namespace", "cluster_id"), [("", "c"), ("clv", ""), ("a{b", "c"), ("a", "}")]
)
def test_names_that_would_move_keys_to_another_slot_are_refused(
    namespace: str, cluster_id: str
) -> None:
    with pytest.raises(StoreRefused, match="braces"):
        RedisAdmin.from_url("redis://", cluster_id=cluster_id, namespace=namespace)


# --- a cluster


async def test_partitions_lie_on_several_masters_each_on_one(redis_cluster: list[Node]) -> None:
    store = RedisAdmin.from_url(cluster_url(redis_cluster), cluster_id=uuid.uuid4().hex)
    await store.check_server()
    await store.ping()
    for number in range(12):
        owner = await Owner.claims(store, Partition("orders", number))
        users = {f"user-{n}": b"1" for n in range(20)}
        assert await owner.write(states=users, due=dict.fromkeys(users, 1), outbox=[b"w"]) is (
            Outcome.APPLIED
        )
    await store.close()
    masters: dict[bytes, int] = {}
    async with clients(redis_cluster) as servers:
        for place, server in enumerate(servers):
            async for key in server.scan_iter(match=f"{store.server.root}*", count=1000):
                tag = key.split(b"{")[1].split(b"}")[0]
                assert masters.setdefault(tag, place) == place
    assert len(masters) == 13, "twelve partitions, and the topic's own count"
    assert len(set(masters.values())) == 3


async def test_one_server_of_a_cluster_is_taken_for_the_cluster_once_it_is_asked(
    redis_cluster: list[Node],
) -> None:
    url = f"redis://127.0.0.1:{redis_cluster[0].port}"
    store = RedisAdmin.from_url(url, cluster_id=uuid.uuid4().hex)
    claims = [store.claim(Partition("orders", number), 6) for number in range(6)]
    refused = [
        e for e in await asyncio.gather(*claims, return_exceptions=True) if type(e) is not Claim
    ]
    assert {type(error) for error in refused} == {ClusterExpected}
    assert "write redis+cluster://host:port" in str(refused[0])
    await store.check_server()
    for number in range(6):
        await store.claim(Partition("orders", number), 6)
    await store.close()


async def test_a_lone_server_is_no_cluster() -> None:
    with listening() as node:
        store = RedisAdmin.from_url(cluster_url([node]), cluster_id="c", timeout_s=1)
        with pytest.raises(ClusterExpected, match="write redis://host:port"):
            await store.claim(ORDERS_3, 4)
        await store.close()


async def test_a_cluster_out_of_reach_is_unavailable() -> None:
    store = RedisAdmin.from_url("redis+cluster://127.0.0.1:1", cluster_id="c", timeout_s=0.2)
    for attempt in (store.ping(), store.claim(ORDERS_3, 4), store.load(ORDERS_3, ["a"])):
        with pytest.raises(StoreUnavailable):
            await attempt
    await store.close()


@pytest.mark.parametrize(
    "url", ["redis://a:1,b:2", "redis+cluster://a:1/3", "redis+cluster://a:x,b:2"]
)
def test_a_cluster_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(StoreUrlInvalid):
        RedisAdmin.from_url(url, cluster_id="c")


def test_a_cluster_address_names_all_servers_and_no_secret() -> None:
    url = "rediss+cluster://u:hunter2@a:1,[::1]:2,c/?ssl_cert_reqs=required"
    assert redacted(url) == "rediss+cluster://a:1,[::1]:2,c:6379/"
    assert "hunter2" not in repr(RedisAdmin.from_url(url, cluster_id="c"))


# --- what is damaged


async def test_a_key_of_another_type_is_told_from_a_customer_never_seen(
    redis: RedisAdmin,
) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states={"ann": b"1"})
    await redis.server.client.rpush(f"{redis.server.root}{{orders-3}}:c:bob", "somebody else's")
    ann, bob, cleo = await owner.load("ann", "bob", "cleo")
    assert (ann.state, cleo.state) == (b"1", None)
    assert bob.state is not None
    assert bob.state.startswith(b"\0")
    await owner.write(states={"bob": b"2"}, quarantine={"bob": bob.state})
    assert await owner.load("bob") == [Stored(b"2", None)]
    assert await redis.quarantined(ORDERS_3) == {"bob": bob.state}


@pytest.mark.parametrize("harm", ["another type", "cut short", "emptied", "gone", "another's"])
async def test_whoever_is_damaged_stays_due(redis: RedisAdmin, harm: str) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states={"ann": b"1", "bob": b"2"}, due={"ann": 900_000, "bob": 900_000})
    key = f"{redis.server.root}{{orders-3}}:c:ann"
    await redis.server.client.delete(key)
    if harm == "another type":
        await redis.server.client.rpush(key, "somebody else's")
    elif harm != "gone":
        never = b"\xff" * 6 + b"1"
        await redis.server.client.set(
            key, {"emptied": b"", "cut short": b"\0\0", "another's": never}[harm]
        )
    assert sorted(await redis.due(ORDERS_3, 900_000, 10)) == [("ann", 900_000), ("bob", 900_000)]
    assert await redis.due_times(ORDERS_3, ["ann", "cleo", "bob"]) == [900_000, None, 900_000]
    await owner.write(states={"ann": b"3"}, due={"ann": 1_800_000}, quarantine={"ann": b"damaged"})
    assert await redis.due(ORDERS_3, 900_000, 10) == [("bob", 900_000)]
    assert await redis.due(ORDERS_3, 1_800_000, 10) == [("bob", 900_000), ("ann", 1_800_000)]


async def test_a_key_retyped_since_it_was_read_halves_no_write(redis: RedisAdmin) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states={"ann": b"1", "bob": b"2"}, due={"ann": 1, "bob": 1})
    key = redis.layout.prefix(ORDERS_3) + b"c:ann"
    await redis.server.client.delete(key)
    await redis.server.client.rpush(key, "somebody else's")
    await owner.write(states={"bob": b"3"}, due={"ann": 5, "bob": 5}, outbox=[b"said"])
    assert await owner.load("bob") == [Stored(b"3", 5)]
    assert (await redis.outbox(ORDERS_3, 9)).entries == [b"said"]
    assert await redis.due_times(ORDERS_3, ["ann"]) == [5]
    list_of_7 = redis.layout.prefix(ORDERS_3) + b"due:7"
    await redis.server.client.set(list_of_7, "somebody else's")
    with pytest.raises(ForeignData):
        await owner.write(states={"bob": b"4"}, due={"bob": 7}, outbox=[b"never"])
    assert await owner.load("bob") == [Stored(b"3", 5)]


async def test_damaged_bytes_are_kept_with_the_write_that_replaces_them(
    store: StateStore,
) -> None:
    owner = await Owner.claims(store)
    await owner.write(states={"ann": b"broken"})
    zombie = replace(owner)
    owner = await Owner.claims(store)
    assert await zombie.write(quarantine={"ann": b"zombie"}) is Outcome.FENCED
    await owner.write(states={"ann": b"whole"}, quarantine={"ann": b"broken", "🛒": b"\0\xff"})
    assert await store.quarantined(ORDERS_3) == {"ann": b"broken", "🛒": b"\0\xff"}
    many = {f"user-{n}": b"1" for n in range(QUARANTINE_SIZE)}
    await owner.write(quarantine={**many, "ann": b"again"})
    kept = await store.quarantined(ORDERS_3)
    assert len(kept) == QUARANTINE_SIZE
    assert kept["ann"] == b"again"


async def test_where_the_log_began_is_kept_from_the_first_record_on(store: StateStore) -> None:
    assert (await store.claim(ORDERS_3, 4, log_start=5)).first_offset == 5
    assert (await store.claim(ORDERS_3, 4, log_start=7)).first_offset == 7
    owner = await Owner.claims(store)
    assert (await store.claim(ORDERS_3, 4, log_start=9)).first_offset == 9
    owner = await Owner.claims(store)
    await owner.write(next_offset=12)
    assert (await store.claim(ORDERS_3, 4, log_start=11)).first_offset == 0
    stands = await store.peek(ORDERS_3)
    assert stands is not None
    assert stands.first_offset == 0


async def test_another_topic_of_the_same_name_is_refused(store: StateStore) -> None:
    claim = await store.claim(ORDERS_3, 4, topic_id="one")
    assert (await store.claim(ORDERS_3, 4, topic_id="two")).epoch > claim.epoch
    claim = await store.claim(ORDERS_3, 4)
    await store.write(ORDERS_3, claim.epoch, 0, a_write(next_offset=1))
    with pytest.raises(TopicRecreated, match=r"id is one.*from two.*CLV_STATE_NAMESPACE"):
        await store.claim(ORDERS_3, 4, topic_id="one")
    await store.claim(ORDERS_3, 4, topic_id="")
    await store.claim(ORDERS_3, 4, topic_id="two")


# --- the user of docs/security.md


async def test_the_user_may_touch_no_other_key_and_run_no_other_command(
    embedded_redis: EmbeddedRedis,
) -> None:
    async with Redis.from_url(embedded_redis.url) as admin:
        name, password = await limited([admin])
        await admin.set("other:key", "x")
    url = embedded_redis.url.replace("unix://", f"unix://{name}:{password}@")
    async with Redis.from_url(url) as user:
        await user.set("clv:probe", "x")
        for command in (
            ("GET", "other:key"),
            ("SET", "other:key", "y"),
            ("EVAL", "return redis.call('GET', 'other:key')", "0"),
            ("CONFIG", "GET", "maxmemory"),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("ACL", "LIST"),
            ("PUBLISH", "clv:channel", "x"),
            ("RESTORE", "clv:x", "0", "x"),
            ("SHUTDOWN",),
        ):
            with pytest.raises(NoPermissionError):
                await user.execute_command(*command)


# --- a partition to be read again


@pytest.fixture(scope="module")
def redis_shard() -> Iterator[list[Node]]:
    """A cluster of one master, of which the client answers in another form."""
    with cluster(1) as nodes:
        yield nodes


@pytest.fixture(params=["redis", "cluster", "shard"])
async def server_store(request: pytest.FixtureRequest) -> AsyncIterator[RedisAdmin]:
    if request.param == "redis":
        store = redis_store(request.getfixturevalue("embedded_redis"))
    else:
        url = cluster_url(request.getfixturevalue(f"redis_{request.param}"))
        store = RedisAdmin.from_url(url, cluster_id=uuid.uuid4().hex)
    yield store
    await store.close()


async def test_a_server_is_looked_at_and_answers_however_many_there_are(
    server_store: RedisAdmin,
) -> None:
    await server_store.check_server()
    await server_store.ping()
    owner = await Owner.claims(server_store)
    await owner.write(states={"ann": b"1", "bob": b"2"}, lead=b"\x00lead", high_ts_ms=5)
    found = [pair async for chunk in server_store.scan("orders") for pair in chunk]
    assert sorted(found, key=lambda pair: pair[1]) == [(ORDERS_3, "ann"), (ORDERS_3, "bob")]
    assert (await server_store.claim(ORDERS_3, 4)).lead == b"\x00lead"


async def test_a_partition_that_is_reset_is_as_though_it_had_never_been(
    server_store: RedisAdmin,
) -> None:
    store = server_store
    users = [*ODD_IDS, *(f"user-{n}" for n in range(1_200))]
    neighbours = [Partition("orders", 30), Partition("orders", 13), Partition("returns", 3)]
    owners = [await Owner.claims(store, partition) for partition in (ORDERS_3, *neighbours)]
    for owner in owners:
        everyone = dict.fromkeys(users, b"1")
        damaged = {"ann": b"broken"}
        due = dict.fromkeys(users, 1)
        await owner.write(
            states=everyone, due=due, outbox=[b"w"], next_offset=7, quarantine=damaged
        )
    assert await store.reset(ORDERS_3) == len(users)
    assert await store.peek(ORDERS_3) is None
    assert await store.load(ORDERS_3, ["ann", "{}"]) == [Stored(None, None)] * 2
    assert await store.quarantined(ORDERS_3) == {}
    assert await owners[0].write(next_offset=8) is Outcome.LOST_WRITES
    assert (await store.claim(ORDERS_3, 4)).next_offset is None
    for owner in owners[1:]:
        assert await owner.write(next_offset=8) is Outcome.APPLIED
        assert await owner.load("{}") == [Stored(b"1", 1)]


async def test_until_the_last_key_is_gone_a_reset_partition_is_nobodys(
    redis: RedisAdmin,
) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states={"ann": b"1"}, next_offset=7)
    await redis.server.run(
        "reset", [f"{redis.server.root}{{orders-3}}:meta".encode()], [SCHEMA]
    )  # interrupted here
    assert await owner.write(next_offset=8) is Outcome.FENCED
    with pytest.raises(ForeignData):
        await redis.claim(ORDERS_3, 4)
    assert await redis.reset(ORDERS_3) == 1
    assert (await redis.claim(ORDERS_3, 4)).next_offset is None


async def test_what_a_newer_version_wrote_is_not_reset(redis: RedisAdmin) -> None:
    await redis.claim(ORDERS_3, 4)
    await redis.server.client.hset(f"{redis.server.root}{{orders-3}}:meta", "schema", SCHEMA + 1)
    with pytest.raises(NewerSchema):
        await redis.reset(ORDERS_3)
    assert await keys_of(redis)


# --- what earlier versions wrote

# The keys of a partition as schema 1 has them. Never change these: servers hold them.
SCHEMA_1_META = {
    "epoch": "1795363300000783",
    "sequence": "41",
    "next": "1200",
    "high_ts": "1747828800000",
    "partitions": "4",
    "schema": "1",
    "outbox_first": "6",
    "first": "300",
    "topic_id": "01a203f3972b7f42999ae47687053988",
}


async def left_by_schema_1(
    redis: RedisAdmin, states: Mapping[str, bytes], due: Mapping[str, int], **meta: str
) -> None:
    """What the version before kept of a partition and its customers."""
    prefix, client = redis.layout.former_prefix(ORDERS_3).decode(), redis.server.client
    await client.hset(f"{prefix}meta", mapping=SCHEMA_1_META | meta)
    await client.set(redis.layout.of_topic("orders", "partitions")[1], 4)
    for user, state in states.items():
        await client.set(f"{prefix}c:{user}", state)
    if due:
        await client.zadd(f"{prefix}due", dict(due))


async def test_a_partition_as_schema_1_kept_it_is_read_for_ever(redis: RedisAdmin) -> None:
    due_ms = 1_747_828_800_000
    await left_by_schema_1(redis, {"ann": b"\x01state"}, {"ann": due_ms})
    prefix, client = redis.layout.former_prefix(ORDERS_3).decode(), redis.server.client
    await client.rpush(f"{prefix}outbox", b"one", b"two")
    await client.hset(f"{prefix}quarantine", "bob", b"damaged")
    expected = Claim(1795363300000783, 41, 1200, due_ms, 300, listed=False)
    for _ in range(2):  # by whoever looks before it is claimed, and after
        assert replace(await redis.peek(ORDERS_3) or expected, epoch=expected.epoch) == expected
        assert await redis.load(ORDERS_3, ["ann", "bob"]) == [
            Stored(b"\x01state", due_ms),
            Stored(None, None),
        ]
        assert await redis.due(ORDERS_3, 2**46, 9) == [("ann", due_ms)]
        assert await redis.sample(ORDERS_3, 9) == ["ann"]
        assert await redis.outbox(ORDERS_3, 9) == Outbox(6, [b"one", b"two"])
        assert await redis.quarantined(ORDERS_3) == {"bob": b"damaged"}
        assert [users async for users in redis.users(ORDERS_3)] == [["ann"]]
        assert [found async for found in redis.scan("orders")] == [[(ORDERS_3, "ann")]]
        with pytest.raises(PartitionCountChanged):
            await redis.claim(ORDERS_3, 5)
        claim = await redis.claim(ORDERS_3, 4, topic_id=SCHEMA_1_META["topic_id"])
        assert claim == replace(expected, epoch=claim.epoch)


async def test_what_schema_1_kept_of_a_customer_moves_as_it_is_written(redis: RedisAdmin) -> None:
    await left_by_schema_1(redis, dict.fromkeys("abcd", b"1"), {"a": 1, "b": 2, "c": 3})
    owner = await Owner.claims(redis)
    await owner.write(states={"a": b"2"}, due={"a": 4, "b": None})
    assert await owner.load("a", "b", "c", "d") == [
        *(Stored(b"2", 4), Stored(b"1", None), Stored(b"1", 3), Stored(b"1", None))
    ]
    assert await owner.due(9) == [("c", 3), ("a", 4)]
    there = redis.layout.former_prefix(ORDERS_3)
    async with redis.server.errors():
        left = {key async for key in redis.server.client.scan_iter(match=there + b"*")}
    assert left == {there + name for name in (b"meta", b"due", b"c:c", b"c:d")}
    await redis.remove(ORDERS_3, owner.epoch, owner.sequence, ["a", "c"], None)
    assert await owner.due(9) == []
    assert await redis.reset(ORDERS_3) == 2
    assert not await redis.server.client.exists(there + b"meta", there + b"due", there + b"c:d")


async def test_the_version_before_refuses_what_has_moved(redis: RedisAdmin) -> None:
    await left_by_schema_1(redis, {}, {})
    await redis.claim(ORDERS_3, 4)
    found: Any = await redis.server.client.hgetall(redis.layout.former_prefix(ORDERS_3) + b"meta")
    assert found == {b"schema": str(SCHEMA).encode()}


async def test_a_partition_that_schema_1_has_left_can_be_seized(redis: RedisAdmin) -> None:
    await left_by_schema_1(redis, {"a": b"1"}, {"a": 1})
    claim = await redis.seize(ORDERS_3, 4, 2)
    assert (claim.sequence, claim.first_offset) == (41, -1)
    assert await redis.load(ORDERS_3, ["a"]) == [Stored(b"1", 1)]


async def test_another_cluster_with_the_same_letters_is_refused(redis: RedisAdmin) -> None:
    await redis.claim(ORDERS_3, 4)
    await redis.server.client.hset(redis.layout.prefix(ORDERS_3) + b"meta", "cluster", "another")
    with pytest.raises(ForeignData, match="CLV_STATE_NAMESPACE"):
        await redis.claim(ORDERS_3, 4)


async def test_a_customer_whose_record_was_lost_is_due_and_has_no_state(redis: RedisAdmin) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states=dict.fromkeys("abc", b"1"), due={"a": 1, "b": 2, "c": 3})
    await redis.server.client.delete(redis.layout.prefix(ORDERS_3) + b"c:b")
    assert await owner.due(2) == [("a", 1), ("b", 2)]
    assert await owner.load("a", "b", "new") == [
        Stored(b"1", 1),
        Stored(None, 2),
        Stored(None, None),
    ]
    await owner.write(states={"b": b"rebuilt"}, due={"b": 3}, quarantine={"b": b""})
    assert await owner.due(2) == [("a", 1)]
    assert sorted(await owner.due(9)) == [("a", 1), ("b", 3), ("c", 3)]


async def test_a_record_that_says_another_instant_than_the_list_is_put_right(
    redis: RedisAdmin,
) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states=dict.fromkeys("ab", b"1"), due={"a": 1, "b": 1})
    await redis.server.client.setrange(redis.layout.prefix(ORDERS_3) + b"c:a", 0, b"\xff" * 6)
    assert sorted(await owner.due(1)) == [("a", 1), ("b", 1)]
    assert await owner.load("a") == [Stored(b"1", 1)]


async def test_a_partition_from_before_topic_ids_learns_its_own(redis: RedisAdmin) -> None:
    old = {k: v for k, v in SCHEMA_1_META.items() if k not in ("first", "topic_id")}
    await redis.server.client.hset(redis.layout.former_prefix(ORDERS_3) + b"meta", mapping=old)
    assert (await redis.claim(ORDERS_3, 4, log_start=5, topic_id="one")).first_offset == 0
    with pytest.raises(TopicRecreated):
        await redis.claim(ORDERS_3, 4, topic_id="two")


# --- what is kept for whoever looks


async def listed(store: StateStore) -> set[bytes]:
    return set(await store.open_warnings(ORDERS_3))


async def standing(store: StateStore) -> Standing:
    (found,) = await store.standings([ORDERS_3])
    assert found is not None
    return found


async def test_what_is_listed_is_changed_by_the_write_that_changes_the_states(
    store: StateStore,
) -> None:
    owner = await Owner.claims(store)
    sent = [b"ann is warned of", b"bob ordered"]
    listing = {"ann": sent[0], "bob": None, "{}": b"not sent now"}
    await owner.write(states={"ann": b"1"}, outbox=sent, listing=listing, tally=b"one")
    assert await listed(store) == {b"ann is warned of", b"not sent now"}
    assert (await owner.outbox()).entries == sent
    first = await standing(store)
    assert (first.open, first.tally) == (2, b"one")
    await owner.write(next_offset=5)
    assert await standing(store) == replace(first, next_offset=5)
    owner.sequence -= 1  # its answer was lost
    assert await owner.write(listing={"ann": None}) is Outcome.ALREADY_APPLIED
    await owner.write(listing={"ann": None}, tally=b"two")
    second = await standing(store)
    assert (second.open, second.tally) == (1, b"two")
    assert second.changed != first.changed
    claim = await store.claim(ORDERS_3, 4)
    assert (claim.tally, claim.listed) == (b"two", True)


async def test_of_thousands_who_are_listed_all_are(store: StateStore) -> None:
    owner = await Owner.claims(store)
    entries = [f"warning of {n}".encode() for n in range(9_000)]
    await owner.write(outbox=entries, listing={f"u{n}": entry for n, entry in enumerate(entries)})
    assert await listed(store) == set(entries)
    await owner.write(listing=dict.fromkeys(f"u{n}" for n in range(8_999)))
    assert await listed(store) == {b"warning of 8999"}


async def test_the_feed_has_what_left_the_outbox_each_once(store: StateStore) -> None:
    owner = await Owner.claims(store)
    entries = [f"{n}".encode() for n in range(FEED_SIZE + 500)]
    await owner.write(outbox=entries)
    assert await store.feed(ORDERS_3, 0, 9) == Said(0, [])
    await owner.trim(0, 2)
    await owner.trim(0, 2)  # its answer was lost
    assert await store.feed(ORDERS_3, 0, 9) == Said(0, [b"0", b"1"])
    assert await store.feed(ORDERS_3, 1, 9) == Said(1, [b"1"])
    assert await store.feed(ORDERS_3, 99, 9) == Said(2, [])
    await owner.trim(2, FEED_SIZE + 498)
    assert await store.feed(ORDERS_3, 0, 2) == Said(500, [b"500", b"501"])
    assert (await standing(store)).said == FEED_SIZE + 500


async def test_who_is_erased_is_listed_no_more_and_blotted_out_of_the_feed(
    store: StateStore,
) -> None:
    owner = await Owner.claims(store)
    sent = [b"ann:1", b"anna:1", b"ann:2"]
    await owner.write(states={"ann": b"1"}, outbox=sent, listing={"ann": sent[2], "anna": sent[1]})
    await owner.trim(0, 3)
    before = await standing(store)
    outcome = await store.remove(ORDERS_3, owner.epoch, owner.sequence, ["ann"], 4, b"ann:")
    assert outcome is Outcome.APPLIED
    assert await listed(store) == {b"anna:1"}
    assert await store.feed(ORDERS_3, 0, 9) == Said(0, [b"", b"anna:1", b""])
    after = await standing(store)
    assert (after.open, after.changed != before.changed) == (1, True)
    assert [users async for users in store.users(ORDERS_3)] == []


@pytest.mark.parametrize("head", [b"", b"\0\0", b"\xff" * 6, (2**47 + 7).to_bytes(6, "big")])
async def test_who_is_removed_is_due_no_more_whatever_their_record_says(
    redis: RedisAdmin, head: bytes
) -> None:
    owner = await Owner.claims(redis)
    await owner.write(states={"ann": b"1", "bob": b"2"}, due={"ann": 5, "bob": 9})
    await redis.server.client.set(redis.layout.prefix(ORDERS_3) + b"c:ann", head)
    await redis.remove(ORDERS_3, owner.epoch, owner.sequence, ["ann"], None)
    prefix = redis.layout.prefix(ORDERS_3)
    keys = [key async for key in redis.server.client.scan_iter(match=prefix + b"due*")]
    assert {key.rpartition(b":")[2] for key in keys} == {b"due", b"9"}
    assert await redis.due(ORDERS_3, 9, 9) == [("bob", 9)]


async def test_a_list_that_was_lost_or_not_kept_is_not_taken_for_whole(redis: RedisAdmin) -> None:
    prefix, client = f"{redis.server.root}{{orders-3}}:", redis.server.client
    for damage in ("lost", "older version"):
        owner = await Owner.claims(redis)
        await owner.write(listing={"ann": b"w"}, next_offset=1, listed=True)
        assert (await redis.claim(ORDERS_3, 4)).listed
        if damage == "lost":
            await client.delete(f"{prefix}open")
        else:
            await client.hincrby(f"{prefix}meta", "sequence", 1)
        assert not (await redis.claim(ORDERS_3, 4)).listed
        assert (await standing(redis)).open is None
        owner = await Owner.claims(redis)
        await owner.write(listing={"ann": b"w", "bob": b"w2"})
        assert not (await redis.claim(ORDERS_3, 4)).listed
        owner = await Owner.claims(redis)
        await owner.write(listed=True)
        assert (await redis.claim(ORDERS_3, 4)).listed
        assert (await standing(redis)).open == 2


async def test_every_customer_of_a_partition_is_found_and_no_other(store: StateStore) -> None:
    users = {*ODD_IDS, *(f"u{n}" for n in range(50))}
    for partition in (ORDERS_3, Partition("orders", 33)):
        owner = await Owner.claims(store, partition)
        await owner.write(states=dict.fromkeys(users if partition == ORDERS_3 else ["x"], b"1"))
    assert {user async for chunk in store.users(ORDERS_3, 20) for user in chunk} == users
    assert await store.standings([Partition("orders", 7)]) == [None]
