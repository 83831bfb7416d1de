"""A place to play: one's own orders and model in servers and a worker that end with the command."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from aiohttp import ClientError, ClientSession, ClientTimeout

from model.artifact import artifact
from model.artifact.signature import Trust
from model.commands.shared import step, tell
from model.data.training_rows import TrainingConfig, default_cutoff_day
from model.files.columns import OrderColumns
from model.training.build import made
from streamer.admin.produce import produce
from streamer.assemble import as_trained
from streamer.clock import Clock, SystemClock
from streamer.demo.demo import SERVERS, servers_for, show_command, start_worker
from streamer.demo.embedded import EmbeddedServer, free_port
from streamer.demo.guardian import END
from streamer.errors import StreamerError
from streamer.kafka import clients as servers
from streamer.settings import Settings

QUICK_S: Final = 10.0
"""A worker that ends sooner after its start has ended quickly."""
QUICK_ENDS: Final = 5
"""So many quick ends, one after the other, and it is not started again."""
_POLL_S: Final = 0.2
_ANSWER_S: Final = 2.0


class UpFailed(StreamerError):
    """The place to play broke off; the message says where to look."""


class Server(Protocol):
    """A server that ends with us."""

    what: str

    @property
    def pid(self) -> int: ...

    @property
    def alive(self) -> bool: ...


class Kept(Protocol):
    """A process that is started again when it ends."""

    pid: int

    @property
    def alive(self) -> bool: ...

    def end(self, how: bytes) -> None:
        """Returns when it is gone, at once where it has ended."""


@dataclass(frozen=True, slots=True)
class _Up:
    """What its parts share."""

    directory: Path
    orders: OrderColumns
    settings: Settings
    environ: dict[str, str]
    embedded: Sequence[EmbeddedServer]

    @property
    def log(self) -> Path:
        return self.directory / "worker.log"

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.settings.web_port}"


def train(orders: OrderColumns, config: TrainingConfig, out: Path) -> Path:
    """A model of the orders, written to `out`. Raises TrainingError."""
    cutoff_day = default_cutoff_day(orders, config.horizon_days, config.calendar)
    with step("training"):
        result = made(orders, config, cutoff_day)
    manifest = artifact.save(out, result.model, result.fields)
    tell(
        f"Model     {manifest.model_version} in {out}: {manifest.training_rows:,} rows of"
        f" {manifest.training_customers:,} customers, {manifest.horizon_days} days ahead"
    )
    return out


def run_up(directory: Path, orders: OrderColumns, currency: str, model: Path, trust: Trust) -> None:
    """Keeps servers and a worker with these orders until told to end. Raises UpFailed, and what its
    parts raise for a person to read."""
    manifest = artifact.load(model, trust).manifest
    if manifest.currency != currency:
        raise UpFailed(
            f"the orders are in {currency}, and the model of {model} is of {manifest.currency}:"
            f" give --currency {manifest.currency} where the files name none, or leave out --model"
        )
    own = any(os.environ.get(name) for name in SERVERS)
    port = os.environ.get("CLV_WEB_PORT", "0")
    also = {
        **as_trained(manifest),
        "CLV_MODEL": str(model.resolve()),
        "CLV_WEB_BIND": "127.0.0.1",
        "CLV_WEB_PORT": str(free_port()) if port == "0" else port,
    }
    with ExitStack() as stack:
        place = _Up(directory, orders, *servers_for(stack, "clv-up", also))
        place.log.unlink(missing_ok=True)
        asyncio.run(_until_told(place))
        tell(
            "Ending; what Kafka and Redis held " + ("stays there." if own else "is gone with them.")
        )
    tell(f"Ended. The model is in {model}, the worker's log in {place.log}.")


async def _until_told(place: _Up) -> None:
    """Ends its worker after SIGINT or SIGTERM, or when it cannot go on."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    start = partial(start_worker, place.environ, place.log)
    keeping = asyncio.create_task(
        keep_running(start, partial(_last_line, place.log), SystemClock(), asyncio.sleep)
    )
    watching = asyncio.create_task(watch(place.embedded, asyncio.sleep))
    filling = asyncio.create_task(_fill(place))
    ending = asyncio.create_task(told.wait())
    # The first that raises is told: without a server, the others soon raise as well.
    work: asyncio.Future[Any] = asyncio.gather(watching, keeping, filling)
    both: set[asyncio.Future[Any]] = {work, ending}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    tasks: list[asyncio.Task[Any]] = [filling, keeping, watching, ending]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, work, return_exceptions=True)
    if not told.is_set():
        work.result()


async def watch(servers: Sequence[Server], sleep: Callable[[float], Awaitable[None]]) -> NoReturn:
    """Raises UpFailed when a server has ended: what it held is gone, so it is not started again."""
    pids = {server.what: server.pid for server in servers}
    while True:
        for server in servers:
            if not server.alive:
                raise UpFailed(
                    f"the embedded {server.what}, process {pids[server.what]}, ended, and what it"
                    " held is gone; all else is ended, too: start again with the same command, and"
                    " --model with the model that there is now"
                )
        await sleep(_POLL_S)


async def keep_running(
    start: Callable[[], Kept],
    last_line: Callable[[], str],
    clock: Clock,
    sleep: Callable[[float], Awaitable[None]],
    say: Callable[[str], None] = tell,
) -> NoReturn:
    """Starts a worker, and again whenever it has ended, later after each quick end; ends it when
    cancelled. Raises UpFailed after QUICK_ENDS of them, with the last line of its log."""
    quick = 0
    while True:
        began = clock.monotonic_s()
        worker = start()
        say(f"The worker is process {worker.pid}.")
        try:
            while worker.alive:
                await sleep(_POLL_S)
        finally:
            worker.end(END)
        quick = quick + 1 if clock.monotonic_s() - began < QUICK_S else 0
        if quick == QUICK_ENDS:
            raise UpFailed(
                f"the worker ended {QUICK_ENDS} times within {QUICK_S:g} s of its start, and is not"
                f" started again; its log ends with: {last_line()}"
            )
        wait_s = 2.0 ** max(quick - 1, 0)
        say(f"The worker, process {worker.pid}, ended; it is started again in {wait_s:g} s.")
        await sleep(wait_s)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else f"nothing ({log})"


async def _fill(place: _Up) -> None:
    """Sends the orders, waits for the worker, and says where everything is."""
    settings = place.settings
    await servers.ensure_topics(settings)
    async with servers.opened_publisher(settings) as publisher:
        sent = await produce(place.orders, publisher, settings.orders_topic, settings.currency)
    await _answers(f"{place.page}/readyz")
    own = os.environ.get("REDIS_URL")
    pids = {server.what: f", process {server.pid}" for server in place.embedded}
    tell(
        f"\n{sent:,} orders are in {settings.orders_topic}, and the worker reads them.\n"
        f"  Kafka     {settings.kafka_bootstrap_servers}{pids.get('Kafka', '')}\n"
        f"  Redis     {'as in REDIS_URL' if own else place.environ['REDIS_URL']}"
        f"{pids.get('Redis', '')}\n"
        f"  the page  {place.page}/\n"
        f"In another terminal:\n  {show_command(place.environ, place.orders[0].user_id)}\n"
        "Kill the worker and see it come back; Ctrl-C ends everything."
    )


async def _answers(url: str) -> None:
    """Returns when the worker says there that it is ready."""
    async with ClientSession(timeout=ClientTimeout(_ANSWER_S)) as http:
        while True:
            try:
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            except (ClientError, TimeoutError):
                pass
            await asyncio.sleep(_POLL_S)
