"""The demo from one end to the other, on a small log instead of CDNOW; and `up` on such a log."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from model.data.synthetic import Shop, generate, write_csv
from streamer.demo import demo
from streamer.demo.sample import SampleLog

SMALL = Shop(customers=150, days=420, arrival_days=60, seed=3)


@pytest.mark.usefixtures("embedded_kafka", "embedded_redis")  # skipped where there are none
def test_the_demo_trains_streams_and_looks_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    log = tmp_path / "orders.csv"
    orders = generate(SMALL).orders
    write_csv(orders, log)
    sample = SampleLog(log, "a small shop", is_real=False, why="")
    monkeypatch.setattr(demo, "sample_orders", lambda directory: sample)
    demo.run_demo(tmp_path / "demo", keep=False)
    said = capsys.readouterr().out
    assert said.startswith("Orders: a small shop\n")
    # In this order: what is run, what came of it, what history says, where to go.
    places = [
        said.index(part)
        for part in (
            "-m model train",
            "Embedded Kafka at 127.0.0.1:",
            f"{len(orders):,} orders of {SMALL.customers} customers",
            "Whom to call on",
            "It is history, so we know",
            "by the best simple sort",
            "Slipping away now",
            "Where to go from here",
            str(tmp_path / "demo" / "slipping.html"),
        )
    ]
    assert places == sorted(places)
    assert said.endswith("slipping.html\n")
    page = (tmp_path / "demo" / "slipping.html").read_text()
    assert "Who is slipping away" in page
    rows = (tmp_path / "demo" / "slipping.csv").read_text().splitlines()
    named = said[said.index("Slipping away now") :].splitlines()[0]
    assert f": {len(rows) - 1:,} customers" in named
    log_lines = (tmp_path / "demo" / "worker.log").read_text().splitlines()
    assert log_lines[-1].endswith("worker.ended")
    assert not [line for line in log_lines if " ERROR " in line]


def line_of(process: subprocess.Popen[str], pattern: str) -> str:
    """What the pattern's group is in the first line that has it."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if found := re.search(pattern, line):
            return found[1]
    pytest.fail(f"no {pattern} in:\n{''.join(seen)}")


def answer(url: str, within_s: float) -> bytes:
    """What comes from there, once something does."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bytes(response.read())
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def up_process(orders: Path, directory: Path, *more: str) -> subprocess.Popen[str]:
    ours = re.compile("CLV_.*|KAFKA_BOOTSTRAP_SERVERS|REDIS_URL")
    command = ["-m", "streamer", "up", "--orders", str(orders), "--dir", str(directory)]
    return subprocess.Popen(
        [sys.executable, *command, "--currency", "EUR", *more],
        env={name: value for name, value in os.environ.items() if not ours.fullmatch(name)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.usefixtures("embedded_kafka", "embedded_redis")  # skipped where there are none
def test_up_brings_a_killed_worker_back_and_leaves_nothing_when_it_ends(tmp_path: Path) -> None:
    log = tmp_path / "orders.csv"
    orders = generate(SMALL).orders
    write_csv(orders, log)
    with up_process(log, tmp_path / "up") as up:
        try:
            first = int(line_of(up, r"The worker is process (\d+)"))
            kafka = int(line_of(up, r"Kafka +127\.0\.0\.1:(\d+)"))
            redis = line_of(up, r"Redis +unix://(\S+),")
            page = line_of(up, r"the page +(\S+)/")
            os.kill(first, signal.SIGKILL)
            assert line_of(up, rf"process {first}, (ended); it is started again in")
            second = int(line_of(up, r"The worker is process (\d+)"))
            known = f"{page}/customers/{orders[0].user_id}/history"
            assert orders[0].user_id.encode() in answer(known, 60)
            up.send_signal(signal.SIGTERM)
            assert up.stdout is not None
            assert up.stdout.read().splitlines()[-2:] == [
                "Ending; what Kafka and Redis held is gone with them.",
                f"Ended. The model is in {tmp_path / 'up/model'}, the worker's log in"
                f" {tmp_path / 'up/worker.log'}.",
            ]
            assert up.wait(30) == 0
        finally:
            up.kill()
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", kafka), timeout=1).close()
    assert not Path(redis).parent.exists()
    # And again, with the model that there is now: what an embedded server held cannot come back.
    with up_process(log, tmp_path / "up", "--model", str(tmp_path / "up/model")) as up:
        try:
            worker = int(line_of(up, r"The worker is process (\d+)"))
            broker = int(line_of(up, r"Kafka +127\.0\.0\.1:\d+, process (\d+)"))
            socket_path = line_of(up, r"Redis +unix://(\S+),")
            os.kill(broker, signal.SIGKILL)
            assert up.stdout is not None
            assert f"the embedded Kafka, process {broker}, ended" in up.stdout.read()
            assert up.wait(60) == 1
        finally:
            up.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert not Path(socket_path).parent.exists()
