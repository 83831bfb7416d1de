"""A retention service: each churn warning is answered once, with an offer fitted to the stakes.

    KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python examples/retention.py

Warnings are delivered at least once, with the same `warning_id` each time: the ids answered are
kept in a file, so that nobody gets two coupons, not even after a restart. `docs/contract.md` has
the fields of a warning.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3

from aiokafka import AIOKafkaConsumer


def offer(warning: dict) -> str:
    """A tenth of the value at risk as a coupon; for the largest losses, a person who calls."""
    if warning["severity"] == "high":
        return f"a call: {warning['summary']}"
    return f"a coupon of {max(5, round(warning['value_at_risk'] / 10))} {warning['currency']}"


async def answer_warnings(
    bootstrap: str, topic: str, answered: sqlite3.Connection, group: str = "retention"
) -> None:
    answered.execute("create table if not exists answered (warning_id text primary key)")
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
    )
    async with consumer:
        async for record in consumer:
            warning = json.loads(record.value)
            # Held-out customers are left alone: they show what the offers are worth.
            if warning["kind"] == "warning" and not warning["holdout"]:
                row = (warning["warning_id"],)
                # Written down first: rather no coupon than two.
                with answered:
                    new = answered.execute("insert or ignore into answered values (?)", row)
                if new.rowcount:
                    print(f"{warning['user_id']}: {offer(warning)}", flush=True)
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(
        answer_warnings(
            os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
            os.environ.get("CLV_WARNINGS_TOPIC", "churn-warnings"),
            sqlite3.connect(os.environ.get("ANSWERED", "answered.db")),
        )
    )
