"""Customers as each version of the program has stored them: bytes, and what they mean.

`python -m tests.support.golden_states` writes those of today's version into
`tests/data/states/v<n>`. Do that once, before the first release that writes a new version, and
never change the files after it: servers hold such bytes.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec

from features.events.orders import Order, OrderType
from features.facts.ledger import IdMemory, entries, is_wide
from model.decide.codec import CUSTOMER_VERSION, UNKNOWN, CustomerRecord, encode
from model.judge.judged import Event, ScheduledCustomer
from tests.support.fakes import an_order, at, every, judge, scorer

STATES = Path(__file__).parents[1] / "data" / "states"


def lived(
    *orders: Order, until_day: float | None = None, memory: IdMemory | None = None
) -> ScheduledCustomer:
    """A customer after these orders, and after the instants up to a day."""
    by = judge(memory=memory, by=scorer(version="golden-1"))
    user = orders[0].user_id
    events = [Event(place, order, order.ts_ms) for place, order in enumerate(orders)]
    until_ms = None if until_day is None else at(until_day)
    track = by.judge({user: ScheduledCustomer(UNKNOWN, None)}, {user: events}, until_ms).tracks[
        user
    ]
    return ScheduledCustomer(_under_a_fixed_policy(track.customer), track.due_ms)


def _under_a_fixed_policy(customer: CustomerRecord) -> CustomerRecord:
    """The customer with a policy's name that no later setting changes."""
    raised = customer.rule_state.raised
    if raised is None:
        return customer
    named = msgspec.structs.replace(raised, policy_version="c0ffee00")
    return CustomerRecord(
        customer.facts, msgspec.structs.replace(customer.rule_state, raised=named)
    )


def shapes() -> dict[str, CustomerRecord]:
    """One customer of each kind that is stored differently."""
    weekly = every("ada", 7, 6)
    refund = an_order("cleo", 12.75, 40_000, OrderType.REFUND, id="cleo-12.5")
    taken_back = an_order("dora", 3.5, 0, OrderType.CANCELLATION, id="dora-2.5")
    decades = every("eve", 400, 12)
    marked = msgspec.structs.replace(an_order("hal", 5), updated_ms=at(6))
    parts = [
        msgspec.structs.replace(
            an_order("hal", 7, 1_000, OrderType.REFUND, id="hal-5"), refund_id=f"r-{number}"
        )
        for number in range(2)
    ]
    return {
        "empty": UNKNOWN,
        "refunded-in-parts": lived(an_order("hal", 2), marked, *parts).customer,
        "one-order": lived(an_order("ben", 0.5)).customer,
        "weekly": lived(*weekly).customer,
        "warned-of-silence": lived(*every("ben", 7, 21), until_day=200).customer,
        "warned-of-a-refund": lived(*every("cleo", 3, 5, 9_000), refund).customer,
        "cancelled": lived(*every("dora", 1, 4), taken_back).customer,
        "summarised": lived(*decades).customer,
        "forgetful": lived(*every("fay", 1, 9), memory=IdMemory(days=30, size=4)).customer,
        "large-amounts": lived(*every("gus", 2, 3, 10**11)).customer,
    }


def meaning(customer: CustomerRecord) -> dict[str, Any]:
    """The customer in plain values; byte strings in hexadecimal."""
    plain = msgspec.to_builtins(customer, builtin_types=(bytes,))
    facts, ledger = plain["facts"], customer.facts.ledger
    # As versions 1 and 2 had ledgers at work; version 1 knew no wide ones.
    facts["ledger"] = b"".join(
        struct.pack(">q8sq", one.ts_ms << 2 | one.type, one.id_hash, one.amount_minor)
        + (one.refund_hash + struct.pack(">q", one.updated_ms) if is_wide(ledger) else b"")
        for one in entries(ledger)
    )
    facts |= {"wide": True} if is_wide(ledger) else {}
    return json.loads(json.dumps(plain, default=bytes.hex))


def write(directory: Path) -> None:
    """Raises FileExistsError rather than changing a file."""
    directory.mkdir(parents=True)
    for name, customer in shapes().items():
        (directory / f"{name}.bin").write_bytes(encode(customer))
        text = json.dumps(meaning(customer), indent=1, sort_keys=True)
        (directory / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    write(STATES / f"v{CUSTOMER_VERSION}")
