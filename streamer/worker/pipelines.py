"""Models made into pipelines, each tried in a subprocess before it may judge."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model.artifact import trial
from model.artifact.files import ArtifactRefused
from model.artifact.trial import TrialLoad
from streamer.assemble import pipeline_of
from streamer.pipeline.batch import Pipeline
from streamer.settings import Settings

# Niceness of the process that tries the next model.
GIVES_WAY: Final = 10


class PipelineLoader:
    """The first model's trial begins while the servers are waited for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._early: TrialLoad | None = None

    def begin(self) -> None:
        """Begins the trial of the first model."""
        if self._settings.model is None:
            return
        try:
            self._early = TrialLoad(self._settings.model, self._settings.trust)
        except ArtifactRefused:
            return  # as it will be when it is read, which is when it is told

    def load(self, path: Path) -> Pipeline:
        """The pipeline of the artifact in a directory. Raises ArtifactRefused and ValueError."""
        early, self._early = self._early, None
        if early is not None and early.directory != path:
            early.close()
            early = None
        # Whoever takes over from a model that works can wait; orders cannot.
        tried = early or TrialLoad(path, self._settings.trust, niceness=GIVES_WAY)
        return pipeline_of(self._settings, trial.loaded(tried))

    def close(self) -> None:
        """Ends a trial that nobody has asked for."""
        if self._early is not None:
            self._early.close()
