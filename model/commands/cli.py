"""The commands of `python -m model`, gathered."""

from __future__ import annotations

import click

from model.commands.backtest import backtest_command
from model.commands.clean import clean_command
from model.commands.evaluate import evaluate_command
from model.commands.monitor import monitor_command
from model.commands.registry import registry_group
from model.commands.retrain import retrain_command
from model.commands.train import train_command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
def cli() -> None:
    """Train a CLV model on an order log, and see how good it is.

    ORDERS are files: CSV, JSON Lines or Parquet, the first two also as .gz, with
    order_id, user_id, ts, amount and, optionally, type and currency.
    """


for _command in (
    backtest_command,
    clean_command,
    evaluate_command,
    monitor_command,
    registry_group,
    retrain_command,
    train_command,
):
    cli.add_command(_command)
