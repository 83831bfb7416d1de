"""What a worker does about its models: the live one kept current, the shadow, and how well it fits.

The live model alone decides anything; all else here looks on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from features.times import calendar_of
from model.artifact import registry
from model.shadow.process import ShadowTask
from streamer.metrics import Metrics
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.partition import Observer
from streamer.settings import Settings
from streamer.store.base import StateStore
from streamer.worker.drift import AgeWatch, DriftWatch
from streamer.worker.reload import Reloader, model_page
from streamer.worker.shadow import Shadow

# Between two looks at whether the day is another, and the shadow where nobody asks more often.
LOOK_S: Final = 5.0


class Judged(Protocol):
    """The partitions of the worker; `streamer.worker.partitions.Partitions` is this."""

    def adopt(self, pipeline: Pipeline) -> None: ...
    def watermarks_ms(self) -> Mapping[int, int]: ...


class Models:
    """A worker's models."""

    def __init__(
        self, settings: Settings, load: Callable[[Path], Pipeline], metrics: Metrics
    ) -> None:
        """`load` reads and tries the artifact in a directory, in a thread."""
        assert settings.model is not None
        self.reloader = Reloader(settings.model, load, self._adopt, metrics)
        self._settings = settings
        self._metrics = metrics
        self._partitions: Judged | None = None
        self._shadow: Shadow | None = None
        self._drift: DriftWatch | None = None
        self._age: AgeWatch | None = None
        if settings.shadow_model is not None:
            self._shadow = Shadow(
                settings.shadow_share, metrics, self._task, calendar_of(settings.timezone)
            )

    @property
    def observer(self) -> Observer | None:
        """Who is to hear what partitions write."""
        return self._shadow

    def attach(self, partitions: Judged, store: StateStore) -> None:
        """Says whose models these are, before anything else is asked."""
        self._partitions = partitions
        settings = self._settings
        if settings.scores:
            self._drift = DriftWatch(
                store, settings.orders_topic, partitions.watermarks_ms, self.reloader, self._metrics
            )

        if settings.model_old_after_days is not None:
            self._age = AgeWatch(
                settings.model_old_after_days,
                partitions.watermarks_ms,
                self.reloader,
                self._metrics,
            )

    def looks(self) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        """What is to be done again and again, and after how many seconds."""
        settings = self._settings
        found: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        assert settings.model is not None
        if settings.model_check_ms is not None and registry.is_registry(settings.model):
            found.append((settings.model_check_ms / 1000, self.reloader.look))
        if self._shadow is not None and settings.shadow_model is not None:
            shadow_s = min(LOOK_S, (settings.model_check_ms or 5_000) / 1000)
            found.append((shadow_s, partial(self._look_at_shadow, settings.shadow_model)))
        if self._drift is not None:
            found.append((LOOK_S, self._drift.look))
        if self._age is not None:
            found.append((LOOK_S, self._age.look))
        return found

    def page(self) -> bytes:
        """What /model answers."""
        parts: dict[str, Callable[[], object]] = {}
        if self._shadow is not None:
            parts["shadow"] = self._shadow.page
        if self._drift is not None:
            parts["drift"] = self._drift.page
        if self._age is not None:
            parts["age"] = self._age.page
        return model_page(self.reloader, parts)

    async def close(self) -> None:
        """Ends the process of the shadow, if there is one."""
        if self._shadow is not None:
            await self._shadow.close()

    async def _look_at_shadow(self, model: Path) -> None:
        assert self._shadow is not None
        await self._shadow.look(self.reloader.sight, model)

    def _adopt(self, pipeline: Pipeline) -> None:
        assert self._partitions is not None
        self._partitions.adopt(pipeline)

    def _task(self, live: Path, shadow: Path) -> ShadowTask:
        """What the shadow's process is to compare."""
        trust, memory = self._settings.trust, self._settings.id_memory
        known = self._settings.attributes
        return ShadowTask(
            live=str(live.absolute()),
            shadow=str(shadow.absolute()),
            keys=sorted(trust.keys),
            signature_required=trust.required,
            trust_pickle=trust.pickles,
            registry=trust.registry,
            policy=self._settings.policy,
            memory_days=memory.days,
            memory_size=memory.size,
            attributes=None if known is None else str(known.absolute()),
        )
