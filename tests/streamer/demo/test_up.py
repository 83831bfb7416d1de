"""A worker that ends is started again, later each time, until it has ended quickly too often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer.clock import ManualClock
from streamer.commands.cli import cli
from streamer.demo.guardian import END
from streamer.demo.up import QUICK_ENDS, QUICK_S, UpFailed, keep_running, watch


@dataclass
class FakeWorker:
    """Lives for so long."""

    pid: int
    clock: ManualClock
    lives_s: float
    told: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ends_s = self.clock.monotonic_s() + self.lives_s

    @property
    def alive(self) -> bool:
        return not self.told and self.clock.monotonic_s() < self.ends_s

    def end(self, how: bytes) -> None:
        self.told.append(how)


class Played:
    """A supervisor of workers that live for so long, one after the other, and the last for ever."""

    def __init__(self, *lives_s: float) -> None:
        self.clock = ManualClock()
        self.lives: Iterator[float] = chain(lives_s, repeat(float("inf")))
        self.workers: list[FakeWorker] = []
        self.started_s: list[float] = []
        self.said: list[str] = []

    def start(self) -> FakeWorker:
        self.started_s.append(self.clock.monotonic_s())
        self.workers.append(FakeWorker(len(self.workers) + 1, self.clock, next(self.lives)))
        return self.workers[-1]

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1000))
        await asyncio.sleep(0)

    async def run(self, turns: int) -> None:
        """Until it raises, or cancelled after so many turns of the loop."""
        kept = asyncio.create_task(
            keep_running(
                self.start, lambda: "out of luck", self.clock, self.sleep, self.said.append
            )
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        kept.cancel()
        await kept

    @property
    def waits_s(self) -> list[float]:
        """From each end to the next start."""
        ends = [worker.ends_s for worker in self.workers]
        return [round(b - a) for a, b in zip(ends, self.started_s[1:], strict=False)]


async def test_a_worker_that_lived_comes_back_after_a_second_with_a_word() -> None:
    played = Played(QUICK_S, 3600)
    with pytest.raises(asyncio.CancelledError):
        await played.run(30_000)
    assert played.waits_s == [1, 1]
    assert played.said[:3] == [
        "The worker is process 1.",
        "The worker, process 1, ended; it is started again in 1 s.",
        "The worker is process 2.",
    ]


async def test_quick_ends_are_waited_for_longer_and_longer_and_then_given_up() -> None:
    played = Played(*[0.0] * QUICK_ENDS)
    with pytest.raises(UpFailed, match=r"5 times within 10 s of its start.*with: out of luck"):
        await played.run(30_000)
    assert played.waits_s == [1, 2, 4, 8]
    assert len(played.workers) == QUICK_ENDS


async def test_a_worker_that_lived_makes_up_for_the_quick_ends_before_it() -> None:
    played = Played(0, 0, 0, 0, QUICK_S, 0, 0, 0, 0)
    with pytest.raises(asyncio.CancelledError):
        await played.run(30_000)
    assert played.waits_s == [1, 2, 4, 8, 1, 1, 2, 4, 8]
    assert played.workers[-1].told == [END]


async def test_a_worker_ends_with_its_supervisor() -> None:
    played = Played()
    with pytest.raises(asyncio.CancelledError):
        await played.run(5)
    assert [worker.told for worker in played.workers] == [[END]]


async def test_a_server_that_ended_is_told_by_its_process_and_ends_all() -> None:
    played = Played()

    @dataclass
    class Server:
        what: str
        pid: int
        ends_s: float

        @property
        def alive(self) -> bool:
            return played.clock.monotonic_s() < self.ends_s

    servers = [Server("Kafka", 7, 60.0), Server("Redis", 8, 30.0)]
    with pytest.raises(UpFailed, match="embedded Redis, process 8, ended"):
        await watch(servers, played.sleep)
    assert 30 <= played.clock.monotonic_s() < 31


def test_up_says_what_a_model_already_knows(tmp_path: Path) -> None:
    asked = ["up", "--orders", str(tmp_path / "a.csv"), "--model", "m", "--horizon", "30"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 2
    assert "--horizon is the model's own" in done.stderr
