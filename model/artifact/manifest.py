"""What is written beside a model: what it is, what it was made of, and whether that fits here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import scipy
import sklearn

from features.columns.rhythm import RHYTHM_NAMES
from features.columns.vector import FEATURE_NAMES, FEATURE_VERSION
from features.events.orders import FreeOrders
from features.times import UTC, CalendarError, calendar_of
from model.artifact.files import MANIFEST_FILE, MODEL_FILE, PICKLE_FILE, ArtifactRefused
from model.data.attributes import Column
from model.data.fingerprint import Data
from model.decide.learned import NOTHING_LEARNED, Learned
from model.estimators.risk import Risk
from model.monitor.result import DriftReference

SCHEMA: Final = "clv-model/1"
RETRAIN: Final = "retrain the model with this version (python -m model train)"


class Canary(msgspec.Struct, frozen=True):
    """Feature vectors of training customers and what the model said of them when it was saved.
    None is an attribute that is missing."""

    features: list[list[float | None]]
    clv: list[float]
    churn: list[float]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is, and what it was made of. Days are ISO dates in the shop's `timezone`.

    `trained_from` is the day of the first order; training knew the events before 00:00 of
    `cutoff` and nothing else. `score_quantiles` are 101: the CLVs, in major units, at percentiles 0
    to 100 of all customers at the cutoff. `risk` has P(churn) and P(an order soon), and `learned`
    from which index on silences warn, what that was chosen on and what it promises. `metrics` is
    the report of `model.evaluate.holdout`. `typical` is the feature vector of the customer to whom
    others are compared where a CLV is explained (`model.explain.shapley`). `kind` and `options` are
    those of `model.estimators.kinds`; `attributes` are what it knows of customers beside their
    orders (`model.data.attributes`); `search` is the history of `model.training.search`, empty
    where there was none; `cleaning` the report of `model.data.cleaning`. `file` is the one that
    holds the model: its parameters, or a pickle. `reference` is what
    `model.monitor.drift` compares later customers with. `data` says which orders training knew;
    `cutoffs` are reports like `metrics`, of the same kind of model trained anew at other days,
    oldest first. `free_orders`: whether orders of 0 were purchases.
    """

    schema: str = SCHEMA
    model_version: str
    sha256: str
    feature_version: str
    feature_names: tuple[str, ...]
    horizon_days: int
    snapshot_every_days: int
    currency: str
    trained_from: str
    cutoff: str
    training_rows: int
    training_customers: int
    libraries: dict[str, str]
    score_quantiles: list[float]
    canary: Canary
    metrics: dict[str, Any]
    risk: Risk | None = None
    learned: Learned | None = None
    typical: list[float | None] = []
    attributes: tuple[Column, ...] = ()
    kind: str = ""
    options: dict[str, Any] = {}
    search: dict[str, Any] = {}
    cleaning: dict[str, Any] = {}
    reference: DriftReference | None = None
    data: Data | None = None
    cutoffs: list[dict[str, Any]] = []
    file: str = PICKLE_FILE
    timezone: str = UTC.name
    free_orders: FreeOrders = FreeOrders.COUNT

    @property
    def typical_customer(self) -> tuple[float, ...]:
        """`typical`; in artifacts made before there was such a thing, the canary in the middle,
        whose CLV is about the median."""
        found = self.typical or self.canary.features[len(self.canary.features) // 2]
        return tuple(np.nan if value is None else value for value in found)


class ManifestFields(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a manifest that the one who trains knows; `save` adds the rest.

    `report` is for people and goes to a file of its own.
    """

    snapshot_every_days: int
    trained_from: str
    cutoff: str
    training_rows: int
    training_customers: int
    score_quantiles: list[float]
    canary_features: Sequence[Sequence[float]]
    metrics: Mapping[str, Any]
    report: str = ""
    risk: Risk | None = None
    learned: Learned = NOTHING_LEARNED
    typical: Sequence[float] = ()
    search: Mapping[str, Any] = {}
    cleaning: Mapping[str, Any] = {}
    reference: DriftReference | None = None
    data: Data | None = None
    cutoffs: Sequence[Mapping[str, Any]] = ()
    free_orders: FreeOrders = FreeOrders.COUNT


def libraries() -> dict[str, str]:
    """The versions of what a pickle depends on, as they are installed here."""
    return {
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def parsed(path: Path, data: bytes) -> Manifest:
    try:
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise ArtifactRefused(path, "schema", schema, SCHEMA, RETRAIN)
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ArtifactRefused(
            path, MANIFEST_FILE, str(error), f"a manifest of {SCHEMA}", RETRAIN
        ) from None


def check(path: Path, manifest: Manifest) -> None:
    facts: list[tuple[str, object, object]] = [
        ("feature_version", manifest.feature_version, FEATURE_VERSION),
        (
            "feature_names",
            manifest.feature_names,
            (*FEATURE_NAMES, *(column.feature for column in manifest.attributes)),
        ),
        ("number of score_quantiles", len(manifest.score_quantiles), 101),
    ]
    # Parameters are numbers in any library; a pickle is of the libraries that wrote it.
    for library, running in libraries().items() if manifest.file == PICKLE_FILE else ():
        trained = manifest.libraries.get(library, "not named")
        facts.append((f"{library} of training", _minor(trained), _minor(running)))
    try:
        calendar_of(manifest.timezone)
    except CalendarError as error:
        raise ArtifactRefused(path, "timezone", manifest.timezone, str(error), RETRAIN) from None
    for field, found, expected in facts:
        if found != expected:
            raise ArtifactRefused(path, field, *difference(found, expected), RETRAIN)
    if manifest.file not in (MODEL_FILE, PICKLE_FILE):
        names = f"{MODEL_FILE} or {PICKLE_FILE}"
        raise ArtifactRefused(path, "file", manifest.file, names, RETRAIN)
    if not manifest.horizon_days >= 1:
        raise ArtifactRefused(path, "horizon_days", manifest.horizon_days, "at least 1", RETRAIN)
    if len(manifest.typical) not in (0, len(manifest.feature_names)):
        features = len(manifest.feature_names)
        raise ArtifactRefused(
            path, "number of features of typical", len(manifest.typical), features, RETRAIN
        )
    if manifest.score_quantiles != sorted(manifest.score_quantiles):
        raise ArtifactRefused(path, "score_quantiles", "out of order", "ascending", RETRAIN)
    if manifest.learned is None:
        raise ArtifactRefused(path, "learned", "missing", "when silences warn", RETRAIN)
    if manifest.risk is not None:
        _check_risk(path, manifest.risk, manifest.horizon_days)


def _check_risk(path: Path, risk: Risk, horizon_days: int) -> None:
    """Raises ArtifactRefused where the risk model is not one of this program's columns."""
    k = len(RHYTHM_NAMES)
    sizes = [len(each) for each in (risk.low, risk.high, risk.churn.weights, risk.soon.weights)]
    if risk.columns != RHYTHM_NAMES:
        found, expected = difference(risk.columns, RHYTHM_NAMES)
        raise ArtifactRefused(path, "columns of risk", found, expected, RETRAIN)
    if sizes != [k] * len(sizes) or not risk.typical.survival:
        raise ArtifactRefused(path, "numbers of risk", sizes, f"{k} of each", RETRAIN)
    typical = risk.typical
    in_range = 0 <= typical.log_gap <= 20 and 0.01 <= typical.gap_variance <= 1_000
    if not in_range or not 0 < typical.order_minor <= 1e15:
        found_typical = (typical.log_gap, typical.gap_variance, typical.order_minor)
        raise ArtifactRefused(path, "typical of risk", found_typical, "gaps of days", RETRAIN)
    if risk.horizon_days != horizon_days:
        found_days = risk.horizon_days
        raise ArtifactRefused(path, "horizon_days of risk", found_days, horizon_days, RETRAIN)


def _minor(version: str) -> str:
    """Major and minor: "1.9" of "1.9.1"."""
    return ".".join(version.split(".")[:2])


def difference(found: object, expected: object) -> tuple[object, object]:
    """For two tuples of names, the first that differs; else both as they are."""
    if isinstance(found, tuple) and isinstance(expected, tuple):
        for number, (one, other) in enumerate(zip(found, expected, strict=False)):
            if one != other:
                return f"{one} at {number}", f"{other} at {number}"
        return f"{len(found)} names", f"{len(expected)} names"
    return found, expected
