"""Models made into pipelines."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path

from streamer.assemble import pipeline_of
from streamer.pipeline.batch import Pipeline
from streamer.settings import Settings


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
