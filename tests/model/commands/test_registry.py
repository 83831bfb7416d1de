"""`python -m model registry`: what a person sees of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model.artifact import registry
from model.artifact.artifact import load, save
from model.commands.cli import cli
from tests.support import modelling


@pytest.fixture
def made(tmp_path: Path) -> Path:
    save(tmp_path / "made", modelling.model(), modelling.fields())
    return tmp_path / "made"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["registry", *map(str, arguments)])


def _said(*arguments: object) -> str:
    result = _run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_published_and_promoted_model_is_what_the_registry_loads(
    made: Path, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    version = load(made).manifest.model_version
    assert f"Published {version}" in _said("publish", root, made)
    assert "None is current: python -m model registry promote" in _said("versions", root)
    assert f"{version} is now the current" in _said("promote", root, version, "--why", "the first")
    assert load(root).manifest == load(made).manifest
    assert registry.history(root)[0].why == "the first"
    (line,) = [line for line in _said("versions", root).splitlines() if version in line]
    assert line.startswith(f"*   {version}  2023-01-01 to 2023-12-27  no")
    (one,) = json.loads(_said("versions", root, "--json"))
    assert one["current"]
    assert "is the current version of" in _said("promote", root, version)


def test_a_manifest_cannot_command_the_terminal_nor_add_a_line(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    version = load(made).manifest.model_version
    _said("publish", root, made)
    path = root / version / "manifest.json"
    for name in ("trained_from", "schema"):
        manifest = json.loads(path.read_text())
        manifest[name] = "\x1b[2J\x1b]0;owned\x07\nError: none\u202e"
        path.write_text(json.dumps(manifest))
        result = _run("versions", root)
        assert not {"\x1b", "\x07", "\u202e"} & set(result.output)
        assert not [one for one in result.output.splitlines() if one.startswith("Error: none")]


def test_a_model_that_cannot_be_loaded_is_neither_published_nor_promoted(
    made: Path, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    version = load(made).manifest.model_version
    _said("publish", root, made)
    for place in (made, root / version):
        with (place / "model.json").open("ab") as file:
            file.write(b"!")
    for command in (("publish", root, made), ("promote", root, version)):
        result = _run(*command)
        assert result.exit_code == 1
        assert "SHA-256 of model.json" in result.stderr
    assert registry.current(root) is None


def test_mistakes_end_in_one_line(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    _said("publish", root, made, "--promote")
    for command, message in (
        (("promote", root, "no-such"), "has no version no-such; there are:"),
        (("rollback", root), "history has no version before"),
        (("rollback", tmp_path / "nowhere"), "is not a directory"),
        (("publish", made, made), "is an artifact; name the directory of a registry"),
    ):
        result = _run(*command)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_only_what_a_trusted_key_signed_is_published(made: Path, tmp_path: Path) -> None:
    root, private, public = tmp_path / "models", tmp_path / "alice.pem", tmp_path / "trusted"
    public.write_text(_said("keygen", private, "--owner", "alice"))
    asked = ("publish", root, made, "--keys", public)
    result = _run(*asked)
    assert result.exit_code == 1
    assert "signature.json is not there" in result.stderr
    assert "with the key" in _said("sign", made, "--key", private)
    _said(*asked, "--require-signature", "--promote")
    assert "Z  20" in _said("versions", root)


def test_to_require_a_signature_without_keys_is_a_mistake(made: Path, tmp_path: Path) -> None:
    result = _run("publish", tmp_path / "models", made, "--require-signature")
    assert result.exit_code == 1
    assert "name a file of public keys" in result.stderr


@pytest.mark.parametrize("command", ["publish", "promote", "rollback", "versions"])
def test_help_has_an_example(command: str) -> None:
    assert f"python -m model registry {command} models" in _said(command, "--help")


def test_help_of_signing_has_examples() -> None:
    assert "python -m model registry keygen alice.pem --owner alice >> trusted.keys" in _said(
        "keygen", "--help"
    )
    assert "python -m model registry sign models/shop --key alice.pem" in _said("sign", "--help")
