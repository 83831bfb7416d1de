"""What the wheel has in it, and what is said about what is installed with it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from streamer.commands.cli import cli
from tests.support.project import audit, package

ROOT = package.ROOT


def test_every_file_of_the_packages_is_in_the_wheel(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *package.PACKAGES], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    if not tracked:
        pytest.skip("no checkout of Git's")
    there = {name for name in tracked if (ROOT / name).exists()}
    assert there - package.packed(package.build(tmp_path / "wheel")) == set()


def test_the_command_is_the_worker_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (script,) = project["scripts"].items()
    assert script[0] == project["name"]
    assert EntryPoint(script[0], script[1], "console_scripts").load() is cli


def _audited(*vulns: dict[str, object], **other: object) -> str:
    one = {"name": "numpy", "version": "1.0", "vulns": list(vulns)}
    return json.dumps({"dependencies": [one, *([other] if other else [])]})


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"dependencies": []}'])
def test_without_a_database_nothing_is_called_clean(text: str) -> None:
    code, told = audit.verdict(text)
    assert code == 0
    assert told.startswith("NOT AUDITED")
    skipped = json.dumps({"dependencies": [{"name": "numpy", "skip_reason": "not found"}]})
    assert audit.verdict(skipped)[1].startswith("NOT AUDITED")


def test_a_vulnerability_fails_the_build_and_what_was_skipped_is_named() -> None:
    code, told = audit.verdict(_audited(name="ours", skip_reason="not on PyPI"))
    assert (code, told) == (0, "1 packages audited, 0 vulnerabilities; not audited: ours")
    code, told = audit.verdict(_audited({"id": "PYSEC-1", "fix_versions": ["1.1"]}))
    assert code == 1
    assert "numpy 1.0: PYSEC-1, mended in ['1.1']" in told


def test_the_workflow_runs_what_ci_runs_on_every_python_we_support() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [c.rpartition(" ")[2] for c in project["classifiers"] if "Python :: 3." in c]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    wanted = re.findall(r"^make ([\w-]+)", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    told = set(re.findall(r"make ([\w -]+)", text))
    assert set(wanted) <= {word for words in told for word in words.split()}
    retried = re.search(r'PYTEST_ADDOPTS="([^"]+)"', (ROOT / ".ci/run").read_text())
    assert retried
    assert jobs["kafka"]["env"]["PYTEST_ADDOPTS"] == retried[1]
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action
