"""Sentences for a person: what they say, and that they fit what happened."""

from __future__ import annotations

import msgspec
import pytest

from features.orders import Order, OrderType
from model.decide.policy import Policy
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.support.fakes import TOPICS, an_order, at, claimed, done, every, judge, pipeline, records


def said(orders: list[Order], **policy: float) -> list[str]:
    publisher = MemoryPublisher()
    log = records(orders)
    through = pipeline(judge(Policy(floor_percentile=0, **policy)))  # type: ignore[arg-type]
    runner = claimed(log, MemoryStore(), publisher, through)
    done(runner.process(log))
    done(runner.tick(at(300)))
    found = [msgspec.json.decode(message.value or b"") for message in publisher.of(TOPICS.warnings)]
    return [record["summary"] for record in found]


@pytest.mark.parametrize(
    ("orders", "policy", "expected"),
    [
        (
            every("ada", 7, 3, 1_200),
            {"drop": 0.3},
            "No order for 29 days; usually orders every 7. CLV fell 30 % from 96.00 to 67.00 USD,"
            " mostly through silence.",
        ),
        (
            [an_order("ada", 0.5)],
            {"drop": 0.05},
            "No order for 20 days since the first. CLV fell 7 % from 300.00 to 280.00 USD,"
            " mostly through silence.",
        ),
        (
            [*every("ada", 7, 13), an_order("ada", 84.7, 65_000, OrderType.REFUND)],
            {"drop": 0.9},
            "An order was refunded or cancelled. CLV fell 72 % from 900.00 to 250.00 USD,"
            " mostly through refunds.",
        ),
        (
            [an_order("ada", 0.5, 10_000), an_order("ada", 1.5, 100)],
            {"drop": 0.9},
            "The latest order is worth less than what it was compared with. CLV fell 41 % from"
            " 600.00 to 353.50 USD, mostly through smaller baskets.",
        ),
    ],
)
def test_a_warning_says_in_a_sentence_what_happened(
    orders: list[Order], policy: dict[str, float], expected: str
) -> None:
    assert said(orders, **policy)[0] == expected
