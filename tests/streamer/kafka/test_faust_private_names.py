"""What `kafka/faust_consumer.py` relies on beyond the published interfaces of Faust and aiokafka.

A test that fails here after an upgrade says that the lane has to be looked at, before a worker
says so in production.
"""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetResetStrategy
from faust.tables.manager import TableManager
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.consumer import Fetcher as FaustFetcher
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

from streamer.demo.embedded import EmbeddedKafka
from streamer.kafka.faust_consumer import LaneConsumer, LaneThread
from streamer.kafka.topics import Topic, ensure_topics
from tests.support.servers.lane_kit import (
    Member,
    Recorder,
    SharedLog,
    join,
    numbered,
    publishing,
    until,
)

TOPIC = "orders"


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with EmbeddedKafka() as kafka:
        asyncio.run(ensure_topics(kafka.bootstrap, [Topic(TOPIC, 2)]))
        yield kafka.bootstrap


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def thread_of(member: Member) -> LaneThread:
    port: Any = member.lane._port
    thread = port._thread
    assert isinstance(thread, LaneThread)
    return thread


def test_the_overridden_methods_exist_with_the_same_parameters() -> None:
    assert parameters(Consumer._drain_messages) == ["self", "fetcher"]
    assert parameters(Consumer.perform_seek) == ["self"]
    assert parameters(Consumer.on_partitions_revoked) == ["self", "revoked"]
    assert parameters(Consumer.on_partitions_assigned) == ["self", "assigned", "generation_id"]
    assert parameters(Consumer.commit) == ["self", "topics", "start_new_transaction"]
    assert parameters(Consumer.force_commit) == ["self", "topics", "start_new_transaction"]
    assert parameters(Consumer.verify_event_path) == ["self", "now", "tp"]
    assert parameters(Consumer._new_consumer_thread) == ["self"]
    assert parameters(AIOKafkaConsumerThread._create_worker_consumer) == ["self", "transport"]
    assert parameters(AIOKafkaConsumerThread._ensure_consumer) == ["self"]
    assert parameters(AIOKafkaConsumerThread.__post_init__) == ["self"]
    assert parameters(TableManager.on_start) == ["self"]
    assert parameters(TableManager._update_channels) == ["self"]


def test_faust_fetches_through_the_overridden_method_and_commits_through_two_others() -> None:
    assert "consumer._drain_messages(self)" in inspect.getsource(FaustFetcher)
    # Its timer and its waits for streams commit through `commit`; `force_commit` is behind it.
    assert inspect.getsource(FaustConsumer).count("self._commit_tps(") == 1
    assert "self._commit_tps(" in inspect.getsource(FaustConsumer.force_commit)
    assert Transport.Consumer is Consumer


def test_the_second_that_the_lane_saves_at_the_start_is_still_there_to_be_saved() -> None:
    source = inspect.getsource(TableManager.on_start)
    assert "self.sleep(1.0)" in source
    assert "self._update_channels()" in source
    assert "self.recovery.start()" in source


def test_the_first_start_is_there_for_directories_alone() -> None:
    """What `faust_app` leaves out of it."""
    source = inspect.getsource(faust.App.on_first_start)
    assert source.strip().splitlines()[2:] == ["        self._create_directories()"]


async def test_a_member_of_the_group_leaves_nothing_in_files(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with await join(bootstrap, TOPIC, Recorder("one", SharedLog())) as one:
        await until(lambda: one.lane.ready)
        assert list(tmp_path.iterdir()) == []


def test_aiokafka_reads_the_patched_settings_when_it_starts() -> None:
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source
    assert "auto_offset_reset=self._auto_offset_reset" in source
    assert "isolation_level=self._isolation_level" in source
    assert "value_deserializer=self._value_deserializer" in source


def test_fetching_checks_the_coordinator_and_hands_over_the_limit() -> None:
    source = inspect.getsource(AIOKafkaConsumer.getmany)
    assert "self._coordinator.check_errors()" in source
    assert "fetch_context()" in source
    assert parameters(AIOKafkaConsumer.getmany)[1:] == ["partitions", "timeout_ms", "max_records"]


def test_records_are_taken_from_the_fetcher_without_a_wait_in_between() -> None:
    """A fetch that is cancelled in its own thread must not have taken anything."""
    source = inspect.getsource(Fetcher.fetched_records)
    taking = source.index("getall(")
    returning = source.index("return drained", taking)
    assert "await" not in source[taking:returning]


def test_a_seek_drops_what_was_fetched_before_it() -> None:
    assert "del self._records[tp]" in inspect.getsource(Fetcher.seek_to)


def test_the_coordinator_can_be_woken() -> None:
    source = inspect.getsource(GroupCoordinator.check_errors)
    assert "self._error_consumed_fut.set_result(None)" in source
    # A failed heartbeat, and what begins it anew: see LaneThread.heal_here.
    assert "self._heartbeat_task = None" in inspect.getsource(GroupCoordinator.__init__)
    assert parameters(GroupCoordinator.request_rejoin) == ["self"]
    rejoining = inspect.getsource(GroupCoordinator.ensure_active_group)
    assert "await self._stop_heartbeat_task()" in rejoining
    assert "self._start_heartbeat_task()" in rejoining


def test_a_partitions_state_has_what_lag_is_made_of() -> None:
    async def state() -> Any:
        tp = TopicPartition("t", 0)
        return Assignment([tp]).state_value(tp)

    found = asyncio.run(state())
    for name in ("position", "has_valid_position", "highwater", "lso", "timestamp"):
        assert hasattr(type(found), name) or hasattr(found, name), name


def test_a_fetch_request_is_made_of_the_same_parts() -> None:
    assert parameters(FetchRequest.__init__)[1:6] == [
        "max_wait_time",
        "min_bytes",
        "max_bytes",
        "isolation_level",
        "topics",
    ]


async def test_every_assignment_seeks_before_it_resumes(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    seek, resume = LaneConsumer.perform_seek, Consumer.resume_flow

    async def noting_seek(self: LaneConsumer) -> None:
        await seek(self)
        steps.append("seek")

    def noting_resume(self: Consumer) -> None:
        steps.append("resume")
        resume(self)

    monkeypatch.setattr(LaneConsumer, "perform_seek", noting_seek)
    monkeypatch.setattr(Consumer, "resume_flow", noting_resume)
    shared = SharedLog()
    async with await join(bootstrap, TOPIC, Recorder("one", shared)) as one:
        await until(lambda: steps == ["seek", "resume"])
        thread = thread_of(one)
        thread.thread_loop.call_soon_threadsafe(
            thread._ensure_consumer()._coordinator.request_rejoin
        )
        await until(lambda: len(steps) >= 4)
    assert steps == ["seek", "resume", "seek", "resume"]


async def test_the_patched_settings_are_in_force(bootstrap: str) -> None:
    async with await join(bootstrap, TOPIC, Recorder("one", SharedLog())) as one:
        fetcher = thread_of(one)._ensure_consumer()._fetcher
        assert fetcher._fetch_max_wait_ms == 50
        assert fetcher._isolation_level == READ_COMMITTED
        assert fetcher._default_reset_strategy == OffsetResetStrategy.NONE


async def test_faust_commits_nothing(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[object] = []

    async def commit(self: AIOKafkaConsumer, offsets: object = None) -> None:
        commits.append(offsets)

    monkeypatch.setattr(AIOKafkaConsumer, "commit", commit)
    shared = SharedLog()
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(TOPIC, 500))
    async with await join(bootstrap, TOPIC, Recorder("one", shared)) as one:
        await until(lambda: shared.count == 500)
        consumer = one.app.consumer
        assert isinstance(consumer, LaneConsumer)
        # What Faust's timer, its revocation and its end would do.
        assert await consumer.commit() is False
        await consumer.wait_empty()
        await consumer.commit_and_end_transactions()
    assert commits == []


async def test_a_parked_coordinator_is_healed_by_asking(bootstrap: str) -> None:
    """One error that aiokafka takes for fatal, at a rebalance, leaves Faust without partitions."""
    sink = Recorder("one", SharedLog())
    async with await join(bootstrap, TOPIC, sink) as one:
        await until(lambda: one.lane.ready)
        thread = thread_of(one)
        coordinator = thread._ensure_consumer()._coordinator
        joining = coordinator.ensure_active_group
        failures = 0

        async def failing(*arguments: Any) -> Any:
            nonlocal failures
            if not failures:
                failures += 1
                raise GroupAuthorizationFailedError("group")
            return await joining(*arguments)

        coordinator.ensure_active_group = failing
        # Nothing may fetch, or the fetch would ask.
        one.lane._flow.on = False
        await asyncio.sleep(0.5)
        thread.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)
        await until(lambda: coordinator._pending_exception is not None)
        seen = len(sink.assignments)
        loop = asyncio.get_running_loop()
        vitals = await loop.run_in_executor(None, one.lane.heal)
        assert vitals.error is not None
        assert "GroupAuthorizationFailedError" in vitals.error
        await until(lambda: len(sink.assignments) > seen)
        assert (await loop.run_in_executor(None, one.lane.heal)).error is None
        assert one.lane.owned == frozenset({0, 1})
