from __future__ import annotations

import time

import pytest

from streamer.clock import ManualClock, SystemClock


def test_the_systems_clock_is_the_machines() -> None:
    clock = SystemClock()
    assert abs(clock.now_ms() - time.time() * 1000) < 10_000
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(1_000)
    clock.advance(500)
    assert (clock.now_ms(), clock.monotonic_s()) == (1_500, 0.5)


def test_a_step_of_the_wall_clock_leaves_intervals_alone() -> None:
    clock = ManualClock(1_000)
    clock.set(10)
    assert (clock.now_ms(), clock.monotonic_s()) == (10, 0.0)
    with pytest.raises(ValueError, match="by_ms=-1"):
        clock.advance(-1)
