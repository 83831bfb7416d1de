"""The commands of `python -m model`, gathered: each is in the `_cli` module named for it."""

from __future__ import annotations

import click

from model import (
    backtest_cli,
    cleaning_cli,
    evaluation_cli,
    monitor_cli,
    registry_cli,
    training_cli,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
def cli() -> None:
    """Train a CLV model on an order log, and see how good it is.

    ORDERS are files: CSV, JSON Lines or Parquet, the first two also as .gz, with
    order_id, user_id, ts, amount and, optionally, type and currency.
    """


for _command in (
    *backtest_cli.COMMANDS,
    *training_cli.COMMANDS,
    *cleaning_cli.COMMANDS,
    *registry_cli.COMMANDS,
    *monitor_cli.COMMANDS,
    *evaluation_cli.COMMANDS,
):
    cli.add_command(_command)
