"""Sentences for a person: what they say, and that they fit what happened."""

from __future__ import annotations

import msgspec
import pytest

from features.events.orders import Order, OrderType
from model.decide.policy import Policy
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.support.fakes import TOPICS, an_order, at, claimed, done, every, judge, pipeline, records


def said(orders: list[Order]) -> list[str]:
    publisher = MemoryPublisher()
    log = records(orders)
    through = pipeline(judge(Policy(floor_percentile=0)))
    runner = claimed(log, MemoryStore(), publisher, through)
    done(runner.process(log))
    done(runner.tick(at(300)))
    found = [msgspec.json.decode(message.value or b"") for message in publisher.of(TOPICS.warnings)]
    return [record["summary"] for record in found]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (
            every("ada", 7, 3, 1_200),
            "No order for 20 days; usually orders every 7. CLV fell 21 % from 96.00 to 76.00 USD,"
            " mostly through silence.",
        ),
        (
            [an_order("ada", 0.5)],
            "No order for 20 days since the first. CLV fell 7 % from 300.00 to 280.00 USD,"
            " mostly through silence.",
        ),
        (
            [*every("ada", 7, 13), an_order("ada", 84.7, 65_000, OrderType.REFUND)],
            "An order was refunded or cancelled. CLV fell 72 % from 900.00 to 250.00 USD,"
            " mostly through refunds.",
        ),
        (
            [an_order("ada", 0.5, 10_000), an_order("ada", 1.5, 100)],
            "The latest order is worth less than what it was compared with. CLV fell 41 % from"
            " 600.00 to 353.50 USD, mostly through smaller baskets.",
        ),
    ],
)
def test_a_warning_says_in_a_sentence_what_happened(orders: list[Order], expected: str) -> None:
    assert said(orders)[0] == expected
