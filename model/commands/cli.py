"""The commands of `python -m model`, gathered: each is in the `_cli` module named for it."""

from __future__ import annotations

import click

from model.commands import (
    backtest as backtest_cli,
)
from model.commands import (
    clean as cleaning_cli,
)
from model.commands import (
    evaluate as evaluation_cli,
)
from model.commands import (
    monitor as monitor_cli,
)
from model.commands import (
    registry as registry_cli,
)
from model.commands import (
    train as training_cli,
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
