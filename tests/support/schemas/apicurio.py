"""Apicurio Registry on loopback, a real schema registry; Maven brings it once.

3.0.9 is the newest that Java 17 runs, which is what the Kafka of these tests needs.
"""

from __future__ import annotations

import tarfile
import tempfile
import urllib.request
from functools import cache
from pathlib import Path
from typing import Final

from streamer.demo.embedded import EmbeddedServer, EmbeddedUnavailable, free_port
from tests.support.servers.jars import ROOT, JarsNotFetched, java, maven

VERSION: Final = "3.0.9"
CACHE: Final = ROOT / ".cache" / "apicurio"
START_S: Final = 120.0


@cache
def distribution() -> Path:
    """The directory of the registry, fetched where it is not there yet (150 MB). Raises
    ApacheKafkaMissing without Maven, and JarsNotFetched."""
    directory = CACHE / VERSION
    if directory.is_dir():
        return directory
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
        maven(
            ["dependency:copy", f"-DoutputDirectory={temporary}", f"-Dartifact={artifact}"],
            temporary,
        )
        packed = next(Path(temporary).glob("*.tar.gz"), None)
        if packed is None:
            raise JarsNotFetched("mvn brought no registry")
        whole = Path(temporary) / "whole"
        with tarfile.open(packed) as archive:
            archive.extractall(whole, filter="data")
        if not directory.exists():
            whole.rename(directory)
    return directory


class Apicurio(EmbeddedServer):
    """A registry that keeps everything in memory; `url` is that of Confluent's API in it."""

    what = "Apicurio Registry"
    setting = "CLV_SCHEMA_REGISTRY_URL"

    def __init__(self) -> None:
        super().__init__()
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def _start(self) -> None:
        (jar,) = distribution().glob("apicurio-registry-app-*-runner.jar")
        command = [java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += [f"-Dquarkus.http.port={self._port}", "-Dquarkus.http.host=127.0.0.1"]
        if not self._launch([*command, "-jar", str(jar)], self._answers, START_S):
            raise EmbeddedUnavailable(f"Apicurio Registry ended at once{self._log()}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
