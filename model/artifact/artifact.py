"""A trained model on disk: its file and `manifest.json`; for people, `report.txt` and a card.

It is loaded only when everything in the manifest fits what runs here, and from the very bytes whose
SHA-256 the manifest has. The hash finds damage and mix-ups; it is no signature: who can write both
files can choose the numbers that score customers.

`model.json` holds parameters and runs nothing (`model.artifact.parameters`). `model.joblib` is a
pickle, for kinds made of scikit-learn's own structures; it can run any code, and is opened where a
trusted key has signed it or the reader says so (`Trust.pickles`).
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from features.arrays import Floats
from features.columns.vector import FEATURE_VERSION
from features.times import calendar_of
from model.artifact import registry, signature
from model.artifact.card import card
from model.artifact.files import (
    ARTIFACT_FILES,
    CARD_FILE,
    JUDGED,
    MANIFEST_FILE,
    MAX_BYTES,
    MODEL_FILE,
    PICKLE_FILE,
    REPORT_FILE,
    ArtifactRefused,
    read_bytes,
    write_durably,
)
from model.artifact.manifest import (
    RETRAIN,
    SCHEMA,
    Canary,
    Manifest,
    ManifestFields,
    check,
    difference,
    libraries,
    parsed,
)
from model.artifact.parameters import MAX_BYTES as MAX_PARAMETERS
from model.artifact.parameters import read as read_parameters
from model.artifact.parameters import written
from model.artifact.signature import ANYBODY, Trust
from model.artifact.unpickle import unpickled
from model.data.attributes import attributes_for
from model.decide.learned import NOTHING_LEARNED, Learned
from model.decide.scoring import Scorer
from model.estimators.clv import ClvModel
from model.estimators.risk import Risk

# Protocol 5 is in every Python supported; fixed, so that the same model gives the same bytes.
_PICKLE_PROTOCOL: Final = 5
_VERSION_CHARS: Final = 12
_PICKLE: Final = (
    "a pickle can run any code: name its maker's key (CLV_MODEL_KEYS, --keys), or, if you trust who"
    " can write the file with all that you may do here, say so (CLV_TRUST_PICKLE=on,"
    " --trust-pickle); python -m model registry convert makes parameters of an earlier version's"
)
# Other processors may differ in the last bits of a logarithm, and so by one rounding step.
_CANARY_TOLERANCE: Final = 1e-6


class PickleUntrusted(ArtifactRefused):
    """A pickle that no trusted key has signed: sign it, convert it, or say that it may run."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model that may score, and its manifest."""

    model: ClvModel
    manifest: Manifest

    def scorer(self, attributes: Path | None = None) -> Scorer:
        """The model as everybody scores with it; `attributes` is the file of a model that was
        trained with such, and ignored by others. Raises AttributesError."""
        manifest = self.manifest
        return Scorer(
            model=self.model,
            model_version=manifest.model_version,
            currency=manifest.currency,
            horizon_days=manifest.horizon_days,
            score_quantiles_major=tuple(manifest.score_quantiles),
            risk=manifest.risk,
            learned=manifest.learned or NOTHING_LEARNED,
            typical=manifest.typical_customer,
            attributes=attributes_for(manifest.attributes, attributes),
            calendar=calendar_of(manifest.timezone),
        )


def save(directory: str | Path, model: ClvModel, fields: ManifestFields) -> Manifest:
    """The manifest of the artifact written to `directory`, whole or not at all.

    An artifact already there is replaced; a directory with anything else in it is left alone
    (FileExistsError).
    """
    target = Path(directory)
    parameters = written(model)
    name = PICKLE_FILE if parameters is None else MODEL_FILE
    data = parameters or pickle.dumps(model, protocol=_PICKLE_PROTOCOL)
    if len(data) > MAX_BYTES:
        raise OSError(
            f"{target}: the model has {len(data):,} bytes, and at most {MAX_BYTES:,} are loaded;"
            " choose options that make it smaller, such as fewer or shallower trees"
        )
    canary = np.asarray(fields.canary_features, dtype=np.float64)
    manifest = Manifest(
        model_version=version_of(model, fields.risk, fields.learned),
        sha256=hashlib.sha256(data).hexdigest(),
        feature_version=FEATURE_VERSION,
        feature_names=model.feature_names,
        horizon_days=model.horizon_days,
        snapshot_every_days=fields.snapshot_every_days,
        currency=model.currency,
        timezone=model.timezone,
        free_orders=fields.free_orders,
        trained_from=fields.trained_from,
        cutoff=fields.cutoff,
        training_rows=fields.training_rows,
        training_customers=fields.training_customers,
        libraries=libraries(),
        score_quantiles=fields.score_quantiles,
        canary=Canary(_plain(canary), model.clv(canary).tolist(), model.churn(canary).tolist()),
        metrics=dict(fields.metrics),
        risk=fields.risk,
        learned=fields.learned,
        kind=model.kind,
        options=model.options,
        search=dict(fields.search),
        cleaning=dict(fields.cleaning),
        typical=_plain(np.array(fields.typical)),
        attributes=model.attributes,
        reference=fields.reference,
        data=fields.data,
        cutoffs=[dict(report) for report in fields.cutoffs],
        file=name,
    )
    _write(target, manifest, data, f"{fields.report.rstrip()}\n".encode())
    return manifest


def _write(target: Path, manifest: Manifest, data: bytes, report: bytes) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    _replace(
        target,
        {
            manifest.file: data,
            REPORT_FILE: report,
            CARD_FILE: card(manifest).encode(),
            MANIFEST_FILE: text + b"\n",
        },
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """An artifact that passed every check, and the bytes of the manifest that did."""

    artifact: Artifact
    manifest: bytes
    directory: Path


def load(directory: str | Path, trust: Trust = ANYBODY) -> Artifact:
    """The artifact in `directory`, or a registry's current one. Raises ArtifactRefused."""
    return checked(directory, trust).artifact


def checked(directory: str | Path, trust: Trust = ANYBODY) -> Checked:
    """What `load` gives, and what it was made from. Each file is read once.

    Who made it comes first: nothing is read from a manifest that nobody vouches for.
    """
    path = registry.resolve(directory)
    text = read_bytes(path, MANIFEST_FILE)
    signed = signature.verify(path, text, signature.read(path), trust)
    manifest = parsed(path, text)
    check(path, manifest)
    if registry.holds(path) and path.name != manifest.model_version:
        raise ArtifactRefused(
            path, "model_version", manifest.model_version, f"that of its directory, {path.name}",
            "publish it again (python -m model registry publish)",
        )  # fmt: skip
    if manifest.file == PICKLE_FILE and not (signed or trust.pickles):
        raise PickleUntrusted(
            path, PICKLE_FILE, "a pickle of somebody whom no trusted key vouches for",
            "parameters, or a signature by a key that is trusted", _PICKLE,
        )  # fmt: skip
    data = read_bytes(path, manifest.file)
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.sha256:
        raise ArtifactRefused(
            path, f"SHA-256 of {manifest.file}", digest, manifest.sha256, "copy both files again"
        )
    try:
        model = _built(path, data) if manifest.file == MODEL_FILE else unpickled(path, data)
        _check_model(path, model, manifest)
    except AttributeError as error:  # its class has grown since
        raise ArtifactRefused(
            path, manifest.file, f"of an earlier version ({error})", "a model of this one", RETRAIN
        ) from None
    return Checked(Artifact(model, manifest), text, path)


def convert(source: Path, target: Path, trust: Trust) -> Manifest:
    """The manifest of an artifact written to `target` as this version writes it: parameters instead
    of a pickle where the kind has such a form. Model and version stay. Raises ArtifactRefused."""
    found = checked(source, trust)
    model, manifest = found.artifact.model, found.artifact.manifest
    parameters = written(model)
    if parameters is None:
        raise ArtifactRefused(
            source, "kind", manifest.kind, "one that is made of arrays",
            "it stays a pickle: sign it (python -m model registry sign)",
        )  # fmt: skip
    sha256 = hashlib.sha256(parameters).hexdigest()
    manifest = msgspec.structs.replace(manifest, file=MODEL_FILE, sha256=sha256)
    report = read_bytes(found.directory, REPORT_FILE)
    _write(target, manifest, parameters, report)
    return load(target).manifest


def _built(path: Path, data: bytes) -> ClvModel:
    if len(data) > MAX_PARAMETERS:
        raise ArtifactRefused(
            path, f"size of {MODEL_FILE}", len(data), f"at most {MAX_PARAMETERS} bytes", RETRAIN
        )
    try:
        return read_parameters(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused(path, MODEL_FILE, str(error), "parameters", RETRAIN) from None


def _plain(numbers: Floats) -> Any:
    """An array as lists, with None for NaN, which JSON has no word for."""
    plain = numbers.astype(object)
    plain[np.isnan(numbers)] = None
    return plain.tolist()


def version_of(
    model: ClvModel, risk: Risk | None = None, learned: Learned = NOTHING_LEARNED
) -> str:
    """A short name for what the model says: equal for equal parameters, features and horizon."""
    digest = hashlib.sha256()
    zone = () if model.timezone == "UTC" else (model.timezone,)
    named = (SCHEMA, FEATURE_VERSION, *model.feature_names, model.currency, model.horizon_days)
    for part in (*named, *zone):
        digest.update(f"{part}\0".encode())
    for numbers in model.parameters():
        digest.update(np.ascontiguousarray(numbers, dtype="<f8").tobytes())
    # Of models from before they had these, the version stays.
    told: Any = msgspec.to_builtins((risk, learned))
    for part, later in zip(told, ("means", "ranking"), strict=True):
        if part and not part[later]:
            del part[later]
    digest.update(msgspec.json.encode(told))
    return digest.hexdigest()[:_VERSION_CHARS]


def check_target(target: Path) -> None:
    """Raises FileExistsError where there is more than a model in the directory."""
    found = {path.name for path in target.iterdir()} if target.exists() else set()
    if strangers := sorted(found.difference(ARTIFACT_FILES, [JUDGED])):
        raise FileExistsError(
            f"{target} holds {', '.join(strangers[:3])}, which is not part of a model;"
            " name a new directory"
        )


def _replace(target: Path, files: Mapping[str, bytes]) -> None:
    """Puts the files where `target` is, through a directory beside it and a rename."""
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    old = fresh.with_name(fresh.name + "-old")
    try:
        fresh.chmod(0o755)  # mkdtemp makes it private; a model is read by the worker's user
        for name, content in files.items():
            write_durably(fresh / name, content)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check_model(path: Path, model: ClvModel, manifest: Manifest) -> None:
    """What the loaded object says of itself, then what it says of the canary customers."""
    facts: tuple[tuple[str, object, object], ...] = (
        ("feature_names of the model", model.feature_names, manifest.feature_names),
        ("horizon_days of the model", model.horizon_days, manifest.horizon_days),
        ("currency of the model", model.currency, manifest.currency),
        ("timezone of the model", model.timezone, manifest.timezone),
        ("kind of the model", model.kind, manifest.kind),
        ("attributes of the model", model.attributes, manifest.attributes),
        (
            "model_version",
            manifest.model_version,
            version_of(model, manifest.risk, manifest.learned or NOTHING_LEARNED),
        ),
    )
    for field, found, expected in facts:
        if found != expected:
            raise ArtifactRefused(path, field, *difference(found, expected), RETRAIN)
    canary = manifest.canary
    try:
        features = np.array(canary.features, dtype=np.float64)
        outputs = (
            ("CLV of the canary", model.clv(features), canary.clv),
            ("churn probability of the canary", model.churn(features), canary.churn),
        )
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise ArtifactRefused(path, "canary", str(error), "scores", RETRAIN) from None
    for field, found_now, then in outputs:
        _check_outputs(path, field, found_now, then)


def _check_outputs(path: Path, field: str, now: Floats, then: Sequence[float]) -> None:
    if not len(now) or len(now) != len(then):
        raise ArtifactRefused(path, f"{field}, customers", len(then), len(now) or "some", RETRAIN)
    for number, (found, expected) in enumerate(zip(now.tolist(), then, strict=True)):
        # Rounded to a minor unit: one step of difference is another processor, more is not.
        step = 0.011 if "CLV" in field else 2e-6
        if not abs(found - expected) <= max(step, _CANARY_TOLERANCE * abs(expected)):
            raise ArtifactRefused(path, f"{field} {number}", found, expected, RETRAIN)
