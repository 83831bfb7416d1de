"""Whether the model still fits, and how old it is: looked at once a day of event time.

**Drift**, in a sample of the customers in Redis. A state can be read as of earlier days, so the
sample of now tells of windows weeks ago, whichever worker had the partition then, and nothing is
kept for it. Sampled are customers who are due for a score; whoever bought within the horizon is, as
long as scores are refreshed.

**Age**, in event time: a level is that of the horizon at training, and a shop goes on. A model that
is too old is told of, and goes on scoring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from features.facts.state import CustomerState, StateError
from model.artifact.files import MANIFEST_FILE
from model.decide.scoring import Scorer
from model.judge.kept import records
from model.monitor.result import Age, DriftReference, MonitoredWeek, age_at
from streamer import log
from streamer.errors import where
from streamer.records import Partition
from streamer.store.base import StateStore, StoreError
from streamer.worker.reload import Reloader

_log = log.get(__name__)

# Customers read at a look, over all partitions of the worker; some 20 us each.
SAMPLE: Final = 8_000
_CHUNK: Final = 200
# Days of event time between two warnings of one model.
_AGAIN_DAYS: Final = 30


class FitListener(Protocol):
    """Who hears how well and how old the model is; `streamer.metrics.Metrics` does."""

    def monitored(self, version: str, week: MonitoredWeek | None) -> None: ...
    def model_age(self, version: str, age: Age) -> None: ...


class _Manifest(msgspec.Struct):
    """The part of a manifest that is looked at here."""

    cutoff: str = ""
    horizon_days: int = 0
    reference: DriftReference | None = None


class DriftWatch:
    """Looks at the customers of a worker's partitions whenever their event time enters a day."""

    def __init__(
        self,
        store: StateStore,
        topic: str,
        watermarks_ms: Callable[[], Mapping[int, int]],
        reloader: Reloader,
        told: FitListener,
    ) -> None:
        """`watermarks_ms`: of the partitions that are ours, as far as they have one."""
        self.week: MonitoredWeek | None = None
        self._store = store
        self._topic = topic
        self._watermarks_ms = watermarks_ms
        self._reloader = reloader
        self._told = told
        self._looked: tuple[int, Path] | None = None
        self._failing = False

    def page(self) -> object:
        """What /model says of it: the last look, and what rings."""
        if self.week is None:
            return None
        told: dict[str, object] = msgspec.to_builtins(self.week)
        return told | {"alarms": self.week.alarms}

    async def look(self) -> None:
        """Looks, if a day has begun or another model come. Raises nothing."""
        sight, pipeline = self._reloader.sight, self._reloader.pipeline
        watermarks_ms = self._watermarks_ms()
        if sight is None or pipeline is None or not watermarks_ms:
            return
        day = pipeline.judge.rules.calendar.day_of(min(watermarks_ms.values()))
        if self._looked == (day, sight.path):
            return
        self._looked = day, sight.path
        scorer = pipeline.judge.scorer
        try:
            self.week = await self._week(day, sight.path, scorer, sorted(watermarks_ms))
            self._failing = False
        except (
            StoreError,
            StateError,
            OSError,
            msgspec.DecodeError,
            ValueError,
            RecursionError,
        ) as error:
            if not self._failing:
                _log.warning("drift.unknown", reason=where(error))
            self._failing, self.week, self._looked = True, None, None
        self._told.monitored(scorer.model_version, self.week)
        if self.week is not None and self.week.alarms:
            _log.warning("drift.alarm", week=self.week.end, what="; ".join(self.week.alarms))

    async def _week(
        self, day: int, model: Path, scorer: Scorer, partitions: list[int]
    ) -> MonitoredWeek | None:
        known = (await asyncio.to_thread(_manifest, model)).reference
        if known is None:
            return None
        customers: dict[str, CustomerState] = {}
        for number in partitions:
            partition = Partition(self._topic, number)
            customers |= await self._customers(partition, SAMPLE // len(partitions))
        return await asyncio.to_thread(_looked_at, day, customers, scorer, known)

    async def _customers(self, partition: Partition, count: int) -> dict[str, CustomerState]:
        """A sample of a partition's customers; the event loop gets its turn in between."""
        users = await self._store.sample(partition, count)
        found = {}
        for start in range(0, len(users), _CHUNK):
            part = users[start : start + _CHUNK]
            loaded = await self._store.load(partition, part)
            stored = zip(part, loaded, strict=True)
            kept = [(user, one.state) for user, one in stored if one.state is not None]
            for (user, _), one in zip(kept, records([state for _, state in kept]), strict=True):
                if isinstance(one, StateError):
                    raise one
                found[user] = one.facts
        return found


class AgeWatch:
    """Looks at the model's age whenever the newest orders enter a day, or another model comes."""

    def __init__(
        self,
        old_after_days: int,
        watermarks_ms: Callable[[], Mapping[int, int]],
        reloader: Reloader,
        told: FitListener,
    ) -> None:
        """`old_after_days`: as in `model.monitor.result.age_at`; `watermarks_ms`: of the partitions
        that are ours, as far as they have one."""
        self.age: Age | None = None
        self._old_after_days = old_after_days
        self._watermarks_ms = watermarks_ms
        self._reloader = reloader
        self._told = told
        self._looked: tuple[int, Path] | None = None
        self._warned: tuple[int, Path] | None = None

    def page(self) -> object:
        """What /model says of it; None before the first order."""
        return None if self.age is None else msgspec.to_builtins(self.age)

    async def look(self) -> None:
        """Looks, if a day has begun or another model come. Raises nothing."""
        sight, pipeline = self._reloader.sight, self._reloader.pipeline
        watermarks_ms = self._watermarks_ms()
        if sight is None or pipeline is None or not watermarks_ms:
            return
        day = pipeline.judge.rules.calendar.day_of(max(watermarks_ms.values()))
        if self._looked == (day, sight.path):
            return
        try:
            manifest = await asyncio.to_thread(_manifest, sight.path)
            age = age_at(manifest.cutoff, manifest.horizon_days, day, self._old_after_days)
        except (OSError, msgspec.DecodeError, ValueError, RecursionError):
            return  # a mount that is away; the next look asks again
        self._looked, self.age = (day, sight.path), age
        version = pipeline.judge.scorer.model_version
        self._told.model_age(version, age)
        if age.old and not self._warned_lately(day, sight.path):
            self._warned = day, sight.path
            _log.warning(
                "model.old",
                version=version,
                cutoff=age.cutoff,
                days=age.days,
                old_after=age.old_after,
            )

    def _warned_lately(self, day: int, model: Path) -> bool:
        return (
            self._warned is not None
            and self._warned[1] == model
            and day < self._warned[0] + _AGAIN_DAYS
        )


def _manifest(model: Path) -> _Manifest:
    return msgspec.json.decode((model / MANIFEST_FILE).read_bytes(), type=_Manifest)


def _looked_at(
    day: int, customers: Mapping[str, CustomerState], scorer: Scorer, known: DriftReference
) -> MonitoredWeek | None:
    # SciPy is here by now, and was not when the worker started.
    from model.monitor.weekly import KnownCustomers, of_the_due, week

    then = KnownCustomers(day, list(customers.values()), list(customers))
    found = week(then, scorer, of_the_due(known, scorer.horizon_days))
    return found if found.drifts else None
