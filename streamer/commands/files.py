"""`python -m streamer try` and `mapping`: from a shop's own files to who is slipping away."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from tqdm import tqdm

from features.errors import FactsError
from features.events.money import amount_text, currency_name, priced
from features.events.orders import OrderRules
from features.proposal.draft import FIELDS, Answers
from features.times import Calendar, CalendarError, calendar_of, rfc3339
from model.artifact.files import replace_durably
from model.commands.mapping import mapping_options
from model.commands.shared import one_line_errors, step, tell
from model.files.loading import Loaded, load
from model.files.order_log import FileRules
from model.files.rejections import Rejections
from model.files.rows import RowsAre
from model.files.summary import NOBODY_TWICE
from model.files.text_files import OrderLogError, for_spreadsheets
from model.intake.intake import Told, Understood, understood
from streamer.clock import SystemClock
from streamer.errors import StreamerError

if TYPE_CHECKING:
    from model.data.training_rows import TrainingConfig
    from model.training.trial import EndedPast, FirstLook

_F = TypeVar("_F", bound=Callable[..., Any])
FILES: Final = click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
PAGE_FILE, LIST_FILE, PAST_FILE = "slipping.html", "slipping.csv", "warnings.csv"
MAPPING_FILE: Final = "mapping.toml"


def asking_options(command: _F) -> _F:
    """The command with the options that answer what a file leaves open, given to it as `asked`."""

    @mapping_options
    @click.option(
        "--timezone", metavar="ZONE", help="Of times without one, and of the shop's days."
    )
    @click.option("--currency", metavar="CODE", help="Where the files name none.")
    @click.option("--time-format", metavar="FORMAT", help="As of strptime: %d/%m/%Y %H:%M.")
    @click.option("--decimal", type=click.Choice([".", ","]), help="The decimal mark of amounts.")
    @click.option("--unit", type=click.Choice(["major", "minor"]), help="minor: amounts are cents.")
    @click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="FIELD=NAME",
        help=f"Where a field is; FIELD is one of {', '.join(FIELDS)}. May be repeated.",
    )
    @click.option(
        "--left-out",
        multiple=True,
        metavar="VALUE",
        help="A status whose rows are no orders; nothing: none of those that are not known.",
    )
    @click.option("--encoding", metavar="NAME", help="Of text files that are not UTF-8.")
    @click.option(
        "--rows",
        type=click.Choice([one.value for one in RowsAre]),
        help="What several rows of one order id are.",
    )
    @functools.wraps(command)
    def with_asked(*arguments: Any, **options: Any) -> Any:
        columns = dict(_column(text) for text in options.pop("columns"))
        names = ("timezone", "time_format", "currency", "decimal", "unit", "rows")
        out = options.pop("left_out")
        left_out = [value for value in out if value != "nothing"] if out else None
        told = {name: options.pop(name) for name in names}
        answers = Answers(columns, left_out=left_out, **told)
        asked = Told(
            options.pop("preset"), options.pop("mapping"), options.pop("encoding"), answers
        )
        if answers.timezone is not None:
            try:
                calendar_of(answers.timezone)
            except CalendarError as error:
                raise click.UsageError(f"--timezone {error}") from None
        code = answers.currency
        if code is not None and not (len(code) == 3 and code.isascii() and code.isupper()):
            raise click.UsageError(f"--currency {code}: write three capitals, like EUR")
        return command(*arguments, asked=asked, **options)

    return with_asked  # type: ignore[return-value]  # click reads its options from it


def _column(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals or name not in FIELDS:
        raise click.UsageError(
            f"--column {text}: write FIELD=NAME with a FIELD of {', '.join(FIELDS)}"
        )
    return name, column


@click.command("mapping")
@FILES
@asking_options
def mapping_command(files: tuple[Path, ...], asked: Told) -> None:
    """Propose how to read files: prints a mapping (TOML), and says why on stderr.

    What changes money or time and cannot be seen from the files is asked, never guessed.

    \b
    Example:
      python -m streamer mapping export.csv > shop.toml
    """
    with one_line_errors(FactsError, StreamerError):
        found = understood(files, asked)
    for line in (found.source, *_guessed(found), *found.notes):
        tell(line, err=True)
    tell(found.toml.rstrip())


def _guessed(found: Understood) -> Iterator[str]:
    for one in found.guesses:
        yield f"{one.field}: {one.path}, {one.sure:.0%} sure: {one.why}"


@click.command("try")
@FILES
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("clv-report"),
    show_default=True,
    help="Directory for the page, the two CSV files and the mapping.",
)
@click.option("--horizon", type=click.IntRange(min=1), help="Days ahead. Default: by the log.")
@click.option("--why-not", metavar="USER", help="Say why a customer is not warned of, and when.")
@asking_options
def try_command(
    files: tuple[Path, ...], out: Path, horizon: int | None, why_not: str | None, asked: Told
) -> None:
    """See who is slipping away, from a shop's export as it is.

    CSV of any separator and encoding, JSON, Excel (.xlsx), Parquet; zip and gz. Trains on the
    orders, judges itself on their past, and writes slipping.html, slipping.csv (who is slipping
    away at the end of the log) and warnings.csv (what such warnings would have been worth).

    \b
    Example:
      clv-streamer try orders_export.csv --preset shopify
    """
    with one_line_errors(FactsError, StreamerError):
        found = understood(files, asked)
        loaded = read(found, asked, files)
        _report(loaded, found, asked, out, horizon, why_not)


def read(found: Understood, asked: Told, files: tuple[Path, ...]) -> Loaded:
    """The orders of files that were understood; rows that are set aside are told on stderr."""
    rules = FileRules(
        OrderRules(currency=found.currency), now_ms=SystemClock().now_ms(), reader=found.rows
    )
    rows = RowsAre(asked.answers.rows) if asked.answers.rows else found.rows_are
    rejections = Rejections()
    with tqdm(desc="reading", unit=" rows", disable=None, leave=False) as bar:
        loaded = load(files, rules, rows, rejections=rejections, progress=bar.update)
    if rejections.counts:
        tell(rejections.text(), err=True)
    return loaded


def _understanding(found: Understood, loaded: Loaded, net: int) -> str:
    """In five lines: files, mapping, time, money, what does not count."""
    orders, summary = loaded.orders, loaded.summary
    files = "; ".join(f"{table.part}: {table.about}" for table in found.tables[:3])
    more = f"; and {len(found.tables) - 3} more" if len(found.tables) > 3 else ""
    fields = "; ".join(f"{one.field} is {one.path} ({one.sure:.0%})" for one in found.guesses)
    first, last = rfc3339(orders[0].ts_ms), rfc3339(orders[-1].ts_ms)
    skipped = [f"{count:,} {why}" for why, count in found.skipped.most_common(4)]
    aside = [f"{count:,} set aside as {why}" for why, count in summary.set_aside.items()]
    return "\n".join(
        [
            f"Files     {files}{more}",
            f"Mapping   {found.source}{': ' if fields else ''}{fields}",
            f"Time      {first} to {last}",
            f"Money     {amount_text(net, found.currency)} {currency_name(found.currency)} net:"
            f" {summary.orders:,} orders, {summary.refunds:,} refunds,"
            f" {summary.cancellations:,} cancellations of {summary.customers:,} customers",
            f"Left out  {', '.join([*skipped, *aside]) or 'nothing'}",
            *(f"Note      {note}" for note in found.notes),
        ]
    )


def tell_read(loaded: Loaded, found: Understood, calendar: Calendar) -> None:
    """Says how the files were understood, and what looks odd in them."""
    from model.training.trial import net_minor

    tell(_understanding(found, loaded, net_minor(loaded.orders, calendar)))
    for odd in loaded.summary.odd:
        tell(f"Odd       {odd.detail}")


def training_of(
    loaded: Loaded, found: Understood, calendar: Calendar, horizon: int | None
) -> TrainingConfig:
    """How to train on the orders, by default as far ahead as they allow. Raises OrderLogError where
    nobody ordered twice, and TrainingError."""
    from model.data.training_rows import TrainingConfig
    from model.training.trial import horizon_for

    for odd in loaded.summary.odd:
        if odd.code == NOBODY_TWICE:
            raise OrderLogError(f"nothing can be learned from {odd.detail}")
    config = TrainingConfig(horizon or 1, currency=found.currency, calendar=calendar)
    if horizon is not None:
        return config
    return replace(config, horizon_days=horizon_for(loaded.orders, config))


def _report(
    loaded: Loaded,
    found: Understood,
    asked: Told,
    out: Path,
    horizon: int | None,
    why_not: str | None,
) -> None:
    """Trains, judges, and writes the page and the files beside it."""
    # Plots bring matplotlib along, training scikit-learn.
    from model.training.trial import tried

    calendar = calendar_of(asked.answers.timezone or "UTC")
    orders = loaded.orders
    tell_read(loaded, found, calendar)
    config = training_of(loaded, found, calendar, horizon)
    days = calendar.day_of(orders[-1].ts_ms) - calendar.day_of(orders[0].ts_ms) + 1
    with tqdm(total=days, desc="days judged", disable=None, leave=False) as bar:
        trial = tried(orders, config, step, bar.update, why_not)
    _write(trial, found, out)
    tell(_told(trial, out))
    if why_not is not None:
        quiet = trial.quiet
        tell(f"\n{why_not}: " + ("there is no such customer" if quiet is None else quiet.text))


def _write(trial: FirstLook, found: Understood, out: Path) -> None:
    from model.report.slipping import slipping_csv
    from model.report.slipping_page import PastWarnings, past_of, slipping_page

    past = PastWarnings(()) if trial.judged is None else past_of(trial.judged)
    files = {
        PAGE_FILE: slipping_page(trial.slipping, past, LIST_FILE),
        # A mark by which Excel knows UTF-8.
        LIST_FILE: "\ufeff" + slipping_csv(trial.slipping.customers),
        PAST_FILE: "\ufeff" + _past_csv(trial.past),
        MAPPING_FILE: found.toml,
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        replace_durably(out / name, text.encode(errors="replace"))


def _past_csv(past: Sequence[EndedPast]) -> str:
    from model.training.trial import EndedPast

    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\r\n")
    rows.writerow(field.name for field in fields(EndedPast))
    for one in past:
        rows.writerow(for_spreadsheets(str(value)) for value in astuple(one))
    return written.getvalue()


def _told(trial: FirstLook, out: Path) -> str:
    """What came of it, for a terminal."""
    found, judged = trial.slipping, trial.judged
    stake = sum(one.at_stake for one in found.customers)
    lines = [
        "",
        f"{len(found.customers):,} customers are slipping away as of {found.as_of}, with"
        f" {priced(stake, found.currency)} at stake in {found.horizon_days} days.",
    ]
    if judged is None:
        lines.append(f"How good such warnings are cannot be said: {trial.why_not}")
    else:
        right = judged.rule.strict_precision
        share = "none has come to its end" if right is None else f"{right:.0%} were right"
        of = f" (one of {trial.every} customers was judged)" if trial.every > 1 else ""
        lines.append(
            f"Such warnings from {judged.start} on: {len(trial.past):,}, of"
            f" {judged.rule.judged:,} judged {share}{of}."
        )
    if trial.taught > 1:
        lines.append(f"The model learned of one of {trial.taught} customers; train takes all.")
    lines += [f"  {out / name}" for name in (PAGE_FILE, LIST_FILE, PAST_FILE, MAPPING_FILE)]
    return "\n".join(lines)
