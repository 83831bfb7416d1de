"""Apache Kafka on loopback: one broker or three, each a process to be stopped, killed or paused.

Every broker is a KRaft controller as well, so three of them go on without any one. What they hold
stays on disk over `stop` and `kill`, until `close`. They run under the guardian of
`streamer.demo.embedded`, so they end with the process that started them, however that ends.

Kafka's own defaults are kept, but for what makes sense on one machine only (see `_SETTINGS`), and
topics are never made by asking for them.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from streamer.demo.embedded import EmbeddedServer, EmbeddedUnavailable, LocalServer
from tests.support.servers.jars import jars, java

HEAP_MB: Final = 384
START_S: Final = 90.0
# Below the range from which systems take the ports of outgoing connections (32768 and up): a
# client that knocks at a dead broker's port there may be given that very port for its own end, and
# then holds it.
_PORTS: Final = range(20_000, 32_000)
_SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAIN",
    "auto.create.topics.enable": "false",
    # Two shared cores.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # So many members of a group start at once that waiting for more would be for nothing.
    "group.initial.rebalance.delay.ms": "0",
    # 6 s by default; the tests' workers have 2 s, or a kill would take as long each.
    "group.min.session.timeout.ms": "1000",
}


class Kafka(Protocol):
    """What a test asks of either broker, the embedded one or Apache's."""

    @property
    def bootstrap(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...


class Broker(EmbeddedServer):
    """One broker of a cluster; start, stop and kill are its own."""

    what = "Apache Kafka"
    setting = "KAFKA_BOOTSTRAP_SERVERS"

    def __init__(
        self, number: int, ports: Mapping[str, int], properties: Mapping[str, str], cluster: str
    ) -> None:
        super().__init__()
        self.number = number
        self.ports = dict(ports)
        self._properties = dict(properties)
        self._cluster = cluster
        self._paused = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports['PLAIN']}"

    @property
    def alive(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._running is not None and self._running.alive

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            os.kill(self.pid, signal.SIGCONT)

    def format(self, options: Sequence[str]) -> None:
        """Makes the directory that it keeps everything in."""
        directory = self._directory()
        config = self._config
        settings = {**self._properties, "log.dirs": str(directory / "data")}
        config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        command = [*_java("-Xmx64m"), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["--cluster-id", self._cluster, "--config", str(config), *options]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise self._unavailable(f"cannot be formatted: {run.stdout}{run.stderr}")

    def _start(self) -> None:
        command = [*_java(f"-Xmx{HEAP_MB}m"), "kafka.Kafka", str(self._config)]
        if not self._launch(command, self._answers, START_S):
            raise self._unavailable(f"ended at once{self._log()}")

    def _end(self, how: bytes) -> None:
        if self.alive:
            self.resume()
        super()._end(how)

    @property
    def _config(self) -> Path:
        return self._directory() / "server.properties"

    def _answers(self) -> bool:
        return self.number in live_brokers(self.ports["PLAIN"], self._cluster)

    def _unavailable(self, why: str) -> EmbeddedUnavailable:
        return EmbeddedUnavailable(f"broker {self.number} of Apache Kafka {why}")


class ApacheKafka(LocalServer):
    """A cluster of its own, with an id of its own, on free ports.

    `listeners` are further listeners, each with its security protocol, such as
    `{"SECURE": "SASL_SSL"}`; their addresses are `bootstrap_of("SECURE")`. `advertised` has other
    ports to name to the clients of a listener, where a proxy stands before it. `properties` go into
    every broker's server.properties, over what stands there; `format_options` to the formatting
    (`--add-scram`, ...).
    """

    def __init__(
        self,
        brokers: int = 1,
        *,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        advertised: Mapping[str, int] | None = None,
        format_options: Sequence[str] = (),
    ) -> None:
        self.cluster_id = _fresh_id()
        self._format_options = tuple(format_options)
        self._formatted = False
        protocols = {"PLAIN": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        ports = free_ports(brokers, list(protocols))
        common = {
            **_SETTINGS,
            **_replicated(brokers),
            "controller.quorum.voters": ",".join(
                f"{number}@127.0.0.1:{own['CONTROLLER']}" for number, own in ports.items()
            ),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in protocols.items()
            ),
        }
        self.brokers = tuple(
            Broker(
                number,
                own,
                {
                    **common,
                    "node.id": str(number),
                    "listeners": _addresses(own),
                    "advertised.listeners": _addresses(
                        {
                            name: (advertised or {}).get(name, port)
                            for name, port in own.items()
                            if name != "CONTROLLER"
                        }
                    ),
                    **(properties or {}),
                },
                self.cluster_id,
            )
            for number, own in ports.items()
        )

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    def bootstrap_of(self, listener: str) -> str:
        return ",".join(f"127.0.0.1:{broker.ports[listener]}" for broker in self.brokers)

    @property
    def pid(self) -> int:
        """Of the one broker, where there is one."""
        (broker,) = self.brokers
        return broker.pid

    def broker(self, number: int) -> Broker:
        """The broker with this node id, as metadata names it."""
        return next(broker for broker in self.brokers if broker.number == number)

    def start(self) -> None:
        """Returns when every broker answers and knows the others.

        Raises EmbeddedUnavailable, ApacheKafkaMissing, JarsNotFetched.
        """
        java(), jars()
        if not self._formatted:
            for broker in self.brokers:
                broker.format(self._format_options)
            self._formatted = True
        # None of three answers before a second one is there.
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(Broker.start, self.brokers))
        deadline = time.monotonic() + START_S
        wanted = {broker.number for broker in self.brokers}
        for broker in self.brokers:
            while live_brokers(broker.ports["PLAIN"], self.cluster_id) != wanted:
                if time.monotonic() > deadline:
                    raise EmbeddedUnavailable(f"Apache Kafka is not complete after {START_S:g} s")
                time.sleep(0.05)

    def stop(self) -> None:
        """Ends every broker in order, within some seconds; data stay."""
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(Broker.stop, self.brokers))

    def kill(self) -> None:
        """Ends every broker as a power cut would; data stay as far as they were written."""
        for broker in self.brokers:
            broker.kill()

    def close(self) -> None:
        self.kill()
        for broker in self.brokers:
            broker.close()


def _java(heap: str) -> list[str]:
    # Quick to start, and one core's worth of threads; warnings go to the broker's log.
    quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN"]
    return [java(), heap, *quick, "-cp", f"{jars()}/*"]


def _replicated(brokers: int) -> dict[str, str]:
    """As a cluster of this size should be: one broker of three may be lost."""
    copies, in_sync = (3, 2) if brokers >= 3 else (1, 1)
    return {
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(in_sync),
    }


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _fresh_id() -> str:
    """22 characters as Kafka makes them; none that a command line takes for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))[0] == "-":
        pass
    return text


def free_ports(brokers: int, names: Sequence[str]) -> dict[int, dict[str, int]]:
    """A port for each listener of each broker, numbered from 1."""
    ports: list[int] = []
    while len(ports) < brokers * len(names):
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    found = iter(ports)
    return {number: {name: next(found) for name in names} for number in range(1, brokers + 1)}


def live_brokers(port: int, cluster_id: str) -> set[int]:
    """The brokers that are up, in the view of the one at this loopback port; none where nobody
    answers there, or somebody of another cluster.

    One Metadata request, version 4, by hand, because it is needed where there may be an event loop
    and where there may be none. https://kafka.apache.org/protocol#The_Messages_Metadata
    """
    # Correlation id 1, no client id, no topics, and none to be made.
    request = struct.pack(">hhihib", 3, 4, 1, -1, 0, 0)
    with (
        contextlib.suppress(OSError, struct.error, UnicodeDecodeError),
        socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answer.read(4))
        numbers, found = _read_metadata(answer.read(min(size, 1 << 20)))
        return numbers if found == cluster_id else set()
    return set()


def _read_metadata(answer: bytes) -> tuple[set[int], str | None]:
    def text_at(at: int) -> tuple[str | None, int]:
        (length,) = struct.unpack_from(">h", answer, at)
        end = at + 2 + max(length, 0)
        return (answer[at + 2 : end].decode() if length >= 0 else None), end

    _throttled, brokers = struct.unpack_from(">ii", answer, 4)  # after the correlation id
    at, numbers = 12, set()
    for _ in range(brokers):
        numbers.add(struct.unpack_from(">i", answer, at)[0])
        _host, at = text_at(at + 4)
        _rack, at = text_at(at + 4)
    return numbers, text_at(at)[0]
