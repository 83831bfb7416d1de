"""What the commands of `python -m model` share."""

from __future__ import annotations

import functools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec
from tqdm import tqdm

from features.events.ids import placeholders_of
from features.events.money import NO_CURRENCY
from features.events.orders import FreeOrders, OrderRules
from features.mapping.mapping import MappingError
from features.proposal.draft import NO_CURRENCY_NAMED
from features.times import MS_PER_DAY, UTC, Calendar, CalendarError, calendar_of, day_of_date
from model.artifact.files import replace_durably
from model.artifact.signature import Trust
from model.commands.mapping import mapping_options
from model.data.attributes import Attributes
from model.errors import ModelError
from model.files.columns import OrderColumns
from model.files.loading import Loaded, OrderStream, load, streamed
from model.files.merged_accounts import read_accounts
from model.files.order_log import REJECTED_FILE, FileRules
from model.files.rejections import Rejections
from model.files.rows import RowsAre
from model.files.summary import NOBODY_TWICE, Summary
from model.files.text_files import OrderLogError
from model.intake.agreed import (
    accounted,
    agreed_currency,
    agreed_rows,
    agreed_zone,
    understood_in,
)
from model.intake.intake import Told, Understood
from model.report.escape import terminal

if TYPE_CHECKING:
    from model.artifact.manifest import Manifest
    from model.data.cleaning import Cleaned

_F = TypeVar("_F", bound=Callable[..., Any] | click.Command)

ORDERS = click.argument(
    "orders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ORDERS..."
)


@contextmanager
def one_line_errors(*also: type[Exception]) -> Iterator[None]:
    """What a person can fix ends as one line and exit code 1, never as a traceback."""
    told: tuple[type[Exception], ...] = (ModelError, MappingError, OSError, *also)
    try:
        yield
    except told as error:
        raise click.ClickException(terminal(str(error))) from None


def day_option(_: click.Context, __: click.Parameter, value: datetime | None) -> int | None:
    """The day of a date given as an option."""
    if value is None:
        return None
    return day_of_date(value.date())


CUTOFF = click.option(
    "--cutoff",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=day_option,
    metavar="YYYY-MM-DD",
    help="Only what was known at 00:00 of this day. Default: one horizon before the log ends.",
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
    """The command with --keys, --require-signature, --registry and --trust-pickle, given to it as
    `trust`."""

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
        "--registry",
        default="",
        envvar="CLV_MODEL_REGISTRY",
        metavar="NAME",
        help="The registry that a signature has to be for. Default: $CLV_MODEL_REGISTRY, or any.",
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
        registry: str,
        trust_pickle: bool,
        **more: Any,
    ) -> Any:
        with one_line_errors():
            trust = Trust.of(keys, require_signature, pickles=trust_pickle, registry=registry)
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


def _currency(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[A-Z]{3}", value):
        raise click.BadParameter(f"{value!r} is no ISO 4217 code; write three capitals, like USD")
    return value


def _timezone(_: click.Context, __: click.Parameter, value: str | None) -> Calendar | None:
    try:
        return None if value is None else calendar_of(value)
    except CalendarError as error:
        raise click.UsageError(f"--timezone {error}") from None


CURRENCY = click.option(
    "--currency",
    metavar="CODE",
    callback=_currency,
    help="Of all amounts. Default: USD, or what the rows say that a mapping reads.",
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How order files are read: what several rows of one id are, and of which zone times without an
    offset are. `strict`: what looks odd is an error. `changes`: fields of the rules of orders that
    options change. `asked`: the mapping that reads the files, `found` once they are understood."""

    rows_are: RowsAre | None = None
    zone: Calendar | None = None
    strict: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    asked: Told | None = None
    found: Understood | None = None

    @property
    def free_orders(self) -> FreeOrders | None:
        """What orders of 0 are; None: it was not said."""
        return self.changes.get("free_orders")

    def rules_of(self, manifest: Manifest) -> OrderRules:
        """What the orders that a model is judged by must satisfy. Raises OrderLogError where other
        free orders are asked for than it was trained on."""
        trained_on = manifest.free_orders
        if self.free_orders not in (None, trained_on):
            raise OrderLogError(
                f"--free-orders {self.free_orders}: the model was trained with {trained_on}; leave"
                " it out, or train another model"
            )
        return OrderRules(currency=manifest.currency, free_orders=trained_on)

    def rules(self, orders: OrderRules) -> FileRules:
        """The rules of a file with such orders, none of which may be ahead of this clock."""
        reader = None if self.found is None else self.found.rows
        now_ms = int(time.time() * 1000)
        return FileRules(replace(orders, **self.changes), now_ms, self.zone, reader)

    def understood(self, paths: Sequence[Path], currency: str | None) -> tuple[Reading, str | None]:
        """This, made one with what a mapping says of the files, and the currency; None: neither
        they nor `currency` name one. Raises OrderLogError where they contradict each other."""
        if self.asked is None:
            return self, currency
        found = self.found or understood_in(paths, self.asked, self.zone)
        rows, zone = agreed_rows(found, self.rows_are), agreed_zone(found, self.zone)
        currency = agreed_currency(found, currency)
        found.currency = currency or found.currency
        return replace(self, rows_are=rows, zone=zone, found=found), currency

    def settled(self, paths: Sequence[Path], currency: str | None) -> tuple[Reading, str]:
        """As `understood`, with a currency where none is named."""
        reading, currency = self.understood(paths, currency)
        return reading, currency or ("USD" if self.asked is None else NO_CURRENCY)

    def load(
        self, paths: Sequence[Path], orders: OrderRules, rejections: Rejections | None = None
    ) -> Loaded:
        """The orders of files; says at the command's end, on stderr, what was read. Raises
        OrderLogError."""
        taken = rejections or Rejections()
        how, _ = self.understood(paths, orders.currency)
        with _bar() as bar:
            rules = how.rules(orders)
            loaded = load(paths, rules, how.rows_are, rejections=taken, progress=bar.update)
        how._tell(loaded.summary, taken)
        return loaded

    @contextmanager
    def streamed(
        self, paths: Sequence[Path], orders: OrderRules, rejections: Rejections | None = None
    ) -> Iterator[OrderStream]:
        """As `load`, for orders that are read once, however many there are."""
        taken = rejections or Rejections()
        how, _ = self.understood(paths, orders.currency)
        rules = how.rules(orders)
        with (
            _bar() as bar,
            streamed(paths, rules, how.rows_are, rejections=taken, progress=bar.update) as found,
        ):
            bar.close()
            how._tell(found.summary, taken)
            yield found

    def _tell(self, summary: Summary, taken: Rejections) -> None:
        if self.found is not None:
            summary = accounted(self.found, summary)
            tell(self.found.source, err=True)
            for note in self.found.notes:
                if note != NO_CURRENCY_NAMED or self.found.currency == NO_CURRENCY:
                    tell(note, err=True)
        if taken.counts:
            tell(taken.text(), err=True)
        if self.strict and summary.odd:
            odd = "; ".join(found.detail for found in summary.odd)
            raise OrderLogError(f"--strict, and the log looks odd: {odd}")
        click.get_current_context().call_on_close(lambda: tell(f"Read {summary.text()}", err=True))


def _bar() -> tqdm[Any]:
    """Shows on a terminal how many rows were read; nothing when piped."""
    return tqdm(desc="reading", unit=" rows", disable=None, leave=False)


_READING: Final = (
    click.option(
        "--rows",
        "rows_are",
        type=click.Choice([one.value for one in RowsAre]),
        help="What several rows of one order id are. Default: a file with such stops.",
    ),
    click.option(
        "--merge-ids",
        is_flag=True,
        envvar="CLV_MERGE_IDS",
        help="Customer ids that differ only in case, blanks at the ends or .0 are one.",
    ),
    click.option(
        "--merged-accounts",
        type=click.Path(path_type=Path),
        envvar="CLV_MERGED_ACCOUNTS",
        metavar="FILE",
        help="A CSV of user_id and same_as: accounts that the shop has merged.",
    ),
    click.option(
        "--timezone",
        "zone",
        metavar="ZONE",
        envvar="CLV_TIMEZONE",
        callback=_timezone,
        help="The shop's own, such as Europe/Berlin: times without an offset are of it, and days of"
        " train and clean begin there. Default: UTC, and such times are set aside.",
    ),
    click.option(
        "--placeholders",
        envvar="CLV_PLACEHOLDERS",
        metavar="LIST",
        help="Customer ids that are nobody, with commas. Default: nan, null, guest, 0, ...",
    ),
    click.option(
        "--free-orders",
        type=click.Choice([one.value for one in FreeOrders]),
        envvar="CLV_FREE_ORDERS",
        help="Whether orders of 0 count as purchases. Default: count.",
    ),
    click.option(
        "--earliest",
        type=click.DateTime(["%Y-%m-%d"]),
        envvar="CLV_EARLIEST",
        metavar="YYYY-MM-DD",
        help="The first day that an order may be of. Default: 1990-01-01.",
    ),
    click.option("--strict", is_flag=True, help="End with an error where a log looks odd."),
)


def reading_options(command: _F) -> _F:
    """The command with the options that say how order files are read, given to it as `reading`."""

    @mapping_options
    @functools.wraps(command)
    def with_reading(
        *arguments: Any,
        preset: str | None,
        mapping: Path | None,
        rows_are: str | None,
        merge_ids: bool,
        merged_accounts: Path | None,
        zone: Calendar | None,
        placeholders: str | None,
        free_orders: str | None,
        earliest: datetime | None,
        strict: bool,
        **more: Any,
    ) -> Any:
        changes: dict[str, Any] = {"merge_ids": True} if merge_ids else {}
        if merged_accounts is not None:
            with one_line_errors():
                changes["same_as"] = read_accounts(merged_accounts, merge_ids=merge_ids)
        if placeholders:
            changes["placeholders"] = placeholders_of(placeholders.split(","))
        if free_orders is not None:
            changes["free_orders"] = FreeOrders(free_orders)
        if earliest is not None:
            changes["earliest_ms"] = day_of_date(earliest.date()) * MS_PER_DAY
        rows = None if rows_are is None else RowsAre(rows_are)
        asked = Told(preset, mapping) if preset or mapping else None
        return command(*arguments, reading=Reading(rows, zone, strict, changes, asked), **more)

    decorated: Any = with_reading
    for option in reversed(_READING):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click reads its options from it


def report_options(command: _F) -> _F:
    """The command with what every report of a model on a log has: --attributes, --json, --html,
    and how orders and models are read."""
    decorated: Any = reading_options(trust_options(command))
    for option in (HTML, JSON, ATTRIBUTES):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click reads its options from it


def known_customers(attributes: Attributes | None, orders: OrderColumns) -> None:
    """Says on stderr where few of a log's customers have attributes. Raises AttributesError where
    nobody has."""
    if attributes is not None and (told := attributes.match(orders.users)):
        tell(told, err=True)


def read_clean_log(
    paths: Sequence[Path],
    reading: Reading,
    currency: str,
    directory: Path | None,
    *,
    drop_outliers: bool,
    to_learn: bool = False,
) -> Cleaned:
    """The log cleaned, and what was found in it; written to a directory as well, where one is
    named. Raises OrderLogError where it is `to_learn` from and nobody ordered twice."""
    # It brings pandas along, which nothing else needs.
    from model.data.cleaning import cleaned, write

    rejected = None if directory is None else directory / REJECTED_FILE
    with Rejections(rejected) as rejections:
        loaded = reading.load(paths, OrderRules(currency=currency), rejections)
    for odd in loaded.summary.odd:
        if to_learn and odd.code == NOBODY_TWICE:
            raise OrderLogError(f"nothing can be learned from {odd.detail}")
    rejected_rows = Counter(loaded.summary.set_aside)
    found = cleaned(
        loaded.orders,
        currency,
        rejected_rows,
        drop_outliers=drop_outliers,
        calendar=reading.zone or UTC,
    )
    if directory is not None:
        write(directory, found)
    return found


@contextmanager
def step(name: str) -> Iterator[None]:
    """Shows on a terminal that something long is going on."""
    with tqdm(total=1, desc=name, bar_format="{desc} … {elapsed}", disable=None, leave=False):
        yield
