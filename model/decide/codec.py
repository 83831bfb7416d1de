"""A customer as stored: facts and rule state, framed with a version and a checksum.

The frame outlives the versions: the first byte is the version, the last four are the CRC-32 of all
before them, whatever a version puts in between. So bytes that fit their checksum are what some
version wrote, and may be refused as newer; bytes that do not are damage, whatever they begin with.

To change what is written: raise CUSTOMER_VERSION, give READERS a reader of the version before that
makes today's CustomerRecord of it, and put bytes of that version under `tests/data/states`.
Customers are read in the version they have and written in the newest, so they move over as they are
touched.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from features.facts import state as facts_module
from features.facts.state import EMPTY, CustomerState, StateError, StateNewer
from model.decide.rule_state import NEW, RuleState

CUSTOMER_VERSION: Final = 2
_HEADER: Final = struct.Struct("<BH")
_CHECKSUM: Final = struct.Struct("<I")

_rule_state_encoder = msgspec.msgpack.Encoder()
_rule_state_decoder = msgspec.msgpack.Decoder(RuleState)


class CustomerRecord(msgspec.Struct, frozen=True, gc=False):
    """Facts and rule state of one customer."""

    facts: CustomerState = EMPTY
    rule_state: RuleState = NEW


UNKNOWN: Final = CustomerRecord()


class CustomerNewer(StateNewer):
    """Written by a newer program. Upgrade this worker; nothing was overwritten."""


class CustomerDamaged(StateError):
    """The bytes are not what was written. Rebuild the customer from the log, as the worker does."""


def encode(customer: CustomerRecord) -> bytes:
    """The customer as bytes of the newest version, with a checksum over all of them."""
    return encode_fields(customer.rule_state, customer.facts)


def encode_fields(rule_state: RuleState | tuple[object, ...], facts: CustomerState) -> bytes:
    """The same of a customer whose rule state may be a tuple of its fields."""
    remembered = _rule_state_encoder.encode(rule_state)
    body = _HEADER.pack(CUSTOMER_VERSION, len(remembered)) + remembered + facts_module.encode(facts)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode(data: bytes) -> CustomerRecord:
    """The customer that `encode` of this or an older version wrote.

    Raises CustomerNewer where a newer one did, CustomerDamaged for anything else.
    """
    body = data[: -_CHECKSUM.size]
    if len(data) <= _CHECKSUM.size:
        raise CustomerDamaged(f"{len(data)} bytes are too few for a customer")
    if data[-_CHECKSUM.size :] != _CHECKSUM.pack(zlib.crc32(body)):
        raise CustomerDamaged("the checksum does not fit the bytes")
    reader = READERS.get(body[0])
    if reader is None:
        if body[0] > CUSTOMER_VERSION:
            raise CustomerNewer("customer", body[0], CUSTOMER_VERSION)
        raise CustomerDamaged(f"version {body[0]}, which no program wrote")
    try:
        return reader(body)
    except StateNewer as error:
        raise CustomerNewer("state", error.version, error.known) from None
    except (struct.error, ValueError, StateError) as error:
        raise CustomerDamaged(f"the bytes cannot be read: {error}") from None


def _read(body: bytes) -> CustomerRecord:
    _, size = _HEADER.unpack_from(body)
    at = _HEADER.size + size
    rule_state = _rule_state_decoder.decode(body[_HEADER.size : at])
    return CustomerRecord(facts_module.decode(body[at:]), rule_state)


READERS: Final[dict[int, Callable[[bytes], CustomerRecord]]] = {1: _read, 2: _read}
"""A reader of each version, from what the checksum covers to today's CustomerRecord."""
