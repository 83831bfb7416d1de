"""The process that compares a shadow model with the live one: steps on stdin, agreement on stdout.

It runs apart from the worker, nicer than it and without its environment, so that nothing a shadow
model does, be it to hang or to take the process down, reaches an order.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec

from features.facts.ledger import IdMemory
from model.artifact.files import ArtifactRefused
from model.artifact.signature import Trust
from model.decide.codec import decode
from model.decide.policy import Policy
from model.judge.judge import Judge
from model.judge.judged import ScheduledCustomer
from model.shadow.protocol import Agreement, Step

if TYPE_CHECKING:
    # Brings scikit-learn, which who only starts the process does not need.
    from model.shadow.compare import ShadowComparison

NICER: Final = 10
REPORT_S: Final = 1.0
_LENGTH: Final = struct.Struct("<I")

# Passed on to the child: no passwords, and nothing that Python itself would obey.
ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")


class ShadowTask(msgspec.Struct, frozen=True):
    """What is compared: directories of two artifacts, and how customers are judged; the file of
    their attributes for models that know some."""

    live: str
    shadow: str
    keys: list[bytes]
    signature_required: bool
    policy: Policy
    memory_days: int
    memory_size: int
    attributes: str | None = None
    trust_pickle: bool = False
    registry: str = ""


class ShadowMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line on stdout: an agreement, or why there is none."""

    agreement: Agreement | None = None
    refused: str = ""


def command(task: ShadowTask) -> tuple[list[str], dict[str, str]]:
    """The command that starts the process, and its environment."""
    start = f"import sys; sys.path[:] = {sys.path!r}; from model.shadow.process import main; main()"
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    arguments = [sys.executable, "-I", "-B", "-c", start, msgspec.json.encode(task).decode()]
    return arguments, environment


def frame(step: Step) -> bytes:
    """A step as it goes into the process."""
    body = msgspec.msgpack.encode(step)
    return _LENGTH.pack(len(body)) + body


def main() -> None:
    """Compares until stdin ends."""
    task = msgspec.json.decode(sys.argv[1], type=ShadowTask)
    # Whatever else is printed must not be taken for a report.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError):
        os.nice(NICER)
    from model.shadow.compare import ShadowComparison

    try:
        live, shadow = judge_of(task, task.live), judge_of(task, task.shadow)
        if live.scorer.currency != shadow.scorer.currency:
            raise ValueError(f"the shadow model's currency is {shadow.scorer.currency}")
        comparison = ShadowComparison(live, shadow)
    except (ArtifactRefused, ValueError) as error:
        _tell(out, ShadowMessage(refused=" ".join(str(error).split())))
        return
    _tell(out, ShadowMessage(agreement=comparison.agreement()))
    try:
        follow(sys.stdin.buffer, out, comparison)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(0)  # the worker is gone


def follow(steps: IO[bytes], out: IO[bytes], comparison: ShadowComparison) -> None:
    """Takes steps until there are no more, and tells once a second what is new, also when no step
    comes to tell it after."""
    read = msgspec.msgpack.Decoder(Step).decode
    teller = _Teller(out, comparison)
    teller.start()
    while len(head := steps.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        step = read(steps.read(length))
        met = {user: ScheduledCustomer(decode(state), due) for user, due, state in step.met}
        with teller.busy:
            comparison.take(step, met)
            teller.news = True
    teller.ended.set()
    teller.join()
    _tell(out, ShadowMessage(agreement=comparison.agreement()))


class _Teller(threading.Thread):
    """Tells what is new, once a second."""

    def __init__(self, out: IO[bytes], comparison: ShadowComparison) -> None:
        super().__init__(daemon=True)
        self.busy = threading.Lock()
        self.ended = threading.Event()
        self.news = False
        self._out = out
        self._comparison = comparison

    def run(self) -> None:
        while not self.ended.wait(REPORT_S):
            with self.busy:
                if not self.news:
                    continue
                self.news = False
                agreement = self._comparison.agreement()
            _tell(self._out, ShadowMessage(agreement=agreement))


def judge_of(task: ShadowTask, directory: str) -> Judge:
    """The judge of the model in a directory. Raises ArtifactRefused and AttributesError."""
    from model.artifact import artifact

    trust = Trust(frozenset(task.keys), task.signature_required, task.trust_pickle, task.registry)
    loaded = artifact.load(directory, trust)
    scorer = loaded.scorer(None if task.attributes is None else Path(task.attributes))
    memory = IdMemory(days=task.memory_days, size=task.memory_size)
    return Judge(scorer, scorer.rules(task.policy), memory)


def _tell(out: IO[bytes], told: ShadowMessage) -> None:
    out.write(msgspec.json.encode(told) + b"\n")
    out.flush()
