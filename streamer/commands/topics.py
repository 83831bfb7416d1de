"""What goes into the topics and what comes of them: produce, retrain, show."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import click
import msgspec

from features.events.orders import Order, OrderRules
from features.times import calendar_of
from model.commands.shared import ORDERS, Reading, reading_options, tell
from model.files.columns import OrderRows
from model.files.rows import Arranged
from model.files.summary import summary_of
from model.files.text_files import OrderLogError
from model.words import counted
from streamer.admin import topic_orders
from streamer.admin.produce import produce
from streamer.commands.shared import (
    KAFKA,
    MODEL,
    REDIS,
    SPEED,
    instant_or_now,
    loaded_pipeline,
    one_line_errors,
    progress_bar,
)
from streamer.http import customer_view
from streamer.kafka import clients as servers
from streamer.replay.replay import Pace
from streamer.settings import Settings


@click.command("produce")
@ORDERS
@SPEED
@reading_options
def produce_command(orders: tuple[Path, ...], speed: float | None, reading: Reading) -> None:
    """Send an order log into the orders topic.

    In event time, whatever the order of the log. Rows that are not valid orders are set aside
    and counted by reason.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m streamer produce orders.csv
    """
    with one_line_errors():
        settings = Settings.load(os.environ, needs=(KAFKA,))
        said = settings.currency if os.environ.get("CLV_CURRENCY", "").strip() else None
        reading, currency = reading.understood(orders, said)
        if currency is None and reading.asked is not None:
            raise OrderLogError(
                "the files name no currency, which each record has: set CLV_CURRENCY"
            )
        settings = settings.model_copy(update={"currency": currency or settings.currency})
        with reading.streamed(orders, settings.order_rules) as found:
            sent = asyncio.run(_produce(found.orders, settings, speed))
    tell(f"{counted(sent, 'order')} acknowledged by {settings.orders_topic}")


async def _produce(orders: Iterable[Order], settings: Settings, speed: float | None) -> int:
    await servers.ensure_topics(settings)
    async with servers.opened_publisher(settings) as publisher:
        with progress_bar("producing") as bar:
            return await produce(
                orders,
                publisher,
                settings.orders_topic,
                settings.currency,
                pace=Pace(speed),
                progress=bar.update,
            )


@click.command("retrain")
@click.argument("root", type=click.Path(path_type=Path), metavar="ROOT")
@click.option("--horizon", type=click.IntRange(min=1), help="Default: the current model's, or 90.")
@click.option("--currency", help="Default: the current model's, or CLV_CURRENCY.")
@click.option("--kind", help="Default: the current model's, and its options.")
@click.option("--key", type=click.Path(path_type=Path), help="Private key to sign with.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def retrain_command(
    root: Path,
    horizon: int | None,
    currency: str | None,
    kind: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Retrain on the orders topic, and promote in the registry ROOT what is better.

    Reads the topic from its start to its present end; workers are not disturbed. For the
    rest see python -m model retrain --help.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m streamer retrain models
    """
    from model.commands.retrain import run
    from model.training.retrain import RetrainRequest

    with one_line_errors():
        settings = Settings.load(os.environ, needs=(KAFKA,))
        if currency is None and os.environ.get("CLV_CURRENCY"):
            currency = settings.currency
        free = settings.free_orders if os.environ.get("CLV_FREE_ORDERS") else None
        asked = RetrainRequest(
            horizon,
            currency,
            kind,
            settings.trust,
            key,
            settings.attributes,
            free,
            calendar_of(settings.timezone),
        )
        run(root, partial(_topic_orders, settings), asked, as_json=as_json)


def _topic_orders(settings: Settings, rules: OrderRules) -> tuple[list[Order], Counter[str]]:
    """The orders of the topic, and counts of what is none; says on stderr what was read, and what
    is missing."""
    with progress_bar("reading") as bar:
        log = asyncio.run(topic_orders.read_orders_topic(settings, rules, bar.update))
    for number, start in log.cut.items():
        tell(
            f"{settings.orders_topic}-{number} begins at offset {start}: its first orders are gone",
            err=True,
        )
    rejected = Counter({str(reason): count for reason, count in log.rejected.items()})
    if log.orders:
        # What several records of one id are is settled: versions of it, as the workers count them.
        summary = summary_of(OrderRows(log.orders), Arranged(), rejected, rules.currency)
        tell(f"Read {summary.text()}", err=True)
    return log.orders, rejected


@click.command("show")
@click.argument("user_id", metavar="USER")
@click.option("--as-of", metavar="T", help="Score as of T. Default: the last scoring; or 'now'.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--why-not", is_flag=True, help="Also why it is not warned of, and when it would be.")
def show_command(user_id: str, as_of: str | None, as_json: bool, why_not: bool) -> None:
    """Show a customer: what is known, CLV and churn probability, the last warning.

    The CLV comes as a sum: that of the model's typical customer, and what silence, baskets and so
    on add to it. With the extra "explain", models made of trees also say which features did it.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      CLV_MODEL=models/shop python -m streamer show alice
    """
    with one_line_errors():
        settings, pipeline = loaded_pipeline(dict(os.environ), needs=(KAFKA, REDIS, MODEL))
        as_of_ms = instant_or_now(as_of)
        user_id = settings.order_rules.customer(user_id)
        partition, state, due_ms = asyncio.run(_found(user_id, settings))
        shown = customer_view.view(user_id, partition, state, due_ms, pipeline, as_of_ms)
        features = customer_view.features_of(user_id, state, pipeline, as_of_ms)
        quiet = customer_view.quiet(user_id, state, pipeline, as_of_ms) if why_not else None
    if as_json:
        more = {"features": features} | ({"why_not": quiet} if quiet else {})
        tell(msgspec.json.encode(msgspec.to_builtins(shown) | more))
        return
    tell(customer_view.text(shown, features))
    if quiet is not None:
        tell(f"\n{quiet.text}")


async def _found(user_id: str, settings: Settings) -> customer_view.Found:
    counts = await servers.ensure_topics(settings)
    async with servers.opened_store(settings) as store:
        topic = settings.orders_topic
        return await customer_view.find_customer(user_id, store, topic, counts[topic])
