"""What the commands of `python -m streamer` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click
from tqdm import tqdm

from features.facts.state import StateError
from features.times import instant_ms
from model.commands.shared import one_line_errors as refusals_as_lines
from streamer.assemble import as_trained, pipeline_of
from streamer.clock import SystemClock
from streamer.errors import StreamerError
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.pipeline.batch import Pipeline

KAFKA, REDIS, MODEL = "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "CLV_MODEL"


SPEED = click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="X times real time: 86400 makes a day a second. Default: as fast as it goes.",
)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a person can fix ends as a clear message and exit code 1, never as a traceback."""
    try:
        with refusals_as_lines(StreamerError, StateError):
            yield
    except KeyboardInterrupt:
        raise click.ClickException("interrupted") from None


def loaded_pipeline(environ: dict[str, str], needs: tuple[str, ...]) -> tuple[Settings, Pipeline]:
    """Settings and pipeline; currency, zone and free orders the model's where none are set."""
    settings = Settings.load(environ, needs=needs)
    assert settings.model is not None
    from model.artifact import artifact

    with one_line_errors():
        loaded = artifact.load(settings.model, settings.trust)
    given = {name: value for name, value in environ.items() if value.strip()}
    settings = Settings.load({**as_trained(loaded.manifest), **given}, needs=needs)
    try:
        return settings, pipeline_of(settings, loaded)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def instant_or_now(text: str | None) -> int | None:
    """`instant`, and `now` for the clock."""
    return SystemClock().now_ms() if text == "now" else instant(text)


def instant(text: str | None) -> int | None:
    """Epoch ms of a date (00:00 UTC) or an RFC 3339 time; a usage error for anything else."""
    if text is None:
        return None
    try:
        return instant_ms(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def progress_bar(name: str, unit: str = "orders") -> tqdm[NoReturn]:
    """A bar on a terminal, and nothing where output is piped."""
    return tqdm(desc=name, unit=f" {unit}", disable=None, leave=False)
