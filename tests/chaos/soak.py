"""`python -m tests.chaos.soak`: half an hour at half of what a worker can take, a kill each minute.

Two workers under a supervisor. First they work off a backlog, a seventh of the log, on whose later
half it is measured how many orders a second they apply: at a log's beginning few customers are
known, an order makes few due, and workers are faster than they will be. Then orders come at half
that rate, while one worker is killed every minute and resident memory is read every second. At the
end the lag has to go back to 0 and the verifier finds all as replayed. SOAK_MINUTES=10 for a
shorter one. The result is docs/results/soak.md.

CHAOS_BROKER for the broker, see `conftest`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from model.artifact.artifact import save
from model.data.synthetic import Shop, generate
from streamer.demo.embedded import EmbeddedRedis
from streamer.kafka.publisher import KafkaPublisher
from streamer.orders import order_message
from tests.chaos.conftest import a_broker, named
from tests.support import modelling
from tests.support.chaos.deployment import Stage, last_words, owns
from tests.support.chaos.results import RESULTS, Book, Entry, write_page
from tests.support.servers.deployment import Servers, WorkerProcess

BACKLOG: Final = 0.15
BACKLOG_WITHIN_S: Final = 1_800.0
# So many at most, for the log is made before it is measured; two workers and a broker on two cores
# manage twice as many. The verifier replays some 2,000 a second.
MOST_A_SECOND: Final = 1_600
# In the shop that is made up here.
ORDERS_A_CUSTOMER: Final = 6.3
MEMORY_PARTS: Final = 6


@dataclass(slots=True)
class WriteContext:
    """What each second showed: resident memory of the worker that lives on, in MB by hours since
    the beginning; how many orders were given and not yet applied. And how often one was killed."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)
    kills: int = 0

    def now(self) -> str:
        hours, mb = self.memory[-1]
        return f"minute {hours * 60:.0f}: lag {self.lags[-1]:,}, {mb:.0f} MB, {self.kills} kills"

    def notes(self) -> list[str]:
        lags, ends = sorted(self.lags), len(self.memory)
        parts = [
            self.memory[ends * n // MEMORY_PARTS : ends * (n + 1) // MEMORY_PARTS]
            for n in range(MEMORY_PARTS)
        ]
        means = ", ".join(f"{sum(mb for _, mb in part) / len(part):.0f}" for part in parts if part)
        return [
            f"lag {lags[len(lags) // 2]:,} orders in the median second, {lags[-1]:,} at most",
            f"resident memory of the worker that lived on, by sixths of the time: {means} MB;"
            f" {slope(self.memory[ends // 3 :]):+.0f} MB an hour from the first third on",
        ]


def rss_mb(pid: int) -> float | None:
    """Resident memory of a process, None where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of y over x."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


async def soak(minutes: float) -> int:
    save_to = Path(tempfile.mkdtemp(prefix="clv-soak-"))
    save(save_to / "model", modelling.model(), modelling.fields())
    book = Book(RESULTS / "soak.json", f"soak of {minutes:g} minutes")
    count = MOST_A_SECOND * minutes * 60 / (1 - BACKLOG)
    with a_broker() as kafka, EmbeddedRedis() as redis:
        servers = Servers(kafka, redis)
        orders = generate(
            Shop(customers=int(count / ORDERS_A_CUSTOMER), days=700, arrival_days=600, seed=5)
        ).orders
        with (
            Stage(
                "soak",
                servers,
                save_to / "model",
                save_to,
                orders,
                CLV_BATCH="500",
                CLV_SESSION_TIMEOUT="6s",
                CLV_CACHE_CUSTOMERS="10000",
            ) as stage,
            book.entry(
                "F29",
                f"{minutes:g} minutes at half capacity, kill -9 of a worker each minute",
                named(kafka),
            ) as entry,
        ):
            await _run(stage, entry, minutes)
    write_page("soak")
    print(json.dumps(json.loads((RESULTS / "soak.json").read_text()), indent=1))
    return 0 if entry.holds else 1


async def _run(stage: Stage, entry: Entry, minutes: float) -> None:
    await stage.make_topics()
    steady, _ = stage.keep(), stage.keep()
    await stage.until(lambda: len(stage.owners()) == 2)
    capacity = await _capacity(stage)
    rate = min(capacity / 2, (len(stage.orders) - stage.given) / (minutes * 60))
    entry.note(f"{capacity:,.0f} orders a second from a backlog, {rate:,.0f} in the soak")
    load = os.getloadavg()[0]
    seen = await _soaked(stage, steady, rate, minutes)
    entry.note(f"load of the machine {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")
    entry.times = seen.kills
    ended = time.monotonic()
    await stage.finished()
    entry.note(f"lag 0 again {time.monotonic() - ended:.0f} s after the end")
    entry.notes += seen.notes()
    entry.note(f"alive all along: {steady.alive}" + ("" if steady.alive else last_words(steady)))
    await stage.verified(entry, digest=True)
    assert steady.alive


async def _capacity(stage: Stage) -> float:
    """Orders a second in the later half of the backlog."""
    count = int(len(stage.orders) * BACKLOG)
    await stage.feed(count)
    await stage.applied(count // 2, BACKLOG_WITHIN_S)
    began, first = time.monotonic(), await _applied_now(stage)
    await stage.applied(count * 95 // 100, BACKLOG_WITHIN_S)
    capacity = (await _applied_now(stage) - first) / (time.monotonic() - began)
    await stage.finished()
    return capacity


async def _soaked(stage: Stage, steady: WorkerProcess, rate: float, minutes: float) -> WriteContext:
    """Gives orders at a rate, kills who is not `steady` each minute, and looks each second."""
    seen, last_kill, backlog = WriteContext(), 0.0, stage.given
    publisher = KafkaPublisher(stage.servers.kafka.bootstrap)
    await publisher.start()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < minutes * 60:
        part = stage.orders[stage.given : backlog + int(rate * passed)]
        stage.given += len(part)
        stage.fed += len(part)
        await publisher.publish(
            [order_message(o, stage.settings.orders_topic, "USD") for o in part]
        )
        stage.supervise()
        seen.lags.append(stage.fed - await _applied_now(stage))
        found = rss_mb(steady.pid)
        if found is not None:
            seen.memory.append((passed / 3600, found))
        victim = next(worker for worker in stage.kept if worker is not steady)
        # One that owns nothing yet is spared: it would be no loss to anybody.
        if passed > last_kill + 60 and owns(victim):
            print(seen.now(), flush=True)
            victim.kill()
            seen.kills, last_kill = seen.kills + 1, passed
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began - passed)))
    await publisher.close()
    return seen


async def _applied_now(stage: Stage) -> int:
    store = stage.store()
    try:
        claims = [await store.peek(partition) for partition in stage.partitions]
    finally:
        await store.close()
    return sum((claim.next_offset or 0) for claim in claims if claim)


if __name__ == "__main__":
    sys.exit(asyncio.run(soak(float(os.environ.get("SOAK_MINUTES", "30")))))
