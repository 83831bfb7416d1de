"""A customer as stored: facts and judgement, framed with a version and a checksum."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import msgspec

from features import state as facts_module
from features.state import EMPTY, CustomerState, StateError
from model.policy import NEW, Judgement

CUSTOMER_VERSION: Final = 1
_HEADER: Final = struct.Struct("<BH")
_CHECKSUM: Final = struct.Struct("<I")

_judgement_encoder = msgspec.msgpack.Encoder()
_judgement_decoder = msgspec.msgpack.Decoder(Judgement)


class Customer(msgspec.Struct, frozen=True, gc=False):
    """Facts and judgement of one customer."""

    facts: CustomerState = EMPTY
    judgement: Judgement = NEW


UNKNOWN: Final = Customer()


class CustomerNewer(StateError):
    """Written by a newer program. Upgrade this worker; nothing was overwritten."""


class CustomerDamaged(StateError):
    """The bytes are not what was written. Delete the customer and rebuild it from the log."""


def encode(customer: Customer) -> bytes:
    """The customer as bytes, with a checksum over all of them."""
    judgement = _judgement_encoder.encode(customer.judgement)
    body = (
        _HEADER.pack(CUSTOMER_VERSION, len(judgement))
        + judgement
        + facts_module.encode(customer.facts)
    )
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode(data: bytes) -> Customer:
    """The customer that `encode` wrote. Raises CustomerNewer or CustomerDamaged."""
    if data[:1] and data[0] > CUSTOMER_VERSION:
        raise CustomerNewer(f"customer version {data[0]} is newer than {CUSTOMER_VERSION}")
    body = data[: -_CHECKSUM.size]
    if len(data) < _HEADER.size + _CHECKSUM.size:
        raise CustomerDamaged(f"{len(data)} bytes are too few for a customer")
    if data[-_CHECKSUM.size :] != _CHECKSUM.pack(zlib.crc32(body)):
        raise CustomerDamaged("the checksum does not fit the bytes")
    _, size = _HEADER.unpack_from(body)
    at = _HEADER.size + size
    try:
        judgement = _judgement_decoder.decode(body[_HEADER.size : at])
    except msgspec.DecodeError as error:
        raise CustomerDamaged(f"the judgement cannot be read: {error}") from None
    return Customer(facts_module.decode(body[at:]), judgement)
