"""Records of the orders topic parsed many at once: what is plainly an order in columns, the rest
record by record. What comes out is what `parse` makes of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Final, NamedTuple

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
LEAST: Final = 200


class RecordSent(NamedTuple):
    """What there is of a record: see `parse`."""

    value: bytes
    key: bytes | None
    record_ts_ms: int | None


class _OurFields(Wire, forbid_unknown_fields=True):
    """A record with no other fields than ours: none of them is one of ours in other letters."""


_TYPE_OF: Final = tuple(OrderType)
_decode: Final = msgspec.json.Decoder(_OurFields).decode


def parse_many(
    sent: Sequence[RecordSent], rules: OrderRules, now_ms: int | None = None
) -> list[Order | Rejected]:
    """What `parse` makes of each record, in their order."""
    if len(sent) < LEAST:
        return [parse(*one, rules, now_ms) for one in sent]
    wires = _decoded(sent)
    found: list[Order | Rejected | None] = [None] * len(sent)
    places = [at for at, wire in enumerate(wires) if wire is not None]
    if places:
        known = [wire for wire in wires if wire is not None]
        orders, plain = _orders(known, [sent[at] for at in places], rules, now_ms)
        for at, order, is_plain in zip(places, orders, plain.tolist(), strict=True):
            if is_plain:
                found[at] = order
    return [parse(*sent[at], rules, now_ms) if one is None else one for at, one in enumerate(found)]


def _decoded(sent: Sequence[RecordSent]) -> list[Wire | None]:
    """The records that have our fields and no others; None in place of the rest."""
    try:
        return [_decode(one.value) for one in sent]
    except UNDECODABLE:
        return [_decoded_alone(one.value) for one in sent]


def _decoded_alone(value: bytes) -> Wire | None:
    try:
        return _decode(value)
    except UNDECODABLE:
        return None


def _orders(
    wires: Sequence[Wire], sent: Sequence[RecordSent], rules: OrderRules, now_ms: int | None
) -> tuple[list[Order], Bools]:
    """The records as if all were plain orders, and which are."""
    users = [wire.user_id for wire in wires]
    counted = users
    if rules.merge_ids or rules.same_as:
        counted = list(map(rules.customer, users))
    named = rules.placeholders
    plain = np.array(
        [
            (one.key is None or one.key == user.encode() or one.key == own.encode())
            and own.strip().casefold() not in named
            and wire.currency in (None, rules.currency)
            and wire.updated_at is None
            for one, wire, user, own in zip(sent, wires, users, counted, strict=True)
        ],
        bool,
    )
    ts_ms, timed = _instants([wire.ts for wire in wires])
    texts = [bytes(wire.amount).decode(errors="replace") for wire in wires]
    amounts = amounts_minor(texts, rules.currency)
    kind = np.array([TYPES[wire.type] for wire in wires], np.int8)
    order = kind == OrderType.ORDER
    plain &= timed & amounts.plain & ~(order & (amounts.values < 0))
    if rules.free_orders is FreeOrders.IGNORE:
        kind[order & (amounts.values == 0)] = OrderType.FREE
    plain &= ts_ms >= rules.earliest_ms
    for clock_ms in (now_ms or 0, np.array([one.record_ts_ms or 0 for one in sent], np.int64)):
        plain &= (clock_ms <= 0) | (ts_ms <= clock_ms + rules.max_future_ms)
    columns = (
        [wire.order_id for wire in wires],
        counted,
        ts_ms.tolist(),
        np.abs(amounts.values).tolist(),
        [_TYPE_OF[one] for one in kind.tolist()],
        [wire.refund_id or "" if wire.type == "refund" else "" for wire in wires],
    )
    return list(starmap(Order, zip(*columns, strict=True))), plain


def _instants(values: Sequence[int | str]) -> tuple[Ints, Bools]:
    """Epoch ms of times as they are sent, and which could be read here."""
    texts = [value if isinstance(value, str) else "" for value in values]
    ts_ms, plain = civil_ms(texts)
    for at, value in enumerate(values):
        if isinstance(value, int) and is_epoch_ms(value):
            ts_ms[at], plain[at] = value, True
    return ts_ms, plain
