"""Whatever stands in a model's files is refused, or scores everybody with a number.

The seeds are made by training, for kept ones would be of columns that are no longer those of today,
and be refused for that. Hash, version and canary are made to fit, as whoever forges a model would.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.artifact.artifact import load, save, version_of
from model.artifact.files import MANIFEST_FILE, MODEL_FILE, ArtifactRefused
from model.artifact.manifest import Manifest
from model.artifact.parameters import read
from model.data.training_rows import training_set
from model.decide.learned import NOTHING_LEARNED
from model.decide.policy import Policy
from model.estimators.kinds import fit, options_of
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.fuzz.mutate import altered, fuzzed, mutated
from tests.support import modelling
from tests.support.fakes import (
    RISK,
    at,
    by_time,
    claimed,
    done,
    every,
    judge,
    learned,
    pipeline,
    records,
)

KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("blend", {}),
    ("bgnbd", {}),
    ("linear", {"pca": 4}),
    ("tweedie", {"select": 8}),
)
LOG = records(by_time(every("ann", 5, 20), every("ben", 9, 9)))


@cache
def files(kind: int) -> tuple[Any, Any]:
    """The manifest and the parameters of a model, as JSON documents."""
    name, options = KINDS[kind]
    config = replace(modelling.CONFIG, kind=name, options=options_of(name, options))
    rows = training_set(modelling.orders(), config, modelling.cutoff_day())
    model = fit(rows, config, modelling.known())
    risk = msgspec.structs.replace(RISK, horizon_days=config.horizon_days)
    fields = msgspec.structs.replace(modelling.fields(model), risk=risk, learned=learned(30))
    with TemporaryDirectory() as folder:
        save(Path(folder) / "m", model, fields)
        found = [(Path(folder) / "m" / name).read_bytes() for name in (MANIFEST_FILE, MODEL_FILE)]
    return msgspec.json.decode(found[0]), msgspec.json.decode(found[1])


def forged(manifest: bytes, model: bytes) -> bytes:
    """The manifest with what a model's own numbers make of it, where there is such a model."""
    with suppress(ValueError, TypeError, ArithmeticError, RecursionError):
        told = msgspec.json.decode(manifest)
        told["sha256"] = hashlib.sha256(model).hexdigest()
        manifest = msgspec.json.encode(told)
        built, fields = read(model), msgspec.json.decode(manifest, type=Manifest)
        told["model_version"] = version_of(built, fields.risk, fields.learned or NOTHING_LEARNED)
        manifest = msgspec.json.encode(told)
        rows = np.array(fields.canary.features, dtype=np.float64)
        told["canary"] |= {"clv": built.clv(rows).tolist(), "churn": built.churn(rows).tolist()}
        manifest = msgspec.json.encode(told)
    return manifest


def scored(manifest: bytes, model: bytes) -> bool:
    """Whether the artifact is loaded; it then scores, and has a partition of orders judged."""
    with TemporaryDirectory() as folder:
        for name, content in ((MANIFEST_FILE, forged(manifest, model)), (MODEL_FILE, model)):
            (Path(folder) / name).write_bytes(content)
        try:
            artifact = load(folder)
        except ArtifactRefused:
            return False
    rows = modelling.random_rows(1, 50)
    found = np.array([artifact.model.clv(rows), artifact.model.churn(rows)])
    assert np.isfinite(found).all()
    assert ((found[1] >= 0) & (found[1] <= 1)).all()
    through = pipeline(judge(Policy(), by=artifact.scorer()))
    runner = claimed(LOG, MemoryStore(), MemoryPublisher(), through)
    done(runner.process(LOG))
    done(runner.tick(at(400)))
    return True


def test_the_seeds_score() -> None:
    for kind in range(len(KINDS)):
        manifest, model = files(kind)
        assert scored(msgspec.json.encode(manifest), msgspec.json.encode(model))


@fuzzed
@given(st.data())
def test_any_artifact_is_refused_or_scores(data: st.DataObject) -> None:
    documents = files(data.draw(st.integers(0, len(KINDS) - 1)))
    at_all = [
        msgspec.json.encode(data.draw(altered(one)) if data.draw(st.booleans()) else one)
        for one in documents
    ]
    if not data.draw(st.integers(0, 3)):
        which = data.draw(st.integers(0, 1))
        at_all[which] = data.draw(mutated([at_all[which]]))
    scored(at_all[0], at_all[1])
