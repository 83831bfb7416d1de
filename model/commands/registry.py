"""The commands of `python -m model` for models that exist: publish, promote, rollback, versions,
and those of `model.commands.signing` and `model.commands.retrain`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from model.artifact import registry
from model.artifact import trial as isolation
from model.artifact.registry import Change, Version
from model.artifact.signature import Trust
from model.commands import retrain as retrain_cli
from model.commands import signing as signing_cli
from model.commands.shared import one_line_errors
from model.commands.signing import trust_options

_ROOT = click.argument("root", type=click.Path(path_type=Path), metavar="ROOT")
_WHY = click.option("--why", default="", metavar="TEXT", help="Goes into the history.")


@click.command("publish")
@_ROOT
@click.argument("artifact", type=click.Path(path_type=Path), metavar="MODEL")
@click.option("--replace", is_flag=True, help="Also over a version with other bytes.")
@click.option("--promote", "and_promote", is_flag=True, help="Make it the current one as well.")
@_WHY
@trust_options
def publish_command(
    root: Path, artifact: Path, replace: bool, and_promote: bool, why: str, trust: Trust
) -> None:
    """Copy a model into the registry ROOT, under its version.

    ROOT is made if it is not there. What is there already is not copied again.

    \b
    Example:
      python -m model publish models models/shop --promote
    """
    with one_line_errors():
        isolation.load(artifact, trust)
        version = registry.publish(root, artifact, replace=replace)
        click.echo(f"Published {version} in {root}")
        if and_promote:
            click.echo(_told(root, version, registry.promote(root, version, why=why)))


@click.command("promote")
@_ROOT
@click.argument("version", metavar="VERSION")
@_WHY
@trust_options
def promote_command(root: Path, version: str, why: str, trust: Trust) -> None:
    """Make VERSION the current one of the registry ROOT, once it was seen to load here.

    Workers whose CLV_MODEL is ROOT take it up between two batches.

    \b
    Example:
      python -m model promote models 3f9a1c2b7d4e --why "newer Christmas"
    """
    with one_line_errors():
        registry.check_there(root, version)
        isolation.load(root / version, trust)
        click.echo(_told(root, version, registry.promote(root, version, why=why)))


@click.command("rollback")
@_ROOT
@_WHY
def rollback_command(root: Path, why: str) -> None:
    """Make the version current that was so before; again, and it goes one further back.

    \b
    Example:
      python -m model rollback models --why "too many warnings"
    """
    with one_line_errors():
        change = registry.rollback(root, why=why)
        click.echo(_told(root, change.version, change))


@click.command("versions")
@_ROOT
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def versions_command(root: Path, as_json: bool) -> None:
    """Show what the registry ROOT holds, the newest last, and which is current.

    \b
    Example:
      python -m model versions models
    """
    with one_line_errors():
        found = registry.versions(root)
    click.echo(msgspec.json.encode(found) if as_json else _table(root, found))


COMMANDS = (
    publish_command,
    promote_command,
    rollback_command,
    versions_command,
    *signing_cli.COMMANDS,
    *retrain_cli.COMMANDS,
)


def _told(root: Path, version: str, change: Change | None) -> str:
    if change is None:
        return f"{version} is the current version of {root} already"
    before = f", in place of {change.before}" if change.before else ""
    return f"{version} is now the current version of {root}{before}"


def _table(root: Path, found: list[Version]) -> str:
    if not found:
        return f"{root} has no versions; python -m model publish {root} MODEL"
    lines = [f"  {'version':<14}{'trained on':<26}{'signed':<8}last made current"]
    lines += [
        f"{'*' if one.current else ' '} {one.version:<14}"
        f"{one.trained_from + ' to ' + one.cutoff:<26}"
        f"{'yes' if one.signed else 'no':<8}{one.since or '-'}"
        for one in found
    ]
    if not any(one.current for one in found):
        lines += ["", f"None is current: python -m model promote {root} VERSION"]
    return "\n".join(lines)
