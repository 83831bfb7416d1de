"""The commands of `python -m streamer`, each imported when it is asked for.

So a replay needs no Kafka client, and no command waits for what another one stands on.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

_MODULES: Final = {
    "at-risk": "at_risk",
    "demo": "run",
    "forget": "admin",
    "ingest": "ingest",
    "mapping": "files",
    "outcomes": "outcomes",
    "produce": "topics",
    "rebuild": "admin",
    "redrive": "admin",
    "reference": "reference",
    "repartition": "admin",
    "replay": "replay",
    "retrain": "topics",
    "show": "topics",
    "try": "files",
    "up": "up",
    "worker": "run",
}
"""Where each command is: `NAME_command` of a module of `streamer.commands`."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"streamer.commands.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
def cli() -> None:
    """Orders in, churn warnings out.

    Settings come from the environment; `reference settings` lists them.
    """
