"""A model on disk is used only when everything fits, and a refusal says what does not."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sklearn

from features.columns.vector import FEATURE_NAMES
from model.artifact import registry, signature
from model.artifact.artifact import PickleUntrusted, convert, load, save, version_of
from model.artifact.files import ArtifactRefused
from model.artifact.signature import Trust
from tests.support import modelling

TRUSTED = Trust(pickles=True)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "model", modelling.model(), modelling.fields())
    return tmp_path / "model"


def _edit(path: Path, **changes: Any) -> None:
    manifest = msgspec.json.decode((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_bytes(msgspec.json.encode(manifest | changes))


def _put(path: Path, data: bytes, file: str = "model.json") -> None:
    """Another model file with a manifest that agrees on its hash."""
    (path / file).write_bytes(data)
    _edit(path, sha256=hashlib.sha256(data).hexdigest(), file=file)


def _pickled(path: Path, data: bytes) -> None:
    _put(path, data, "model.joblib")


def test_what_was_saved_is_what_is_loaded(saved: Path) -> None:
    artifact = load(saved)
    X = modelling.known()
    assert artifact.model.clv(X).tobytes() == modelling.model().clv(X).tobytes()
    assert artifact.model.churn(X).tobytes() == modelling.model().churn(X).tobytes()
    assert artifact.manifest.feature_names == FEATURE_NAMES
    assert artifact.manifest.horizon_days == 60
    assert len(artifact.manifest.score_quantiles) == 101


def test_the_same_model_has_the_same_version_and_bytes(tmp_path: Path) -> None:
    manifests = [
        save(tmp_path / name, modelling.model(), modelling.fields()) for name in ("one", "two")
    ]
    assert manifests[0] == manifests[1]
    again = load(tmp_path / "one").model
    assert version_of(again) == manifests[0].model_version


def test_another_model_has_another_version() -> None:
    other = pickle.loads(pickle.dumps(modelling.model()))
    other.top += 0.01
    assert version_of(other) != version_of(modelling.model())


def test_saving_again_replaces_the_artifact_and_leaves_nothing_else(saved: Path) -> None:
    save(saved, modelling.model(), modelling.fields())
    load(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    assert sorted(path.name for path in saved.iterdir()) == [
        "MODEL_CARD.md",
        "manifest.json",
        "model.json",
        "report.txt",
    ]


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(FileExistsError, match=r"holds thesis\.tex"):
        save(tmp_path, modelling.model(), modelling.fields())
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


def test_a_write_that_fails_leaves_the_old_artifact(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(saved, modelling.model(), modelling.fields())
    load(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["manifest.json", "model.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactRefused, match=rf"{name} is not there") as refused:
        load(saved)
    assert refused.value.field == name


def test_one_flipped_bit_is_refused(saved: Path) -> None:
    data = bytearray((saved / "model.json").read_bytes())
    data[len(data) // 2] ^= 1
    (saved / "model.json").write_bytes(data)
    with pytest.raises(ArtifactRefused, match="SHA-256"):
        load(saved)


@pytest.mark.parametrize("keep", [0, 1, 100, -2])
def test_a_cut_off_model_is_refused_even_with_a_fitting_hash(saved: Path, keep: int) -> None:
    _put(saved, (saved / "model.json").read_bytes()[:keep])
    with pytest.raises(ArtifactRefused, match=r"model\.json is"):
        load(saved)
    _pickled(saved, pickle.dumps(modelling.model())[:keep])
    with pytest.raises(ArtifactRefused, match="unreadable"):
        load(saved, TRUSTED)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":"clv-model/1"}', "\xff", "null"])
def test_a_broken_manifest_is_refused(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactRefused):
        load(saved)


class _Evil:
    """Unpickled, it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    saved: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    _pickled(saved, pickle.dumps(_Evil(mark)))
    with pytest.raises(ArtifactRefused, match=r"naming posix\.mkdir") as refused:
        load(saved, TRUSTED)
    assert "do not trust" in str(refused.value)
    assert not mark.exists()


def test_an_object_of_another_class_is_refused(saved: Path) -> None:
    _pickled(saved, pickle.dumps({"a": 1}))
    with pytest.raises(ArtifactRefused, match="dict, expected ClvModel"):
        load(saved, TRUSTED)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema": "clv-model/2"}, "schema"),
        ({"feature_version": "0"}, "feature_version"),
        ({"feature_names": [*FEATURE_NAMES[:-1], "luck"]}, "feature_names"),
        ({"feature_names": FEATURE_NAMES[:-1]}, "feature_names"),
        ({"horizon_days": 61}, "horizon_days of the model"),
        ({"currency": "JPY"}, "currency of the model"),
        ({"model_version": "abc"}, "model_version"),
        ({"score_quantiles": [1.0]}, "number of score_quantiles"),
        ({"score_quantiles": [float(-i) for i in range(101)]}, "score_quantiles"),
        ({"file": "../model.json"}, "file"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    saved: Path, changes: dict[str, Any], field: str
) -> None:
    _edit(saved, **changes)
    with pytest.raises(ArtifactRefused) as refused:
        load(saved)
    assert refused.value.field == field
    assert "retrain the model" in str(refused.value)


def test_another_minor_release_of_scikit_learn_is_refused(saved: Path) -> None:
    libraries = load(saved).manifest.libraries
    _pickled(saved, pickle.dumps(modelling.model()))
    _edit(saved, libraries=libraries | {"scikit-learn": "1.4.2"})
    running = ".".join(sklearn.__version__.split(".")[:2])
    with pytest.raises(ArtifactRefused, match=rf"learn of training is 1\.4, expected {running};"):
        load(saved, TRUSTED)


def test_a_pickle_of_another_scikit_learn_is_refused_whatever_the_manifest_says(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pickled(saved, pickle.dumps(modelling.model()))
    monkeypatch.setattr("sklearn.base.__version__", "1.9.999")
    with pytest.raises(ArtifactRefused, match=r"expected 1\.9\.999"):
        load(saved, TRUSTED)


@pytest.mark.parametrize("lacking", ["horizon_days", "value", "top"])
def test_a_pickle_of_an_earlier_version_is_refused_with_the_remedy(
    saved: Path, lacking: str
) -> None:
    old = pickle.loads(pickle.dumps(modelling.model()))
    if not hasattr(old, lacking):
        pytest.skip(f"models have no {lacking}")
    delattr(old, lacking)
    _pickled(saved, pickle.dumps(old))
    with pytest.raises(ArtifactRefused, match="retrain the model"):
        load(saved, TRUSTED)


@pytest.mark.parametrize("output", ["clv", "churn"])
def test_a_model_that_scores_the_canary_otherwise_is_refused(saved: Path, output: str) -> None:
    canary = msgspec.to_builtins(load(saved).manifest.canary)
    canary[output][1] += 0.1
    _edit(saved, canary=canary)
    with pytest.raises(ArtifactRefused, match="of the canary 1"):
        load(saved)


def test_a_manifest_without_canaries_is_refused(saved: Path) -> None:
    _edit(saved, canary={"features": [], "clv": [], "churn": []})
    with pytest.raises(ArtifactRefused, match="canary"):
        load(saved)


def test_a_pickle_is_opened_only_where_its_maker_is_trusted(saved: Path, tmp_path: Path) -> None:
    _pickled(saved, pickle.dumps(modelling.model()))
    with pytest.raises(PickleUntrusted, match=r"can run any code.*CLV_TRUST_PICKLE=on"):
        load(saved)
    load(saved, TRUSTED)
    public = tmp_path / "alice.keys"
    public.write_text(signature.generate(tmp_path / "alice.pem"))
    trust = Trust.of(public, required=False)
    with pytest.raises(PickleUntrusted):
        load(saved, trust)
    signature.sign(saved, tmp_path / "alice.pem", (saved / "manifest.json").read_bytes())
    load(saved, trust)


def test_a_pickle_of_an_earlier_version_is_converted_and_says_the_same(
    saved: Path, tmp_path: Path
) -> None:
    _pickled(saved, pickle.dumps(modelling.model()))
    before = load(saved, TRUSTED)
    convert(saved, tmp_path / "new", TRUSTED)
    after, X = load(tmp_path / "new"), modelling.random_rows(1, 300)
    assert after.manifest.model_version == before.manifest.model_version
    assert after.model.clv(X).tobytes() == before.model.clv(X).tobytes()
    assert after.model.churn(X).tobytes() == before.model.churn(X).tobytes()
    root = tmp_path / "models"
    registry.publish(root, saved)
    version = registry.publish(root, tmp_path / "new", replace=True)
    assert not (root / version / "model.joblib").exists()
    registry.promote(root, version)
    assert load(root).manifest == after.manifest
