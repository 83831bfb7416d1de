"""Records that a worker must outlive: bad ones, each of them a dead letter, and odd ones, each of
them an order like any other.

What a field may hold is `tests.features.test_orders`'s; here are whole records, with their keys and
headers, and what only several records together have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from features.times import MS_PER_DAY
from streamer.records import Message
from tests.features.test_orders import BAD, ODD_AMOUNTS, ODD_IDS, UNKNOWN_FIELDS, WRONG_KEYS

# What Kafka takes by default, less what a batch has of its own.
LARGEST: Final = 1_048_500
# What Faust's agents would obey, and more headers than anybody sends.
_HEADERS: Final = {
    "headers for an agent": (("Faust-Ag-ReplyTo", b"replies"), ("Faust-Ag-CorrelationId", b"1")),
    "1,000 headers": tuple((f"h-{n}", b"\r\n\xff") for n in range(1_000)),
}


def bad(topic: str, now_ms: int) -> dict[str, Message]:
    """Records that are no orders, by what is wrong; `now_ms`: what the broker's clock will say."""
    found = {
        name: Message(topic, b"ada", None if value is None else value[:LARGEST])
        for name, (value, _) in BAD.items()
    }
    # Of that table's own clock.
    later_ms = now_ms + MS_PER_DAY + 3_600_000
    found["ts in a day and a ms"] = Message(topic, b"ada", _order("ada", "1", later_ms))
    for key in WRONG_KEYS:
        found[f"a key of {key!r}"] = Message(topic, key, _order("ada", "1", now_ms))
    for name, headers in _HEADERS.items():
        found[name] = Message(topic, b"ada", b"{", headers)
    return found


def odd(topic: str, ts_ms: int) -> list[Message]:
    """Orders that look as if they were none, all at `ts_ms` or before; in their order."""
    return [Message(topic, *record) for record in _odd(ts_ms)]


_Headers = tuple[tuple[str, bytes], ...]


def _odd(ts_ms: int) -> Iterator[tuple[bytes, bytes] | tuple[bytes, bytes, _Headers]]:
    for number, user in enumerate(ODD_IDS):
        yield user.encode(), _order(user, f"{user[:100]}{number}", ts_ms)
    plain = _order("odd", "@", ts_ms)
    for number, fields in enumerate(UNKNOWN_FIELDS):
        value = plain.replace(b'"@"', b'"field-%d"' % number)
        yield b"odd", value[:-1] + b"," + fields.encode() + b"}"
    for number, amount in enumerate(ODD_AMOUNTS):
        value = plain.replace(b'"@"', b'"amount-%d"' % number)
        yield b"odd", value.replace(b"12.5", amount.encode())
    yield b"odd", plain.replace(b'"@"', b'"twice"')[:-1] + b',"amount":7}'
    yield b"odd", plain[:-1] + b',"note":"' + b"x" * (LARGEST - len(plain) - 20) + b'"}'
    for name, headers in _HEADERS.items():
        yield b"odd", _order("odd", name, ts_ms), headers
    # The same again, with another amount, of another customer.
    for user, amount in (("same", 12.5), ("same", 12.5), ("same", 99.0), ("other", 12.5)):
        yield user.encode(), _order(user, "same-id", ts_ms, amount=amount)
    for kind in ("cancellation", "refund"):
        for type_ in (kind, "order"):
            yield b"before", _order("before", f"{kind}-first", ts_ms, type=type_)
    for late_ms in (0, 1_000, MS_PER_DAY, 365 * MS_PER_DAY):
        yield b"late", _order("late", f"late-{late_ms}", ts_ms - late_ms)


def _order(user_id: str, order_id: str, ts_ms: int, **fields: object) -> bytes:
    order = {"order_id": order_id, "user_id": user_id, "ts": ts_ms, "amount": 12.5, **fields}
    return json.dumps(order).encode()
