"""`python -m model clean`: what is wrong or odd with an order log, and the log without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec

from features.events.orders import Order
from model.commands.shared import (
    CURRENCY,
    JSON,
    ORDERS,
    Reading,
    one_line_errors,
    read_clean_log,
    reading_options,
    tell,
)
from model.files.order_log import REJECTED_FILE
from model.report.escape import is_formula
from model.words import counted


@click.command("clean")
@ORDERS
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A directory.")
@CURRENCY
@click.option("--drop-outliers", is_flag=True, help="Leave outlying days of customers out.")
@JSON
@reading_options
def clean_command(
    orders: tuple[Path, ...],
    out: Path,
    currency: str | None,
    drop_outliers: bool,
    as_json: bool,
    reading: Reading,
) -> None:
    """Report on an order log, and rewrite it without what is wrong with it.

    Into --out go orders.csv (cleaned), rejected.csv (rows set aside: file, line,
    reason, detail), outliers.csv and cleaning.json (the counts).

    \b
    Example:
      python -m model clean orders.csv.gz --out cleaned
    """
    from model.data.cleaning import ORDERS_FILE, write_orders

    with one_line_errors():
        if (out / ORDERS_FILE).resolve() in [path.resolve() for path in orders]:
            raise click.UsageError(f"--out {out} would overwrite {out / ORDERS_FILE}; name another")
        reading, currency = reading.settled(orders, currency)
        found = read_clean_log(orders, reading, currency, out, drop_outliers=drop_outliers)
        formulas = Counter[bool]()
        write_orders(out / ORDERS_FILE, _counted(found.orders, formulas), currency)
    if as_json:
        tell(msgspec.json.encode(found.report))
        return
    tell(found.report.text(currency))
    if formulas[True]:
        tell(
            f"\n{counted(formulas[True], 'row has', 'rows have')} an id that a spreadsheet runs as"
            " a formula (=, +, -, @); ids are written as they are: import the file as text, or open"
            " it in none"
        )
    tell(
        f"\n{counted(len(found.orders), 'row')} written to {out / ORDERS_FILE};"
        f" rows set aside to {out / REJECTED_FILE}"
    )


def _counted(orders: Iterable[Order], formulas: Counter[bool]) -> Iterator[Order]:
    for order in orders:
        formulas[is_formula(order.order_id) or is_formula(order.user_id)] += 1
        yield order
