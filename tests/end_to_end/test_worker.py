"""How a worker ends: quickly when told to, and otherwise with one line that says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from streamer.errors import StreamerError
from streamer.kafka.topics import topics_to_make
from streamer.process.life import describe
from streamer.settings import Settings

_RUN = """
import os
from streamer.settings import Settings
from streamer.worker.run import run_worker
run_worker(Settings.load(os.environ))
"""
ROOT = Path(__file__).resolve().parents[2]


def spawn(**environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RUN],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CLV_WEB_PORT": "0", **environ},
        stderr=subprocess.PIPE,
        text=True,
    )


def line_with(process: subprocess.Popen[str], event: str) -> str:
    """The first log line of the event; whatever else came until then if it never did."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if event in line:
            return line
    return "".join(seen)


def test_a_worker_that_waits_for_its_servers_ends_at_once_when_told_to() -> None:
    with spawn(
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", REDIS_URL="redis://127.0.0.1:1", CLV_MODEL="none"
    ) as process:
        assert "127.0.0.1:1" in line_with(process, "start.waiting")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 3.0


def test_a_worker_without_a_model_ends_with_the_reason_and_no_traceback(tmp_path: Path) -> None:
    with (
        EmbeddedKafka() as kafka,
        EmbeddedRedis() as redis,
        spawn(
            KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
            REDIS_URL=redis.url,
            CLV_MODEL=str(tmp_path / "nothing"),
            CLV_SESSION_TIMEOUT="2s",
        ) as process,
    ):
        said = line_with(process, "worker.stopped")
        assert process.wait(20) == 70
    assert "reason=" in said
    assert "nothing" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StreamerError("the store\nlost writes"), "the store lost writes"),
        (
            RuntimeError("x"),
            "RuntimeError; this is a fault of ours: report it with the log (CLV_LOG_LEVEL=DEBUG has"
            " the message, which may name customers)",
        ),
    ],
)
def test_an_end_is_described_in_one_line(error: Exception, line: str) -> None:
    assert describe(error) == line


def test_the_topics_to_make_bear_the_configured_names() -> None:
    settings = Settings(orders_topic="o", warnings_topic="w", partitions=12)
    assert [(topic.name, topic.partitions, topic.exact) for topic in topics_to_make(settings)] == [
        ("o", 12, False),
        ("w", 12, False),
        ("clv-scores", 12, False),
        ("orders-dead-letter", 1, False),
        ("clv-erasures", 1, False),
    ]
