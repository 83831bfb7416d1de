"""Which orders a model was made of: counts, span and a hash that does not depend on their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from features.events.orders import Order
from features.times import rfc3339

_BITS: Final = 128


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The fingerprint of a set of orders; instants are RFC 3339 in UTC, empty without orders.

    `hash` is the sum of the hashes of all orders, so the same log in other files or another order
    has the same one, and an order that is there twice counts twice.
    """

    hash: str
    orders: int
    customers: int
    first: str
    last: str


def data_of(orders: Iterable[Order]) -> Data:
    """The fingerprint; takes a few microseconds an order."""
    total = count = 0
    users: set[str] = set()
    first_ms: int | None = None
    last_ms: int | None = None
    for order in orders:
        total += _hash(order)
        count += 1
        users.add(order.user_id)
        first_ms = order.ts_ms if first_ms is None else min(first_ms, order.ts_ms)
        last_ms = order.ts_ms if last_ms is None else max(last_ms, order.ts_ms)
    return Data(
        hash=f"{total % (1 << _BITS):032x}",
        orders=count,
        customers=len(users),
        first=_instant(first_ms),
        last=_instant(last_ms),
    )


def _hash(order: Order) -> int:
    # Lengths first, so that no two orders write the same.
    fields = (order.order_id, order.user_id, order.ts_ms, order.amount_minor, int(order.type))
    text = "".join(f"{len(str(field))}:{field}" for field in fields)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_BITS // 8).digest(), "big")


def _instant(ms: int | None) -> str:
    return "" if ms is None else rfc3339(ms, milliseconds=True)
