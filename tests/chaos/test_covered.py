"""Runs the tests of other files that hold a scenario or part of it, and writes the result down."""

from __future__ import annotations

import asyncio
import os
import sys
import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest

from tests.support.chaos.covered import COVERED, Covered
from tests.support.chaos.deployment import FULL
from tests.support.chaos.results import ROOT, Book, Entry


@pytest.mark.parametrize("covered", COVERED, ids=lambda one: f"{one.id}-{one.what[:30]}")
async def test_what_other_tests_hold(book: Book, tmp_path: Path, covered: Covered) -> None:
    if covered.kafka and not FULL:
        pytest.skip("in the full run, and in `make test-kafka`")
    with book.entry(covered.id, covered.what, "Apache Kafka" if covered.kafka else "none") as entry:
        report = tmp_path / "report.xml"
        marks = "kafka" if covered.kafka else "not kafka and not chaos and not slow"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pytest", "-q", "-m", marks, f"--junitxml={report}", "-p", "no:cacheprovider"),
            *covered.tests,
            cwd=ROOT,
            env={**os.environ, "CI": "true"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        entry.tests = [one.partition("::")[2] or one for one in covered.tests]
        _fill(entry, report)
        assert process.returncode == 0, said.decode().splitlines()[-1:]
        entry.verified = True


def _fill(entry: Entry, report: Path) -> None:
    for case in Xml.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            entry.faults.append(f"{case.get('name')} fails")
        elif case.find("skipped") is None:
            entry.times += 1
