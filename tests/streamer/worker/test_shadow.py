"""A shadow model: what is compared, that it is the right thing, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from features.events.orders import Order
from model.artifact.artifact import save
from model.artifact.registry import promote, publish
from model.decide.policy import Policy
from model.judge.judge import Judge
from model.shadow.process import ShadowTask
from model.shadow.protocol import Step
from streamer.metrics import Metrics
from streamer.pipeline.batch import WriteContext
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from streamer.worker.reload import look_at
from streamer.worker.shadow import MAX_WAITING_BYTES, Shadow
from tests.support import modelling
from tests.support.fakes import (
    ORDERS_0,
    LinearModel,
    an_order,
    at,
    by_time,
    done,
    every,
    judge,
    left,
    log_of,
    pipeline,
    records,
    scorer,
)
from tests.support.shadowing import LIVE, POLICY, FakePipe, agreement_of, followed

USERS = [f"u{n}" for n in range(14)]


def shadow_judge(factor: float = 1.0, policy: Policy = POLICY) -> Judge:
    return judge(policy, scorer(LinearModel(factor=factor), f"times-{factor}"))


def a_log() -> list[Order]:
    """Customers who stop one after the other, and one who goes on."""
    silent = [every(user, 3 + n % 5, 25 - n) for n, user in enumerate(USERS)]
    return by_time(*silent, every("clock", 2, 100))


# --- what is compared ----------------------------------------------------------------------------


def test_a_model_agrees_with_itself_and_warns_of_whom_the_worker_warns() -> None:
    pipe, _, _, publisher = followed(records(a_log()))
    found = agreement_of(pipe.frames, shadow_judge())
    assert found.customers == len(USERS) + 1
    assert (found.spearman, found.mean_ratio) == (1.0, 1.0)
    assert found.ratio_quantiles == [1.0] * 5
    warned = [m for m in publisher.of("churn-warnings") if b'"kind":"warning"' in (m.value or b"")]
    assert (found.both, found.added, found.removed) == (len(warned), 0, 0)
    assert len(warned) > 5


def test_a_halved_model_ranks_alike_and_warns_alike() -> None:
    found = agreement_of(followed(records(a_log()))[0].frames, shadow_judge(0.5))
    assert found.spearman == 1.0
    assert found.mean_ratio == pytest.approx(0.5, abs=0.01)
    assert found.ratio_quantiles is not None
    assert found.ratio_quantiles[2] == pytest.approx(0.5, abs=0.01)
    assert (found.added, found.removed) == (0, 0)


def test_what_only_one_of_them_warns_of_is_counted() -> None:
    frames = followed(records(a_log()))[0].frames
    both = agreement_of(frames, shadow_judge()).both
    never = agreement_of(frames, shadow_judge(policy=Policy(floor=1e9)))
    assert (never.both, never.added, never.removed) == (0, 0, both)
    again = agreement_of(frames, shadow_judge(), live=judge(Policy(floor=1e9)))
    assert (again.both, again.added, again.removed) == (0, both, 0)


def test_how_records_fall_into_batches_changes_no_agreement() -> None:
    log = records(a_log())
    found = [
        agreement_of(followed(log, batch=batch)[0].frames, shadow_judge(0.7))
        for batch in (1, 9, 500)
    ]
    assert found[0] == found[1] == found[2]


def test_customers_known_before_are_followed_as_they_stand() -> None:
    log = records(a_log())
    _, _, runner, _ = followed(log[:120])
    pipe = FakePipe()
    late = Shadow(1.0, Metrics())
    late._pipe = pipe
    runner._observer = late
    done(runner.process(log[120:]))
    found = agreement_of(pipe.frames, shadow_judge())
    assert found.customers > 10
    assert (found.added, found.removed, found.spearman) == (0, 0, 1.0)


def test_a_customer_that_cannot_be_scored_is_left_out_and_counted() -> None:
    class Raising(LinearModel):
        def clv(self, X):  # type: ignore[no-untyped-def]
            if len(X) == 1:
                raise ZeroDivisionError
            return super().clv(X)

    by = judge(POLICY, scorer(Raising(), "raising"))
    found = agreement_of(followed(records(a_log()), batch=1)[0].frames, by)
    assert found.failed > 0


# --- off the critical path -----------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["none", "full", "raising", "closed"])
def test_no_shadow_changes_what_a_partition_writes_or_says(trouble: str) -> None:
    log = records(a_log())
    users = [*USERS, "clock"]
    alone = PartitionRunner(ORDERS_0, MemoryStore(), MemoryPublisher(), pipeline(LIVE))
    pipe = FakePipe()

    def raising(data: bytes) -> None:
        raise BrokenPipeError

    if trouble == "full":
        pipe.waiting = MAX_WAITING_BYTES + 1
    elif trouble == "raising":
        pipe.write = raising  # type: ignore[method-assign]
    shadow = Shadow(1.0, Metrics())
    shadow._pipe = None if trouble == "closed" else pipe
    beside = PartitionRunner(
        ORDERS_0, MemoryStore(), MemoryPublisher(), pipeline(LIVE), RunnerOptions(observer=shadow)
    )
    for runner in (alone, beside):
        done(runner.claim(log_of(log)))
        for start in range(0, len(log), 9):
            done(runner.process(log[start : start + 9]))
        done(runner.tick(at(400)))
    found = [left(r._store, r._publisher, users) for r in (alone, beside)]  # type: ignore[arg-type]
    assert found[0] == found[1]


def test_what_the_process_does_not_take_is_dropped_counted_and_met_anew() -> None:
    log = records(a_log())
    pipe, shadow, runner, _ = followed(log[:60])
    pipe.waiting = MAX_WAITING_BYTES + 1
    done(runner.process(log[60:120]))
    assert shadow.dropped == 60
    pipe.waiting = 0
    done(runner.process(log[120:]))
    found = agreement_of(pipe.frames, shadow_judge())
    assert (found.added, found.removed, found.spearman) == (0, 0, 1.0)


def test_a_share_of_the_customers_is_followed_and_always_the_same() -> None:
    log = records(by_time(*[every(f"c{n}", 5, 3) for n in range(200)]))
    sizes = {}
    for share in (0.0, 0.1, 0.5, 1.0):
        frames = followed(log, share=share)[0].frames
        steps = [msgspec.msgpack.decode(frame[4:], type=Step) for frame in frames]
        sizes[share] = {user for step in steps for user, _, _ in step.met}
    assert sizes[0.0] == set()
    assert 5 < len(sizes[0.1]) < 40
    assert sizes[0.1] < sizes[0.5] < sizes[1.0]
    assert len(sizes[1.0]) == 200


def test_an_erased_customer_is_forgotten() -> None:
    pipe, shadow, _, _ = followed(records(a_log()))
    before = agreement_of(pipe.frames, shadow_judge())
    shadow.erased(0, "u3")
    shadow.erased(0, "stranger")
    after = agreement_of(pipe.frames, shadow_judge())
    assert after.customers == before.customers - 1
    assert after.both == before.both - 1


def test_writes_without_anybody_who_is_followed_are_not_passed_on() -> None:
    pipe = FakePipe()
    shadow = Shadow(0.0, Metrics())
    shadow._pipe = pipe
    shadow.wrote(0, WriteContext(_those(), {}, None))
    shadow.wrote(0, WriteContext(_those(), {}, at(10)))
    shadow.wrote(0, WriteContext(_those(), {}, at(10) + 1))
    assert len(pipe.frames) == 1  # the day passes for those who were met before


# --- the process ---------------------------------------------------------------------------------


def _task(live: Path, shadow: Path) -> ShadowTask:
    return ShadowTask(str(live), str(shadow), [], False, Policy(), 400, 1000)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_process_compares_real_models_and_another_model_is_compared_anew(
    tmp_path: Path,
) -> None:
    root = tmp_path / "models"
    for factor in (1.0, 0.5):
        model = modelling.scaled_model(factor)
        save(tmp_path / f"{factor}", model, modelling.fields(model))
    versions = [publish(root, tmp_path / name) for name in ("1.0", "0.5")]
    promote(root, versions[0])
    metrics = Metrics()
    shadow = Shadow(1.0, metrics, _task)
    live = look_at(root)
    try:
        await shadow.look(live, tmp_path / "0.5")
        await shadow.look(live, tmp_path / "0.5")
        for start in range(0, 3):
            order = an_order("ada", start)
            shadow.wrote(0, WriteContext(_those("ada"), {"ada": [_event(start, order)]}, None))
        await _until(lambda: shadow.agreement is not None and shadow.agreement.scorings == 3)
        assert shadow.agreement is not None
        assert [shadow.agreement.live, shadow.agreement.shadow] == versions
        process = shadow._process
        assert process is not None
        process.kill()
        await _until(lambda: shadow.refused)
        assert shadow.refused == "the process that compares has ended"
        await shadow.look(live, tmp_path / "0.5")
        assert shadow._process is process  # not before a while has passed
        shadow.wrote(0, WriteContext(_those("ada"), {}, None))  # and nobody minds
        (tmp_path / "0.5" / "model.json").write_bytes(b"broken")
        await shadow.look(live, tmp_path / "0.5")
        await _until(lambda: "SHA-256" in shadow.refused)
    finally:
        await shadow.close()


def _those(*users: str):  # type: ignore[no-untyped-def]
    from model.decide.codec import UNKNOWN
    from model.judge.customers import CustomerArrays
    from model.judge.judged import ScheduledCustomer

    return CustomerArrays.of([(user, ScheduledCustomer(UNKNOWN, None)) for user in users])


def _event(place: int, order: Order):  # type: ignore[no-untyped-def]
    from model.judge.judged import Event

    return Event(place, order, order.ts_ms)
