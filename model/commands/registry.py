"""`python -m model registry`: versions of a model, which of them is current, and who made them."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from tabulate import tabulate

from model.artifact import artifact as artifacts
from model.artifact import registry, signature
from model.artifact.registry import Change, Version
from model.artifact.signature import Trust
from model.commands.shared import one_line_errors, tell, trust_options
from model.report.escape import line

_ROOT = click.argument("root", type=click.Path(path_type=Path), metavar="ROOT")
_WHY = click.option("--why", default="", metavar="TEXT", help="Goes into the history.")


@click.group("registry")
def registry_group() -> None:
    """Keep versions of a model, choose the current one, and sign them."""


@registry_group.command("publish")
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
      python -m model registry publish models models/shop --promote
    """
    with one_line_errors():
        artifacts.load(artifact, trust)
        version = registry.publish(root, artifact, replace=replace)
        tell(f"Published {version} in {root}")
        if and_promote:
            tell(_told(root, version, registry.promote(root, version, why=why)))


@registry_group.command("promote")
@_ROOT
@click.argument("version", metavar="VERSION")
@_WHY
@trust_options
def promote_command(root: Path, version: str, why: str, trust: Trust) -> None:
    """Make VERSION the current one of the registry ROOT, once it was seen to load here.

    Workers whose CLV_MODEL is ROOT take it up between two batches.

    \b
    Example:
      python -m model registry promote models 3f9a1c2b7d4e --why "newer Christmas"
    """
    with one_line_errors():
        registry.check_there(root, version)
        artifacts.load(root / version, trust)
        tell(_told(root, version, registry.promote(root, version, why=why)))


@registry_group.command("rollback")
@_ROOT
@_WHY
def rollback_command(root: Path, why: str) -> None:
    """Make the version current that was so before; again, and it goes one further back.

    \b
    Example:
      python -m model registry rollback models --why "too many warnings"
    """
    with one_line_errors():
        change = registry.rollback(root, why=why)
        tell(_told(root, change.version, change))


@registry_group.command("versions")
@_ROOT
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def versions_command(root: Path, as_json: bool) -> None:
    """Show what the registry ROOT holds, the newest last, and which is current.

    \b
    Example:
      python -m model registry versions models
    """
    with one_line_errors():
        found = registry.versions(root)
    tell(msgspec.json.encode(found) if as_json else _table(root, found))


@registry_group.command("keygen")
@click.argument("private", type=click.Path(path_type=Path), metavar="PRIVATE")
@click.option("--owner", default="", metavar="NAME", help="Stands beside the public key.")
def keygen_command(private: Path, owner: str) -> None:
    """Make a pair of keys: the private one in the file PRIVATE, the public one on stdout.

    Keep PRIVATE where models are made, and nowhere else. The line on stdout belongs into the file
    that CLV_MODEL_KEYS names.

    \b
    Example:
      python -m model registry keygen alice.pem --owner alice >> trusted.keys
    """
    with one_line_errors():
        tell(signature.generate(private, owner))


@registry_group.command("sign")
@click.argument("artifact", type=click.Path(path_type=Path), metavar="MODEL")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PRIVATE",
    help="As keygen has made it.",
)
@trust_options
def sign_command(artifact: Path, key: Path, trust: Trust) -> None:
    """Sign a model, so that others can tell who made it, when, and for which registry.

    MODEL may be a registry: its current version is signed. Every check of loading is made first,
    but whether a model is any good is yours to know. With --registry, it is signed for that one.

    \b
    Example:
      python -m model registry sign models/shop --key alice.pem
    """
    with one_line_errors():
        # What is signed has no signature yet, or one that is replaced.
        found = artifacts.checked(artifact, Trust(pickles=trust.pickles))
        public = signature.sign(found.directory, key, found.manifest, trust.registry)
    tell(f"Signed {found.directory} with the key {public}")


@registry_group.command("convert")
@click.argument("artifact", type=click.Path(path_type=Path), metavar="MODEL")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@trust_options
def convert_command(artifact: Path, out: Path, trust: Trust) -> None:
    """Write a model of an earlier version to OUT, as parameters instead of a pickle.

    It scores as before, to the bit, under the same version; a signature has to be made anew.

    \b
    Example:
      python -m model registry convert models/shop models/shop-2 --trust-pickle
    """
    with one_line_errors():
        manifest = artifacts.convert(artifact, out, trust)
    tell(f"Written {manifest.model_version} to {out}")


def _told(root: Path, version: str, change: Change | None) -> str:
    if change is None:
        return f"{version} is the current version of {root} already"
    before = f", in place of {change.before}" if change.before else ""
    return f"{version} is now the current version of {root}{before}"


def _table(root: Path, found: list[Version]) -> str:
    if not found:
        return f"{root} has no versions; python -m model registry publish {root} MODEL"
    rows = [
        (
            "*" if one.current else "",
            line(one.version),
            line(f"{one.trained_from} to {one.cutoff}"),
            line(one.signed_at or ("unreadable" if one.signed else "no")),
            line(one.since or "-"),
        )
        for one in found
    ]
    heads = ("", "version", "trained on", "signed", "last made current")
    lines = [tabulate(rows, heads, tablefmt="plain", disable_numparse=True)]
    if not any(one.current for one in found):
        lines += ["", f"None is current: python -m model registry promote {root} VERSION"]
    return "\n".join(lines)
