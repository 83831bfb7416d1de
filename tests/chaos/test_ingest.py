"""What happens to ingesters: F41 and F42."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.chaos.conftest import SetStage, named
from tests.support.chaos.deployment import WITHIN_S, size
from tests.support.chaos.ingest_faults import STEPS
from tests.support.chaos.results import Book
from tests.support.servers.ingesting import (
    MAPPING,
    assert_exact,
    ingested,
    ingester,
    make_raw_topic,
    raw_messages,
    raw_topic,
)

FAULTY = "tests.support.chaos.ingest_faults"


async def test_kill_an_ingester_at_every_step(
    set_stage: SetStage, book: Book, tmp_path: Path
) -> None:
    stage, rounds = set_stage("f41", CLV_BATCH="20"), size(1, 3)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    count = 60 * len(STEPS) * rounds
    what = f"kill -9 of an ingester at a named step: {', '.join(STEPS)}; the broker killed between"
    with book.entry("F41", what, named(stage.servers.kafka)) as entry:
        await make_raw_topic(stage)
        sent = 0
        for nth in range(1, rounds + 1):
            for step in STEPS:
                await stage.publish(raw_messages(stage, range(sent, sent + 60)))
                sent += 60
                rare = step.endswith("assigned")
                plan = json.dumps([step, 1 if rare else nth + 1])
                killed = stage.worker(
                    FAULTY, raw_topic(stage), f"--mapping={mapping}", CHAOS_PLAN=plan
                )
                assert await killed.ended(WITHIN_S) == -9, killed.log[-5:]
                entry.times += 1
        assert sent == count
        ingester(stage, f"--mapping={mapping}")
        ingester(stage, f"--mapping={mapping}")
        records = await ingested(stage, count, WITHIN_S)
        entry.note(f"{assert_exact(stage, records, range(count))} records repeated")
        entry.records += len(records)
        entry.verified = True


async def test_a_broker_that_ends_under_an_ingester(
    set_stage: SetStage, book: Book, tmp_path: Path
) -> None:
    stage, times = set_stage("f42", CLV_BATCH="20"), size(2, 6)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    kafka = stage.servers.kafka
    if named(kafka) == "embedded":
        pytest.skip("what the embedded broker holds ends with it")
    with book.entry(
        "F42", "the broker ends and starts again under two ingesters", named(kafka)
    ) as entry:
        await make_raw_topic(stage)
        for _ in range(2):
            ingester(stage, f"--mapping={mapping}")
        for number in range(times):
            await stage.publish(raw_messages(stage, range(number * 300, number * 300 + 300)))
            await asyncio.to_thread(kafka.stop)
            entry.times += 1
            await asyncio.to_thread(kafka.start)
        records = await ingested(stage, 300 * times, WITHIN_S)
        entry.note(f"{assert_exact(stage, records, range(300 * times))} records repeated")
        entry.records += len(records)
        entry.verified = True
        assert all(worker.alive for worker in stage.workers)
