"""A worker with a fault built in: `python -m tests.support.chaos.fault_injector`, with the fault in
CHAOS_PLAN.

Everything is wrapped from outside, so that nothing in `streamer` knows of it. The plan is JSON:

    {"kill": ["before write", 3]}        SIGKILL to itself at the third time of a step; see `STEPS`
    {"kills": [["before write", 3]]}     the same for one worker after another, each forked from
                                         this process, which has everything imported; ends with 0
    {"block": [5, 40]}                   the event loop sleeps 5 s at the 40th write
    {"stall": 40}                        after the 40th fetch with records, none finds any
    {"hold": "/a/file"}                  while the file is there, fetches last over a rebalance
    {"codes": [["JoinGroup", 30]]}       the coordinator's answers have these codes, each once
    {"deny": ["warnings", "/a/file"]}    while the file is there, the topic takes no message
    {"poison": "user-00007"}             scoring this customer raises
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiokafka.consumer.group_coordinator import GroupCoordinator

from model.judge.customers import CustomerArrays
from model.judge.judge import Judge
from streamer.commands.cli import cli
from streamer.kafka.faust_consumer import LaneThread
from streamer.kafka.lane import Lane
from streamer.kafka.port import Fetched
from streamer.kafka.publisher import KafkaPublisher
from streamer.records import PublishFailed
from streamer.store.redis_store import RedisStore

PLAN: Final[dict[str, Any]] = json.loads(os.environ.get("CHAOS_PLAN", "{}"))

STEPS: Final = (
    "before claim",
    "after claim",
    "before seek",
    "after seek",
    "after load",
    "before letters",
    "after letters",
    "before scores",
    "after scores",
    "before write",
    "after write",
    "before clock write",
    "after clock write",
    "after outbox",
    "before warnings",
    "after warnings",
    "before trim",
    "after trim",
    "before hint",
)
"""The steps of a partition's work, in the order of `streamer.pipeline.partition`: before is before
anything reaches the server, after is once it has answered and nobody here has heard."""


def main() -> None:
    for plan in PLAN.get("kills", ()):
        # Takes longest of all that a worker does at its start.
        importlib.import_module("model.artifact.artifact")
        child = os.fork()
        if not child:
            _kill(plan)
            break
        _, status = os.waitpid(child, 0)
        print(f"chaos.ended step={plan[0]} code={os.waitstatus_to_exitcode(status)}", flush=True)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(1)
    else:
        if "kills" in PLAN:
            sys.exit(0)
    for name, install in _FAULTS.items():
        if name in PLAN:
            install(PLAN[name])
    sys.argv[1:] = ["worker"]
    cli()


def _wrap(cls: type, name: str, step: Callable[..., str], at: Callable[[str], None]) -> None:
    original = getattr(cls, name)

    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        label = step(*args, **kwargs)
        at(f"before {label}")
        result = await original(self, *args, **kwargs)
        at(f"after {label}")
        return result

    setattr(cls, name, wrapped)


def _steps(at: Callable[[str], None]) -> None:
    """Calls `at` at every step."""
    for name in ("claim", "load", "outbox", "trim"):
        _wrap(RedisStore, name, lambda *_, name=name, **__: name, at)
    _wrap(RedisStore, "write", _which_write, at)
    _wrap(KafkaPublisher, "publish", _which_topic, at)
    _wrap(LaneThread, "seek_here", lambda *_: "seek", at)
    _wrap(Lane, "commit_hint", lambda *_: "hint", at)


def _which_write(_partition: Any, _epoch: int, _sequence: int, write: Any) -> str:
    return "clock write" if write.next_offset is None else "write"


def _which_topic(messages: Any) -> str:
    """Dead letters go out with the scores of their batch."""
    topics = {message.topic for message in messages}
    if os.environ["CLV_WARNINGS_TOPIC"] in topics:
        return "warnings"
    return "letters" if os.environ["CLV_DEAD_LETTER_TOPIC"] in topics else "scores"


def _kill(plan: tuple[str, int]) -> None:
    step, nth = plan
    assert step in STEPS, step
    seen: Counter[str] = Counter()

    def at(name: str) -> None:
        seen[name] += 1
        if name == step and seen[name] == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    _steps(at)


def _block(plan: tuple[float, int]) -> None:
    seconds, nth = plan
    writes = iter(range(1, sys.maxsize))

    def at(name: str) -> None:
        if name == "before write" and next(writes) == nth:
            print("chaos.blocked", flush=True)
            time.sleep(seconds)

    _steps(at)


def _stall(nth: int) -> None:
    original = LaneThread.fetch_here
    found_some = iter(range(1, sys.maxsize))
    stalled = False

    async def fetch_here(self: Any, *args: Any) -> list[Fetched]:
        nonlocal stalled
        if stalled:
            await asyncio.sleep(0.25)
            return []
        found: list[Fetched] = await original(self, *args)
        stalled = bool(found) and next(found_some) == nth
        return found

    LaneThread.fetch_here = fetch_here  # type: ignore[method-assign]


def _hold(file: str) -> None:
    """While the file is there, fetched lists are held back, until after a rebalance: as a fetch
    that takes as long."""
    original = LaneThread.fetch_here
    held: list[Fetched] = []

    async def fetch_here(self: Any, *args: Any) -> list[Fetched]:
        found: list[Fetched] = await original(self, *args)
        stale = [one for one in held if self._versions.get(one.partition) != one.version]
        for one in stale:
            held.remove(one)
            print(f"chaos.stale partition={one.partition}", flush=True)
        if found and Path(file).exists():
            held.extend(found)
            print(f"chaos.held lists={len(found)}", flush=True)
            found = []
        return stale + found

    LaneThread.fetch_here = fetch_here  # type: ignore[method-assign]


def _codes(plan: list[tuple[str, int]]) -> None:
    original = GroupCoordinator._send_req
    left = list(plan)

    async def send(self: Any, request: Any) -> Any:
        answer = await original(self, request)
        if left and type(request).__name__.startswith(left[0][0]):
            name, answer.error_code = left.pop(0)
            print(f"chaos.answered request={name} code={answer.error_code}", flush=True)
        return answer

    GroupCoordinator._send_req = send


def _deny(plan: tuple[str, str]) -> None:
    topic, file = os.environ[f"CLV_{plan[0].upper()}_TOPIC"], Path(plan[1])
    original = KafkaPublisher.publish

    async def publish(self: KafkaPublisher, messages: Any) -> None:
        if file.exists() and any(message.topic == topic for message in messages):
            raise PublishFailed(f"{topic}: told to fail")
        await original(self, messages)

    KafkaPublisher.publish = publish  # type: ignore[method-assign]


def _poison(user: str) -> None:
    Judge.judge_all = poisoned_by(user)  # type: ignore[method-assign]


def poisoned_by(user: str) -> Callable[..., Any]:
    """A way to judge that raises where it would have to score this customer."""
    original = Judge.judge_all

    def judge_all(self: Judge, customers: CustomerArrays, *args: Any) -> Any:
        if user in customers.users:
            raise ZeroDivisionError("told to fail")
        return original(self, customers, *args)

    return judge_all


_FAULTS: Final[dict[str, Callable[[Any], None]]] = {
    "kill": _kill,
    "block": _block,
    "stall": _stall,
    "hold": _hold,
    "codes": _codes,
    "deny": _deny,
    "poison": _poison,
}

if __name__ == "__main__":
    main()
