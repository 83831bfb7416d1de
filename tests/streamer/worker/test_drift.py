"""What a worker says of how its model fits, from a sample of its store, and of how old it is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from features.events.orders import Order
from features.times import MS_PER_DAY, day_of
from model.data.synthetic import Shop, generate
from model.decide import codec as customer
from model.decide.codec import CustomerRecord
from model.decide.rule_state import NEW
from model.decide.scoring import Scorer
from model.monitor.result import Age, DriftReference, MonitoredWeek, age_at
from model.monitor.weekly import KnownCustomers, of_everybody, of_the_due, reference, seen, week
from streamer.metrics import Metrics
from streamer.records import Partition
from streamer.settings import Settings
from streamer.store.base import StoreUnavailable, Write
from streamer.store.memory import MemoryStore
from streamer.worker.drift import AgeWatch, DriftWatch
from streamer.worker.models import Models
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
def known() -> DriftReference:
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

    def __init__(self, store: Any, model: Path, known: DriftReference | None) -> None:
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
    tmp_path: Path, known: DriftReference
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
    tmp_path: Path, known: DriftReference, caplog: pytest.LogCaptureFixture
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


def test_one_look_a_day_and_one_more_for_another_model(
    tmp_path: Path, known: DriftReference
) -> None:
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
    tmp_path: Path, known: DriftReference, trouble: str, caplog: pytest.LogCaptureFixture
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


def test_levels_of_more_than_a_horizon_ago_are_left_to_the_log(known: DriftReference) -> None:
    assert [level.days for level in of_everybody(known).levels] == [14, 28, 60]
    assert [level.days for level in of_the_due(known, 60).levels] == [14, 28]
    assert isinstance(week(KnownCustomers(CUTOFF, [], []), scorer(), known), MonitoredWeek)


# --- how old a model is: counted in event time, told once a day, warned of once a month -------

BORN = 20_000
"""The UTC day of the cutoff."""


def iso(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def of(day: int) -> Age:
    return age_at(iso(BORN), 60, day, 30)


@pytest.mark.parametrize(
    ("day", "days", "old"),
    [(BORN - 400, 0, False), (BORN, 0, False), (BORN + 90, 90, False), (BORN + 91, 91, True)],
)
def test_a_horizon_is_granted_on_top(day: int, days: int, old: bool) -> None:
    assert (of(day).days, of(day).old_after, of(day).old) == (days, 90, old)


class AgeWorld:
    """A watch, the worker's metrics and its partitions' watermarks, by day."""

    def __init__(self, model: Path) -> None:
        self.days: dict[int, int] = {}
        self.metrics = Metrics()
        self.reloader = SimpleNamespace(sight=None, pipeline=pipeline())
        self.take(model)
        marks = lambda: {n: day * MS_PER_DAY + 7 for n, day in self.days.items()}  # noqa: E731
        self.watch = AgeWatch(30, marks, cast(Reloader, self.reloader), self.metrics)

    def take(self, model: Path, cutoff: int = BORN) -> None:
        model.mkdir()
        manifest = {"cutoff": iso(cutoff), "horizon_days": 60, "metrics": {"clv": []}}
        (model / "manifest.json").write_text(json.dumps(manifest))
        self.reloader.sight = Sight(model, ())

    def look(self, **days: int) -> list[str]:
        """The samples of the age after a look when the partitions are at some days."""
        self.days = dict(enumerate(days.values()))
        asyncio.run(self.watch.look())
        lines = self.metrics.exposition({}).decode().splitlines()
        return [line for line in lines if line.startswith("clv_model_age") or "_old{" in line]

    def page(self) -> Any:
        return self.watch.page()


def warned(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """The fields of each warning."""
    return [vars(r)["fields"] for r in caplog.records if r.getMessage() == "model.old"]


def test_before_the_first_order_nothing_is_said(tmp_path: Path) -> None:
    world = AgeWorld(tmp_path / "v1")
    assert world.look() == []
    assert world.page() is None


def test_the_age_is_that_at_the_newest_orders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = AgeWorld(tmp_path / "v1")
    assert world.look(one=BORN + 3, other=BORN + 40) == [
        'clv_model_age_days{version="fake-1"} 40.0',
        'clv_model_old{version="fake-1"} 0.0',
    ]
    assert world.page() == {"cutoff": iso(BORN), "days": 40, "old_after": 90}
    assert warned(caplog) == []


def test_an_old_model_is_told_of_once_a_month_until_another_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = AgeWorld(tmp_path / "v1")
    for day in range(BORN + 85, BORN + 125):
        (_, old) = world.look(one=day)
    assert old == 'clv_model_old{version="fake-1"} 1.0'
    assert len(warned(caplog)) == 2
    said = {"version": "fake-1", "cutoff": iso(BORN), "days": 91, "old_after": 90}
    assert warned(caplog)[0] == said
    world.take(tmp_path / "v2", BORN + 60)
    assert world.look(one=BORN + 124)[-1].endswith(" 0.0")
    assert len(warned(caplog)) == 2


def test_a_manifest_that_cannot_be_read_now_is_read_at_the_next_look(tmp_path: Path) -> None:
    world = AgeWorld(tmp_path / "v1")
    manifest = tmp_path / "v1" / "manifest.json"
    kept = manifest.read_bytes()
    for damaged in (b"", b'{"cutoff": "soon", "horizon_days": 60}'):
        manifest.write_bytes(damaged)
        assert world.look(one=BORN + 3) == []
    manifest.write_bytes(kept)
    assert world.look(one=BORN + 3)[0].endswith(" 3.0")


@pytest.mark.parametrize(("given", "watched"), [({}, True), ({"OLD_AFTER_DAYS": "off"}, False)])
def test_a_worker_watches_unless_it_is_told_not_to(
    tmp_path: Path, given: dict[str, str], watched: bool
) -> None:
    names = {f"CLV_MODEL_{name}": value for name, value in given.items()}
    settings = Settings.load({"CLV_MODEL": str(tmp_path), **names}, needs=())
    models = Models(settings, lambda path: pipeline(), Metrics())
    partitions = SimpleNamespace(adopt=lambda pipeline: None, watermarks_ms=dict)
    models.attach(partitions, MemoryStore())
    assert ("age" in json.loads(models.page())) is watched
    looks = [getattr(look, "__self__", None) for _, look in models.looks()]
    assert any(isinstance(one, AgeWatch) for one in looks) is watched
