"""A front kept: told, heard, started again when it ends or hangs, and ended with its worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from streamer.front import keeper
from streamer.front.keeper import Keeper
from streamer.front.talk import News, Report, Task, line
from streamer.web.server import listening

NEWS = News("/models/1", 7, {0: 3, 1: None})


class FakeStdin:
    """What was written to a front."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.lines: list[bytes] = []
        self._end = end

    def write(self, data: bytes) -> None:
        self.lines.append(data)

    def close(self) -> None:
        self._end()


class FakeFront:
    """A process that a test moves; it ends when its stdin does, unless it is `deaf`."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.stdout: Any = asyncio.StreamReader()
        self.stdin: Any = FakeStdin(lambda: None if deaf else self.end(0))
        self.killed = False
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)
            self.stdout.feed_eof()

    def kill(self) -> None:
        self.killed = True
        self.end(-9)

    def wait(self) -> Awaitable[int]:
        return asyncio.shield(self._code)

    async def heard(self, lines: int) -> list[bytes]:
        """What it was told, once it is so much."""
        async with asyncio.timeout(10):
            while len(self.stdin.lines) < lines:
                await asyncio.sleep(0)
        return list(self.stdin.lines)


class FakeWeb:
    """The worker's own server: whether it answers for a front."""

    def __init__(self) -> None:
        self.stands_in = False

    async def stand_in(self, listener: object) -> None:
        self.stands_in = True

    def stand_back(self) -> None:
        self.stands_in = False

    async def turned(self, stands_in: bool) -> None:
        async with asyncio.timeout(10):
            while self.stands_in is not stands_in:
                await asyncio.sleep(0)


class Kept:
    """A keeper under test: its fronts, and what it heard of requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, deaf: bool = False) -> None:
        for name in ("TELL_S", "AGAIN_S"):
            monkeypatch.setattr(keeper, name, 0.001)
        monkeypatch.setattr(keeper, "END_WITHIN_S", 0.01)
        self.fronts: list[FakeFront] = []
        self.answered: list[tuple[str, int, int]] = []
        self._deaf = deaf

        async def start(listener: object) -> FakeFront:
            self.fronts.append(FakeFront(deaf=self._deaf))
            return self.fronts[-1]

        monkeypatch.setattr(keeper, "_started", start)
        self.web = FakeWeb()
        self.keeper = Keeper(lambda: NEWS, lambda *one: self.answered.append(one), self.web)

    async def __aenter__(self) -> Kept:
        self._listener = listening("127.0.0.1", 0)
        self._task = asyncio.create_task(self.keeper.run(self._listener, 8_000, "a-cluster"))
        await self.front(1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._listener.close()

    async def front(self, number: int) -> FakeFront:
        """The n-th front, once it is started."""
        async with asyncio.timeout(10):
            while len(self.fronts) < number:
                await asyncio.sleep(0)
        return self.fronts[number - 1]


async def test_a_front_is_told_its_task_and_then_the_news(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Kept(monkeypatch) as kept:
        task, *news = await (await kept.front(1)).heard(3)
        assert msgspec.json.decode(task, type=Task).cluster == "a-cluster"
        assert [msgspec.json.decode(one, type=News) for one in news] == [NEWS] * len(news)


async def test_what_it_answered_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Kept(monkeypatch) as kept:
        report = Report([("customers", 200, 41), ("predict", 503, 1)])
        kept.fronts[0].stdout.feed_data(line(report))
        async with asyncio.timeout(10):
            while len(kept.answered) < 2:
                await asyncio.sleep(0)
        assert kept.answered == [("customers", 200, 41), ("predict", 503, 1)]


async def test_one_that_ends_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Kept(monkeypatch) as kept:
        kept.fronts[0].end(1)
        await (await kept.front(2)).heard(2)
        assert "front.ended" in caplog.text
        assert not kept.fronts[0].killed


async def test_one_that_hangs_is_killed_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Kept(monkeypatch, deaf=True) as kept:
        # Until its first report it may be starting.
        await kept.fronts[0].heard(keeper.SILENT_TURNS + 20)
        assert len(kept.fronts) == 1
        kept.fronts[0].stdout.feed_data(line(Report([])))
        await kept.front(2)
        assert kept.fronts[0].killed


async def test_the_worker_answers_itself_until_a_front_does_and_where_one_ends_or_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Kept(monkeypatch) as kept:
        for number in (1, 2):
            front = await kept.front(number)
            await front.heard(keeper.QUIET_TURNS + 3)
            assert kept.web.stands_in
            front.stdout.feed_data(line(Report([])))
            await kept.web.turned(False)
            await kept.web.turned(True)  # it says nothing more
            front.stdout.feed_data(line(Report([])))
            await kept.web.turned(False)
            front.end(1)
            await kept.web.turned(True)


async def test_one_ends_with_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Kept(monkeypatch) as kept:
        await kept.fronts[0].heard(2)
    assert not kept.fronts[0].killed
    assert await kept.fronts[0].wait() == 0
