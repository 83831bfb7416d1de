"""What people who ask over HTTP take from scoring: orders a second, quiet and under their load.

    python -m benchmarks.page_load [ORDERS] [TURNS]

Method: a worker on the embedded broker and Redis, started anew for each turn, applies the first
half of a made-up log; stopped (SIGSTOP), it is given the second half as a backlog; then it goes on
and is measured until all is applied. Turns, one after the other and repeated:

- quiet: nobody asks.
- load: 200 clients ask for `/customers/{id}` of known customers, a new connection each time, 1,000
  a second together; 50 more follow `/warnings/stream`.
- generator alone: the same load on a server that does nothing but answer as many bytes. What it
  takes is the machine's, which the generator shares with the worker here and nowhere else.

Told are medians of the turns: wall time, CPU of the worker's process (the front, which answers, is
another) for each order, and what the clients were answered. On two cores worker, broker, Redis,
front and generator compete; CPU of the worker is what is left of that.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Final

from features.events.orders import Order
from model.data.synthetic import Shop, generate, write_csv
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from streamer.kafka import clients
from streamer.kafka.topics import ensure_topics, topics_to_make
from streamer.orders import order_message
from streamer.records import Partition
from streamer.settings import Settings

CLIENTS: Final = 200
RATE: Final = 1_000
STREAMS: Final = 50
BYTES: Final = 2_000
TICKS: Final = os.sysconf("SC_CLK_TCK")
TURNS: Final = ("quiet", "load", "generator alone")


# --- the clients, and a server that does nothing: processes of their own ------------------------


async def ask(port: int, users: list[str], seconds: float) -> None:
    """Asks, and prints how many were answered how, and how soon."""
    statuses, took = Counter[str](), list[float]()
    end_s = time.monotonic() + seconds

    async def client(number: int) -> None:
        at_s = time.monotonic() + number / RATE
        while (now_s := time.monotonic()) < end_s:
            await asyncio.sleep(at_s - now_s)
            at_s += CLIENTS / RATE
            began_s = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                user = random.choice(users)
                writer.write(f"GET /customers/{user} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                answer = await reader.read()
                writer.close()
                statuses[answer[9:12].decode() or "cut off"] += 1
            except OSError:
                statuses["refused"] += 1
            took.append(time.monotonic() - began_s)

    async def follower() -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /warnings/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while await reader.read(65_536):
                statuses["read from streams"] += 1

    following = [asyncio.create_task(follower()) for _ in range(STREAMS)]
    began = time.process_time()
    await asyncio.gather(*map(client, range(CLIENTS)))
    for one in following:
        one.cancel()
    took.sort()
    told = {
        "answers": statuses,
        "a second": round(len(took) / seconds),
        "median ms": round(1e3 * took[len(took) // 2], 1),
        "99 % ms": round(1e3 * took[int(len(took) * 0.99)], 1),
        "CPU us a request": round(1e6 * (time.process_time() - began) / len(took)),
    }
    print(json.dumps(told))


async def answer_nothing(port: int) -> None:
    """Answers whatever is asked with as many bytes as a customer is told in."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % BYTES

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if b"/stream" not in asked:
            writer.write(head + bytes(BYTES))
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port, backlog=512):
        await asyncio.sleep(3_600)


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """One of these, ended with the block."""
    command = [sys.executable, "-m", "benchmarks.page_load", *map(str, arguments)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


# --- the worker ---------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


async def applied(settings: Settings, cluster: str, records: int) -> None:
    """Returns once so many records are applied, as Redis says."""
    store = clients.redis_store(settings, cluster)
    parts = [Partition(settings.orders_topic, n) for n in range(settings.partitions)]
    try:
        while True:
            stand = await store.standings(parts)
            if sum((one.next_offset or 0) for one in stand if one) >= records:
                return
            await asyncio.sleep(0.05)
    finally:
        await store.close()


async def turn(
    kind: str,
    kafka: EmbeddedKafka,
    redis: EmbeddedRedis,
    model: Path,
    orders: list[Order],
    number: int,
) -> Mapping[str, float]:
    port, name = free_port(), f"load-{number}"
    environ = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "REDIS_URL": redis.url,
        "CLV_MODEL": str(model),
        "CLV_GROUP": name,
        "CLV_STATE_NAMESPACE": name,
        "CLV_ORDERS_TOPIC": f"{name}-orders",
        "CLV_WARNINGS_TOPIC": f"{name}-warnings",
        "CLV_SCORES_TOPIC": f"{name}-scores",
        "CLV_DEAD_LETTER_TOPIC": f"{name}-dead-letters",
        "CLV_ERASURES_TOPIC": f"{name}-erasures",
        "CLV_IDLE_AFTER": "off",
        "CLV_WEB_PORT": str(port),
        "CLV_LOG_LEVEL": "WARNING",
    }
    settings = Settings.load(environ)
    await ensure_topics(kafka.bootstrap, topics_to_make(settings))
    messages = [order_message(one, settings.orders_topic, settings.currency) for one in orders]
    half = len(messages) // 2
    publisher = clients.kafka_publisher(settings)
    await publisher.start()
    await publisher.publish(messages[:half])
    worker = subprocess.Popen([sys.executable, "-m", "streamer", "worker"], env=environ)
    try:
        cluster = await clients.cluster_id(settings, timeout_s=10)
        await applied(settings, cluster, half)
        front = children(worker.pid)
        worker.send_signal(signal.SIGSTOP)
        await publisher.publish(messages[half:])
        users = ",".join(sorted({one.user_id for one in orders[:half]})[:2_000])
        seconds = max(10.0, half / 4_000)
        with process("nothing", port_of_nothing := free_port()):
            asked = port if kind == "load" else port_of_nothing
            with process("ask", asked, users, seconds if kind != "quiet" else 0) as generator:
                await asyncio.sleep(2.0 if kind != "quiet" else 0.0)
                before, fronts = cpu_s(worker.pid), sum(map(cpu_s, front))
                began_s = time.monotonic()
                worker.send_signal(signal.SIGCONT)
                await applied(settings, cluster, len(messages))
                wall_s, took_s = time.monotonic() - began_s, cpu_s(worker.pid) - before
                front_s = sum(map(cpu_s, front)) - fronts
                told = (await asyncio.to_thread(generator.communicate))[0].decode().strip()
    finally:
        worker.kill()
        worker.wait()
        await publisher.close()
    count = len(messages) - half
    print(
        f"  {kind:16} {count / wall_s:8,.0f} orders/s {1e6 * took_s / count:7.1f} us CPU an order,"
        f" front {front_s / wall_s:.2f} cores  {told if kind != 'quiet' else ''}",
        flush=True,
    )
    return {"wall": 1e6 * wall_s / count, "cpu": 1e6 * took_s / count}


async def main(count: int, turns: int) -> None:
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
                for kind in TURNS:
                    place = len(TURNS) * number + TURNS.index(kind)
                    found[kind].append(await turn(kind, kafka, redis, model, orders, place))
    quiet = {key: median(one[key] for one in found["quiet"]) for key in ("wall", "cpu")}
    for kind in TURNS:
        wall, cpu = (median(one[key] for one in found[kind]) for key in ("wall", "cpu"))
        print(
            f"{kind:16} wall {wall:7.1f} us an order ({wall / quiet['wall'] - 1:+.1%}),"
            f" CPU of the worker {cpu:7.1f} us ({cpu / quiet['cpu'] - 1:+.1%})"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask", port, users, seconds]:
            if float(seconds):
                asyncio.run(ask(int(port), users.split(","), float(seconds)))
        case ["nothing", port]:
            asyncio.run(answer_nothing(int(port)))
        case given:
            asyncio.run(main(*([int(one) for one in given] + [40_000, 3][len(given) :])))
