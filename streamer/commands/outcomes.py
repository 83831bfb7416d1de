"""How warnings ended, and what acting on them brought: outcomes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from features.times import Calendar, calendar_of
from model.commands.shared import HTML, Reading, reading_options, say, write_page
from streamer.admin import acting, outcomes, outcomes_page
from streamer.commands.shared import KAFKA, instant_or_now, one_line_errors
from streamer.kafka import clients as servers
from streamer.pipeline.messages import ChurnWarning
from streamer.settings import Settings


@click.command("outcomes")
@click.argument(
    "files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="[WARNINGS...]"
)
@click.option(
    "--as-of",
    metavar="T",
    help="Event time has come to T. Default: to the newest record; or 'now'.",
)
@click.option(
    "--orders",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What customers ordered; may be repeated. Default: the states, where REDIS_URL is set.",
)
@click.option(
    "--points",
    type=click.FloatRange(0, 100, min_open=True),
    default=acting.POINTS,
    show_default=True,
    help="When could a difference of so many percentage points of returns be told?",
)
@click.option(
    "--amount",
    type=click.FloatRange(0, min_open=True),
    help="And of so much revenue a warning? Default: what those returns would bring.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@HTML
@reading_options
def outcomes_command(
    files: tuple[Path, ...],
    as_of: str | None,
    orders: tuple[Path, ...],
    points: float,
    amount: float | None,
    as_json: bool,
    html: Path | None,
    reading: Reading,
) -> None:
    """Show how warnings ended, week by week, and what acting on them brought.

    From the warnings topic, or from WARNINGS: files as `replay` writes them. What acting brought is
    the difference between customers treated and held out (CLV_HOLDOUT_SHARE).

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      python -m streamer outcomes
      python -m streamer outcomes replayed/warnings.jsonl --orders orders.csv
    """
    as_of_ms = instant_or_now(as_of)
    with one_line_errors():
        settings = Settings.load(os.environ, needs=() if files else (KAFKA,))
        if files:
            records = [record for path in files for record in outcomes.read_file(path)]
        else:
            records = asyncio.run(_warnings(settings))
        sent = outcomes.endings(records, as_of_ms)
        calendar = reading.zone or calendar_of(settings.timezone)
        firsts, later = acting.first_warnings(sent, calendar)
        if orders and firsts:
            rules = replace(settings.order_rules, currency=firsts[-1].warning.currency)
            log = reading.load(orders, rules).orders
            revenue = acting.revenue_of_log(log, firsts, calendar)
        elif settings.redis_url.get_secret_value() and not files:
            revenue = asyncio.run(_revenue(settings, firsts, calendar))
        else:
            revenue = {}
        now_ms = outcomes.newest_ms(records) if as_of_ms is None else as_of_ms
        today = calendar.day_of(now_ms)
        found = outcomes_page.Outcomes(
            outcomes.by_week(sent, calendar),
            acting.acting(firsts, later, revenue, today, points, amount),
            outcomes.value_drops(records, as_of_ms),
        )
        if html is not None:
            write_page(html, outcomes_page.page(found))
    say(found, lambda: outcomes_page.text(found), html, as_json=as_json)


async def _warnings(settings: Settings) -> list[ChurnWarning]:
    counts = await servers.ensure_topics(settings)
    return await outcomes.read_topic(settings, counts[settings.warnings_topic])


async def _revenue(
    settings: Settings, firsts: Sequence[acting.First], calendar: Calendar
) -> dict[str, int | None]:
    counts = await servers.ensure_topics(settings)
    async with servers.opened_store(settings) as store:
        topic = settings.orders_topic
        return await acting.revenue_of_store(store, topic, counts[topic], firsts, calendar)
