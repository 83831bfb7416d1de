"""A process whose work stands still is ended; one that waits for a server is not."""

from __future__ import annotations

import threading

import pytest

from streamer.clock import ManualClock
from streamer.process import hang
from streamer.process.hang import HangWatch


def test_it_tells_for_how_long_nothing_has_moved() -> None:
    clock, counts = ManualClock(), iter([0, 0, 1, 1, 1])
    watch = HangWatch(lambda: next(counts), print, 10.0, clock)
    found = []
    for _ in range(5):
        found.append(watch.still_s())
        clock.advance(4_000)
    assert found == [0.0, 4.0, 0.0, 4.0, 8.0]


def test_it_ends_what_stands_still_and_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang, "LOOK_EVERY_S", 0.001)
    clock, said, ended = ManualClock(), list[str](), threading.Event()

    def progress() -> int:
        clock.advance(4_000)
        return 7

    def end(reason: str) -> None:
        said.append(reason)
        ended.set()

    HangWatch(progress, end, 10.0, clock).start()
    assert ended.wait(10)
    assert said == ["nothing has moved for 12 s"]
