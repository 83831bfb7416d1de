"""What a worker says of how its model fits, from a sample of what it has in the store."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from features.orders import Order
from features.times import MS_PER_DAY, day_of
from model.data.synthetic import Shop, generate
from model.decide import codec as customer
from model.decide.codec import CustomerRecord
from model.decide.rule_state import NEW
from model.decide.scoring import Scorer
from model.monitor.result import Baseline, MonitoredWeek
from model.monitor.weekly import KnownCustomers, of_everybody, of_the_due, reference, seen, week
from streamer.metrics import Metrics
from streamer.records import Partition
from streamer.store.base import StoreUnavailable, Write
from streamer.store.memory import MemoryStore
from streamer.worker.drift import DriftWatch
from streamer.worker.reload import Reloader, Sight
from tests.support import modelling
from tests.support.fakes import judge, pipeline

ORDERS = generate(Shop(customers=900, days=500, arrival_days=500, seed=9)).orders
CUTOFF = day_of(ORDERS[0].ts_ms) + 380
PARTITION = Partition("orders", 0)


def scorer() -> Scorer:
    model = modelling.model()
    return Scorer.of(model, "v1", (0.0,) * 101)


@pytest.fixture(scope="module")
def known() -> Baseline:
    found = reference(ORDERS, scorer(), CUTOFF)
    assert found is not None
    return found


def stored(orders: list[Order], day: int) -> MemoryStore:
    """A store with everybody who is due still, as they were at 00:00 of a day."""
    (then,) = seen(orders, [day])
    store = MemoryStore()
    due = [s for s in then.states if s.last_purchase_day and s.last_purchase_day >= day - 60]
    states = {f"u{n}": customer.encode(CustomerRecord(state, NEW)) for n, state in enumerate(due)}

    async def fill() -> None:
        claim = await store.claim(PARTITION, 1)
        write = Write(states, dict.fromkeys(states, day * MS_PER_DAY), [], None, None)
        await store.write(PARTITION, claim.epoch, claim.sequence, write)

    asyncio.run(fill())
    return store


class Watch:
    """A watch over one partition, and the metrics that it sets."""

    def __init__(self, store: Any, model: Path, known: Baseline | None) -> None:
        model.mkdir(exist_ok=True)
        manifest = {"reference": msgspec.to_builtins(known), "model_version": "v1"}
        (model / "manifest.json").write_text(json.dumps(manifest))
        by = pipeline(judge(by=replace(scorer())))
        self.reloader = SimpleNamespace(sight=Sight(model, ()), pipeline=by)
        self.metrics, self.day = Metrics(), CUTOFF + 84
        self.watch = DriftWatch(
            store,
            "orders",
            lambda: {0: self.day * MS_PER_DAY + 5},
            cast(Reloader, self.reloader),
            self.metrics,
        )

    def samples(self, name: str) -> list[str]:
        lines = self.metrics.exposition({}).decode().splitlines()
        return [line for line in lines if line.startswith(name)]


def test_what_a_sample_of_the_store_says_is_what_the_log_says(
    tmp_path: Path, known: Baseline
) -> None:
    world = Watch(stored(ORDERS, CUTOFF + 84), tmp_path / "v1", known)
    asyncio.run(world.watch.look())
    (then,) = seen(ORDERS, [CUTOFF + 84])
    assert world.watch.week == week(then, scorer(), of_the_due(known, 60))
    assert world.watch.week is not None
    assert len(world.samples("clv_feature_psi{")) == len(world.watch.week.drifts) - 1
    assert len(world.samples("clv_score_psi{")) == 1
    assert [bias.days for bias in world.watch.week.biases] == [14, 28]
    assert len(world.samples("clv_level_bias{")) == 2
    page = cast(dict[str, Any], world.watch.page())
    assert page["customers"] == world.watch.week.customers


def test_a_drift_rings_and_ends(
    tmp_path: Path, known: Baseline, caplog: pytest.LogCaptureFixture
) -> None:
    dearer = [
        Order(o.order_id, o.user_id, o.ts_ms, o.amount_minor * 4, o.type)
        if day_of(o.ts_ms) >= CUTOFF
        else o
        for o in ORDERS
    ]
    world = Watch(stored(dearer, CUTOFF + 84), tmp_path / "v1", known)
    asyncio.run(world.watch.look())
    assert 'clv_drift_alarm{what="clv"} 1.0' in world.samples("clv_drift_alarm{")
    assert any("drift.alarm" in record.getMessage() for record in caplog.records)
    world.watch._store = stored(ORDERS, CUTOFF + 85)
    world.day += 1
    asyncio.run(world.watch.look())
    assert not [line for line in world.samples("clv_drift_alarm{") if 'what="clv"' in line]


def test_one_look_a_day_and_one_more_for_another_model(tmp_path: Path, known: Baseline) -> None:
    class Counting(MemoryStore):
        looks = 0

        async def sample(self, partition: Partition, count: int) -> list[str]:
            self.looks += 1
            return []

    store = Counting()
    world = Watch(store, tmp_path / "v1", known)
    for _ in range(3):
        asyncio.run(world.watch.look())
    assert store.looks == 1
    world.day += 1
    asyncio.run(world.watch.look())
    assert store.looks == 2
    world.reloader.sight = Sight(tmp_path / "v2", ())
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "manifest.json").write_bytes(
        (tmp_path / "v1" / "manifest.json").read_bytes()
    )
    asyncio.run(world.watch.look())
    assert store.looks == 3
    assert world.watch.week is None  # nobody bought
    assert world.samples("clv_monitored_customers") == ["clv_monitored_customers 0.0"]


@pytest.mark.parametrize("trouble", ["store", "state", "manifest", "no reference", "no partition"])
def test_no_trouble_of_the_watch_reaches_the_worker(
    tmp_path: Path, known: Baseline, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(MemoryStore):
        async def sample(self, partition: Partition, count: int) -> list[str]:
            if trouble == "store":
                raise StoreUnavailable("gone")
            return ["u0"]

        async def load(self, partition: Partition, user_ids: Any) -> Any:
            return [SimpleNamespace(state=b"no state at all", due_ms=1)]

    world = Watch(Down(), tmp_path / "v1", None if trouble == "no reference" else known)
    if trouble == "manifest":
        (tmp_path / "v1" / "manifest.json").write_text('{"reference": 7}')
    if trouble == "no partition":
        world.watch._watermarks_ms = dict
    for _ in range(2):
        asyncio.run(world.watch.look())
    assert world.watch.week is None
    told = sum("drift.unknown" in record.getMessage() for record in caplog.records)
    assert told == (trouble in ("store", "state", "manifest"))


def test_levels_of_more_than_a_horizon_ago_are_left_to_the_log(known: Baseline) -> None:
    assert [level.days for level in of_everybody(known).levels] == [14, 28, 60]
    assert [level.days for level in of_the_due(known, 60).levels] == [14, 28]
    assert isinstance(week(KnownCustomers(CUTOFF, [], []), scorer(), known), MonitoredWeek)
