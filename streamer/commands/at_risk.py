"""`python -m streamer at-risk`: who is slipping away, from a running worker's state."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import click
from tabulate import tabulate

from features.events.money import currency_name, money_text
from model.commands.shared import tell
from model.report.escape import line
from model.report.slipping import SlippingList, slipping_csv
from streamer.admin.at_risk import at_risk
from streamer.commands.shared import (
    KAFKA,
    MODEL,
    REDIS,
    instant_or_now,
    loaded_pipeline,
    one_line_errors,
)
from streamer.kafka import clients as servers
from streamer.pipeline.batch import Pipeline
from streamer.settings import Settings


@click.command("at-risk")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, with all columns.")
@click.option("--as-of", metavar="T", help="As of T. Default: the newest event; or 'now'.")
def at_risk_command(top: int | None, as_csv: bool, as_of: str | None) -> None:
    """List who has an open warning, most at stake first.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      CLV_MODEL=models/shop python -m streamer at-risk --top 50 --csv
    """
    with one_line_errors():
        settings, pipeline = loaded_pipeline(dict(os.environ), needs=(KAFKA, REDIS, MODEL))
        as_of_ms = instant_or_now(as_of)
        found = asyncio.run(_at_risk(settings, pipeline, as_of_ms))
    shown = replace(found, customers=found.customers[:top])
    if as_csv:
        click.echo(slipping_csv(shown.customers), nl=False)
    else:
        tell(_text(shown, len(found.customers)))


async def _at_risk(settings: Settings, pipeline: Pipeline, as_of_ms: int | None) -> SlippingList:
    counts = await servers.ensure_topics(settings)
    async with servers.opened_store(settings) as store:
        topic = settings.orders_topic
        return await at_risk(store, pipeline, topic, counts[topic], as_of_ms)


def _text(found: SlippingList, total: int) -> str:
    rows = [
        (
            line(one.customer)[:24],
            money_text(one.at_stake, found.currency),
            f"{one.churn_probability:.0%}",
            one.last_order,
            one.days_overdue,
            one.offer,
        )
        for one in found.customers
    ]
    names = (
        "customer",
        f"at stake, {currency_name(found.currency)}",
        "P(churn)",
        "last order",
        "overdue",
        "offer",
    )
    aligned = ("left", "right", "right", "left", "right", "left")
    head = f"{total:,} customers slipping away as of {found.as_of}, model {found.model_version}"
    return f"{head}\n{tabulate(rows, names, disable_numparse=True, colalign=aligned)}"
