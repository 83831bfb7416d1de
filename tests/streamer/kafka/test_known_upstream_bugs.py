"""Faults of Faust and aiokafka that we work around, reproduced against what is installed.

A test that fails here brings good news: a release has mended the fault, and the message says which
workaround may go. Until then it holds the reason for the workaround.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import faust
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.util import create_future
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from redis.asyncio.connection import Connection

ORDERS_0 = TP("orders", 0)


def mended(package: str, fault: str, workaround: str) -> NoReturn:
    pytest.fail(f"{package} {version(package)} has mended it: {fault}. May go: {workaround}")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[faust.App]:
    app = faust.App("upstream", broker="kafka://127.0.0.1:1", datadir=str(tmp_path))
    yield app
    if (made := app._consumer) is not None:
        # Of a consumer that never started, mode leaves its thread's event loop open.
        consumer: Any = made
        consumer._thread.thread_loop.close()


class Tracking(Consumer):
    """Faust's bookkeeping of what is acknowledged, without a broker."""

    async def _commit(self, offsets: Any) -> bool:
        return True


@pytest.fixture
async def consumer(app: faust.App) -> Tracking:
    # The abstract methods talk to a broker; bookkeeping calls none of them.
    Tracking.__abstractmethods__ = frozenset()

    async def ignore(*_: Any) -> None: ...

    return Tracking(
        app.transport,
        callback=ignore,
        on_partitions_revoked=ignore,
        on_partitions_assigned=ignore,
    )


async def test_take_acknowledges_a_batch_whose_body_failed(app: faust.App) -> None:
    """D1, faust/streams.py: the acks stand in a `finally`."""
    acked: list[Any] = []

    async def ack(event: Any) -> bool:
        acked.append(event.value)
        return True

    channel = app.channel(value_type=bytes)
    stream: Any = app.stream(channel)
    stream.ack = ack
    app.flow_control.resume()  # otherwise the channel waits for an assignment
    for value in (b"1", b"2", b"3"):
        await channel.send(value=value)
    batches = stream.take(3, within=1)

    async def agent() -> None:
        async for batch in batches:
            assert batch == [b"1", b"2", b"3"]
            raise RuntimeError("the body failed")

    with pytest.raises(RuntimeError, match="the body failed"):
        await asyncio.wait_for(agent(), 10)
    # What happens to the generator when the agent's task ends.
    await batches.aclose()
    await stream.stop()
    if acked != [b"1", b"2", b"3"]:
        mended(
            "faust-streaming",
            "take() no longer acknowledges a batch that failed",
            "one of the reasons for kafka/faust_consumer.py to do without Faust's streams and acks",
        )


async def test_a_commit_leaves_out_the_one_message_at_the_head_that_is_not_acknowledged(
    consumer: Tracking,
) -> None:
    """D3, Consumer._new_offset: 100 is next to read and was not acknowledged; 104 is committed."""
    consumer._committed_offset[ORDERS_0] = 100
    consumer._acked[ORDERS_0] = [101, 102, 103]
    if consumer._new_offset(ORDERS_0) != 104:
        mended(
            "faust-streaming",
            "a single message at the head holds back the commit (#606, #707)",
            "one of the reasons for LaneConsumer.commit and force_commit to do nothing",
        )


async def test_a_wider_gap_at_the_head_does_hold_back_the_commit(consumer: Tracking) -> None:
    """What the test before would look like, were it not for the fault."""
    consumer._committed_offset[ORDERS_0] = 99
    consumer._acked[ORDERS_0] = [101, 102, 103]
    assert consumer._new_offset(ORDERS_0) is None


async def test_the_first_commit_looks_at_no_gap_at_all(consumer: Tracking) -> None:
    """D4, the same place: after a rebalance nothing is known to be committed."""
    consumer._committed_offset[ORDERS_0] = None
    consumer._acked[ORDERS_0] = [150, 151, 152]
    if consumer._new_offset(ORDERS_0) != 153:
        mended(
            "faust-streaming",
            "the first commit after a rebalance minds gaps",
            "one of the reasons for LaneConsumer.commit and force_commit to do nothing",
        )


async def test_one_fatal_error_parks_the_coordinator_until_somebody_asks() -> None:
    """H1, first half, aiokafka's GroupCoordinator: it waits for `check_errors`, without limit."""

    coordinator: Any = SimpleNamespace(
        _subscription=SimpleNamespace(abort_waiters=lambda error: None),
        _closing=create_future(),
        _coordination_task=create_future(),
        _error_consumed_fut=None,
        _pending_exception=None,
    )
    pushed = GroupCoordinator._push_error_to_user(
        coordinator, GroupAuthorizationFailedError("group")
    )
    parked = asyncio.ensure_future(pushed)
    for _ in range(10):
        await asyncio.sleep(0)
    # No timer runs: what is not done now will never be.
    timers: list[Any] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    if parked.done() or any(not timer.cancelled() for timer in timers):
        parked.cancel()
        mended(
            "aiokafka",
            "the coordinator goes on by itself after a fatal error",
            "Lane.heal and the watchdog's use of it, if the error is still told to somebody",
        )
    with pytest.raises(GroupAuthorizationFailedError):
        GroupCoordinator.check_errors(coordinator)
    await asyncio.wait_for(parked, 5)


def test_faust_never_asks_the_coordinator() -> None:
    """H1, second half: neither by name nor through the calls of the consumer that ask."""
    source = inspect.getsource(driver)
    asking = ("check_errors", ".getmany(", ".getone(")
    if any(call in source for call in asking):
        mended(
            "faust-streaming",
            "its driver asks the coordinator for errors",
            "Lane.heal, if Faust asks while it rebalances as well",
        )
    # `seek_to_committed` and `position` ask too, but only before there is anything to fetch.
    fetch = inspect.getsource(driver.AIOKafkaConsumerThread._fetch_records)
    assert "fetched_records" in fetch


def test_a_heartbeat_that_failed_is_never_begun_anew() -> None:
    """Its error is pushed at every turn of the coordinator; only a rejoin starts another, and none
    is asked for. WriteContext on Apache Kafka with one UNKNOWN_SERVER_ERROR to a heartbeat."""
    routine = inspect.getsource(GroupCoordinator._GroupCoordinator__coordination_routine)  # type: ignore[attr-defined]
    handling = routine[routine.index("for task in [self._heartbeat_task") :]
    handling = handling[: handling.index("# Closing")]
    beating = inspect.getsource(GroupCoordinator._do_heartbeat)
    failing = beating[beating.index("elif error_type is Errors.GroupAuthorizationFailedError") :]
    if "request_rejoin" in handling or "_heartbeat_task = None" in handling + failing:
        mended(
            "aiokafka",
            "a heartbeat that failed starts over",
            "the look at _heartbeat_task in LaneThread.heal_here",
        )
    assert "request_rejoin" not in failing


class Written:
    """A socket's writing end that takes everything at once."""

    def writelines(self, _: object) -> None: ...

    async def drain(self) -> None: ...


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="mended in Python 3.12's asyncio.wait_for")
async def test_a_cancellation_is_lost_when_a_command_has_just_been_sent() -> None:
    """redis-py, AbstractConnection.send_packed_command, through asyncio's `wait_for`: whoever was
    told to end goes on. At which turn of the event loop it comes decides, and on a busy loop, where
    a turn takes a tenth of a second, one of the three is met often enough."""
    lost = []
    for turns in range(6):
        connection = Connection(socket_timeout=5.0)
        connection._reader, connection._writer = cast(Any, object()), cast(Any, Written())
        sending = asyncio.ensure_future(connection.send_packed_command(b"x", check_health=False))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not sending.done() and sending.cancel():
            await asyncio.wait([sending])
            lost.append(not sending.cancelled())
        connection._reader = connection._writer = None
    assert len(lost) > 2
    if not any(lost):
        mended(
            "redis",
            "a cancelled task that has just sent a command hears of it",
            "the condition of Lane._feed's loop, the limit of Lane._forget's wait, and"
            " being_cancelled in streamer/kafka/flow.py",
        )
