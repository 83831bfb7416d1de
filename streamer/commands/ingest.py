"""`python -m streamer ingest`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import click

from features.mapping.mapping import MappingError, OrderMapping
from features.mapping.presets import PRESETS, preset
from model.commands.shared import tell
from streamer.commands.shared import KAFKA, one_line_errors
from streamer.ingest.run import run_ingest
from streamer.settings import Settings, unknown_variables


@click.command("ingest")
@click.argument("topic")
@click.option(
    "--preset", "known", type=click.Choice(sorted(PRESETS)), help="Whose records they are."
)
@click.option(
    "--mapping",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML that says where fields come from. Without either: orders of the contract.",
)
@click.option("--timezone", help="Zone of times without an offset, as Europe/Berlin.")
def ingest_command(
    topic: str, known: str | None, file: Path | None, timezone: str | None
) -> NoReturn:
    """Bring the records of TOPIC into the orders topic, keyed by customer.

    Records may have any key and be JSON, or Avro, Protobuf or JSON Schema of a schema registry
    (CLV_SCHEMA_REGISTRY_URL). Start several to share the topic's partitions. Runs until it
    is told to end (SIGINT or SIGTERM): exit code 0, or 70 when it cannot go on.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 \\
      python -m streamer ingest shop-events --preset shopify
    """
    if known and file:
        raise click.UsageError("--preset and --mapping: give one of them")
    with one_line_errors():
        settings = Settings.load(os.environ, needs=(KAFKA,))
        mapping = _mapping(known, file, timezone)
        for line in unknown_variables(os.environ):
            tell(f"Note: {line}", err=True)
        run_ingest(settings, topic, mapping)


def _mapping(known: str | None, file: Path | None, timezone: str | None) -> OrderMapping | None:
    try:
        if file is not None:
            return OrderMapping.from_toml(file.read_text(), name=str(file), timezone=timezone)
        return None if known is None else preset(known, timezone)
    except (MappingError, UnicodeDecodeError, OSError) as error:
        raise click.ClickException(str(error)) from None
