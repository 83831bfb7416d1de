"""What the settings and a model make together: the names of the topics, and the pipeline."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from model.judge.judge import Judge
from streamer.errors import StreamerError
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.event_time import MAX_LEAD_MS
from streamer.pipeline.messages import Writer
from streamer.records import Topics
from streamer.settings import Settings

if TYPE_CHECKING:
    # scikit-learn takes a second and more to import; the worker does it while the group assigns.
    from model.artifact.artifact import Artifact
    from model.artifact.manifest import Manifest


def topics_of(settings: Settings) -> Topics:
    """The names of the four topics."""
    return Topics(
        orders=settings.orders_topic,
        warnings=settings.warnings_topic,
        scores=settings.scores_topic,
        dead_letters=settings.dead_letter_topic,
    )


class ModelUnsuitable(StreamerError, ValueError):
    """Set what the message names to what the model was trained on, or train another model."""


def as_trained(manifest: Manifest) -> dict[str, str]:
    """The settings that must be those of the model's training, as variables."""
    return {
        "CLV_CURRENCY": manifest.currency,
        "CLV_TIMEZONE": manifest.timezone,
        "CLV_FREE_ORDERS": manifest.free_orders.value,
    }


def pipeline_of(settings: Settings, artifact: Artifact) -> Pipeline:
    """Everything that partitions share, from the settings and the model.

    Raises ModelUnsuitable where the model was trained in another currency than the orders have, on
    the days of another zone or with other free orders, and AttributesError where CLV_ATTRIBUTES
    lacks what it needs.
    """
    manifest = artifact.manifest
    told = {
        "CLV_CURRENCY": settings.currency,
        "CLV_TIMEZONE": settings.timezone,
        "CLV_FREE_ORDERS": settings.free_orders.value,
    }
    for name, trained_on in as_trained(manifest).items():
        if (wanted := told[name]) != trained_on:
            raise ModelUnsuitable(
                f"{name}={wanted!r}: the model in CLV_MODEL was trained on {trained_on};"
                f" set {name}={trained_on} or train another model"
            )
    scorer = artifact.scorer(settings.attributes)
    rules, topics = scorer.rules(settings.policy), topics_of(settings)
    return Pipeline(
        judge=Judge(scorer, rules, settings.id_memory),
        writer=Writer.of(scorer, rules, topics),
        order_rules=settings.order_rules,
        topics=topics,
        allowed_lateness_ms=settings.allowed_lateness_ms,
        publish_scores=settings.scores,
        max_lead_ms=MAX_LEAD_MS,
        dead_letter_limits=settings.dead_letter_limits,
    )


class PipelineLoader:
    """Loads models by the worker's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def begin(self) -> None:
        """Begins to import what loading needs: a second or two while the servers are waited for."""
        threading.Thread(
            target=import_module, args=("model.artifact.artifact",), daemon=True
        ).start()

    def load(self, path: Path) -> Pipeline:
        """The pipeline of the artifact in a directory. Raises ArtifactRefused and ValueError."""
        from model.artifact import artifact

        return pipeline_of(self._settings, artifact.load(path, self._settings.trust))
