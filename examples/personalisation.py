"""A personalisation feed: what every customer is worth just now, for recommendations and prices.

    KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python examples/personalisation.py

`clv-scores` is compacted: it holds the last score of every customer, so it is read from its
beginning at every start, and then followed. `docs/contract.md` has the fields of a score.
"""

from __future__ import annotations

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer

SHELVES = {"top": "new arrivals", "high": "favourites", "middle": "bestsellers", "low": "offers"}
DISCOUNTS = {"top": 0.0, "high": 0.05, "middle": 0.05, "low": 0.10}


class Feed:
    """The latest score by customer, and what a shop makes of it."""

    def __init__(self) -> None:
        self.scores: dict[str, dict] = {}

    def shelf(self, user_id: str) -> str:
        """What to recommend; strangers see what most people like."""
        return SHELVES[self.segment(user_id)]

    def price(self, user_id: str, list_price: float) -> float:
        """The best customers buy anyway, unless they are about to leave."""
        leaving = self.scores.get(user_id, {}).get("churn_probability", 0.0) > 0.7
        discount = 0.15 if leaving else DISCOUNTS[self.segment(user_id)]
        return round(list_price * (1 - discount), 2)

    def segment(self, user_id: str) -> str:
        return self.scores.get(user_id, {}).get("segment", "middle")

    async def follow(self, bootstrap: str, topic: str) -> None:
        # No group: every copy of this service reads all partitions, and from the beginning.
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
        )
        async with consumer:
            async for record in consumer:
                user_id = record.key.decode()
                if record.value is None:  # forgotten, at the customer's own wish
                    self.scores.pop(user_id, None)
                else:
                    self.scores[user_id] = json.loads(record.value)
                print(f"{user_id}: {self.shelf(user_id)}, {self.price(user_id, 100)}", flush=True)


if __name__ == "__main__":
    asyncio.run(
        Feed().follow(
            os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
            os.environ.get("CLV_SCORES_TOPIC", "clv-scores"),
        )
    )
