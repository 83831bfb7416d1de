"""A model tried in a subprocess before it is loaded in this one.

The child is a fresh Python with limits: it reads the artifact, makes every check, scores the canary
customers and says which bytes these were. Should it crash, hang or refuse, that is the reason why
the model is refused here, where nothing happened. Only the very bytes that the child has said are
loaded afterwards.

It guards against a model that takes the process down (a damaged pickle, a library that ends the
process, endless memory). It is not a sandbox: the child runs as the same user.

Nothing is imported here that brings scikit-learn, so a caller can start the child first and import
meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from model.artifact.files import ArtifactRefused
from model.artifact.registry import resolve
from model.artifact.signature import ANYBODY, Trust

if TYPE_CHECKING:
    from model.artifact.artifact import Artifact

# Importing takes 2 s of a processor; the rest is for machines that have much else to do.
TIMEOUT_S: Final = 60.0
# Address space: most of it is what libraries reserve and never touch.
MEMORY_BYTES: Final = 4 * 1024**3
_TAIL_CHARS: Final = 300

# Passed to the child: no passwords, and nothing that Python itself would obey.
_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_START: Final = (
    "import sys; sys.path[:] = {path!r}; from model.artifact.trial import child; child()"
)


class TrialTask(msgspec.Struct, frozen=True):
    """What the child is to do, in JSON as its argument. `niceness` is added to its parent's."""

    directory: str
    keys: list[bytes]
    signature_required: bool
    cpu_s: int
    memory_bytes: int
    niceness: int


class TrialReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the child says: the hash of the bytes that it loaded, or why it did not.

    `refused` is field, found, expected and remedy.
    """

    digest: str = ""
    refused: tuple[str, str, str, str] | None = None


class TrialLoad:
    """A child that is trying a model. `result` waits for it; `close` ends it, whatever it does."""

    def __init__(
        self,
        model: str | Path,
        trust: Trust = ANYBODY,
        *,
        timeout_s: float = TIMEOUT_S,
        memory_bytes: int = MEMORY_BYTES,
        niceness: int = 0,
    ) -> None:
        """Starts the child. Of a registry, its current version is tried. Raises ArtifactRefused.

        `niceness` over 0 lets whatever else is to be done go first.
        """
        self.directory = resolve(model)
        self.trust = trust
        self._timeout_s = timeout_s
        directory = str(self.directory.absolute())
        keys, cpu_s = sorted(trust.keys), max(1, round(timeout_s))
        task = TrialTask(directory, keys, trust.required, cpu_s, memory_bytes, niceness)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-B",
                "-c",
                _START.format(path=_absolute(sys.path)),
                msgspec.json.encode(task),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # One thread: the same numbers, and no memory for threads that have nothing to do.
            env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def result(self) -> str:
        """The digest of the bytes that passed (`model.artifact.artifact.digest_of`). Raises
        ArtifactRefused."""
        try:
            said, errors = self._process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            self.close()
            raise self._failed(f"not done after {self._timeout_s:g} s") from None
        self.close()
        try:
            report = msgspec.json.decode(said.splitlines()[-1], type=TrialReport)
        except (msgspec.DecodeError, IndexError):
            raise self._failed(_end(self._process.returncode, errors)) from None
        if report.refused is not None:
            raise ArtifactRefused(self.directory, *report.refused)
        if self._process.returncode != 0 or not report.digest:
            raise self._failed(_end(self._process.returncode, errors))
        return report.digest

    def close(self) -> None:
        """Ends the child and whatever it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _failed(self, how: str) -> ArtifactRefused:
        return ArtifactRefused(
            self.directory, "loading it in a subprocess", how, "scores of the canary",
            "retrain the model here (python -m model train), or go back to the one before",
        )  # fmt: skip


def load(model: str | Path, trust: Trust = ANYBODY, *, timeout_s: float = TIMEOUT_S) -> Artifact:
    """The artifact, once a child has loaded it and scored with it. Raises ArtifactRefused.

    Waits for about as long as importing scikit-learn takes; from an event loop, call it in a
    thread.
    """
    return loaded(TrialLoad(model, trust, timeout_s=timeout_s))


def loaded(trial: TrialLoad) -> Artifact:
    """The artifact that a trial was of, once it has passed. Raises ArtifactRefused."""
    try:
        # While the child does the same.
        from model.artifact import artifact

        passed = trial.result()
        files = artifact.read(trial.directory)
        found = artifact.digest_of(files)
        if found != passed:
            raise ArtifactRefused(
                trial.directory, "its files", f"others ({found[:12]}) than were tried",
                passed[:12], "somebody is writing there; load it again",
            )  # fmt: skip
        return artifact.checked(files, trial.trust)
    finally:
        trial.close()


def child() -> None:
    """What the child does: the task of its argument, one report on what was its stdout."""
    task = msgspec.json.decode(sys.argv[1], type=TrialTask)
    # Whatever else is printed must not be taken for a report.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit(task)
    from model.artifact import artifact

    directory = Path(task.directory)
    trust = Trust(frozenset(task.keys), task.signature_required)
    try:
        files = artifact.read(directory)
        artifact.checked(files, trust)
        report = TrialReport(digest=artifact.digest_of(files))
    except ArtifactRefused as error:
        refused = (error.field, str(error.found), str(error.expected), error.remedy)
        report = TrialReport(refused=refused)
    out.write(msgspec.json.encode(report) + b"\n")
    out.flush()
    # Not the ends of libraries, which may hang on what the model has brought.
    os._exit(0)


def _limit(task: TrialTask) -> None:
    os.nice(task.niceness)
    # A parent that was killed ends nobody.
    signal.alarm(2 * task.cpu_s)
    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, task.cpu_s),
        (resource.RLIMIT_AS, task.memory_bytes),
    )
    for kind, most in limits:
        # Where a system does not have one (macOS: address space), the others still hold.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def _absolute(path: list[str]) -> list[str]:
    """sys.path for the child; "" is where we are now."""
    return [str(Path(entry).absolute()) for entry in path]


def _end(code: int, errors: bytes) -> str:
    """How a child ended that said nothing: its signal or code, and its last line."""
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    how = f"ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {lines[-1][:_TAIL_CHARS]}" if lines else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
