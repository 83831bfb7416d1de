"""Records of the orders topic parsed many at once: what is plainly an order in columns, the rest
record by record. What comes out is what `parse` makes of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec
import numpy as np

from features.arrays import Bools, Ints
from features.events.orders import (
    TYPES,
    UNDECODABLE,
    FreeOrders,
    Order,
    OrderRules,
    OrderType,
    Rejected,
    Wire,
    parse,
)
from features.events.plain import amounts_minor, civil_ms
from features.times import is_epoch_ms

# Arrays of fewer records cost more than they save.
LEAST: Final = 50


class SentRecords(NamedTuple):
    """Records in columns; what there is of each is said at `parse`."""

    values: Sequence[bytes]
    keys: Sequence[bytes | None]
    record_ts_ms: Sequence[int | None]

    def take(self, places: Sequence[int]) -> SentRecords:
        """Some of the records."""
        values, keys, times = self
        return SentRecords(
            [values[at] for at in places],
            [keys[at] for at in places],
            [times[at] for at in places],
        )


class _OurFields(Wire, forbid_unknown_fields=True, gc=False):
    """A record with no other fields than ours: none of them is one of ours in other letters."""


_TYPE_OF: Final = tuple(OrderType)
_decode: Final = msgspec.json.Decoder(_OurFields).decode


def parse_many(
    sent: SentRecords, rules: OrderRules, now_ms: int | None = None
) -> Sequence[Order | Rejected]:
    """What `parse` makes of each record, in their order."""
    records = zip(*sent, strict=True)
    if len(sent.values) < LEAST:
        return [parse(*one, rules, now_ms) for one in records]
    wires = _decoded(sent.values)
    places = [at for at, wire in enumerate(wires) if wire is not None]
    if len(places) < len(wires):
        sent = sent.take(places)
    if not places:
        return [parse(*one, rules, now_ms) for one in records]
    orders, plain = _orders([wire for wire in wires if wire is not None], sent, rules, now_ms)
    if len(places) == len(wires) and plain.all():
        return orders
    found: list[Order | Rejected | None] = [None] * len(wires)
    for at, order, is_plain in zip(places, orders, plain.tolist(), strict=True):
        if is_plain:
            found[at] = order
    return [
        parse(*one, rules, now_ms) if order is None else order
        for one, order in zip(records, found, strict=True)
    ]


def _decoded(values: Sequence[bytes]) -> Sequence[Wire | None]:
    """The records that have our fields and no others; None in place of the rest."""
    try:
        return list(map(_decode, values))
    except UNDECODABLE:
        return list(map(_decoded_alone, values))


def _decoded_alone(value: bytes) -> Wire | None:
    try:
        return _decode(value)
    except UNDECODABLE:
        return None


def _orders(
    wires: Sequence[Wire], sent: SentRecords, rules: OrderRules, now_ms: int | None
) -> tuple[list[Order], Bools]:
    """The records as if all were plain orders, and which are."""
    users = [wire.user_id for wire in wires]
    counted = users
    if rules.merge_ids or rules.same_as:
        counted = list(map(rules.customer, users))
    plain = _named(wires, users, counted, sent.keys, rules)
    ts_ms, timed = _instants([wire.ts for wire in wires])
    texts = [bytes(wire.amount).decode(errors="replace") for wire in wires]
    amounts = amounts_minor(texts, rules.currency)
    kind = np.array([TYPES[wire.type] for wire in wires], np.int8)
    order = kind == OrderType.ORDER
    plain &= timed & amounts.plain & ~(order & (amounts.values < 0))
    if rules.free_orders is FreeOrders.IGNORE:
        kind[order & (amounts.values == 0)] = OrderType.FREE
    plain &= ts_ms >= rules.earliest_ms
    for clock_ms in (now_ms or 0, np.array([ms or 0 for ms in sent.record_ts_ms], np.int64)):
        plain &= (clock_ms <= 0) | (ts_ms <= clock_ms + rules.max_future_ms)
    columns = (
        [wire.order_id for wire in wires],
        counted,
        ts_ms.tolist(),
        np.abs(amounts.values).tolist(),
        map(_TYPE_OF.__getitem__, kind.tolist()),
        [wire.refund_id or "" if wire.type == "refund" else "" for wire in wires],
    )
    return list(map(Order, *columns)), plain


def _named(
    wires: Sequence[Wire],
    users: Sequence[str],
    counted: Sequence[str],
    keys: Sequence[bytes | None],
    rules: OrderRules,
) -> Bools:
    """Which records have a key, a customer, a currency and a version as plain orders have."""
    if (
        keys == list(map(str.encode, users))
        and rules.placeholders.isdisjoint(map(str.casefold, map(str.strip, set(counted))))
        and {wire.currency for wire in wires} <= {None, rules.currency}
        and {wire.updated_at for wire in wires} == {None}
    ):
        return np.ones(len(wires), bool)
    named = rules.placeholders
    return np.array(
        [
            (key is None or key == user.encode() or key == own.encode())
            and own.strip().casefold() not in named
            and wire.currency in (None, rules.currency)
            and wire.updated_at is None
            for key, wire, user, own in zip(keys, wires, users, counted, strict=True)
        ],
        bool,
    )


def _instants(values: Sequence[int | str]) -> tuple[Ints, Bools]:
    """Epoch ms of times as they are sent, and which could be read here."""
    if set(map(type, values)) == {str}:
        return civil_ms(cast("Sequence[str]", values))
    ts_ms, plain = civil_ms([value if isinstance(value, str) else "" for value in values])
    for at, value in enumerate(values):
        if isinstance(value, int) and is_epoch_ms(value):
            ts_ms[at], plain[at] = value, True
    return ts_ms, plain
