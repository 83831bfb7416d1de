"""Retraining on a log that has grown, and promoting only what is better.

The candidate knows what happened before the newest holdout, and nothing else: the cutoff lies one
horizon before the log's end. It and the current model are judged by the same customers of that
holdout. Promoted is a candidate that is better in at least one of normalized Gini, MAE and RMSE,
and worse in none of them nor in the Brier score of P(churn); better and worse are what lies beyond
the noise: intervals of 95 % of a paired bootstrap over customers.

Meant for a timer. The same orders, code and options are judged once. Cut off at any point and run
again, it comes to the same end: training gives the same model for the same orders, and what was
published and not yet judged is judged then.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import numpy as np

import features
import model
from features.arrays import Floats
from features.events.orders import FreeOrders, Order, OrderRules
from features.times import UTC, Calendar, calendar_of, day_of_date, iso_day
from model.artifact import artifact, registry, signature
from model.artifact.artifact import Artifact
from model.artifact.files import ArtifactRefused
from model.artifact.manifest import libraries
from model.artifact.signature import ANYBODY, Trust
from model.data.attributes import attributes_for, read_attributes
from model.data.cleaning import Cleaned, cleaned
from model.data.fingerprint import Data, data_of
from model.data.training_rows import TrainingConfig, default_cutoff_day
from model.errors import ModelError
from model.estimators.clv import ClvModel
from model.estimators.kinds import options_of
from model.estimators.risk import Risk
from model.evaluate.bootstrap import RESAMPLES, SEED, Difference, Predictions, differences
from model.evaluate.holdout import Holdout, chance_of, predicted
from model.evaluate.metrics import clv_metrics
from model.files.columns import OrderColumns
from model.training.build import Made, made

Read: TypeAlias = Callable[[OrderRules], tuple[Iterable[Order], Counter[str]]]

LOCK_FILE: Final = ".retrain"
_CANDIDATE: Final = ".candidate"
# What a promotion turns on; the Brier score beside them.
DECISIVE: Final = ("gini", "mae", "rmse")
BRIER: Final = "brier"
SHOWN: Final = (*DECISIVE, "spearman", "bias", "decile_wape")
# Erasures take a little; a topic that keeps its records for some weeks takes much.
_WHOLE: Final = 0.9
_Z95: Final = 1.959964


class RetrainError(ModelError):
    """Nothing was trained or promoted; the message says why, and what to do."""


class Busy(RetrainError):
    """Another retraining of the registry is running; wait for it."""


@dataclass(frozen=True, slots=True)
class RetrainRequest:
    """What is wanted. `kind` None: the current model's, with its options; `horizon_days`,
    `currency` and `free_orders` None: the current model's. `calendar` is for a first model.
    `private_key` signs the candidate. `attributes` is the file of a model that was trained with
    such, or of the first model of a registry."""

    horizon_days: int | None = None
    currency: str | None = None
    kind: str | None = None
    trust: Trust = ANYBODY
    private_key: Path | None = None
    attributes: Path | None = None
    free_orders: FreeOrders | None = None
    calendar: Calendar = UTC
    resamples: int = RESAMPLES
    step: Callable[[str], AbstractContextManager[None]] = field(
        default=lambda name: nullcontext(), repr=False
    )


class Line(msgspec.Struct, frozen=True):
    """One metric of both models on the holdout; `difference` is candidate less current, None for
    what nothing turns on."""

    current: float | None
    candidate: float | None
    difference: Difference | None


class ModelComparison(msgspec.Struct, frozen=True):
    """Both models on the same holdout, by metric; `better` and `worse` beyond the noise."""

    cutoff: str
    until: str
    customers: int
    metrics: dict[str, Line]
    better: list[str]
    worse: list[str]
    currency: str = "USD"

    @property
    def promotes(self) -> bool:
        return bool(self.better) and not self.worse


class RetrainOutcome(msgspec.Struct, frozen=True):
    """What came of a retraining: `action` is `promoted`, `kept` (the current one) or `nothing new`.

    `comparison` None: there was nothing to compare, for which `why` has the reason.
    """

    action: str
    why: str
    candidate: str | None
    current: str | None
    data: Data
    comparison: ModelComparison | None = None


def retrain(root: Path, read: Read, asked: RetrainRequest) -> RetrainOutcome:
    """What came of it. `read` gives the orders under rules, and counts rows that are none.

    Raises Busy and RetrainError, and what training raises where there are too few orders.
    """
    if asked.trust.required and asked.private_key is None:
        raise RetrainError(
            "models have to be signed here, and the candidate could not be: name a private key"
            " (--key), one whose public half is among the trusted keys"
        )
    root.mkdir(parents=True, exist_ok=True)
    with registry.locked(root, LOCK_FILE, wait=False) as alone:
        if not alone:
            raise Busy(f"{root}: another retraining is running")
        for left in root.glob(f".*{_CANDIDATE.removeprefix('.')}*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            return _retrained(root, read, asked)
        finally:
            shutil.rmtree(root / _CANDIDATE, ignore_errors=True)


check_loads = artifact.load


def _retrained(root: Path, read: Read, asked: RetrainRequest) -> RetrainOutcome:
    now = _current(root, asked.trust)
    config = _config(now.artifact, asked)
    with asked.step("cleaning"):
        rules = OrderRules(currency=config.currency, free_orders=config.free_orders)
        found = _cleaned(*read(rules), config)
    log = found.orders
    data = data_of(log)
    key = _key(data, config)
    done = registry.judged(root, key)
    if done is not None:
        why = (
            f"these orders were judged by this code at {done.at}:"
            f" {done.why.removeprefix('retrain: ')}"
        )
        return RetrainOutcome("nothing new", why, done.version, now.version, data)
    if now.artifact is not None:
        _check_whole(log, now.artifact)
    cutoff_day = default_cutoff_day(log, config.horizon_days, config.calendar)
    with asked.step("training"):
        candidate = made(log, config, cutoff_day)
    cleaning = msgspec.to_builtins(found.report)
    candidate = replace(
        candidate, fields=msgspec.structs.replace(candidate.fields, cleaning=cleaning)
    )
    version = artifact.version_of(candidate.model, candidate.fields.risk, candidate.fields.learned)
    if version == now.version:
        return _kept(root, version, now.version, key, data, "training gives the same model again")
    comparison, why = None, now.lacking
    if now.artifact is not None:
        if now.artifact.manifest.cutoff > iso_day(cutoff_day):
            raise RetrainError(
                f"{root}: the current model {now.version} knows the orders up to"
                f" {now.artifact.manifest.cutoff}, so it has seen a part of the newest holdout,"
                f" which begins on {iso_day(cutoff_day)}: run it again when the log goes on to"
                f" {_ends(now.artifact.manifest.cutoff, config.horizon_days)}"
            )
        with asked.step("comparing"):
            holdout = predicted(
                log, candidate.model, cutoff_day, config.horizon_days, config.attributes
            )
            comparison = compare(
                holdout,
                candidate.model,
                now.artifact.model,
                resamples=asked.resamples,
                risks=(candidate.fields.risk, now.artifact.manifest.risk),
            )
        why = _why(comparison)
    _publish(root, candidate, asked)
    if comparison is not None and not comparison.promotes:
        return _kept(root, version, now.version, key, data, why, comparison)
    check_loads(root / version, asked.trust)
    registry.promote(root, version, why=f"retrain: {why}", key=key, expected=now.version)
    return RetrainOutcome("promoted", why, version, now.version, data, comparison)


def _cleaned(orders: Iterable[Order], rejected: Counter[str], config: TrainingConfig) -> Cleaned:
    """As `train` does it: a topic in which records were sent twice is the same log."""
    return cleaned(OrderColumns.of(orders), config.currency, rejected, calendar=config.calendar)


@dataclass(frozen=True, slots=True)
class _Current:
    """The current version, its artifact where it can be compared with, else why it cannot."""

    version: str | None
    artifact: Artifact | None
    lacking: str


def _current(root: Path, trust: Trust) -> _Current:
    try:
        version = registry.current(root)
        if version is None:
            return _Current(None, None, "there was no current model")
        return _Current(version, artifact.load(root / version, trust), "")
    except artifact.PickleUntrusted:
        raise
    except ArtifactRefused as error:
        # Whatever is current, no worker could start with it.
        return _Current(None, None, f"the current model cannot be used: {error}")


def _config(now: Artifact | None, asked: RetrainRequest) -> TrainingConfig:
    default = TrainingConfig()
    kind = asked.kind or default.kind
    if now is None:
        return TrainingConfig(
            horizon_days=asked.horizon_days or default.horizon_days,
            currency=asked.currency or default.currency,
            calendar=asked.calendar,
            free_orders=asked.free_orders or default.free_orders,
            kind=kind,
            options=options_of(kind, {}),
            attributes=None if asked.attributes is None else read_attributes(asked.attributes),
        )
    manifest = now.manifest
    for name, wanted, found in (
        ("--horizon", asked.horizon_days, manifest.horizon_days),
        ("--currency", asked.currency, manifest.currency),
        ("CLV_FREE_ORDERS", asked.free_orders, manifest.free_orders),
    ):
        if wanted not in (None, found):
            raise RetrainError(
                f"{name} {wanted}: the current model has {found}, and the two cannot be compared;"
                " leave it out, or train, publish and promote by hand"
            )
    if asked.attributes is not None and not manifest.attributes:
        raise RetrainError(
            f"--attributes {asked.attributes}: the current model knows no attributes, and the two"
            " cannot be compared; leave them out, or train, publish and promote by hand"
        )
    same = asked.kind in (None, manifest.kind) and bool(manifest.kind)
    return TrainingConfig(
        horizon_days=manifest.horizon_days,
        snapshot_every_days=manifest.snapshot_every_days,
        currency=manifest.currency,
        calendar=calendar_of(manifest.timezone),
        free_orders=manifest.free_orders,
        kind=manifest.kind if same else kind,
        options=manifest.options if same else options_of(kind, {}),
        # In the columns of the current model, so that both see the same.
        attributes=attributes_for(manifest.attributes, asked.attributes),
    )


def compare(
    holdout: Holdout,
    candidate: ClvModel,
    current: ClvModel,
    resamples: int = RESAMPLES,
    risks: tuple[Risk | None, Risk | None] = (None, None),
) -> ModelComparison:
    """Two models, with what their P(churn) is from, on the customers of a holdout that neither has
    seen."""
    X, actual = holdout.X, holdout.actual
    predictions = {"candidate": candidate.clv(X), "current": current.clv(X)}
    judged = Predictions(holdout.users, actual, predictions)
    found = differences([judged], "candidate", resamples, SEED).by_cutoff[0]["current"]
    values = {name: clv_metrics(actual, p) for name, p in predictions.items()}
    lines = {
        name: Line(
            getattr(values["current"], name),
            getattr(values["candidate"], name),
            found.get(name) if name in DECISIVE else None,
        )
        for name in SHOWN
    }
    left = holdout.churned.astype(np.float64)
    theirs, ours = (
        chance_of(model, risk, X, holdout.pairs)
        for model, risk in zip((candidate, current), risks, strict=True)
    )
    lines[BRIER] = _brier((ours - left) ** 2, (theirs - left) ** 2)
    told = {name: line.difference.better for name, line in lines.items() if line.difference}
    return ModelComparison(
        cutoff=iso_day(holdout.cutoff_day),
        until=iso_day(holdout.cutoff_day + holdout.horizon_days),
        customers=len(holdout.users),
        metrics=lines,
        better=[name for name in DECISIVE if told.get(name) is True],
        worse=[name for name in told if told[name] is False],
        currency=holdout.currency,
    )


def _brier(current: Floats, candidate: Floats) -> Line:
    """A mean over customers, so its interval needs no resamples."""
    d = candidate - current
    value, half = float(d.mean()), _Z95 * float(d.std()) / len(d) ** 0.5
    low, high = value - half, value + half
    better = None if low <= 0.0 <= high else high < 0.0
    difference = Difference(value, low, high, better)
    return Line(float(current.mean()), float(candidate.mean()), difference)


def _why(comparison: ModelComparison) -> str:
    names = {"gini": "normalized Gini", "mae": "MAE", "rmse": "RMSE", BRIER: "Brier score"}
    better = " and ".join(names[name] for name in comparison.better)
    worse = " and ".join(names[name] for name in comparison.worse)
    if comparison.promotes:
        return f"better in {better}, worse in none"
    if worse:
        return f"worse in {worse}" + (f", though better in {better}" if better else "")
    return "no better than chance allows in normalized Gini, MAE and RMSE"


def _kept(
    root: Path, version: str, before: str | None, key: str, data: Data, why: str,
    comparison: ModelComparison | None = None,
) -> RetrainOutcome:  # fmt: skip
    registry.keep(root, version, before, why=f"retrain: {why}", key=key)
    return RetrainOutcome("kept", why, version, before, data, comparison)


def _publish(root: Path, candidate: Made, asked: RetrainRequest) -> None:
    place = root / _CANDIDATE
    artifact.save(place, candidate.model, candidate.fields)
    if asked.private_key is not None:
        manifest = artifact.checked(place, Trust(pickles=True)).manifest
        signature.sign(place, asked.private_key, manifest, asked.trust.registry)
    # It is not the current one: what was published of it may be of an earlier try.
    registry.publish(root, place, replace=True)


def _check_whole(log: Sequence[Order], now: Artifact) -> None:
    """Models judge customers by all that they have done; a log that has lost its first orders
    shows them otherwise than the live states do."""
    data, cutoff = now.manifest.data, now.manifest.cutoff
    if data is None:
        return
    end_ms = calendar_of(now.manifest.timezone).start_ms(day_of_date(cutoff))
    known = sum(order.ts_ms < end_ms for order in log)
    if known < _WHOLE * data.orders:
        raise RetrainError(
            f"the log has {known:,} orders before {cutoff}; the current model was trained on"
            f" {data.orders:,} of them: give all orders from the start (a topic keeps them only"
            " with retention.ms=-1), or train, publish and promote by hand"
        )


def _key(data: Data, config: TrainingConfig) -> str:
    """The same for the same orders, the same question, and the same code to answer it."""
    # What was asked before there was such a choice has the key that it had.
    zone = () if config.calendar == UTC else (config.calendar.name,)
    free = () if config.free_orders is FreeOrders.COUNT else (config.free_orders.value,)
    asked = (config.horizon_days, config.snapshot_every_days, config.currency, config.kind)
    options = sorted((name, repr(value)) for name, value in config.options.items())
    parts = [data.hash, str(data.orders), repr((*asked, *zone, *free)), repr(options), *_code()]
    if config.attributes is not None:
        known = config.attributes
        parts += [repr(known.columns), repr(list(known.places)), known.values.tobytes().hex()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _code() -> Iterator[str]:
    for package in (features, model):
        for directory in package.__path__:
            for path in sorted(Path(directory).rglob("*.py")):
                yield hashlib.sha256(path.read_bytes()).hexdigest()
    for library, version in sorted(libraries().items()):
        yield f"{library} {version}"


def _ends(cutoff: str, horizon_days: int) -> str:
    return iso_day(day_of_date(cutoff) + horizon_days)
