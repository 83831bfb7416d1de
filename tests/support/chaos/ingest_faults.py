"""An ingester that kills itself: `python -m tests.support.chaos.ingest_faults TOPIC ...`, with the
step and the time of it in CHAOS_PLAN: `["after publish", 3]`. Everything is wrapped from outside.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from streamer.commands.cli import cli
from streamer.ingest.loop import IngestLoop
from streamer.kafka.publisher import KafkaPublisher

STEPS: Final = (
    "before assigned",
    "after assigned",
    "after fetch",
    "before publish",
    "after publish",
    "before commit",
    "after commit",
)
"""In the order of `streamer.ingest.loop`: before is before anything reaches the broker, after is
once it has answered and nobody here has heard."""


def _wrap(cls: type, name: str, label: str, at: Callable[[str], None], real: bool = True) -> None:
    original = getattr(cls, name)

    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        at(f"before {label}")
        result = await original(self, *args, **kwargs)
        if real or result:
            at(f"after {label}")
        return result

    setattr(cls, name, wrapped)


def main() -> None:
    step, nth = json.loads(os.environ["CHAOS_PLAN"])
    assert step in STEPS, step
    seen: Counter[str] = Counter()

    def at(name: str) -> None:
        seen[name] += 1
        if name == step and seen[name] == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    _wrap(IngestLoop, "_begin", "assigned", at)
    _wrap(AIOKafkaConsumer, "getmany", "fetch", at, real=False)
    _wrap(KafkaPublisher, "publish", "publish", at)
    _wrap(AIOKafkaConsumer, "commit", "commit", at)
    sys.argv[1:] = ["ingest", *sys.argv[1:]]
    cli()


if __name__ == "__main__":
    main()
