"""`python -m model train`: a model of an order log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from tqdm import tqdm

from features.events.orders import FreeOrders
from features.times import UTC, Calendar, iso_day
from model.artifact import artifact
from model.artifact.files import JUDGED
from model.artifact.manifest import Manifest
from model.commands.shared import (
    ATTRIBUTES,
    CURRENCY,
    CUTOFF,
    ORDERS,
    Reading,
    known_customers,
    one_line_errors,
    read_clean_log,
    reading_options,
    step,
    tell,
)
from model.data.attributes import read_attributes
from model.data.training_rows import TrainingConfig, TrainingError, TrainingSet, default_cutoff_day
from model.errors import ModelError
from model.estimators.kinds import DEFAULT, KINDS, Option, options_of
from model.evaluate.rolling import cutoff_days
from model.files.columns import OrderColumns
from model.training.auto import AUTO, auto, told
from model.training.build import Choose, Made, made
from model.training.search import (
    DEFAULT_FOLDS,
    DEFAULT_TRIALS,
    SearchHistory,
    Trial,
    journal_of,
    plan,
    search,
    table,
)

if TYPE_CHECKING:
    # Cleaning brings pandas along.
    from model.data.cleaning import Cleaned


def _list_kinds(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Prints the kinds of model with their options, and ends."""
    if not asked:
        return
    shown = click.HelpFormatter(width=80)
    for name, kind in KINDS.items():
        shown.write_text(f"{name}: {kind.summary}")
        if kind.options:
            with shown.indentation():
                shown.write_dl([(option, _described(of)) for option, of in kind.options.items()])
        shown.write_paragraph()
    tell(shown.getvalue().strip("\n"))
    context.exit()


@click.command("train")
@ORDERS
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the model goes.")
@click.option("--horizon", default=90, show_default=True, help="Days that CLV looks ahead.")
@CUTOFF
@CURRENCY
@ATTRIBUTES
@click.option(
    "--kind",
    metavar="KIND",
    help=f"See --list-kinds; {AUTO}: the best on the past, {DEFAULT} where none surely is"
    f". Default: {DEFAULT}; with --search, all.",
)
@click.option(
    "--list-kinds",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_kinds,
    help="List the kinds of model, with the options of each.",
)
@click.option("--select", type=int, metavar="N", help="Keep the best N features only.")
@click.option(
    "--select-by",
    type=click.Choice(["kbest", "importance"]),
    help="Best by correlation (kbest), or to a small forest.",
)
@click.option("--pca", type=int, metavar="N", help="Rotate features into N components.")
@click.option(
    "--option",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another option of the kind; may be repeated.",
)
@click.option("--search", "searched", is_flag=True, help="Try kinds and options, take the best.")
@click.option(
    "--trials",
    default=DEFAULT_TRIALS,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="How many a search tries.",
)
@click.option(
    "--folds",
    default=DEFAULT_FOLDS,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Days of the past at which a search judges.",
)
@click.option("--seed", default=0, show_default=True, help="Of what a search draws.")
@click.option(
    "--cutoffs",
    default=0,
    type=click.IntRange(min=0),
    metavar="N",
    help="Train at N earlier days as well, a horizon apart; how good that was is on the card.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where rows set aside, outliers and their counts are written.",
)
@click.option("--drop-outliers", is_flag=True, help="Leave outlying days of customers out.")
@reading_options
def train_command(
    orders: tuple[Path, ...],
    out: Path,
    horizon: int,
    cutoff: int | None,
    currency: str | None,
    attributes: Path | None,
    kind: str | None,
    given: tuple[str, ...],
    searched: bool,
    trials: int,
    folds: int,
    seed: int,
    cutoffs: int,
    report: Path | None,
    drop_outliers: bool,
    reading: Reading,
    **columns: Any,
) -> None:
    """Train a model, compare it on the time after the cutoff, and write it to --out.

    Without --cutoff, --out/judged gets the same of a horizon earlier, for `backtest`. With
    --search, trials are judged at earlier days, none of which trains on its own future. A
    search that was interrupted goes on where it was when run again.

    \b
    Example:
      python -m model train orders.csv.gz --out models/shop
      python -m model train orders.csv.gz --out models/boosted --kind boosting \\
        --select 12 --option learning_rate=0.1
      python -m model train orders.csv.gz --out models/best --search --trials 40
    """
    with one_line_errors():
        artifact.check_target(out)
        own = _given(given, columns, searched)
        asked, kind = kind, _named(kind, own, searched)
        reading, currency = reading.settled(orders, currency)
        config = TrainingConfig(
            horizon,
            currency=currency,
            calendar=reading.zone or UTC,
            free_orders=reading.free_orders or FreeOrders.COUNT,
            kind=kind or DEFAULT,
            options=options_of(kind or DEFAULT, own),
            attributes=None if attributes is None else read_attributes(attributes),
        )
        found = read_clean_log(
            orders, reading, currency, report, drop_outliers=drop_outliers, to_learn=True
        )
        known_customers(config.attributes, log := found.orders)
        cutoff_day = _cutoff_day(log, horizon, cutoff, config.calendar)
        past = cutoff_days(log, config, cutoffs, horizon, cutoff_day - horizon) if cutoffs else []
        choose: Choose | None = partial(auto, fold_count=folds) if asked == AUTO else None
        if searched:
            choose = _searching(out, plan(trials, seed, kind), folds)
        with nullcontext() if searched else step("training"):
            result = made(log, config, cutoff_day, choose, past)
        twin = _twin(log, config, result, cutoff_day) if cutoff is None else None
        manifest = _saved(out, result, found, twin)
    tell(f"{_told(result, manifest)}\n\n{found.report.text(currency)}\n\nWritten to {out}")


def _saved(out: Path, result: Made, found: Cleaned, twin: Made | None) -> Manifest:
    """The manifest of the model, written to `out` with what was found in its log, and its twin."""
    cleaning = msgspec.to_builtins(found.report)
    fields = msgspec.structs.replace(result.fields, cleaning=cleaning)
    manifest = artifact.save(out, result.model, fields)
    if twin is not None:
        artifact.save(out / JUDGED, twin.model, twin.fields)
    # What it holds is in the manifest now.
    journal_of(out).unlink(missing_ok=True)
    return manifest


def _twin(log: OrderColumns, config: TrainingConfig, result: Made, cutoff_day: int) -> Made | None:
    """The same model trained a horizon earlier, so that `backtest` has warnings with an end to
    judge; None where the log is too short for one."""
    config = replace(config, kind=result.model.kind, options=result.model.options)
    try:
        with step("training its twin"):
            return made(log, config, cutoff_day - config.horizon_days)
    except ModelError:
        return None


def _told(result: Made, manifest: Manifest) -> str:
    """What was trained, and how good it is."""
    tried = ""
    if result.history is not None:
        by_itself = any(one.high is not None for one in result.history.trials)
        tried = f"{(told if by_itself else table)(result.history)}\n\n"
    return (
        f"{tried}Model {manifest.model_version}: {manifest.training_rows:,} rows of"
        f" {manifest.training_customers:,} customers,\n"
        f"orders from {manifest.trained_from} to before {manifest.cutoff}\n"
        f"\n{result.fields.report}"
    )


def _named(kind: str | None, own: Mapping[str, object], searched: bool) -> str | None:
    """The kind that is named, the default for `auto`. Raises UsageError for what contradicts it."""
    if kind != AUTO:
        return kind
    if searched:
        raise click.UsageError(f"--search tries all kinds itself; leave out --kind {AUTO}")
    if own:
        raise click.UsageError(
            f"--kind {AUTO} takes each kind as it comes; leave out {', '.join(own)}, or name a kind"
        )
    return DEFAULT


def _cutoff_day(
    log: OrderColumns, horizon_days: int, wanted: int | None, calendar: Calendar
) -> int:
    """The day up to which is trained; not later than the log knows, for the time after its end
    would be taken for a silence of everybody."""
    newest = default_cutoff_day(log, horizon_days, calendar) + horizon_days
    if wanted is not None and wanted > newest:
        raise TrainingError(
            f"cutoff {iso_day(wanted)} lies after the log's end, and nothing is known of the days"
            f" between: give a log that goes on to it, or --cutoff {iso_day(newest)} or earlier"
        )
    return newest - horizon_days if wanted is None else wanted


def _searching(out: Path, wanted: Sequence[Trial], folds: int) -> Choose:
    """A search with a bar on a terminal, whose journal lies beside `out`."""

    def choose(rows: TrainingSet, config: TrainingConfig) -> SearchHistory:
        journal = journal_of(out)
        done = 0
        with tqdm(total=len(wanted), desc="trials", disable=None, leave=False) as bar:

            def progress(trials: int) -> None:
                nonlocal done
                done += trials
                bar.update(trials)

            try:
                return search(rows, config, wanted, journal, fold_count=folds, progress=progress)
            except KeyboardInterrupt:
                raise click.ClickException(
                    f"interrupted after {done} of {len(wanted)} trials; the same command goes on"
                    f" from {journal}"
                ) from None

    return choose


def _described(option: Option) -> str:
    values = f" ({', '.join(map(str, option.candidates))})" if option.default in ("kbest",) else ""
    return f"{option.summary}{values}; default {option.default}"


def _given(settings: Sequence[str], columns: dict[str, Any], searched: bool) -> dict[str, object]:
    """Options by name, as texts where they were given as NAME=VALUE."""
    options = {name: value for name, value in columns.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--option {setting}: write NAME=VALUE, such as alpha=0.1")
        options[name] = value
    if searched and options:
        raise click.UsageError(
            f"--search chooses {', '.join(options)} itself; leave them out, or leave out --search"
        )
    return options
