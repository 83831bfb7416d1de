"""What orders a record of any shape has: pure, bytes or a document in, orders or a reason out.

Two readings: of records that are canonical orders already, under whatever key, and of records that
a mapping (`features.mapping`) makes orders of. Either gives the same orders for the same record,
whenever and by whomever it is read; a refund that the shop gives no id gets one here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from features.events.orders import (
    Order,
    OrderRules,
    OrderType,
    Reason,
    Rejected,
    from_fields,
    parse,
)
from features.mapping.mapping import OrderMapping, Skipped

Outcome: TypeAlias = Order | Rejected | Skipped

# Digit by digit: no amount becomes a float on its way.
read_json: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(float_hook=Decimal).decode

_REFUND_ID_BYTES: Final = 12
_packed: Final = msgspec.msgpack.Encoder().encode
# As JSON has them: a decimal is a number, and no digit of it is lost.
_as_json: Final = msgspec.json.Encoder(decimal_format="number").encode
_UNREADABLE: Final = (ValueError, RecursionError)


class OrderReading(Protocol):
    """One way to read records. Never raises."""

    def of_json(self, value: bytes, record_ts_ms: int, now_ms: int) -> Sequence[Outcome]:
        """What a record of JSON has; at least one outcome. `record_ts_ms`: its timestamp (0 and
        below: none), `now_ms`: the reader's clock."""
        ...

    def of_document(self, document: Any, record_ts_ms: int, now_ms: int) -> Sequence[Outcome]:
        """The same of a record that its schema has decoded."""
        ...


class CanonicalReading:
    """Records that are orders as the contract has them."""

    def __init__(self, rules: OrderRules) -> None:
        self._rules = rules

    def of_json(self, value: bytes, record_ts_ms: int, now_ms: int) -> Sequence[Outcome]:
        return with_refund_ids([parse(value, None, record_ts_ms, self._rules, now_ms)])

    def of_document(self, document: Any, record_ts_ms: int, now_ms: int) -> Sequence[Outcome]:
        try:
            value = _as_json(document)
        except (TypeError, *_UNREADABLE) as error:
            return [Rejected(Reason.NOT_JSON, f"has what JSON has not ({type(error).__name__})")]
        return self.of_json(value, record_ts_ms, now_ms)


class MappedReading:
    """Records that a mapping makes orders of."""

    def __init__(self, mapping: OrderMapping, rules: OrderRules) -> None:
        self._mapping = mapping
        self._rules = rules

    def of_json(self, value: bytes, record_ts_ms: int, now_ms: int) -> Sequence[Outcome]:
        try:
            document = read_json(value)
        except _UNREADABLE as error:
            # Left to `parse` are the words for it.
            found = parse(value, None, record_ts_ms, self._rules, now_ms)
            if isinstance(found, Rejected):
                return [found]
            return [Rejected(Reason.NOT_JSON, f"value is not JSON: {type(error).__name__}")]
        return self.of_document(document, record_ts_ms, now_ms)

    def of_document(self, document: Any, record_ts_ms: int, now_ms: int) -> Sequence[Outcome]:
        found = self._mapping.orders(document)
        if isinstance(found, Skipped):
            return [found]
        if not isinstance(found, list):
            return [Rejected(found.reason, found.detail)]
        rules = self._rules
        return with_refund_ids([from_fields(fields, rules, now_ms) for fields in found])


def with_refund_ids(outcomes: list[Order | Rejected]) -> Sequence[Outcome]:
    """The outcomes of one record, each refund with an id: without one of the shop's, a hash of the
    order, time and amount, and of how many like it stand before it in the record. So the same
    refund has the same id in every record that tells of it."""
    seen: Counter[tuple[str, int, int]] | None = None
    for at, order in enumerate(outcomes):
        if isinstance(order, Rejected) or order.type is not OrderType.REFUND or order.refund_id:
            continue
        seen = Counter() if seen is None else seen
        what = (order.order_id, order.ts_ms, order.amount_minor)
        digest = hashlib.blake2b(_packed((*what, seen[what])), digest_size=_REFUND_ID_BYTES)
        outcomes[at] = msgspec.structs.replace(order, refund_id=digest.hexdigest())
        seen[what] += 1
    return outcomes
