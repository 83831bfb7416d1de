from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from streamer.clock import ManualClock
from streamer.kafka.lane import Lane
from streamer.kafka.port import Vitals
from streamer.worker import watchdog
from streamer.worker.watchdog import Signs, Watchdog, judge


def test_a_worker_with_nothing_to_do_is_left_alone() -> None:
    assert judge(Signs(still_s=100_000.0, fetch_age_s=0.2), 120) is None


@pytest.mark.parametrize(
    ("signs", "reason"),
    [
        (Signs(loop_silent_s=31), "the event loop has not answered for 31 s"),
        (Signs(consumer_silent_s=31), "the consumer's thread has not answered for 31 s"),
        (Signs(coordinator_failing_s=121), "the group coordinator has been failing for 121 s"),
        (Signs(rebalancing_s=121), "no partitions have been assigned for 121 s"),
        (
            Signs(waiting=True, still_s=121),
            "orders are waiting and none has been applied for 121 s",
        ),
        (Signs(fetch_age_s=121), "no broker has answered a fetch for 121 s"),
    ],
)
def test_each_sign_beyond_its_limit_is_a_reason(signs: Signs, reason: str) -> None:
    assert judge(signs, 120) == reason
    assert judge(signs, 500) is None


class FakeLane:
    """A lane as the watchdog sees it."""

    def __init__(self) -> None:
        self.behind = False
        self.assigned = frozenset({0})
        self.rebalancing_since_s: float | None = None
        self.vitals = Vitals(fetch_age_s=0.1)

    def heal(self) -> Vitals:
        return self.vitals


async def test_it_says_why_once_and_looks_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.01)
    lane, said = FakeLane(), asyncio.Event()
    lane.vitals = Vitals(lag=5, fetch_age_s=0.1)
    reasons: list[str] = []
    loop = asyncio.get_running_loop()

    def stuck(reason: str) -> None:
        reasons.append(reason)
        loop.call_soon_threadsafe(said.set)

    # Far longer than a busy machine lets the event loop wait: that would be another reason.
    watcher = Watchdog(cast(Lane, lane), loop, lambda: 7, stuck, limit_s=1.5)
    watcher.start()
    await asyncio.wait_for(said.wait(), 30)
    (reason,) = reasons
    assert reason.startswith("orders are waiting and none has been applied for")
    assert watcher.verdict() is not None


async def test_progress_and_an_empty_log_keep_it_quiet() -> None:
    lane, steps = FakeLane(), SimpleNamespace(count=0)
    watcher = Watchdog(
        cast(Lane, lane), asyncio.get_running_loop(), lambda: steps.count, print, limit_s=60
    )
    assert not watcher._look().waiting
    lane.behind = True
    steps.count = 1
    assert watcher._look().still_s < 1
    assert watcher._look().waiting


async def test_a_healed_coordinator_counts_as_failing_until_it_is_well() -> None:
    clock, lane = ManualClock(), FakeLane()
    loop = asyncio.get_running_loop()
    watcher = Watchdog(cast(Lane, lane), loop, lambda: 0, print, limit_s=60, clock=clock)
    lane.vitals = Vitals(error="KafkaError: x")
    clock.advance(10_000)
    assert watcher._look().coordinator_failing_s == 10
    lane.vitals = Vitals()
    assert watcher._look().coordinator_failing_s == 0


async def test_a_broker_is_not_missed_while_what_it_sent_is_being_applied() -> None:
    clock, lane = ManualClock(), FakeLane()
    loop = asyncio.get_running_loop()
    watcher = Watchdog(cast(Lane, lane), loop, lambda: 0, print, limit_s=60, clock=clock)
    lane.behind = True
    clock.advance(180_000)
    lane.vitals = Vitals(lag=5, fetch_age_s=180.0)
    assert watcher._look().fetch_age_s == 0
    lane.behind = False
    clock.advance(61_000)
    lane.vitals = Vitals(fetch_age_s=241.0)
    assert watcher._look().fetch_age_s == 61
    lane.vitals = Vitals(fetch_age_s=0.2)
    assert watcher._look().fetch_age_s == 0.2
