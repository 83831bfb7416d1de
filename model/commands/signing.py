"""The commands `keygen` and `sign`, and the options by which other commands ask for a signature."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from model.artifact import signature
from model.artifact import trial as isolation
from model.artifact.registry import resolve
from model.artifact.signature import Trust
from model.commands.shared import one_line_errors

_F = TypeVar("_F", bound=Callable[..., Any])


def trust_options(command: _F) -> _F:
    """The command with --keys and --require-signature, given to it as `trust`."""

    @click.option(
        "--keys",
        type=click.Path(path_type=Path),
        envvar="CLV_MODEL_KEYS",
        metavar="FILE",
        help="Public keys: only a model that one of them signed. Default: $CLV_MODEL_KEYS.",
    )
    @click.option(
        "--require-signature/--no-require-signature",
        default=None,
        envvar="CLV_REQUIRE_SIGNATURE",
        help="Whether a model must be signed. Default: with --keys.",
    )
    @functools.wraps(command)
    def with_trust(
        *arguments: Any, keys: Path | None, require_signature: bool | None, **more: Any
    ) -> Any:
        with one_line_errors():
            trust = Trust.of(keys, require_signature)
        return command(*arguments, trust=trust, **more)

    return with_trust  # type: ignore[return-value]  # click reads its options from it


@click.command("keygen")
@click.argument("private", type=click.Path(path_type=Path), metavar="PRIVATE")
@click.option("--owner", default="", metavar="NAME", help="Stands beside the public key.")
def keygen_command(private: Path, owner: str) -> None:
    """Make a pair of keys: the private one in the file PRIVATE, the public one on stdout.

    Keep PRIVATE where models are made, and nowhere else. The line on stdout belongs into the file
    that CLV_MODEL_KEYS names.

    \b
    Example:
      python -m model keygen alice.pem --owner alice >> trusted.keys
    """
    with one_line_errors():
        click.echo(signature.generate(private, owner))


@click.command("sign")
@click.argument("artifact", type=click.Path(path_type=Path), metavar="MODEL")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PRIVATE",
    help="As keygen has made it.",
)
def sign_command(artifact: Path, key: Path) -> None:
    """Sign a model, so that others can tell who made it.

    MODEL may be a registry: its current version is signed. Every check of loading is made first,
    but whether a model is any good is yours to know.

    \b
    Example:
      python -m model sign models/shop --key alice.pem
    """
    with one_line_errors():
        directory = resolve(artifact)
        isolation.load(directory)
        public = signature.sign(directory, key)
    click.echo(f"Signed {directory} with the key {public}")


COMMANDS = (keygen_command, sign_command)
