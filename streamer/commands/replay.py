"""`python -m streamer replay`: an order log through the pipeline, without Kafka and Redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

import click

from model.commands.shared import ORDERS, Reading, reading_options, tell
from model.files.loading import OrderStream
from model.files.order_log import check_paths
from model.files.rejections import Rejections
from model.words import counted, inflected
from streamer.commands.shared import (
    MODEL,
    SPEED,
    instant,
    loaded_pipeline,
    one_line_errors,
    progress_bar,
)
from streamer.pipeline.batch import Pipeline
from streamer.replay.files import LogFiles
from streamer.replay.replay import Pace, Replay, Replayed, replay_log
from streamer.settings import Settings


@click.command("replay")
@ORDERS
@click.option(
    "--model", "model_path", type=click.Path(path_type=Path), help="Artifact; default: $CLV_MODEL."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("replayed"),
    show_default=True,
    help="Directory for warnings.jsonl, scores.jsonl and dead-letters.jsonl.",
)
@click.option(
    "--until",
    metavar="T",
    help="Leave out orders at T or later, and let time pass up to T: 2011-06-01 (UTC)"
    " or RFC 3339. Default: the end of the log.",
)
@SPEED
@reading_options
def replay_command(
    orders: tuple[Path, ...],
    model_path: Path | None,
    out: Path,
    until: str | None,
    speed: float | None,
    reading: Reading,
) -> None:
    """Run an order log through the worker's pipeline, without Kafka and Redis.

    The same log, model and settings give the same files, byte for byte.

    \b
    Example:
      python -m streamer replay orders.csv.gz --model models/shop --out replayed
    """
    with one_line_errors():
        if reading.asked is None:
            check_paths(orders)
        environ = dict(os.environ)
        if model_path is not None:
            environ[MODEL] = str(model_path)
        if reading.free_orders is not None:
            environ["CLV_FREE_ORDERS"] = reading.free_orders.value
        settings, pipeline = loaded_pipeline(environ, needs=(MODEL,))
        reading, _ = reading.understood(orders, settings.currency)
        replayed = _replay(
            partial(reading.streamed, orders, settings.order_rules),
            settings,
            pipeline,
            out,
            instant(until),
            speed,
        )
    tell(_told(replayed, out))


def _replay(
    streamed: Callable[[Rejections], AbstractContextManager[OrderStream]],
    settings: Settings,
    pipeline: Pipeline,
    out: Path,
    until_ms: int | None,
    speed: float | None,
) -> Replayed:
    with (
        LogFiles(out, pipeline.topics) as files,
        streamed(Rejections(also=files.reject)) as found,
    ):
        files.end_page()
        with progress_bar("replaying") as bar:
            return asyncio.run(
                replay_log(
                    found.orders,
                    Replay(pipeline, files, partitions=settings.partitions, pace=Pace(speed)),
                    files,
                    rejected=sum(found.summary.set_aside.values()),
                    until_ms=until_ms,
                    progress=bar.update,
                )
            )


_ODD: Final = {
    "correction": "correction{}: known by id, with other values; the newest counts",
    "id_reused": "id{} reused more than 14 days later: make ids unique, they count once",
    "rounded": "amount{} rounded to the currency's decimals",
    "late": "late by more than CLV_ALLOWED_LATENESS: counted, without a warning",
}


def _told(replayed: Replayed, out: Path) -> str:
    counters = replayed.counters
    aside = counters.dead_letters + replayed.rejected
    return "\n".join(
        [
            f"{counted(counters.orders, 'order')} of {counted(replayed.customers, 'customer')}"
            f" ({counted(counters.duplicates, 'repeat')})",
            *(f"{n:>10,} {inflected(_ODD[kind], n)}" for kind, n in sorted(counters.odd.items())),
            f"{counters.warnings:>10,} {inflected('warning{}', counters.warnings):<9}"
            f"  {out / 'warnings.jsonl'}",
            f"{counters.scores:>10,} {inflected('score{}', counters.scores):<9}"
            f"  {out / 'scores.jsonl'}",
            f"{aside:>10,} set aside  {out / 'dead-letters.jsonl'}",
        ]
    )
