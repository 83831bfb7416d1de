"""Servers that are down are waited for; what waiting does not cure is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from streamer.pipeline.claim import LostWrites
from streamer.process.outage import HOPELESS_TRIES, Outage
from streamer.records import LogUnavailable, Partition, PublishFailed, RegistryUnavailable
from streamer.store.base import StoreUnavailable


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr("streamer.process.outage.asyncio.sleep", at_once)


async def test_an_outage_is_waited_out_and_shown_meanwhile() -> None:
    outage, seen, tries = Outage(), [], 0

    async def action() -> str:
        nonlocal tries
        tries += 1
        seen.append(outage.reasons)
        if tries == 1:
            raise StoreUnavailable("down")
        if tries == 2:
            raise PublishFailed("no ack")
        return "done"

    assert await outage.outlast(action) == "done"
    assert seen == [[], ["store: down"], ["publisher: no ack"]]
    assert outage.reasons == []
    assert outage.attempts == 2


async def test_what_repeating_does_not_cure_is_raised_after_a_few_tries() -> None:
    outage, tries = Outage(), 0

    async def action() -> None:
        nonlocal tries
        tries += 1
        raise PublishFailed("too large", retriable=False)

    with pytest.raises(PublishFailed, match="too large"):
        await outage.outlast(action)
    assert tries == HOPELESS_TRIES
    assert outage.reasons == []


async def test_a_hopeless_failure_among_others_is_not_the_end() -> None:
    outage, tries = Outage(), 0

    async def action() -> str:
        nonlocal tries
        tries += 1
        if tries == 50:
            return "done"
        raise PublishFailed("fenced", retriable=bool(tries % HOPELESS_TRIES))

    assert await outage.outlast(action) == "done"


async def test_other_errors_are_not_waited_out() -> None:
    async def action() -> None:
        raise LostWrites(Partition("orders", 0))

    with pytest.raises(LostWrites):
        await Outage().outlast(action)


async def test_a_cancellation_that_got_lost_ends_the_waiting_all_the_same() -> None:
    """A partition that is another's by now is not tried for any longer."""
    waits, tries = asyncio.Event(), 0

    async def action() -> None:
        nonlocal tries
        tries += 1
        waits.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise StoreUnavailable("down")

    waiting = asyncio.create_task(Outage().outlast(action))
    await waits.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert tries == 1


async def test_a_log_out_of_reach_is_waited_for_like_a_store() -> None:
    outage, tries = Outage(), 0

    async def action() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise LogUnavailable("no broker")
        assert outage.reasons == ["log: no broker"]
        return "done"

    assert await outage.outlast(action) == "done"


async def test_several_who_wait_for_one_server_say_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage, all_have_failed = Outage(), asyncio.Barrier(3)

    def action(failed: list[str]) -> Callable[[], Awaitable[str]]:
        async def act() -> str:
            if not failed:
                failed.append("once")
                raise RegistryUnavailable("down")
            await all_have_failed.wait()
            return "done"

        return act

    with caplog.at_level("INFO"):
        await asyncio.gather(*(outage.outlast(action([])) for _ in range(3)))
    assert [caplog.text.count(event) for event in ("outage.waiting", "outage.over")] == [1, 1]
