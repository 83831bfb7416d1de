"""The parent of an embedded server or a worker: ends it when whoever started it is gone. Run as a
script, with nothing but the standard library on its path."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from types import FrameType
from typing import Final

POLL_S: Final = 0.01
# From the request to end until the server is killed. Both servers need a few milliseconds.
GRACE_S: Final = 5.0

KILL: Final = b"K"
END: Final = b"E"


def guard(run_dir: str, log: str, grace_s: float, command: list[str]) -> None:
    """Runs the server until told to end it, or until whoever started it is gone; then `run_dir`,
    if it is named, goes too."""
    parent = os.getppid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_inheritable(wake, False)

    def note(_signal: int, _frame: FrameType | None) -> None:
        """Only the byte that set_wakeup_fd writes matters."""

    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, note)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    server = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    os.write(1, b"%d\n" % server)

    how = None
    while how is None:
        # The second look, at the parent's id, is for a child that it forked, which holds the pipe.
        ready, _, _ = select.select([0, woken], [], [], 1.0)
        if os.waitpid(server, os.WNOHANG)[0]:
            return
        if 0 in ready:
            how = os.read(0, 1)
        elif os.getppid() != parent:
            how = b""
        elif woken in ready and signal.SIGTERM in os.read(woken, 64):
            how = END

    os.kill(server, signal.SIGKILL if how == KILL else signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while not os.waitpid(server, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(server, signal.SIGKILL)
        time.sleep(POLL_S)
    if run_dir and not how:
        shutil.rmtree(run_dir, ignore_errors=True)


if __name__ == "__main__":
    guard(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
