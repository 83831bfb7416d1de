"""The main job on a real order log: train, start broker and Redis, run the worker, look back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec
from tqdm import tqdm

from features.events.money import currency_name
from features.events.orders import Order, OrderRules
from features.times import MS_PER_DAY, day_of, rfc3339
from model.artifact import artifact
from model.decide.codec import CustomerRecord
from model.files.loading import load
from model.files.order_log import FileRules
from model.report.slipping import SlippingList
from streamer.admin.produce import produce
from streamer.clock import SystemClock
from streamer.demo.call_list import call_lists
from streamer.demo.embedded import (
    EmbeddedKafka,
    EmbeddedRedis,
    EmbeddedServer,
    Guarded,
    free_port,
)
from streamer.demo.guardian import END
from streamer.demo.report import PAGE, customers, past_of, write_report
from streamer.demo.sample import sample_orders
from streamer.demo.summary import RunFigures, summary
from streamer.errors import StreamerError
from streamer.kafka import clients as servers
from streamer.kafka.reader import TopicReader
from streamer.pipeline.messages import WARNING_KIND, ChurnWarning
from streamer.records import Partition
from streamer.settings import Settings
from streamer.store.redis_store import RedisStore

_CLOCK: Final = SystemClock()
_CURRENCY: Final = "USD"
# Of the log's days, the first part that the model is trained on.
_TRAINED_SHARE: Final = 0.5
_POLL_S: Final = 0.2
_END_WITHIN_S: Final = 20.0


class DemoFailed(StreamerError):
    """The demo broke off; the message says where to look."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the demo's parts share."""

    directory: Path
    settings: Settings
    environ: Mapping[str, str]
    orders: list[Order]


@dataclass(frozen=True, slots=True)
class Streamed:
    """What came of the stream: the warnings, each id once, the customers, and what it took."""

    warnings: list[ChurnWarning]
    kept: list[tuple[str, CustomerRecord]]
    seconds: float
    first_order_s: float
    scores: int


def run_demo(directory: Path, *, keep: bool) -> None:
    """Runs the demo in a directory of its own and prints what happens. Raises DemoFailed, and what
    its parts raise for a person to read."""
    began = _CLOCK.monotonic_s()
    sample = sample_orders(directory)
    click.echo(f"Orders: {sample.label}")
    if sample.why:
        click.echo(f"  because CDNOW cannot be had here: {sample.why}", err=True)
    orders = _orders(sample.path)
    cutoff_day = _cutoff_day(orders)
    model = directory / "model"
    with ExitStack() as stack:
        # While one core trains, the other starts the servers, loads the worker and sends orders.
        trained = stack.enter_context(_training(sample.path, model, cutoff_day))
        port = str(free_port()) if keep else "0"
        also = {"CLV_CURRENCY": _CURRENCY, "CLV_MODEL": str(model), "CLV_WEB_PORT": port}
        settings, environ, _ = servers_for(stack, "clv-demo", also)
        run = Run(directory, settings, environ, orders)
        ready = directory / "model.ready"
        worker = stack.enter_context(_worker(run, ready))
        asyncio.run(_send(run))
        click.echo(f"\n{trained()}")
        started = _CLOCK.monotonic_s()
        ready.touch()
        streamed = asyncio.run(_stream(run, worker, started))
        click.echo(f"\n{_look_back(run, model, streamed, cutoff_day)}\n")
        seconds = _CLOCK.monotonic_s() - began
        click.echo(_where_next(sample.path, model, directory / PAGE, seconds))
        if keep:
            _stay(run, worker)


def _orders(path: Path) -> list[Order]:
    loaded = load([path], FileRules(OrderRules(_CURRENCY)))
    click.echo(f"Read {loaded.summary.text()}")
    return list(loaded.orders)


def _cutoff_day(orders: list[Order]) -> int:
    first, last = day_of(orders[0].ts_ms), day_of(orders[-1].ts_ms)
    return first + round((last - first) * _TRAINED_SHARE)


@contextlib.contextmanager
def _training(log: Path, out: Path, cutoff_day: int) -> Iterator[Callable[[], str]]:
    """Trains in a process of its own, which does not outlive the block; what was printed, once it
    has ended. That raises DemoFailed where training failed."""
    cutoff = rfc3339(cutoff_day * MS_PER_DAY)[:10]
    command = ["-m", "model", "train", str(log), "--out", str(out), "--cutoff", cutoff]
    click.echo(f"\n$ python -m model train {log} \\\n    --out {out} --cutoff {cutoff}")
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )

    def printed() -> str:
        text = process.communicate()[0].decode().rstrip()
        if process.returncode != 0:
            raise DemoFailed("training failed; its own message stands above")
        return text

    with process:
        try:
            yield printed
        finally:
            if process.poll() is None:
                process.kill()


def servers_for(
    stack: ExitStack, name: str, also: Mapping[str, str]
) -> tuple[Settings, dict[str, str], Sequence[EmbeddedServer]]:
    """Settings and environment of a worker that has `also`, with servers that run, and those that
    are embedded. On somebody's own servers topics and keys begin with `name`, so that nothing of
    theirs is touched."""
    given = {name: os.environ[name] for name in SERVERS if os.environ.get(name)}
    if len(given) == 1:
        missing = next(name for name in SERVERS if name not in given)
        raise DemoFailed(f"{missing} is not set; set both {' and '.join(SERVERS)}, or neither")
    environ = {**os.environ, **_SETTINGS, **also}
    embedded: Sequence[EmbeddedServer] = ()
    if given:
        run = f"{name}-{uuid.uuid4().hex[:8]}"
        environ |= {f"CLV_{t}_TOPIC": f"{run}-{t.lower()}" for t in _TOPICS}
        environ |= {"CLV_GROUP": run, "CLV_STATE_NAMESPACE": run}
        click.echo(f"\nKafka at {given[SERVERS[0]]}; topics and keys are named {run}-...")
    else:
        kafka = stack.enter_context(EmbeddedKafka())
        redis = stack.enter_context(EmbeddedRedis())
        environ |= {SERVERS[0]: kafka.bootstrap, SERVERS[1]: redis.url}
        embedded = kafka, redis
        click.echo(f"\nEmbedded Kafka at {kafka.bootstrap}, embedded Redis on a socket")
    return Settings.load(environ), environ, embedded


SERVERS: Final = ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL")
_TOPICS: Final = ("ORDERS", "WARNINGS", "SCORES", "DEAD_LETTER")
_SETTINGS: Final = {
    # Orders of the past must not be judged by today's clock.
    "CLV_IDLE_AFTER": "off",
    # The embedded broker assigns partitions after half of it.
    "CLV_SESSION_TIMEOUT": "4s",
}


def start_worker(
    environ: Mapping[str, str], log: Path, command: Sequence[str] = ("streamer", "worker")
) -> Guarded:
    """A worker process that does not outlive us; its log goes on in a file."""
    return Guarded([sys.executable, "-m", *command], log, environ, grace_s=_END_WITHIN_S)


@contextlib.contextmanager
def _worker(run: Run, ready: Path) -> Iterator[Guarded]:
    """A worker process that begins once a file is there, told to end when the block ends."""
    run.directory.mkdir(parents=True, exist_ok=True)
    log = run.directory / "worker.log"
    for left in (log, ready):
        left.unlink(missing_ok=True)
    worker = start_worker(run.environ, log, ("streamer.demo.ahead", str(ready)))
    try:
        yield worker
    finally:
        worker.end(END)


async def _send(run: Run) -> None:
    """Makes the topics, and sends the orders."""
    settings = run.settings
    await servers.ensure_topics(settings)
    async with servers.opened_publisher(settings) as publisher:
        await produce(run.orders, publisher, settings.orders_topic, settings.currency)


async def _stream(run: Run, worker: Guarded, started: float) -> Streamed:
    """Waits until all orders are applied and judged, and reads the warnings."""
    settings = run.settings
    counts = await servers.ensure_topics(settings)
    store = servers.redis_store(settings, await servers.cluster_id(settings))
    partitions = [
        Partition(settings.orders_topic, number) for number in range(counts[settings.orders_topic])
    ]
    try:
        first_order_s = await _until_applied(run, store, partitions, worker, started)
        seconds = _CLOCK.monotonic_s() - started - first_order_s
        said = sum([(await store.outbox(partition, 1)).first for partition in partitions])
        reader = TopicReader(partial(servers.kafka_consumer, settings))
        topic = settings.warnings_topic
        warnings = await _read_warnings(reader, topic, counts[topic], said)
        logs = await reader.ranges(settings.scores_topic, counts[settings.scores_topic])
        scores = sum(log.end for log in logs.values())
        users = sorted({order.user_id for order in run.orders})
        kept = await customers(store, settings.orders_topic, len(partitions), users)
    finally:
        await store.close()
    return Streamed(warnings, kept, seconds, first_order_s, scores)


async def _until_applied(
    run: Run,
    store: RedisStore,
    partitions: list[Partition],
    worker: Guarded,
    started: float,
) -> float:
    """Returns when every order is applied and nobody is due any more; seconds to the first one."""
    first_order_s: float | None = None
    # disable=None: a bar on a terminal, nothing when piped.
    with tqdm(total=len(run.orders), desc="orders applied", unit="", disable=None) as bar:
        while True:
            if not worker.alive:
                raise DemoFailed(f"the worker ended; see {run.directory / 'worker.log'}")
            claims = [await store.peek(partition) for partition in partitions]
            applied = sum(claim.next_offset or 0 for claim in claims if claim)
            bar.update(applied - bar.n)
            if applied and first_order_s is None:
                first_order_s = _CLOCK.monotonic_s() - started
            if applied >= len(run.orders) and await _all_judged(run, store, partitions):
                return first_order_s or 0.0
            await asyncio.sleep(_POLL_S)


async def _all_judged(run: Run, store: RedisStore, partitions: list[Partition]) -> bool:
    """Whether no customer is due up to its partition's watermark, and nothing waits to be sent."""
    for partition in partitions:
        claim = await store.peek(partition)
        if claim is None or claim.high_ts_ms is None:
            continue
        watermark_ms = claim.high_ts_ms - run.settings.allowed_lateness_ms
        if await store.due(partition, watermark_ms, 1):
            return False
        if (await store.outbox(partition, 1)).entries:
            return False
    return True


async def _read_warnings(
    reader: TopicReader, topic: str, partitions: int, said: int
) -> list[ChurnWarning]:
    """The warnings in the topic, each id once: as many as the outbox says were produced."""
    decode = msgspec.json.Decoder(ChurnWarning).decode
    found: dict[str, ChurnWarning] = {}
    async for _, records in reader.read_all(topic, partitions):
        for record in records:
            warning = decode(record.value)
            found.setdefault(warning.warning_id, warning)
    if len(found) < said:
        raise DemoFailed(
            f"{said} warnings were produced, but only {len(found)} can be read from the topic"
        )
    return list(found.values())


def _look_back(run: Run, model: Path, streamed: Streamed, cutoff_day: int) -> str:
    loaded = artifact.load(model)
    manifest = loaded.manifest
    cutoff = rfc3339(cutoff_day * MS_PER_DAY)
    warnings = [said for said in streamed.warnings if said.kind == WARNING_KIND]
    since = [warning for warning in warnings if warning.as_of >= cutoff]
    # The last day that the log can judge.
    day = day_of(run.orders[-1].ts_ms) + 1 - manifest.horizon_days
    orders = sorted(run.orders, key=lambda order: order.ts_ms)
    lists = call_lists(since, orders, day, loaded.scorer())
    figures = RunFigures(
        orders=len(run.orders),
        customers=len({order.user_id for order in run.orders}),
        from_day=cutoff[:10],
        seconds=streamed.seconds,
        first_order_s=streamed.first_order_s,
        scores=streamed.scores,
    )
    end_ms = (day_of(orders[-1].ts_ms) + 1) * MS_PER_DAY
    past = past_of(streamed.warnings, cutoff, end_ms, lists)
    policy, scorer = run.settings.policy, loaded.scorer()
    now = write_report(run.directory, streamed.kept, scorer, policy, end_ms, past)
    said = summary(figures, since, len(warnings) - len(since), lists)
    return f"{said}\n\n{_now(now)}"


def _now(found: SlippingList) -> str:
    at_stake = sum(row.at_stake for row in found.customers)
    return (
        f"Slipping away now, {found.as_of}: {len(found.customers):,} customers,"
        f" {at_stake:,.0f} {currency_name(found.currency)} at stake."
    )


def _where_next(log: Path, model: Path, report: Path, seconds: float) -> str:
    return "\n".join(
        [
            f"Done in {seconds:.0f} s. Where to go from here:",
            "  your own orders   python -m model train orders.csv --out models/shop",
            "                    python -m streamer replay orders.csv --model models/shop \\",
            "                      --out replayed",
            "  this run          " + f"{model / 'report.txt'}, {log.parent / 'worker.log'}",
            "  keep it running   make demo KEEP=1",
            "  your own Kafka    README.md",
            "",
            "Who is slipping away, and how good such warnings were:",
            f"  {report}",
        ]
    )


def _stay(run: Run, worker: Guarded) -> None:
    """Leaves the worker running until Ctrl-C."""
    click.echo(
        f"\nThe worker runs on (http://127.0.0.1:{run.environ['CLV_WEB_PORT']}/readyz);"
        " Ctrl-C ends it.\nIn another terminal:\n"
        f"  {show_command(run.environ, run.orders[0].user_id)}"
    )
    with contextlib.suppress(KeyboardInterrupt):
        worker.wait()


def show_command(environ: Mapping[str, str], user_id: str) -> str:
    """What shows a customer in another terminal, with the variables that are not set there."""
    variables = " ".join(
        f"{name}={shlex.quote(value)}"
        for name, value in environ.items()
        if os.environ.get(name) != value
    )
    command = shlex.join([sys.executable, "-m", "streamer", "show", user_id])
    return f"{variables} \\\n    {command}"
