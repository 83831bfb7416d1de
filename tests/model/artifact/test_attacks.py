"""Models and registries as somebody writes them who means harm: refused, and nothing is run."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from model.artifact import artifact, registry, signature
from model.artifact.artifact import PickleUntrusted, load, save
from model.artifact.files import ArtifactRefused
from model.artifact.registry import RegistryError
from model.artifact.signature import Trust
from model.commands.cli import cli
from model.data.synthetic import write_csv
from model.data.training_rows import training_set
from model.estimators.clv import ClvModel
from model.estimators.kinds import fit, options_of
from tests.support import modelling

TRUSTED = Trust(pickles=True)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "model", modelling.model(), modelling.fields())
    return tmp_path / "model"


@pytest.fixture
def root(saved: Path, tmp_path: Path) -> Path:
    """A registry with one current version."""
    directory = tmp_path / "models"
    registry.promote(directory, registry.publish(directory, saved))
    return directory


def _edit(path: Path, **changes: Any) -> None:
    manifest = msgspec.json.decode((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_bytes(msgspec.json.encode(manifest | changes))


def _pickled(path: Path, data: bytes) -> None:
    (path / "model.joblib").write_bytes(data)
    _edit(path, file="model.joblib", sha256=hashlib.sha256(data).hexdigest())


# --- pickles (rows 3 to 9 and 15) -----------------------------------------------------------------


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


# A class of ours gets another method; an object says that its numbers lie elsewhere; a dtype is
# enlarged; an array of 2.4 GB is made and dropped.
_PATCH = (
    b"\x80\x02"
    + _global("model.estimators.clv", "ClvModel")
    + b"N}U\x08_checked"
    + (_global("numpy", "float64") + b"s\x86b0")
)
_MEMORY = (
    b"\x80\x02" + _global("numpy", "float64") + _global("model.estimators.clv", "ClvModel")
    + b")\x81}U\x13__array_interface__}U\x04dataI0\nI01\n\x86ssb\x85R."
)  # fmt: skip
_BOMB = (
    b"\x80\x02" + _global("numpy", "ndarray") + b"J\x00\xa3\xe1\x11\x85" + _global("numpy", "dtype")
    + b"U\x01O\x85R\x86R0."
)  # fmt: skip


@pytest.mark.parametrize("attack", [_PATCH + pickle.dumps(1)[2:], _MEMORY, _BOMB])
def test_a_pickle_of_a_stranger_is_not_opened(saved: Path, attack: bytes) -> None:
    before = dict(vars(ClvModel))
    _pickled(saved, attack)
    with pytest.raises(PickleUntrusted, match="can run any code"):
        load(saved)
    assert dict(vars(ClvModel)) == before


@pytest.mark.parametrize("command", ["evaluate", "monitor", "backtest"])
def test_no_command_opens_it_either(saved: Path, tmp_path: Path, command: str) -> None:
    _pickled(saved, _MEMORY)
    write_csv(modelling.orders()[:50], tmp_path / "log.csv")
    arguments = [command, str(tmp_path / "log.csv"), "--model", str(saved)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert "can run any code" in result.stderr


@cache
def _trees(kind: str) -> ClvModel:
    quick = {"forest": {"trees": 3}, "boosting": {"max_iter": 3}, "hurdle": {"max_iter": 3}}
    config = replace(modelling.CONFIG, kind=kind, options=options_of(kind, quick[kind]))
    rows = training_set(modelling.orders(), config, modelling.cutoff_day())
    return fit(rows, config, modelling.known())


def _out_of_bounds(nodes: Any, left: str, at: int) -> None:
    nodes[left][at] = 2**31 - 1


def _cycle(nodes: Any, left: str, at: int) -> None:
    nodes[left][at] = 0


def _no_feature(nodes: Any, left: str, at: int) -> None:
    nodes["feature" if left == "left_child" else "feature_idx"][at] = 10_000


@pytest.mark.parametrize("damage", [_out_of_bounds, _cycle, _no_feature])
@pytest.mark.parametrize("kind", ["forest", "boosting", "hurdle"])
def test_a_tree_that_leads_nowhere_or_back_is_refused_even_from_a_friend(
    saved: Path, kind: str, damage: Callable[[Any, str, int], None]
) -> None:
    model = pickle.loads(pickle.dumps(_trees(kind)))
    regression = model.value.pipeline[-1]
    if kind == "forest":
        tree = regression.estimators_[1].tree_
        state = tree.__getstate__()
        nodes = state["nodes"].copy()
        damage(nodes, "left_child", int(np.flatnonzero(nodes["left_child"] > 0)[-1]))
        tree.__setstate__(state | {"nodes": nodes})
    else:
        part = regression.amount_ if kind == "hurdle" else regression
        nodes = part._predictors[1][0].nodes
        damage(nodes, "left", int(np.flatnonzero(nodes["is_leaf"] == 0)[-1]))
    _pickled(saved, pickle.dumps(model))
    with pytest.raises(ArtifactRefused, match="a damaged tree"):
        load(saved, TRUSTED)


# --- parameters (rows 15 and 16) ------------------------------------------------------------------


def _put(path: Path, change: Callable[[Any], Any]) -> None:
    model = msgspec.json.decode((path / "model.json").read_bytes())
    change(model)
    data = msgspec.json.encode(model)
    (path / "model.json").write_bytes(data)
    _edit(path, sha256=hashlib.sha256(data).hexdigest())


def _laugh(model: Any) -> None:
    laugh: Any = ["ha"]
    for _ in range(12):
        laugh = [laugh] * 2
    model["options"] = {"alpha": laugh}


def _many(model: Any) -> None:
    width = len(model["value"]["kept"])
    clip = model["chance"]["linear"]["prepare"]
    model["chance"]["linear"]["prepare"] = {
        "is": "Known", "features": width - 1, "categories": [100_000] * 1, "stream_": clip,
        "numbers_": {"is": "Clip", "low_": [0.0], "high_": [0.0]}, "medians_": [0.0],
        "n_features_in_": width,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        _laugh,
        _many,
        lambda model: model.update(top=1e999),
        lambda model: model.update(_checked=1),
        lambda model: model["value"].update({"is": "os.system"}),
        lambda model: model["value"].update(kept=[10**9]),
        lambda model: model["chance"]["linear"]["scale"].update(scale_=[[[1.0]]]),
    ],
)
def test_parameters_that_do_not_fit_are_refused(saved: Path, change: Callable[[Any], Any]) -> None:
    _put(saved, change)
    with pytest.raises(ArtifactRefused, match=r"model\.json is"):
        load(saved)


def test_parameters_of_many_megabytes_are_refused_unread(saved: Path) -> None:
    data = b" " * 21_000_000
    (saved / "model.json").write_bytes(data)
    _edit(saved, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ArtifactRefused, match=r"size of model\.json"):
        load(saved)


# --- what was checked is what is used (rows 10, 17, 18, 26 and 27) --------------------------------


def test_what_is_signed_is_what_was_checked_whoever_writes_meanwhile(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = tmp_path / "alice.keys"
    public.write_text(signature.generate(tmp_path / "alice.pem"))
    usual = artifact.checked

    def checked(*arguments: Any) -> Any:
        found = usual(*arguments)
        _edit(saved, model_version="EVIL")
        return found

    monkeypatch.setattr(artifact, "checked", checked)
    key = str(tmp_path / "alice.pem")
    result = CliRunner().invoke(cli, ["registry", "sign", str(saved), "--key", key])
    assert result.exit_code == 0, result.output
    monkeypatch.undo()
    with pytest.raises(ArtifactRefused, match=r"not one of this manifest\.json"):
        load(saved, Trust.of(public))


@pytest.mark.parametrize("name", ["report.txt", "MODEL_CARD.md", "model.json", "manifest.json"])
def test_no_link_in_an_artifact_is_followed(saved: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    (saved / name).unlink()
    (saved / name).symlink_to(secret)
    with pytest.raises(ArtifactRefused, match=rf"{name} is a link"):
        registry.publish(tmp_path / "models", saved)
    copies = [one for one in (tmp_path / "models").rglob("*") if one.is_file()]
    assert not any("hunter2" in one.read_text() for one in copies)


def test_no_link_in_a_registry_is_followed(root: Path, tmp_path: Path) -> None:
    version = registry.current(root)
    assert version is not None
    (root / "elsewhere").symlink_to(root / version)
    with pytest.raises(RegistryError, match="has no version elsewhere"):
        registry.promote(root, "elsewhere")
    (root / "history.jsonl").unlink()
    (root / "history.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactRefused, match=r"history\.jsonl is a link"):
        registry.keep(root, version, None, why="")


@pytest.mark.parametrize("name", ["current", "history.jsonl"])
def test_nobody_waits_for_a_pipe(root: Path, name: str) -> None:
    (root / name).unlink()
    os.mkfifo(root / name)
    with pytest.raises(ArtifactRefused, match="no regular file"):
        registry.versions(root)


def test_files_keep_their_mode(root: Path) -> None:
    (root / "history.jsonl").chmod(0o600)
    version = registry.current(root)
    assert version is not None
    registry.keep(root, version, None, why="tried")
    assert stat.S_IMODE((root / "history.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["current", "history", "../x", "history.jsonl", ".lock"])
def test_a_version_has_no_name_of_the_registrys_own(saved: Path, tmp_path: Path, name: str) -> None:
    _edit(saved, model_version=name)
    with pytest.raises(RegistryError, match="is not a version name"):
        registry.publish(tmp_path / "models", saved)


def test_a_version_under_another_name_is_refused(root: Path, saved: Path) -> None:
    version = registry.current(root)
    assert version is not None
    (root / version).rename(root / "another")
    (root / "current").write_text("another\n")
    with pytest.raises(
        ArtifactRefused,
        match=f"model_version is {version}, expected that of its directory, another",
    ):
        load(root)
