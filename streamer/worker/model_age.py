"""How old the worker's model is, in event time: a level is that of the horizon at training, and a
shop goes on. A model that is too old is told of, and goes on scoring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from features.times import day_of
from model.artifact.files import MANIFEST_FILE
from model.monitor.result import Age, age_at
from streamer import log
from streamer.worker.reload import Reloader

_log = log.get(__name__)

# Days of event time between two warnings of one model.
_AGAIN_DAYS: Final = 30


class Heard(Protocol):
    """Who hears how old the model is; `streamer.metrics.Metrics` does."""

    def model_age(self, version: str, age: Age) -> None: ...


class _Manifest(msgspec.Struct):
    """The part of a manifest that is looked at here."""

    cutoff: str
    horizon_days: int


class AgeWatch:
    """Looks at the model's age whenever the newest orders enter a day, or another model comes."""

    def __init__(
        self,
        old_after_days: int,
        watermarks_ms: Callable[[], Mapping[int, int]],
        reloader: Reloader,
        heard: Heard,
    ) -> None:
        """`old_after_days`: as in `model.monitor.result.age_at`; `watermarks_ms`: of the partitions
        that are ours, as far as they have one."""
        self.age: Age | None = None
        self._old_after_days = old_after_days
        self._watermarks_ms = watermarks_ms
        self._reloader = reloader
        self._heard = heard
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
        day = day_of(max(watermarks_ms.values()))
        if self._looked == (day, sight.path):
            return
        try:
            manifest = await asyncio.to_thread(_read, sight.path)
            age = age_at(manifest.cutoff, manifest.horizon_days, day, self._old_after_days)
        except (OSError, msgspec.DecodeError, ValueError):
            return  # a mount that is away; the next look asks again
        self._looked, self.age = (day, sight.path), age
        version = pipeline.judge.scorer.model_version
        self._heard.model_age(version, age)
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


def _read(model: Path) -> _Manifest:
    return msgspec.json.decode((model / MANIFEST_FILE).read_bytes(), type=_Manifest)
