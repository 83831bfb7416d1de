"""The options that say how files become orders which are not orders as they stand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from features.mapping.presets import PRESETS

_F = TypeVar("_F", bound=Callable[..., Any] | click.Command)


def mapping_options(command: _F) -> _F:
    """The command with --preset and --mapping, of which it is given one at most."""

    @click.option(
        "--preset",
        type=click.Choice([*PRESETS]),
        metavar="NAME",
        help=f"Whose export it is: {', '.join(PRESETS)}.",
    )
    @click.option(
        "--mapping",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A mapping of your own (TOML).",
    )
    @functools.wraps(command)
    def with_mapping(*arguments: Any, preset: str | None, mapping: Path | None, **more: Any) -> Any:
        if preset is not None and mapping is not None:
            raise click.UsageError("--preset and --mapping: give one of them")
        return command(*arguments, preset=preset, mapping=mapping, **more)

    return with_mapping  # type: ignore[return-value]  # click reads its options from it
