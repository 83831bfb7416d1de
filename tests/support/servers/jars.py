"""A Java that can run an Apache Kafka broker, and the jars to run; Maven brings them once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from streamer.demo.embedded import EmbeddedUnavailable

ROOT: Final = Path(__file__).resolve().parents[3]
POM: Final = Path(__file__).with_name("pom.xml")
CACHE: Final = ROOT / ".cache" / "kafka"
JAVA_AT_LEAST: Final = 17
MAVEN_WITHIN_S: Final = 900.0


class ApacheKafkaMissing(EmbeddedUnavailable):
    """Install what is named: `make test-kafka` needs Java 17 or newer, and Maven for the jars."""


class JarsNotFetched(Exception):
    """Look at what Maven said: it could not bring the jars of tests/support/servers/pom.xml."""


@cache
def java() -> str:
    """A Java runtime: JAVA_HOME's, else the one on PATH. Raises ApacheKafkaMissing."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if found is None:
        where = f"in JAVA_HOME={home}" if home else "on PATH"
        raise ApacheKafkaMissing(_needs(f"there is no java {where}"))
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < JAVA_AT_LEAST:
        first = told.partition("\n")[0] or "nothing"
        raise ApacheKafkaMissing(_needs(f"{found} -version says {first}"))
    return found


@cache
def jars() -> Path:
    """The directory of the broker's jars, fetched where this pom.xml's are not there yet.

    Raises ApacheKafkaMissing without Maven, and JarsNotFetched.
    """
    directory = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    if directory.is_dir():
        return directory
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        # Under its own name only once it is complete; whoever else does the same brings the same.
        fetched = Path(temporary) / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        maven([f"--file={POM}", *goal, f"-DoutputDirectory={fetched}"], temporary)
        if not list(fetched.glob("kafka_*.jar")):
            raise JarsNotFetched("mvn brought no broker")
        if not directory.exists():
            fetched.rename(directory)
    return directory


def maven(arguments: Sequence[str], cwd: str) -> None:
    """Runs Maven in a directory. Raises ApacheKafkaMissing where there is none, and JarsNotFetched
    with what it said."""
    command = shutil.which("mvn")
    if command is None:
        raise ApacheKafkaMissing(_needs("there is no mvn on PATH"))
    try:
        run = subprocess.run(
            [command, "--quiet", "--batch-mode", "--no-transfer-progress", *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAVEN_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        raise JarsNotFetched(f"mvn was not done within {MAVEN_WITHIN_S:g} s") from None
    if run.returncode:
        errors = [line for line in run.stdout.splitlines() if line.startswith("[ERROR]")]
        said = errors[0].removeprefix("[ERROR] ") if errors else run.stderr.strip()
        raise JarsNotFetched(f"mvn ended with code {run.returncode}: {said}")


def _needs(why: str) -> str:
    return f"needs Java {JAVA_AT_LEAST} or newer and Maven, and {why}"
