"""What the commands of `python -m model` share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from tqdm import tqdm

from features.orders import OrderRules
from features.times import Calendar, CalendarError, calendar_of, day_of_date
from model.artifact.files import replace_durably
from model.artifact.signature import Trust
from model.data.columns import OrderColumns
from model.data.order_log import REJECTED_FILE, Rejections, read_orders
from model.errors import ModelError
from model.report.escape import terminal

if TYPE_CHECKING:
    from model.data.cleaning import Cleaned

_F = TypeVar("_F", bound=Callable[..., Any] | click.Command)

ORDERS = click.argument(
    "orders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ORDERS..."
)


@contextmanager
def one_line_errors(*also: type[Exception]) -> Iterator[None]:
    """What a person can fix ends as one line and exit code 1, never as a traceback."""
    told: tuple[type[Exception], ...] = (ModelError, OSError, *also)
    try:
        yield
    except told as error:
        raise click.ClickException(terminal(str(error))) from None


def day_option(_: click.Context, __: click.Parameter, value: datetime | None) -> int | None:
    """The UTC day of a date given as an option."""
    if value is None:
        return None
    return day_of_date(value.date())


CUTOFF = click.option(
    "--cutoff",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=day_option,
    metavar="YYYY-MM-DD",
    help="Only what was known at 00:00 UTC of this day. Default: one horizon before the log ends.",
)


def from_option(what: str) -> Callable[[_F], _F]:
    """The option --from, given to the command as `from_day`; `what` begins on that day."""
    return click.option(
        "--from",
        "from_day",
        type=click.DateTime(["%Y-%m-%d"]),
        callback=day_option,
        metavar="YYYY-MM-DD",
        help=f"{what} Default: the model's cutoff.",
    )


def trust_options(command: _F) -> _F:
    """The command with --keys, --require-signature and --trust-pickle, given to it as `trust`."""

    @click.option(
        "--keys",
        type=click.Path(path_type=Path),
        envvar="CLV_MODEL_KEYS",
        metavar="FILE",
        help="Public keys: only a model that one of them signed. Default: $CLV_MODEL_KEYS.",
    )
    @click.option(
        "--require-signature/--no-require-signature",
        default=None,
        envvar="CLV_REQUIRE_SIGNATURE",
        help="Whether a model must be signed. Default: with --keys.",
    )
    @click.option(
        "--trust-pickle",
        is_flag=True,
        envvar="CLV_TRUST_PICKLE",
        help="Open a model that is a pickle and unsigned: whoever wrote it can run any code here.",
    )
    @functools.wraps(command)
    def with_trust(
        *arguments: Any,
        keys: Path | None,
        require_signature: bool | None,
        trust_pickle: bool,
        **more: Any,
    ) -> Any:
        with one_line_errors():
            trust = Trust.of(keys, require_signature, pickles=trust_pickle)
        return command(*arguments, trust=trust, **more)

    return with_trust  # type: ignore[return-value]  # click reads its options from it


MODEL = click.option("--model", "model_path", required=True, type=click.Path(path_type=Path))

ATTRIBUTES = click.option(
    "--attributes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A CSV of what is known of customers: user_id, and columns such as age.",
)


JSON = click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")

HTML = click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots.")


def tell(message: str | bytes, *, err: bool = False) -> None:
    """Prints a text, of which nothing commands the terminal, or JSON."""
    click.echo(terminal(message) if isinstance(message, str) else message, err=err)


def say(report: object, text: Callable[[], str], html: Path | None, *, as_json: bool) -> None:
    """Prints a report: as JSON, or its text and where its page was written."""
    if as_json:
        tell(msgspec.json.encode(report))
        return
    tell(text())
    if html is not None:
        tell(f"\nWritten to {html}")


def write_page(path: Path, page: str) -> None:
    """Puts a page where `path` is. A link there is replaced, and what it leads to left alone."""
    if path.exists() and not path.is_file():
        raise click.UsageError(f"--html {path} is not a file; name one that is, or is not there")
    replace_durably(path, page.encode(errors="replace"))


def _currency(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch("[A-Z]{3}", value):
        raise click.BadParameter(f"{value!r} is no ISO 4217 code; write three capitals, like USD")
    return value


def _timezone(_: click.Context, __: click.Parameter, value: str) -> Calendar:
    try:
        return calendar_of(value)
    except CalendarError as error:
        raise click.UsageError(f"--timezone {error}") from None


TIMEZONE = click.option(
    "--timezone",
    "calendar",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    callback=_timezone,
    help="The shop's own, such as Europe/Berlin: where its days begin.",
)

CURRENCY = click.option(
    "--currency", default="USD", show_default=True, callback=_currency, help="Of all amounts."
)


def read_log(
    paths: Sequence[Path], currency: str, rejections: Rejections | None = None
) -> OrderColumns:
    """The accepted orders in event time; says on stderr what was set aside, and takes it down in
    `rejections`, which are open."""
    found = rejections or Rejections()
    rows = read_orders(paths, OrderRules(currency=currency))
    # disable=None: a bar on a terminal, nothing when piped.
    shown = tqdm(rows, desc="reading", unit=" rows", disable=None, leave=False)
    log = OrderColumns(found.accepted(shown))
    if found.first is not None:
        count = found.counts.total()
        noun = "row" if count == 1 else "rows"
        tell(f"{count:,} {noun} set aside; the first: {found.first}", err=True)
    return log


def read_clean_log(
    paths: Sequence[Path], currency: str, directory: Path | None, *, drop_outliers: bool
) -> Cleaned:
    """The log cleaned, and what was found in it; written to a directory as well, where one is
    named."""
    # It brings pandas along, which nothing else needs.
    from model.data.cleaning import cleaned, write

    rejected = None if directory is None else directory / REJECTED_FILE
    with Rejections(rejected) as rejections:
        log = read_log(paths, currency, rejections)
    found = cleaned(log, currency, rejections.counts, drop_outliers=drop_outliers)
    if directory is not None:
        write(directory, found)
    return found


@contextmanager
def step(name: str) -> Iterator[None]:
    """Shows on a terminal that something long is going on."""
    with tqdm(total=1, desc=name, bar_format="{desc} … {elapsed}", disable=None, leave=False):
        yield
