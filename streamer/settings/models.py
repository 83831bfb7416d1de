"""The settings of whoever trains and approves models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from model.artifact.signature import Trust
from model.monitor.result import OLD_AFTER_DAYS
from streamer.settings.fields import (
    DaysOrOff,
    DurationMsOrOff,
    KeysFile,
    Section,
    Switch,
)


class ModelSettings(Section):
    """Which model scores, who may have made it, and what it is compared with."""

    heading: ClassVar = "Whoever trains the models"

    model: Path | None = None
    """Directory of the model artifact, as `python -m model train` writes it, or of a registry,
    whose current version is used."""
    attributes: Path | None = None
    """CSV of customer attributes, keyed by `user_id`, read when a model is loaded; needed for one
    that was trained with such."""
    model_check_ms: DurationMsOrOff = Field("5s", validate_default=True)
    """How often a registry is asked whether another version is current; `off`: at the start
    alone."""
    model_keys: KeysFile = None
    """File of public keys, one a line: only models that one of them has signed."""
    require_signature: Switch | None = Field(
        None, json_schema_extra={"default_text": "on with CLV_MODEL_KEYS"}
    )
    """`on` refuses models without a signature; `off`, with keys, takes them too."""
    model_registry: str = Field("", json_schema_extra={"default_text": "any"})
    """With keys: the name of the registry that a signature must be for; unset: any."""
    trust_pickle: Switch = False
    """`on` opens a model that is a pickle and that nobody signed: whoever can write the file can
    run any code as the worker."""
    shadow_model: Path | None = None
    """Another artifact or registry, whose model is compared with the live one and changes nothing;
    unset: none."""
    shadow_share: float = Field(0.1, gt=0, le=1)
    """Share of the customers that are followed under the shadow model."""
    model_old_after_days: DaysOrOff = OLD_AFTER_DAYS
    """Days of event time after which a model is called old, in the log and the metrics, or `off`.
    One horizon is granted on top, for `retrain` trains up to that long ago."""

    @property
    def trust(self) -> Trust:
        """Who may have made a model."""
        return Trust.of(
            self.model_keys,
            self.require_signature,
            pickles=self.trust_pickle,
            registry=self.model_registry,
        )
