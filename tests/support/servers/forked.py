"""`python -m ...` as a fork of a process that has imported everything: it starts in no time.

That process has one thread and no connections, so a fork is what a fresh process would be; without
it, half of what the tests take would go into imports.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *(__name__, "model.artifact.artifact", "model.artifact.parameters"),
        *(f"streamer.commands.{name}" for name in ("admin", "ingest", "replay", "run", "topics")),
    ]
)


class Forked:
    """What of `subprocess.Popen` the tests need. Both of its streams go to files."""

    def __init__(
        self, program: Sequence[str], environ: Mapping[str, str], out: Path, err: Path
    ) -> None:
        for path in (out, err):
            path.touch()
        self._process: ForkServerProcess = _CONTEXT.Process(
            target=_run, args=(tuple(program), dict(environ), out, err)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._asking = threading.Lock()

    def poll(self) -> int | None:
        with self._asking:  # of two who ask at once, one would be told nonsense
            return self._process.exitcode

    def wait(self, timeout: float = float("inf")) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _run(program: tuple[str, ...], environ: dict[str, str], out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.chdir(ROOT)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
    sys.argv = list(program)
    runpy.run_module(program[0], run_name="__main__", alter_sys=True)
