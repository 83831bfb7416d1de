"""A partition through everything at once: crashes, lost answers, zombies, broker and store away, a
store that goes back to an older copy, erased customers, a model published anew.

Hypothesis chooses what happens and in which order; what the store has must at every moment be the
offline fold of what was applied, and at the end every warning must have been said, in the same
bytes each time, and no other.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, CustomerState, apply
from model.decide import codec as customer
from streamer.pipeline.claim import Fenced, LostWrites
from streamer.pipeline.erasures import Erasure, Erasures, erasure_headers
from streamer.pipeline.partition import OutOfSequence, PartitionRunner, RunnerOptions
from streamer.records import LogRange, MemoryPublisher, Message, PublishFailed
from streamer.store.base import Claim, StoreUnavailable
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    HOUR_MS,
    ORDERS_0,
    TOPICS,
    Crash,
    Faults,
    FaultyPublisher,
    FaultyStore,
    Rec,
    an_order,
    at,
    claimed,
    done,
    erased,
    pipeline,
    records,
    users_of,
)

LATENESS_MS = HOUR_MS
THROUGH = pipeline(lateness_ms=LATENESS_MS)
# At which of the effects to come one fails.
TROUBLES = st.sampled_from([set[int](), *({step} for step in range(12))])


class Delivery(RuleBasedStateMachine):
    """One worker's partition, its zombies, the store, the broker and the log."""

    @initialize()
    def begin(self) -> None:
        self.store = FaultyStore(Faults())
        self.broker = FaultyPublisher(Faults())
        self.values: list[Order | Erasure | bytes | None] = []
        self.copies: list[MemoryStore] = []
        self.day = 0.5
        self.runner: PartitionRunner | None = None
        self.zombies: list[PartitionRunner] = []
        self.stood: Claim | None = None

    # --- the world --------------------------------------------------------------------------

    @rule(
        arriving=st.lists(
            st.tuples(
                st.sampled_from(["ada", "ben"]),
                st.sampled_from([1_200, 1_200, 1_200, 9_000, 100]),
                st.sampled_from([12.0, 25.0, 1.0, 0.01]),
            ),
            min_size=4,
            max_size=8,
        ),
        late_days=st.sampled_from([0.0, 0.0, 0.0, 0.02, 5.0]),
    )
    def append(self, arriving: list[tuple[str, int, float]], late_days: float) -> None:
        for user, amount, days in arriving:
            self.day += days
            day = max(0.0, self.day - late_days)
            self.values.append(an_order(user, day, amount, id=f"order-{len(self.values)}"))

    @precondition(lambda self: any(isinstance(value, Order) for value in self.values))
    @rule(
        which=st.integers(0, 99),
        type=st.sampled_from([None, OrderType.REFUND, OrderType.CANCELLATION]),
    )
    def take_back_or_repeat(self, which: int, type: OrderType | None) -> None:
        orders = [value for value in self.values if isinstance(value, Order)]
        order = orders[-1 - which % len(orders)]
        if type is None:
            self.values.append(order)
        else:
            back = Order(order.order_id, order.user_id, at(self.day), order.amount_minor, type)
            self.values.append(back)

    @rule(value=st.sampled_from([b"", b"{", b"[]"]))
    def append_a_bad_record(self, value: bytes) -> None:
        self.values.append(value)

    @rule(user=st.sampled_from(["ada", "ben"]))
    def erase(self, user: str) -> None:
        """Everything of the customer up to now is to be forgotten."""
        self.values.append(Erasure(user, at(self.day)))

    @rule()
    def copy_the_store(self) -> None:
        self.copies.append(copy.deepcopy(self.store.kept))

    @precondition(lambda self: bool(self.copies))
    @rule(which=st.integers(0, 9), noticed=st.booleans())
    def roll_the_store_back(self, which: int, noticed: bool) -> None:
        """To one of the copies. `noticed`: by the owner, before another claims the partition."""
        before = done(self.store.kept.peek(ORDERS_0))
        self.store.kept = copy.deepcopy(self.copies[which % len(self.copies)])
        self.stood = None
        if self.runner is not None:
            try:
                if noticed:
                    done(self.runner.check())
                    return  # nothing had been written since
            except LostWrites:
                pass
            self.zombies.append(self.runner)
            self.runner = None
        # On a server epochs follow its clock, so none comes twice.
        if before is not None:
            kept = self.store.kept._kept(ORDERS_0)
            kept.epoch, kept.partition_count = before.epoch, 1
        self.owner()

    # --- the worker -------------------------------------------------------------------------

    @precondition(lambda self: self.runner is not None)
    @rule()
    def publish_the_model_anew(self) -> None:
        assert self.runner is not None
        self.runner.adopt(pipeline(lateness_ms=LATENESS_MS))

    @rule(size=st.integers(1, 9), back=st.integers(0, 3), trouble=TROUBLES, crash=st.booleans())
    def deliver(self, size: int, back: int, trouble: set[int], crash: bool) -> None:
        """A list of records, which may begin with some that were applied before."""
        with self.trouble(trouble, crash):
            runner = self.owner()
            begin = max(0, runner.next_offset - back)
            done(runner.process(self.log()[begin : runner.next_offset + size]))

    @rule(trouble=TROUBLES, crash=st.booleans())
    def tick(self, trouble: set[int], crash: bool) -> None:
        with self.trouble(trouble, crash):
            done(self.owner().tick(None))

    @precondition(lambda self: self.runner is not None)
    @rule(trouble=TROUBLES)
    def lose_the_partition(self, trouble: set[int]) -> None:
        """Another worker claims it, or tries to, and this one does not know."""
        assert self.runner is not None
        self.zombies.append(self.runner)
        self.runner = None
        with self.trouble(trouble, crash=False):
            self.owner()

    @precondition(lambda self: bool(self.zombies))
    @rule(which=st.integers(0, 9), size=st.integers(1, 12), clock=st.booleans())
    def let_a_zombie_work(self, which: int, size: int, clock: bool) -> None:
        zombie = self.zombies[which % len(self.zombies)]
        log = self.log()[zombie.next_offset :][:size]
        before = done(self.store.kept.peek(ORDERS_0))
        try:
            done(zombie.tick(None) if clock else zombie.process(log))
        except (Fenced, LostWrites):
            self.zombies.remove(zombie)
        except OutOfSequence:
            raise AssertionError("a zombie was handed what comes next") from None
        if self.runner is not None:
            assert done(self.store.kept.peek(ORDERS_0)) == before

    # --- what must hold ---------------------------------------------------------------------

    @invariant()
    def the_store_has_the_fold_of_what_was_applied(self) -> None:
        stood = done(self.store.kept.peek(ORDERS_0))
        if stood is None or stood.next_offset is None:
            return
        assert stood.next_offset <= len(self.values)
        if self.stood is not None:
            assert stood.epoch >= self.stood.epoch
            assert stood.sequence >= self.stood.sequence
            assert stood.next_offset >= (self.stood.next_offset or 0)
        if stood == self.stood:
            return
        self.stood = stood
        folded: dict[str, CustomerState] = {}
        for value in self.values[: stood.next_offset]:
            if isinstance(value, Order) and value.user_id not in self.erased():
                folded[value.user_id] = apply(folded.get(value.user_id, EMPTY), value).state
        kept = done(self.store.kept.load(ORDERS_0, list(folded)))
        for facts, stored in zip(folded.values(), kept, strict=True):
            assert stored.state is not None
            assert customer.decode(stored.state).facts == facts

    @invariant()
    def nothing_is_said_that_the_log_does_not_say(self) -> None:
        said = set(self.broker.of(TOPICS.warnings))
        ids = {message.value for message in said}
        assert len(ids) == len(said)

    def teardown(self) -> None:
        """Everything works again, and is delivered to the end."""
        runner = self.owner()
        done(runner.process(self.log()[runner.next_offset :]))
        done(runner.tick(self.end_ms()))
        store, broker = self.undisturbed()
        users = sorted(users_of(self.log()))
        assert done(self.store.kept.load(ORDERS_0, users)) == done(store.load(ORDERS_0, users))
        assert set(self.broker.of(TOPICS.dead_letters)) == set(broker.of(TOPICS.dead_letters))
        said, meant = set(self.broker.of(TOPICS.warnings)), set(broker.of(TOPICS.warnings))
        # What was said of a customer before the erasure has been sent.
        erased = {user.encode() for user in self.erased()}
        assert {message for message in said - meant if message.key not in erased} == set()
        assert meant <= said
        assert set(self.broker.of(TOPICS.scores)) >= set(broker.of(TOPICS.scores))
        stood = done(self.store.kept.peek(ORDERS_0))
        assert stood is not None
        assert (stood.next_offset or 0) == len(self.values)
        assert done(self.store.kept.outbox(ORDERS_0, 10)).entries == []

    # --- means ------------------------------------------------------------------------------

    @contextmanager
    def trouble(self, steps: set[int], crash: bool) -> Iterator[None]:
        """Some of the effects to come fail: for now, or with the process."""
        faults = Faults(steps, Crash if crash else None)
        self.store.faults = self.broker.faults = faults
        try:
            yield
        except (StoreUnavailable, PublishFailed):
            pass
        except Crash:
            self.runner = None
        finally:
            self.store.faults = self.broker.faults = Faults()

    def owner(self) -> PartitionRunner:
        """The runner that owns the partition; a new one where there is none."""
        if self.runner is None:
            runner = PartitionRunner(
                ORDERS_0,
                self.store,
                self.broker,
                THROUGH,
                RunnerOptions(due_batch=2, erasures=self.forgotten()),
            )
            done(runner.claim(LogRange(0, len(self.values), 1)))
            self.runner = runner
        return self.runner

    def log(self) -> list[Rec]:
        values = self.values
        found = records([None if isinstance(value, Erasure) else value for value in values])
        for offset, value in enumerate(values):
            if isinstance(value, Erasure):
                headers = tuple(erasure_headers(value.at_ms))
                found[offset] = Rec(offset, value.user_id.encode(), None, value.at_ms, headers)
        return found

    def erased(self) -> set[str]:
        return {value.user_id for value in self.values if isinstance(value, Erasure)}

    def forgotten(self) -> Erasures:
        """What a worker reads of erasures before it claims."""
        erasures = [value for value in self.values if isinstance(value, Erasure)]
        return erased(*((erasure.user_id, erasure.at_ms) for erasure in erasures))

    def end_ms(self) -> int:
        return at(self.day + 100)

    def undisturbed(self) -> tuple[MemoryStore, MemoryPublisher]:
        """The same log delivered in one batch, without any trouble."""
        store, broker = MemoryStore(), MemoryPublisher()
        runner = claimed(self.log(), store, broker, THROUGH, erasures=self.forgotten())
        done(runner.process(self.log()))
        done(runner.tick(self.end_ms()))
        return store, broker


Delivery.TestCase.settings = settings(stateful_step_count=40)
TestDelivery = Delivery.TestCase


def walk(seed: int, steps: int = 60) -> Delivery:
    """A machine after steps chosen at random: evenly, where Hypothesis likes extremes."""
    pick = random.Random(seed)
    machine = Delivery()
    machine.begin()

    def trouble() -> set[int]:
        return {pick.randrange(12)} if pick.random() < 0.7 else set()

    for _ in range(steps):
        match pick.choices(
            ["append", "odd", "deliver", "tick", "lose", "zombie", "copy", "back", "erase", "anew"],
            [8, 2, 18, 4, 2, 2, 1, 1, 0.5, 1],
        ):
            case ["append"]:
                users, days = ["ada", "ben"], [12.0, 25.0, 1.0, 0.01]
                machine.append(
                    [(pick.choice(users), 1_200, pick.choice(days)) for _ in range(6)],
                    pick.choice([0.0, 0.0, 0.02, 5.0]),
                )
            case ["odd"] if machine.values:
                kind = pick.choice([None, OrderType.REFUND, OrderType.CANCELLATION])
                machine.take_back_or_repeat(pick.randrange(100), kind)
                machine.append_a_bad_record(b"{")
            case ["deliver"]:
                back = pick.randrange(4)
                machine.deliver(pick.randint(1, 9), back, trouble(), pick.random() < 0.3)
            case ["tick"]:
                machine.tick(trouble(), pick.random() < 0.3)
            case ["lose"] if machine.runner is not None:
                machine.lose_the_partition(trouble())
            case ["zombie"] if machine.zombies:
                machine.let_a_zombie_work(pick.randrange(9), 5, pick.random() < 0.5)
            case ["copy"]:
                machine.copy_the_store()
            case ["back"] if machine.copies:
                machine.roll_the_store_back(pick.randrange(9), pick.random() < 0.5)
            case ["erase"]:
                machine.erase(pick.choice(["ada", "ben"]))
            case ["anew"] if machine.runner is not None:
                machine.publish_the_model_anew()
        machine.the_store_has_the_fold_of_what_was_applied()
        machine.nothing_is_said_that_the_log_does_not_say()
    return machine


@pytest.mark.parametrize("seed", range(30))
def test_no_way_through_loses_an_order_or_a_warning(seed: int) -> None:
    walk(seed).teardown()


@pytest.mark.parametrize("topic", [TOPICS.warnings, TOPICS.dead_letters])
def test_the_machine_has_something_to_say(topic: str) -> None:
    machine = Delivery()
    machine.begin()
    machine.append([("ada", 1_200, 9.0)] * 4, 0.0)
    machine.append_a_bad_record(b"{")
    machine.append([("ben", 1_200, 30.0)] * 4, 0.0)
    _, broker = machine.undisturbed()
    said: list[Message] = broker.of(topic)
    assert said
    machine.teardown()
