"""`python -m model`: see `model.commands.cli`."""

from __future__ import annotations

from model.commands.cli import cli

if __name__ == "__main__":
    cli(prog_name="python -m model")
