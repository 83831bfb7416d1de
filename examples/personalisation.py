"""A personalisation feed: what every customer is worth just now, for recommendations and prices.

KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python examples/personalisation.py
"""

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer

SHELVES = {"top": "new arrivals", "high": "favourites", "middle": "bestsellers", "low": "offers"}
DISCOUNTS = {"top": 0.0, "high": 0.05, "middle": 0.05, "low": 0.10}


def offered(score: dict, list_price: float) -> tuple[str, float]:
    """A shelf and a price; the best customers buy anyway, unless they are about to leave."""
    discount = 0.15 if score["churn_probability"] > 0.7 else DISCOUNTS[score["segment"]]
    return SHELVES[score["segment"]], round(list_price * (1 - discount), 2)


async def follow(bootstrap: str, topic: str, scores: dict[str, dict]) -> None:
    # The topic is compacted: it has the last score of everybody. No group, so that every copy of
    # this service reads all of it at its start.
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        async for record in consumer:
            user_id = record.key.decode()
            if record.value is None:  # forgotten, at the customer's own wish
                scores.pop(user_id, None)
            else:
                scores[user_id] = json.loads(record.value)
                print(f"{user_id}:", *offered(scores[user_id], 100), flush=True)


if __name__ == "__main__":
    topic = os.environ.get("CLV_SCORES_TOPIC", "clv-scores")
    asyncio.run(follow(os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic, {}))
