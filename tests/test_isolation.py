"""A model that crashes or hangs takes down the child that tries it, and nothing else."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from model import artifact, isolation
from model.artifact import ArtifactRefused, save
from model.isolation import Trial
from tests import modelling


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "model", modelling.model(), modelling.fields())
    return tmp_path / "model"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `model` that the child finds first: starts fast, and does what it is told."""
    package = tmp_path / "first" / "model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    return package / "isolation.py"


def _tried(saved: Path, stand_in: Path, code: str, timeout_s: float = 30.0) -> str:
    stand_in.write_text("def child():\n" + textwrap.indent(textwrap.dedent(code), "    "))
    with pytest.raises(ArtifactRefused) as refused:
        isolation.load(saved, timeout_s=timeout_s)
    return str(refused.value)


def test_what_passed_in_the_child_is_what_is_loaded(saved: Path) -> None:
    trial = Trial(saved)
    loaded = isolation.loaded(trial)
    assert loaded.manifest == artifact.load(saved).manifest
    X = modelling.known()
    assert loaded.model.clv(X).tobytes() == modelling.model().clv(X).tobytes()


def test_a_refusal_in_the_child_is_told_in_the_same_words(saved: Path) -> None:
    with (saved / "model.joblib").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactRefused) as here:
        artifact.load(saved)
    with pytest.raises(ArtifactRefused) as there:
        isolation.load(saved)
    assert str(there.value) == str(here.value)


def test_a_crash_is_a_refusal_that_names_the_signal(saved: Path, stand_in: Path) -> None:
    code = "import os, signal\nprint('{}', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)"
    assert "ended by SIGSEGV, expected scores of the canary; train" in _tried(saved, stand_in, code)


def test_an_end_without_a_report_is_a_refusal_with_the_last_line(
    saved: Path, stand_in: Path
) -> None:
    told = _tried(saved, stand_in, "raise MemoryError('4 GiB are not enough')")
    assert "ended with exit code 1: MemoryError: 4 GiB are not enough" in told


def test_a_child_that_hangs_is_ended_and_refused(saved: Path, stand_in: Path) -> None:
    told = _tried(saved, stand_in, "import time\ntime.sleep(600)", timeout_s=0.5)
    assert "not done after 0.5 s" in told


def test_files_that_changed_after_they_were_tried_are_refused(saved: Path, stand_in: Path) -> None:
    told = _tried(saved, stand_in, 'import os\nos.write(1, b\'{"digest": "0123456789abcdef"}\')')
    assert "than were tried, expected 0123456789ab; somebody is writing there" in told


def test_the_child_gets_no_passwords(
    saved: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLV_KAFKA_PASSWORD", "correct horse")
    told = _tried(saved, stand_in, "import os\nraise SystemExit(' '.join(sorted(os.environ)))")
    assert "OMP_NUM_THREADS" in told
    assert "PASSWORD" not in told
