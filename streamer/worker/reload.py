"""Another model under a running worker: found, tried, and taken over between two batches.

A registry is asked every few seconds which version is current. A new one is read and tried away
from the event loop; the partitions then judge by it from their next batch on, each batch by one
model. A version that is refused changes nothing: the model before goes on, and the refusal is told
once in the log, and for as long as it lasts in the metrics and on /model. It is tried again when
its files change, and now and then without, since a mount may have shown half of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec

from features.times import rfc3339
from model.artifact import registry
from model.artifact.files import (
    MANIFEST_FILE,
    MODEL_FILE,
    PICKLE_FILE,
    SIGNATURE_FILE,
    ArtifactRefused,
)
from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.errors import where
from streamer.pipeline.batch import Pipeline

_log = log.get(__name__)

# Between two tries of files that have not changed.
FIRST_RETRY_S: Final = 30.0
LAST_RETRY_S: Final = 600.0
# In place of a version where not even that can be read.
UNREADABLE: Final = "unreadable"

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Refusal(msgspec.Struct, frozen=True):
    """A version that is current and not used, why, and since when (RFC 3339)."""

    version: str
    reason: str
    since: str


class ModelStanding(msgspec.Struct, frozen=True):
    """What a worker scores by. `since` is when it began to; `swaps` counts the models that took
    over from another since the worker started; `refused` is what should have."""

    version: str
    since: str
    swaps: int = 0
    refused: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """An artifact as a look finds it: where, and what tells its files from others."""

    path: Path
    stamp: _Stamp

    @property
    def version(self) -> str:
        return self.path.name


def look_at(model: Path) -> Sight:
    """The artifact that a path, or the registry there, names now. Raises ArtifactRefused."""
    path = registry.resolve(model)
    return Sight(path, tuple(_stamp(path / name) for name in _FILES))


_FILES: Final = (MANIFEST_FILE, MODEL_FILE, PICKLE_FILE, SIGNATURE_FILE)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class ModelListener(Protocol):
    """Who hears which model is in use; `streamer.metrics.Metrics` does."""

    def model(self, version: str) -> None: ...
    def model_swapped(self) -> None: ...
    def model_refused(self, version: str | None, *, again: bool) -> None: ...


class Reloader:
    """Keeps the worker's model the one that its registry calls current, or the one before."""

    def __init__(
        self,
        model: Path,
        load: Callable[[Path], Pipeline],
        adopt: Callable[[Pipeline], None],
        told: ModelListener,
        *,
        clock: Clock | None = None,
    ) -> None:
        """`load` reads and tries the artifact in a directory, in a thread; it raises
        ArtifactRefused or ValueError. `adopt` is told of what is to take over, in the event
        loop."""
        self.pipeline: Pipeline | None = None
        self.standing: ModelStanding | None = None
        self._model = model
        self._load = load
        self._adopt = adopt
        self._told = told
        self._clock = clock or SystemClock()
        self._running: Sight | None = None
        self._tried: Sight | None = None
        self._again_s = 0.0
        self._wait_s = FIRST_RETRY_S

    @property
    def sight(self) -> Sight | None:
        """The artifact in use; None before the first is read."""
        return self._running

    async def start(self) -> Pipeline:
        """The first model. Raises what refuses it: there is none before it to go on with."""
        sight, pipeline = await asyncio.to_thread(self._first)
        self._running, self.pipeline = sight, pipeline
        version = pipeline.judge.scorer.model_version
        self.standing = ModelStanding(version, self._now())
        self._told.model(version)
        _log.info("model.read", version=version)
        return pipeline

    async def look(self) -> None:
        """Takes over what has become current, or tells why not. Raises nothing."""
        if self.pipeline is None:
            return  # the first one is still being read
        try:
            sight = await asyncio.to_thread(look_at, self._model)
        except (ArtifactRefused, OSError) as error:
            self._refuse(None, str(error))
            return
        if sight == self._running:
            self._clear()
            return
        if sight == self._tried and self._clock.monotonic_s() < self._again_s:
            return
        began_s = self._clock.monotonic_s()
        try:
            pipeline = await asyncio.to_thread(self._load, sight.path)
        except Exception as error:
            known = isinstance(error, ArtifactRefused | ValueError | OSError)
            self._refuse(sight, " ".join(str(error).split()) if known else where(error))
            return
        self._swap(sight, pipeline, self._clock.monotonic_s() - began_s)

    def _first(self) -> tuple[Sight, Pipeline]:
        sight = look_at(self._model)
        return sight, self._load(sight.path)

    def _swap(self, sight: Sight, pipeline: Pipeline, took_s: float) -> None:
        before, version = self.standing, pipeline.judge.scorer.model_version
        assert before is not None
        assert self._running is not None
        signed, earlier = registry.signed_at(sight.path), registry.signed_at(self._running.path)
        if signed is not None and earlier is not None and signed < earlier:
            # A rollback, or somebody puts an old model in the place of the one that was signed.
            _log.warning("model.signature_older", version=version, signed_at=signed, was=earlier)
        self._running, self.pipeline = sight, pipeline
        self._clear()
        self._adopt(pipeline)
        if version == before.version:
            # Published again: it says the same, and may have other percentiles in its manifest.
            _log.info("model.read", version=version)
            return
        self.standing = ModelStanding(version, self._now(), before.swaps + 1)
        self._told.model(version)
        self._told.model_swapped()
        _log.info("model.swapped", version=version, before=before.version, took_s=round(took_s, 2))

    def _refuse(self, sight: Sight | None, reason: str) -> None:
        assert self.standing is not None
        version = UNREADABLE if sight is None else sight.version
        known = self.standing.refused
        same = known is not None and known.version == version
        same_files = same and sight == self._tried
        self._wait_s = min(self._wait_s * 2, LAST_RETRY_S) if same_files else FIRST_RETRY_S
        self._tried, self._again_s = sight, self._clock.monotonic_s() + self._wait_s
        self._told.model_refused(version, again=same and same_files)
        if known is not None and same and known.reason == reason:
            return
        since = known.since if known is not None and same else self._now()
        self.standing = msgspec.structs.replace(
            self.standing, refused=Refusal(version, reason, since)
        )
        kept = self.standing.version
        _log.error("model.refused", version=version, kept=kept, reason=reason)

    def _clear(self) -> None:
        """Forgets a refusal: what is current is in use."""
        self._tried, self._wait_s = None, FIRST_RETRY_S
        if self.standing is not None and self.standing.refused is not None:
            self.standing = msgspec.structs.replace(self.standing, refused=None)
            self._told.model_refused(None, again=False)

    def _now(self) -> str:
        return rfc3339(self._clock.now_ms())


def model_page(reloader: Reloader, parts: Mapping[str, Callable[[], object]]) -> bytes:
    """What /model answers: the standing of the model, and what the parts have to say."""
    standing = reloader.standing
    told: dict[str, object] = {} if standing is None else msgspec.to_builtins(standing)
    return msgspec.json.encode(told | {name: part() for name, part in parts.items()})
