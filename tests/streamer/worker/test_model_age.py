"""How old a model is: counted in event time, told once a day, warned of once a month."""

from __future__ import annotations

import asyncio
import json
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from features.times import MS_PER_DAY
from model.monitor.result import Age, age_at
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.store.memory import MemoryStore
from streamer.worker.model_age import AgeWatch
from streamer.worker.models import Models
from streamer.worker.reload import Reloader, Sight
from tests.support.fakes import pipeline

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


class World:
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
    world = World(tmp_path / "v1")
    assert world.look() == []
    assert world.page() is None


def test_the_age_is_that_at_the_newest_orders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "v1")
    assert world.look(one=BORN + 3, other=BORN + 40) == [
        'clv_model_age_days{version="fake-1"} 40.0',
        'clv_model_old{version="fake-1"} 0.0',
    ]
    assert world.page() == {"cutoff": iso(BORN), "days": 40, "old_after": 90}
    assert warned(caplog) == []


def test_an_old_model_is_told_of_once_a_month_until_another_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "v1")
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
    world = World(tmp_path / "v1")
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
