"""What the commands of `python -m model` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def one_line_errors(*told: type[Exception]) -> Iterator[None]:
    """What a person can mend ends as one line and exit code 1, never as a traceback."""
    try:
        yield
    except told as error:
        raise click.ClickException(str(error)) from None
