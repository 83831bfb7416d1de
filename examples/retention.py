"""A retention service: each churn warning is answered once, with an offer fitted to the stakes.

KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python examples/retention.py
"""

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
    # Warnings come at least once, always with the same id: those answered are kept in a file.
    answered.execute("create table if not exists answered (warning_id text primary key)")
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest"
    )
    async with consumer:
        async for record in consumer:
            warning = json.loads(record.value)
            # Held-out customers are left alone: they show what the offers are worth.
            if warning["kind"] == "warning" and not warning["holdout"]:
                row = [warning["warning_id"]]
                with answered:  # written down first: rather no coupon than two
                    new = answered.execute("insert or ignore into answered values (?)", row)
                if new.rowcount:
                    print(f"{warning['user_id']}: {offer(warning)}", flush=True)


if __name__ == "__main__":
    topic = os.environ.get("CLV_WARNINGS_TOPIC", "churn-warnings")
    database = sqlite3.connect("answered.db")
    asyncio.run(answer_warnings(os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic, database))
