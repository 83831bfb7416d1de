"""A partition whose model is swapped under it: between batches, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from features.facts.state import EMPTY, CustomerState
from model.decide import codec as customer
from model.decide.policy import Policy
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.partition import PartitionRunner
from streamer.records import MemoryPublisher, Message, PublishFailed
from streamer.store.base import StoreUnavailable
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    ORDERS_0,
    TOPICS,
    Faults,
    FaultyPublisher,
    FaultyStore,
    LinearModel,
    Rec,
    at,
    by_time,
    done,
    every,
    facts_of,
    judge,
    log_of,
    pipeline,
    records,
    scorer,
)

POLICY = Policy(floor_percentile=0)
OLD = pipeline(judge(POLICY))
HALVED = pipeline(judge(POLICY, scorer(LinearModel(factor=0.5), "fake-2")))


def runner_of(
    log: Sequence[Rec], store: MemoryStore | FaultyStore, publisher: MemoryPublisher
) -> PartitionRunner:
    runner = PartitionRunner(ORDERS_0, store, publisher, OLD)
    done(runner.claim(log_of(log)))
    return runner


def told(publisher: MemoryPublisher, topic: str) -> list[dict[str, object]]:
    return [msgspec.json.decode(m.value or b"") for m in publisher.of(topic)]


class Swapping(MemoryPublisher):
    """Has another pipeline adopted in the middle of whatever it publishes for."""

    def __init__(self) -> None:
        super().__init__()
        self.runner: PartitionRunner | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(messages)
        if self.runner is not None:
            self.runner.adopt(HALVED)


def test_a_model_takes_over_between_two_batches_and_never_within_one() -> None:
    """Neither between a batch's scores and the instants that it closes, nor before its warnings."""
    log = records(by_time(every("ada", 7, 13), every("bo", 7, 45), every("dee", 7, 30)))
    publisher = Swapping()
    publisher.runner = runner_of(log, MemoryStore(), publisher)
    done(publisher.runner.process(log[:50]))
    scores = told(publisher, TOPICS.scores)
    assert {score["model_version"] for score in scores} == {"fake-1"}
    assert {score["trigger"] for score in scores} == {"order", "silence"}
    done(publisher.runner.process(log[50:]))
    after = told(publisher, TOPICS.scores)[len(scores) :]
    assert {score["model_version"] for score in after} == {"fake-2"}
    warned = {w["user_id"]: w["model_version"] for w in told(publisher, TOPICS.warnings)}
    assert warned == {"ada": "fake-1", "dee": "fake-2"}


def test_a_tick_is_judged_by_the_model_adopted_before_it() -> None:
    log = records(every("ada", 7, 13))
    publisher = MemoryPublisher()
    runner = runner_of(log, MemoryStore(), publisher)
    done(runner.process(log))
    runner.adopt(HALVED)
    done(runner.tick(at(200)))
    assert [w["model_version"] for w in told(publisher, TOPICS.warnings)] == ["fake-2"]


def warned_of(through: Pipeline | None, log: Sequence[Rec], cut: int) -> set[object]:
    """Who is warned of, where a pipeline takes over after `cut` records (None: none does)."""
    publisher = MemoryPublisher()
    runner = runner_of(log, MemoryStore(), publisher)
    done(runner.process(log[:cut]))
    if through is not None:
        runner.adopt(through)
    for start in range(cut, len(log), 7):
        done(runner.process(log[start : start + 7]))
    return {w["user_id"] for w in told(publisher, TOPICS.warnings)}


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("cut", [10, 60, 100])
def test_a_model_of_another_scale_warns_of_nobody_else(factor: float, cut: int) -> None:
    users = [every(f"u{n}", 3 + n % 9, 30 - n) for n in range(12)]
    log = records(by_time(*users, every("clock", 2, 110)))
    other = pipeline(judge(POLICY, scorer(LinearModel(factor=factor), "fake-2")))
    assert warned_of(other, log, cut) == warned_of(None, log, cut)


def test_whatever_fails_while_a_model_is_swapped_every_order_counts_once() -> None:
    """The failing batch is begun by one model and done again by the other."""
    orders = by_time(every("ada", 7, 8), every("bo", 3, 16))
    log = records(orders)
    facts: dict[str, CustomerState] = {}
    for order in orders:
        facts[order.user_id] = facts_of([order], facts.get(order.user_id, EMPTY))
    count = _effects(log)
    assert count > 20
    for number in range(count):
        store, publisher = _faulty(log, number)
        users = sorted(facts)
        found = done(store.kept.load(ORDERS_0, users))
        for user, stored in zip(users, found, strict=True):
            assert stored.state is not None
            one = customer.decode(stored.state)
            assert one.facts == facts[user], f"effect {number}"
            assert one.rule_state.model_version == "fake-2"
        scored = {
            (s["user_id"], s["as_of"])
            for s in told(publisher, TOPICS.scores)
            if s["trigger"] == "order"
        }
        assert len(scored) == len(log)
        ids = [w["warning_id"] for w in told(publisher, TOPICS.warnings)]
        said = {tuple(w.items()) for w in map(_plain, told(publisher, TOPICS.warnings))}
        assert len(set(ids)) == len(said), "one id, two contents"


def _plain(warning: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in warning.items()}


def _effects(log: Sequence[Rec]) -> int:
    return _faulty(log, -1)[0].faults.count


def _faulty(log: Sequence[Rec], number: int) -> tuple[FaultyStore, FaultyPublisher]:
    """What is left where the effect of that number fails once, and the model is swapped then."""
    faults = Faults({number})
    store, publisher = FaultyStore(faults), FaultyPublisher(faults)
    runner = PartitionRunner(ORDERS_0, store, publisher, OLD)
    steps = [
        runner.claim,
        *(lambda _, s=s: runner.process(log[s : s + 6]) for s in range(0, len(log), 6)),
    ]
    for place, step in enumerate(steps):
        if place == len(steps) - 1:
            runner.adopt(HALVED)
        while True:
            try:
                done(step(log_of(log)))
                break
            except (StoreUnavailable, PublishFailed):
                runner.adopt(HALVED)
    return store, publisher
