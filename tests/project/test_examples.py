"""The two subscribers in examples/, on the embedded broker, as a newcomer would run them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from examples import personalisation, retention
from model.artifact.artifact import Artifact
from streamer.demo.embedded import EmbeddedKafka
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.topics import CHURN_WARNINGS, CLV_SCORES, Topic, ensure_topics
from streamer.pipeline.messages import ChurnWarning, ClvScore
from streamer.records import Message
from streamer.replay.order_log import ReplayedLog
from streamer.testing import customer, order_log

EXAMPLES = Path(__file__).parents[2] / "examples"
encode = msgspec.json.Encoder().encode


@pytest.fixture(scope="module")
def replayed(clv_model: Artifact) -> ReplayedLog:
    """A regular who stops, one with a small basket, one who comes back, one who goes on."""
    return order_log(
        customer("alice").orders(every="7d", until="2026-03-01", amount=90).then_silent(),
        customer("bob").orders(every="30d", until="2026-03-01", amount=25).then_silent("90d"),
        customer("carol")
        .orders(every="14d", until="2026-02-01", amount=40)
        .then_silent("60d")
        .orders_again(every="14d", count=4, amount=40),
        customer("dora").orders(every="14d", until="2026-05-01", amount=60),
    ).replay(clv_model)


async def topic_like(model: Topic, kafka: EmbeddedKafka) -> str:
    """A topic of this test's own."""
    topic = replace(model, name=f"{model.name}-{uuid.uuid4().hex}")
    await ensure_topics(kafka.bootstrap, [topic])
    return topic.name


async def send(kafka: EmbeddedKafka, messages: Sequence[Message]) -> None:
    publisher = KafkaPublisher(kafka.bootstrap)
    await publisher.start()
    try:
        await publisher.publish(messages)
    finally:
        await publisher.close()


def warnings_to(topic: str, warnings: Sequence[ChurnWarning]) -> list[Message]:
    return [Message(topic, w.user_id.encode(), encode(w)) for w in warnings]


def scores_to(topic: str, scores: Sequence[ClvScore]) -> list[Message]:
    return [Message(topic, s.user_id.encode(), encode(s)) for s in scores]


@asynccontextmanager
async def running(coroutine: object) -> AsyncIterator[None]:
    """A subscriber in the background, which never ends by itself."""
    assert asyncio.iscoroutine(coroutine)
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


# --- retention ------------------------------------------------------------------------------------


async def test_each_warning_is_answered_once(
    embedded_kafka: EmbeddedKafka,
    replayed: ReplayedLog,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = await topic_like(CHURN_WARNINGS, embedded_kafka)
    warnings = replayed.warnings
    assert {warning.user_id for warning in warnings} == {"alice", "bob", "carol"}
    assert replayed.recoveries
    held = msgspec.structs.replace(warnings[0], warning_id="0" * 32, user_id="eve", holdout=True)
    last = msgspec.structs.replace(warnings[0], warning_id="f" * 32, user_id="zoe")
    everything = [*warnings, *replayed.recoveries, *warnings, held]
    await send(embedded_kafka, warnings_to(topic, everything))
    lines: list[str] = []

    def answered() -> int:
        lines.extend(capsys.readouterr().out.splitlines())
        return len(lines)

    path = tmp_path / "answered.db"
    for expected in (len(warnings), len(warnings) + 1):
        with sqlite3.connect(path) as ids:
            # Another group reads everything once more, as after offsets were lost.
            group = f"retention-{expected}-{topic}"
            service = retention.answer_warnings(embedded_kafka.bootstrap, topic, ids, group)
            async with running(service):
                await until(lambda expected=expected: answered() >= expected)  # type: ignore[misc]
        ids.close()
        # What comes again is known, and what is new is answered.
        await send(embedded_kafka, warnings_to(topic, [*warnings, held, last]))
    assert sorted(line.partition(":")[0] for line in lines) == sorted(
        [*(warning.user_id for warning in warnings), "zoe"]
    )


def test_an_offer_fits_the_value_at_risk(replayed: ReplayedLog) -> None:
    (warning,) = replayed.warnings_of("bob")
    small = msgspec.to_builtins(msgspec.structs.replace(warning, severity="low"))
    assert retention.offer(small | {"value_at_risk": 240.0}) == "a coupon of 24 USD"
    assert retention.offer(small | {"value_at_risk": 12.0}) == "a coupon of 5 USD"
    large = msgspec.to_builtins(msgspec.structs.replace(warning, severity="high"))
    assert retention.offer(large) == f"a call: {warning.summary}"


# --- personalisation ------------------------------------------------------------------------------


async def test_the_feed_has_the_latest_score_of_every_customer(
    embedded_kafka: EmbeddedKafka, replayed: ReplayedLog
) -> None:
    topic = await topic_like(CLV_SCORES, embedded_kafka)
    scores = replayed.scores
    await send(embedded_kafka, scores_to(topic, scores))
    feed: dict[str, dict[str, object]] = {}
    latest = {score.user_id: msgspec.to_builtins(score) for score in scores}
    async with running(personalisation.follow(embedded_kafka.bootstrap, topic, feed)):
        await until(lambda: feed == latest)
        await send(embedded_kafka, [Message(topic, b"bob", None)])
        await until(lambda: "bob" not in feed)
    assert set(feed) == {"alice", "carol", "dora"}


@pytest.mark.parametrize(
    ("segment", "churn_probability", "offered"),
    [
        ("top", 0.1, ("new arrivals", 20.0)),
        ("low", 0.5, ("offers", 18.0)),
        ("top", 0.9, ("new arrivals", 17.0)),
    ],
)
def test_the_feed_makes_shelves_and_prices_of_segments(
    segment: str, churn_probability: float, offered: tuple[str, float]
) -> None:
    score = {"segment": segment, "churn_probability": churn_probability}
    assert personalisation.offered(score, 20.0) == offered


def test_every_segment_has_a_shelf_and_a_price() -> None:
    from model.decide.policy import SEGMENTS

    assert set(personalisation.SHELVES) == set(personalisation.DISCOUNTS) == set(SEGMENTS)


# --- as they are run ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["retention", "personalisation"])
async def test_they_run_as_their_docstrings_say(
    name: str, embedded_kafka: EmbeddedKafka, replayed: ReplayedLog, tmp_path: Path
) -> None:
    if name == "retention":
        topic = await topic_like(CHURN_WARNINGS, embedded_kafka)
        await send(embedded_kafka, warnings_to(topic, replayed.warnings_of("bob")))
    else:
        topic = await topic_like(CLV_SCORES, embedded_kafka)
        await send(embedded_kafka, scores_to(topic, replayed.scores_of("bob")))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        cwd=tmp_path,
        env={
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": embedded_kafka.bootstrap,
            "CLV_WARNINGS_TOPIC": topic,
            "CLV_SCORES_TOPIC": topic,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    assert line.startswith(b"bob: ")


@pytest.mark.parametrize("name", ["retention", "personalisation"])
def test_they_need_nothing_of_ours(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert "streamer" not in text.replace("clv-streamer", "")
    assert f"python examples/{name}.py" in text
