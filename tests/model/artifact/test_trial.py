"""A model that crashes or hangs takes down the child that tries it, and nothing else."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from model.artifact import artifact
from model.artifact import trial as isolation
from model.artifact.artifact import save
from model.artifact.files import ArtifactRefused
from model.artifact.trial import TrialLoad
from tests.support import modelling


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "model", modelling.model(), modelling.fields())
    return tmp_path / "model"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `model` that the child finds first: starts fast, and does what it is told."""
    package = tmp_path / "first" / "model" / "artifact"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), *sys.path])
    return package / "trial.py"


def _tried(saved: Path, stand_in: Path, code: str, timeout_s: float = 30.0) -> str:
    stand_in.write_text("def child():\n" + textwrap.indent(textwrap.dedent(code), "    "))
    with pytest.raises(ArtifactRefused) as refused:
        isolation.load(saved, timeout_s=timeout_s)
    return str(refused.value)


def test_what_passed_in_the_child_is_what_is_loaded(saved: Path) -> None:
    trial = TrialLoad(saved)
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
    assert "ended by SIGSEGV, expected scores of the canary; retrain" in _tried(
        saved, stand_in, code
    )


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


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("open(sys.argv[1], 'wb', 0).write(b'x')", "File too large"),
        ("bytearray(2 << 30)", "MemoryError"),
        # By its processor's time; where that is long in coming, by the clock.
        ("\nwhile True: pass", "SIGXCPU|SIGKILL|SIGALRM"),
    ],
)
def test_the_child_writes_no_file_and_has_limits(tmp_path: Path, code: str, end: str) -> None:
    start = (
        "import sys; from model.artifact.trial import TrialTask, _limit;"
        " _limit(TrialTask(directory='', keys=[], signature_required=False, cpu_s=1,"
        f" memory_bytes=1 << 30, niceness=0)); {code}"
    )
    ran = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path / "file")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    how = signal.Signals(-ran.returncode).name if ran.returncode < 0 else ran.stderr
    assert re.search(end, how)


def test_a_model_that_takes_too_much_memory_is_refused(saved: Path) -> None:
    with pytest.raises(ArtifactRefused) as refused:
        isolation.loaded(TrialLoad(saved, memory_bytes=96 << 20))
    assert "loading it in a subprocess is ended " in str(refused.value)
