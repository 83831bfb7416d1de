"""An order as a record of the orders topic, for all who write it: `produce`, `ingest`, the web."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from features.events.money import amount_text
from features.events.orders import Order
from features.times import rfc3339
from streamer.records import Message

_encode: Final = msgspec.json.Encoder().encode


def order_message(order: Order, topic: str, currency: str) -> Message:
    """The orders record of an order, as the contract has it, keyed by its customer; the amount
    digit by digit."""
    record: dict[str, Any] = {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "ts": rfc3339(order.ts_ms),
        "amount": msgspec.Raw(amount_text(order.amount_minor, currency).encode()),
        "type": order.type.wire,
        "currency": currency,
    }
    if order.refund_id:
        record["refund_id"] = order.refund_id
    if order.updated_ms >= 0:
        record["updated_at"] = rfc3339(order.updated_ms)
    return Message(topic, order.user_id.encode(), _encode(record))
