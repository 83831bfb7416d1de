"""Damaged states are set aside and rebuilt from the log, or the worker stops and says why."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order
from model.decide import codec as customer
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.claim import LostWrites
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.pipeline.rebuild import MAX_REBUILDS, CustomerUnrecoverable, StoreDamaged
from streamer.records import LogUnavailable, MemoryPublisher, Partition
from streamer.store.base import QUARANTINE_SIZE, NewerSchema, Stored, StoreUnavailable, Write
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    HOUR_MS,
    ORDERS_0,
    TOPICS,
    Crash,
    Faults,
    FaultyPublisher,
    FaultyStore,
    Left,
    Rec,
    an_order,
    at,
    by_time,
    done,
    every,
    left,
    log_of,
    pipeline,
    quarantined,
    records,
    users_of,
)
from tests.support.logs import shop_logs

END_MS = at(700)


class LogHistory:
    """A log that can be read again, in lists of three; from `start` on, as retention left it."""

    def __init__(self, log: Sequence[Rec], start: int = 0) -> None:
        self.log = log
        self.begins = start
        self.reads = 0
        self.fails = 0

    async def start(self, partition: Partition) -> int:
        return self.begins

    async def read(self, partition: Partition, until: int) -> AsyncIterator[Sequence[Rec]]:
        self.reads += 1
        found = [r for r in self.log if self.begins <= r.offset < until]
        for place in range(0, len(found), 3):
            if self.fails:
                self.fails -= 1
                raise LogUnavailable("no broker")
            yield found[place : place + 3]


def flip(state: bytes) -> bytes:
    return state[:-7] + bytes([state[-7] ^ 4]) + state[-6:]


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "a flipped bit": flip,
    "a torn value": lambda state: state[: len(state) // 2],
    "an empty value": lambda _: b"",
    "a foreign value": lambda _: b'{"name": "somebody"}',
    "a key of another type": lambda _: b"\0a dump",
    "a newer version, torn": lambda state: b"\7" + state[1:],
}


def hurt(store: MemoryStore, user: str, how: Callable[[bytes], bytes | None] = flip) -> None:
    states = store._kept(ORDERS_0).states
    damaged = how(states[user])
    if damaged is None:
        del states[user]
    else:
        states[user] = damaged


def owner(
    log: Sequence[Rec],
    store: object,
    publisher: MemoryPublisher,
    through: Pipeline | None = None,
    history: LogHistory | None = None,
    **options: bool,
) -> PartitionRunner:
    """A runner that keeps nothing in memory, so that it meets what the store has."""
    runner = PartitionRunner(
        ORDERS_0,
        store,  # type: ignore[arg-type]
        publisher,
        through or pipeline(),
        RunnerOptions(cache_customers=0, history=history or LogHistory(log), **options),  # type: ignore[arg-type]
    )
    done(runner.claim(log_of(log)))
    return runner


def a_log() -> list[Rec]:
    """Two customers who stop and one who goes on."""
    orders = by_time(every("ada", 7, 21), every("ben", 5, 20, 20_000), every("cleo", 40, 9))
    return records(orders)


def undisturbed(log: Sequence[Rec], through: Pipeline | None = None) -> Left:
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = owner(log, store, publisher, through)
    done(runner.process(log))
    done(runner.tick(END_MS))
    return left(store, publisher, users_of(log))


@pytest.mark.parametrize("how", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("cut", [10, 30, 45])
def test_a_damaged_customer_ends_as_though_nothing_had_been(
    how: Callable[[bytes], bytes | None], cut: int
) -> None:
    log, store, publisher = a_log(), MemoryStore(), MemoryPublisher()
    runner = owner(log, store, publisher)
    done(runner.process(log[:cut]))
    hurt(store, "ada", how)
    damaged = done(store.load(ORDERS_0, ["ada"]))[0].state
    done(runner.process(log[cut:]))
    done(runner.tick(END_MS))
    assert left(store, publisher, users_of(log)) == undisturbed(log)
    kept = {user: quarantined(data) for user, data in done(store.quarantined(ORDERS_0)).items()}
    assert list(kept) == ["ada"]
    assert kept["ada"].state == damaged
    assert kept["ada"].complete
    assert kept["ada"].why
    assert runner.counters.rebuilt == 1


@given(orders=shop_logs(), data=st.data(), lateness_ms=st.sampled_from([0, HOUR_MS]))
def test_whoever_is_damaged_whenever_ends_as_though_nothing_had_been(
    orders: list[Order], data: st.DataObject, lateness_ms: int
) -> None:
    log, through = records(orders), pipeline(lateness_ms=lateness_ms)
    cut = data.draw(st.integers(0, len(log)), "cut")
    idle_ms = at(data.draw(st.integers(0, 500), "idle day"))
    worlds = []
    for damaged in (False, True):
        store, publisher = MemoryStore(), MemoryPublisher()
        runner = owner(log, store, publisher, through)
        done(runner.process(log[:cut]))
        done(runner.tick(idle_ms))
        states = store._kept(ORDERS_0).states
        if damaged and states:
            for user in data.draw(st.sets(st.sampled_from(sorted(states))), "damaged"):
                hurt(store, user, data.draw(st.sampled_from(list(DAMAGE.values()))))
        done(runner.process(log[cut:]))
        done(runner.tick(END_MS))
        # Who is never due again is found damaged now.
        done(runner.customers.load(sorted(users_of(log)), through, runner.counters))
        worlds.append(left(store, publisher, users_of(log)))
    assert worlds[0] == worlds[1]


def test_a_silent_customer_found_damaged_by_the_clock_is_warned_of_all_the_same() -> None:
    log, store, publisher = records(every("ada", 7, 21)), MemoryStore(), MemoryPublisher()
    runner = owner(log, store, publisher)
    done(runner.process(log))
    hurt(store, "ada")
    assert publisher.of(TOPICS.warnings) == []
    done(runner.tick(END_MS))
    assert len(publisher.of(TOPICS.warnings)) == 1
    assert left(store, publisher, ["ada"]) == undisturbed(log)


def test_rebuilding_says_nothing_again() -> None:
    log, store, publisher = records(every("ada", 7, 21)), MemoryStore(), MemoryPublisher()
    runner = owner(log, store, publisher)
    done(runner.process(log))
    done(runner.tick(END_MS))
    said = list(publisher.messages)
    hurt(store, "ada")
    done(runner.customers.load(["ada"], pipeline(), runner.counters))
    assert publisher.messages == said
    assert left(store, publisher, ["ada"]) == undisturbed(log)


def test_a_state_that_is_gone_while_its_due_time_is_there_is_damage() -> None:
    log, store, publisher = records(every("ada", 7, 21)), MemoryStore(), MemoryPublisher()
    runner = owner(log, store, publisher)
    done(runner.process(log))
    hurt(store, "ada", lambda _: None)
    done(runner.tick(END_MS))
    assert left(store, publisher, ["ada"]) == undisturbed(log)
    assert "missing" in quarantined(done(store.quarantined(ORDERS_0))["ada"]).why


def test_a_foreign_customer_that_the_log_never_had_is_set_aside() -> None:
    log, store, publisher = a_log(), MemoryStore(), MemoryPublisher()
    runner = owner(log, store, publisher)
    done(runner.process(log[:20]))
    kept = store._kept(ORDERS_0)
    kept.states["zoe"] = b"somebody else's"
    done(runner.process([*log[20:], *records([an_order("zoe", 400)], first=log[-1].offset + 1)]))
    assert list(done(store.quarantined(ORDERS_0))) == ["zoe"]
    assert customer.decode(kept.states["zoe"]).facts.last_order_ms() == at(400)


def test_all_damaged_customers_of_a_batch_are_rebuilt_in_one_reading() -> None:
    log, store = a_log(), MemoryStore()
    history = LogHistory(log)
    runner = owner(log, store, MemoryPublisher(), history=history)
    done(runner.process(log[:10]))
    for user in ("ada", "ben", "cleo"):
        hurt(store, user)
    done(runner.process(log[10:]))
    assert history.reads == 1
    assert sorted(done(store.quarantined(ORDERS_0))) == ["ada", "ben", "cleo"]


def test_where_the_log_has_lost_its_start_the_worker_stops_and_nothing_is_changed() -> None:
    log, store, publisher = a_log(), MemoryStore(), MemoryPublisher()
    history = LogHistory(log)
    runner = owner(log, store, publisher, history=history)
    done(runner.process(log[:40]))
    hurt(store, "ada")
    before = dict(store._kept(ORDERS_0).states)
    history.begins = 5
    with pytest.raises(CustomerUnrecoverable, match=r"begins at 5, .*CLV_REBUILD_PARTLY=on"):
        done(runner.process(log[40:]))
    assert store._kept(ORDERS_0).states == before
    assert done(store.quarantined(ORDERS_0)) == {}


def test_said_explicitly_a_customer_is_rebuilt_from_what_the_log_still_has() -> None:
    log, store = a_log(), MemoryStore()
    history = LogHistory(log)
    runner = owner(log, store, MemoryPublisher(), history=history, rebuild_partly=True)
    done(runner.process(log[:40]))
    hurt(store, "ada")
    history.begins = 5
    done(runner.process(log[40:]))
    kept = quarantined(done(store.quarantined(ORDERS_0))["ada"])
    assert (kept.complete, kept.next_offset) == (False, log[40].offset)


def test_what_the_log_had_lost_before_the_first_record_was_applied_is_not_missed() -> None:
    log = a_log()[5:]
    store, publisher = MemoryStore(), MemoryPublisher()
    runner = owner(log, store, publisher, history=LogHistory(log, start=5))
    done(runner.process(log[:30]))
    hurt(store, "ada")
    done(runner.process(log[30:]))
    done(runner.tick(END_MS))
    assert left(store, publisher, users_of(log)) == undisturbed(log)
    assert quarantined(done(store.quarantined(ORDERS_0))["ada"]).complete


def test_a_customer_of_a_newer_version_stops_the_worker_and_is_left_alone() -> None:
    log, store = a_log(), MemoryStore()
    runner = owner(log, store, MemoryPublisher())
    done(runner.process(log[:40]))
    body = bytes([customer.CUSTOMER_VERSION + 1]) + b"what a later version keeps"
    newer = body + zlib.crc32(body).to_bytes(4, "little")
    hurt(store, "ada", lambda _: newer)
    before = dict(store._kept(ORDERS_0).states)
    with pytest.raises(NewerSchema, match=r"orders-0 has schema \d+ .* or a newer one"):
        done(runner.process(log[40:]))
    assert store._kept(ORDERS_0).states == before
    assert done(store.quarantined(ORDERS_0)) == {}


def test_damage_again_and_again_stops_the_worker() -> None:
    log, store = a_log(), MemoryStore()
    runner = owner(log, store, MemoryPublisher())
    done(runner.process(log[:40]))
    for _ in range(MAX_REBUILDS):
        hurt(store, "ada")
        done(runner.customers.load(["ada"], pipeline(), runner.counters))
    hurt(store, "ada")
    with pytest.raises(StoreDamaged, match="not to be trusted"):
        done(runner.customers.load(["ada"], pipeline(), runner.counters))


def test_without_a_log_to_read_again_a_damaged_customer_stops_the_run() -> None:
    log, store = a_log(), MemoryStore()
    runner = PartitionRunner(
        ORDERS_0, store, MemoryPublisher(), pipeline(), RunnerOptions(cache_customers=0)
    )
    done(runner.claim(log_of(log)))
    done(runner.process(log[:40]))
    hurt(store, "ada")
    with pytest.raises(CustomerUnrecoverable, match="no log"):
        done(runner.process(log[40:]))


def test_a_log_out_of_reach_is_waited_for() -> None:
    log, store, publisher = a_log(), MemoryStore(), MemoryPublisher()
    history = LogHistory(log)
    runner = owner(log, store, publisher, history=history)
    done(runner.process(log[:40]))
    hurt(store, "ada")
    history.fails = 2
    for _ in range(2):
        with pytest.raises(LogUnavailable):
            done(runner.process(log[40:]))
    done(runner.process(log[40:]))
    done(runner.tick(END_MS))
    assert left(store, publisher, users_of(log)) == undisturbed(log)


def steps_of_a_rebuild() -> int:
    faults = Faults()
    _disturbed(faults, crash=False)
    return faults.count


def _disturbed(faults: Faults, *, crash: bool) -> tuple[Left, dict[str, bytes]]:
    """A rebuild in which effects fail, and what they leave after everything was tried again."""
    log, kept, publisher = a_log(), MemoryStore(), FaultyPublisher(Faults())
    done(owner(log, kept, publisher).process(log[:40]))
    hurt(kept, "ada")
    store = FaultyStore(Faults(), kept)
    runner = owner(log, store, publisher)
    store.faults = publisher.faults = faults
    for _ in range(50):
        try:
            done(runner.process(log[40:]))
            done(runner.tick(END_MS))
        except StoreUnavailable:
            continue
        except Crash:
            healthy, store.faults = store.faults, Faults()
            publisher.faults = store.faults
            runner = owner(log, store, publisher)
            store.faults = publisher.faults = healthy
            continue
        except LostWrites:
            raise AssertionError("nothing was lost") from None
        break
    return left(kept, publisher, users_of(log)), done(kept.quarantined(ORDERS_0))


@pytest.mark.parametrize("crash", [False, True], ids=["outage", "crash"])
def test_a_failure_at_any_step_of_a_rebuild_changes_nothing(crash: bool) -> None:
    log = a_log()
    expected = undisturbed(log)
    for place in range(min(steps_of_a_rebuild(), 24)):
        faults = Faults([place], (lambda: Crash()) if crash else (lambda: StoreUnavailable("down")))
        found, kept = _disturbed(faults, crash=crash)
        assert found == expected, faults.names[place]
        assert list(kept) == ["ada"]


def test_the_quarantine_is_bounded_and_keeps_the_last_damage_of_whom_it_has() -> None:
    store = MemoryStore()
    claim = done(store.claim(ORDERS_0, 1))
    first = {f"user-{n}": b"1" for n in range(QUARANTINE_SIZE)}
    more = {"user-7": b"2", "one-too-many": b"2"}
    for sequence, quarantine in enumerate([first, more]):
        write = Write({}, {}, [], None, None, quarantine=quarantine)
        done(store.write(ORDERS_0, claim.epoch, sequence, write))
    assert done(store.quarantined(ORDERS_0)) == first | {"user-7": b"2"}


def test_an_undamaged_customer_is_not_read_again() -> None:
    log, store = a_log(), MemoryStore()
    history = LogHistory(log)
    runner = owner(log, store, MemoryPublisher(), history=history)
    done(runner.process(log))
    assert history.reads == 0
    assert done(store.load(ORDERS_0, ["nobody"])) == [Stored(None, None)]
