"""The commands that repair and move what is kept: forget, redrive, repartition, rebuild."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

import click

from features.events.orders import MAX_ID_CHARS, Reason
from model.commands.shared import tell
from model.words import counted
from streamer.admin import rebuild_partition as upkeep
from streamer.admin import redrive, repartition
from streamer.admin.redrive import Choice
from streamer.clock import SystemClock
from streamer.commands.shared import (
    KAFKA,
    MODEL,
    REDIS,
    instant,
    loaded_pipeline,
    one_line_errors,
    progress_bar,
)
from streamer.settings import Settings

ERASURE_KEY: Final = "CLV_ERASURE_KEY"
UNKNOWN_CUSTOMER: Final = 3
"""The exit code of `forget` where nothing was known of the customer."""


@click.command("forget")
@click.argument("user_id", metavar="USER")
@click.option(
    "--wait",
    "within_s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait until workers have applied it.",
)
def forget_command(user_id: str, within_s: float) -> None:
    """Forget a customer: erase their state, and ignore their past orders from then on.

    Workers go on meanwhile; one of them does it. docs/erasure.md says what Kafka cannot delete.
    Exit code 1 when no worker has applied it yet, 3 when the customer was not known.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      CLV_ERASURE_KEY=... python -m streamer forget alice
    """
    if not 1 <= len(user_id) <= MAX_ID_CHARS:
        raise click.UsageError(f"USER has {len(user_id)} characters; ids have 1 to {MAX_ID_CHARS}")
    with one_line_errors():
        settings = Settings.load(os.environ, needs=(KAFKA, REDIS, ERASURE_KEY))
        user_id = settings.order_rules.customer(user_id)
        count, known = asyncio.run(
            upkeep.forget_customer(
                settings,
                user_id,
                SystemClock().now_ms(),
                within_s=within_s,
            )
        )
    where = f"{counted(count, 'partition')} of {settings.orders_topic}"
    if known:
        tell(f"forgotten in {where}")
        return
    tell(
        f"no state of this customer was found in any of the {where}: it was forgotten before, or"
        " the orders write the id otherwise. What stands in the log under it, or comes later and is"
        " of before now, is left out"
    )
    sys.exit(UNKNOWN_CUSTOMER)


@click.command("redrive")
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice([reason.value for reason in Reason]),
    help="Only dead letters of this reason; may be given again.",
)
@click.option("--since", metavar="T", help="Only dead letters set aside at T or later.")
@click.option("--until", metavar="T", help="Only dead letters set aside before T.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N of them.")
@click.option(
    "--max-times",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Skip those already redriven so often.",
)
@click.option("--again", is_flag=True, help="Also those that were redriven before.")
@click.option(
    "--to",
    type=click.Choice(["key", "source"]),
    default="key",
    show_default=True,
    help="The partition that the key belongs to, or the one that the record came from.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
def redrive_command(
    reasons: tuple[str, ...],
    since: str | None,
    until: str | None,
    limit: int | None,
    max_times: int,
    again: bool,
    to: str,
    dry_run: bool,
) -> None:
    """Send dead letters back into the orders topic, each once.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      python -m streamer redrive --reason beyond_id_memory --dry-run
    """
    choice = Choice(
        reasons=frozenset(map(Reason, reasons)),
        since_ms=instant(since),
        until_ms=instant(until),
        limit=limit,
        max_times=max_times,
        again=again,
        dry_run=dry_run,
    )
    with one_line_errors(), progress_bar("redriving", "dead letters") as bar:
        settings = Settings.load(os.environ, needs=(KAFKA, REDIS))
        result = asyncio.run(
            upkeep.redrive_letters(
                settings,
                choice,
                to_source=to == "source",
                progress=bar.update,
            )
        )
    tell(redrive.text(result, dry_run=dry_run, by_key=to == "key"))


@click.command("repartition")
def repartition_command() -> None:
    """Move customers after the orders topic was given more partitions.

    Stop all workers first. With CLV_MODEL set, orders that wait in old partitions are applied;
    without, they are refused. Interrupted, it is run again; docs/partitions.md has the procedure.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      CLV_MODEL=models/shop python -m streamer repartition
    """
    with one_line_errors():
        if os.environ.get(MODEL):
            settings, pipeline = loaded_pipeline(dict(os.environ), needs=(KAFKA, REDIS, MODEL))
        else:
            settings, pipeline = Settings.load(os.environ, needs=(KAFKA, REDIS)), None
        with progress_bar("moving", "customers") as bar:
            moved = asyncio.run(
                upkeep.move_customers(
                    settings,
                    pipeline,
                    bar.update,
                )
            )
    tell(repartition.text(moved, settings.orders_topic))


@click.command("rebuild")
@click.option(
    "--partition",
    "number",
    type=click.IntRange(min=0),
    required=True,
    metavar="N",
    help="Of the orders topic.",
)
@click.option("--partly", is_flag=True, help="Also where the log has lost its first orders.")
@click.option("--yes", is_flag=True, help="Do it. Without, only show what would be done.")
def rebuild_command(number: int, partly: bool, yes: bool) -> None:
    """Delete what Redis has of a partition, so that its worker reads the log again.

    The worker may run; it starts over by itself, and sends the warnings of the log again, with the
    same ids. docs/recovery.md says when to do this.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      python -m streamer rebuild --partition 3 --yes
    """
    with one_line_errors():
        settings = Settings.load(os.environ, needs=(KAFKA, REDIS))
        found = asyncio.run(
            upkeep.rebuild_partition(settings, number, partly=partly, dry_run=not yes)
        )
    tag, start = found.partition.tag, found.log_start
    if found.customers is None:
        tell(
            f"{tag} is applied up to offset {found.applied}, and its log begins at {start}: say"
            " --yes to delete its customers in Redis and have it read again from there"
        )
        return
    tell(f"{tag}: {counted(found.customers, 'customer')} deleted; the log is read from {start}")
    if start:
        tell("Start its worker with CLV_START_AT=log-start, this once.")
