"""A partition with a shadow model on it, and what the shadow's process says of its frames."""

from __future__ import annotations

import io
from collections.abc import Sequence

import msgspec

from model.decide.policy import Policy
from model.judge.judge import Judge
from model.shadow.compare import ShadowComparison
from model.shadow.process import ShadowMessage, follow
from model.shadow.protocol import Agreement
from streamer.metrics import Metrics
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from streamer.worker.shadow import Shadow
from tests.support.fakes import (
    ORDERS_0,
    Rec,
    done,
    judge,
    log_of,
    pipeline,
)

POLICY = Policy(floor_percentile=0)
LIVE = judge(POLICY)


class FakePipe:
    """Keeps frames; says that it has as many bytes waiting as it is told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.waiting = 0

    def write(self, data: bytes) -> None:
        self.frames.append(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting


def followed(
    log: Sequence[Rec], *, share: float = 1.0, batch: int = 9, through: Pipeline | None = None
) -> tuple[FakePipe, Shadow, PartitionRunner, MemoryPublisher]:
    """A partition with a shadow on it, and the log applied."""
    pipe = FakePipe()
    shadow = Shadow(share, Metrics())
    shadow._pipe = pipe
    publisher = MemoryPublisher()
    runner = PartitionRunner(
        ORDERS_0,
        MemoryStore(),
        publisher,
        through or pipeline(LIVE),
        RunnerOptions(observer=shadow),
    )
    done(runner.claim(log_of(log)))
    for start in range(0, len(log), batch):
        done(runner.process(log[start : start + batch]))
    return pipe, shadow, runner, publisher


def agreement_of(frames: Sequence[bytes], by: Judge, live: Judge = LIVE) -> Agreement:
    """What the process says of these frames."""
    out = io.BytesIO()
    follow(io.BytesIO(b"".join(frames)), out, ShadowComparison(live, by))
    told = msgspec.json.decode(out.getvalue().splitlines()[-1], type=ShadowMessage)
    assert told.agreement is not None
    return told.agreement
