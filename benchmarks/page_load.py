"""What people who ask over HTTP take from scoring: orders a second, quiet and under their load.

    python -m benchmarks.page_load [ORDERS] [TURNS]

Method: a worker on the embedded broker and Redis, started anew for each turn, applies the first
half of a made-up log; stopped (SIGSTOP), it is given the second half as a backlog; then it goes on
and is measured until all is applied. Turns, one after the other and repeated:

- quiet: nobody asks.
- load: 200 clients of wrk (Debian's) ask for `/customers/{id}` of known customers, a new connection
  each time, 1,000 a second together; 50 more follow `/warnings/stream`.

Told are medians of the turns, the CPU of each process, and what was answered. wrk offers a request
a millisecond as long as one of its clients is free, and what it missed as soon as one is again.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.speed.measured import cpu_s
from features.events.orders import Order
from model.data.synthetic import Shop, generate, write_csv
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from streamer.orders import order_message
from tests.support.project.debian import from_debian
from tests.support.servers.deployment import Deployment, Servers

CLIENTS: Final = 200
RATE: Final = 1_000
STREAMS: Final = 50
TURNS: Final = ("quiet", "load")

# One thread, so that its slots are those of all clients.
_SCRIPT: Final = """
local ffi = require("ffi")
ffi.cdef[[typedef struct { long s; long ns; } timespec; int clock_gettime(int, timespec *);]]
local at = ffi.new("timespec")
local users, slot = {}, nil
for user in io.lines(os.getenv("USERS")) do users[#users + 1] = user end
function request() return wrk.format("GET", "/customers/" .. users[math.random(#users)]) end
function delay()
  ffi.C.clock_gettime(1, at)
  local now = tonumber(at.s) * 1000 + tonumber(at.ns) / 1e6
  slot = (slot or now) + 1000 / tonumber(os.getenv("RATE"))
  return math.max(0, math.floor(slot - now))
end
"""


class Asked(NamedTuple):
    """What clients were answered in all, and what asking took of a processor."""

    answers: int
    failed: int
    seconds: float
    median_ms: str
    slowest_ms: str
    cpu_s: float


class Clients:
    """wrk, asking until it is told to stop."""

    def __init__(self, wrk: Path, port: int, users: Sequence[str], folder: Path) -> None:
        (folder / "load.lua").write_text(_SCRIPT)
        (folder / "users").write_text("\n".join(users))
        libraries = ":".join(str(path.parent) for path in wrk.parents[2].rglob("libluajit*.so.2"))
        self._began_s = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(wrk, "--threads", "1", "--connections", str(CLIENTS), "--duration", "600s"),
                *("--script", folder / "load.lua", "--latency", "--timeout", "10s"),
                f"http://127.0.0.1:{port}/",
            ],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": libraries,
                "USERS": str(folder / "users"),
                "RATE": str(RATE),
            },
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> Asked:
        """Ends it as Ctrl-C does; what it saw."""
        took_s, seconds = cpu_s(self._process.pid), time.monotonic() - self._began_s
        self._process.send_signal(2)
        told = self._process.communicate()[0]

        def number(pattern: str) -> int:
            found = re.search(pattern, told)
            return int(found[1]) if found else 0

        refused = number(r"Non-2xx or 3xx responses: (\d+)")
        broken = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", told)))
        latency = dict(re.findall(r"(50|99)%\s+(\S+)", told))
        answers = number(r"(\d+) requests in") - refused
        return Asked(answers, refused + broken, seconds, latency["50"], latency["99"], took_s)


async def follow(port: int) -> None:
    """Follows the stream of warnings with so many connections, until cancelled."""

    async def follower() -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /warnings/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while await reader.read(65_536):
                pass

    await asyncio.gather(*(follower() for _ in range(STREAMS)))


async def answered(port: int, user: str) -> None:
    """Returns when a customer is told."""
    status = b""
    while status != b"200":
        await asyncio.sleep(0.1)
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /customers/{user} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            status = (await reader.read())[9:12]
            writer.close()


def front_of(pid: int) -> int:
    """The process that answers for a worker."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def shared_mb(pid: int) -> tuple[int, int]:
    """Resident memory of a process, and its share of it, in MB."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(kb) // 1024 for name, kb in re.findall(r"^(Rss|Pss):\s+(\d+)", told, re.M)}
    return found["Rss"], found["Pss"]


async def turn(
    kind: str, servers: Servers, model: Path, orders: Sequence[Order], number: int, wrk: Path
) -> Mapping[str, float]:
    """One turn, told in a line."""
    port, half = free_port(), len(orders) // 2
    with (
        tempfile.TemporaryDirectory() as folder,
        Deployment(
            f"load-{number}",
            servers,
            model,
            Path(folder),
            CLV_BATCH="500",
            CLV_SESSION_TIMEOUT="30s",
            CLV_WEB_PORT=str(port),
        ) as shop,
    ):
        settings = shop.settings
        messages = [order_message(one, settings.orders_topic, settings.currency) for one in orders]
        await shop.make_topics()
        await shop.publish(messages[:half])
        worker = shop.worker()
        await shop.applied(half)
        users = sorted({one.user_id for one in orders[:half]})[:2_000]
        await answered(port, users[0])
        worker.pause()
        await shop.publish(messages[half:])
        pids = {
            "worker": worker.pid,
            "front": front_of(worker.pid),
            "broker": servers.kafka.pid,
            "Redis": servers.redis.pid,
        }
        clients, following = None, None
        if kind == "load":
            following = asyncio.create_task(follow(port))
            clients = Clients(wrk, port, users, Path(folder))
            await asyncio.sleep(2.0)
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        began_s = time.monotonic()
        worker.resume()
        await shop.applied(len(messages))
        wall_s = time.monotonic() - began_s
        took = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
        asked = clients.stop() if clients else None
        rss, pss = shared_mb(pids["front"])
        if following:
            following.cancel()
    count = len(messages) - half
    cores = ", ".join(f"{name} {seconds / wall_s:.2f}" for name, seconds in took.items())
    print(f"  {kind:6} {count / wall_s:7,.0f} orders/s; cores: {cores}; front {rss} ({pss}) MB")
    if asked:
        each = 1e6 / max(asked.answers, 1)
        rate = asked.answers / asked.seconds
        print(
            f"         {rate:,.0f} answers/s, {asked.failed} failed, median {asked.median_ms},"
            f" 99 % {asked.slowest_ms}; CPU an answer: front"
            f" {1e6 * took['front'] / wall_s / rate:.0f} us, wrk {each * asked.cpu_s:.0f} us",
            flush=True,
        )
    return {"wall": 1e6 * wall_s / count, "cpu": 1e6 * took["worker"] / count}


async def main(count: int, turns: int) -> None:
    """All turns, and their medians."""
    wrk = from_debian("wrk", "wrk", "libluajit-5.1-2")
    if wrk is None:
        sys.exit("no wrk on the PATH, and none to be had from Debian")
    print(
        f"{count:,} orders, half of them measured; {CLIENTS} clients, {RATE:,} requests/s,"
        f" {STREAMS} streams; {platform.processor() or platform.machine()}, {os.cpu_count()} cores,"
        f" load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        log, model = Path(folder) / "orders.csv", Path(folder) / "model"
        orders = generate(Shop(customers=count // 3)).orders[:count]
        write_csv(orders, log)
        command = ["-m", "model", "train", str(log), "--out", str(model)]
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        found: dict[str, list[Mapping[str, float]]] = {kind: [] for kind in TURNS}
        with EmbeddedKafka() as kafka, EmbeddedRedis() as redis:
            for number in range(turns):
                for place, kind in enumerate(TURNS, len(TURNS) * number):
                    servers = Servers(kafka, redis)
                    found[kind].append(await turn(kind, servers, model, orders, place, wrk))
    quiet = {key: median(one[key] for one in found["quiet"]) for key in ("wall", "cpu")}
    for kind in TURNS:
        wall, cpu = (median(one[key] for one in found[kind]) for key in ("wall", "cpu"))
        print(
            f"{kind:6} wall {wall:7.1f} us an order ({quiet['wall'] / wall - 1:+.1%} orders/s),"
            f" CPU of the worker {cpu:7.1f} us ({cpu / quiet['cpu'] - 1:+.1%})"
        )


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    asyncio.run(main(*(given + [40_000, 3][len(given) :])))
