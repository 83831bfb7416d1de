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
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from features.facts import packed, packed_many
from features.facts import state as facts_module
from features.facts.state import EMPTY, CustomerState, StateError, StateNewer
from model.decide.rule_state import NEW, Peak, RaisedWarning, RuleState

CUSTOMER_VERSION: Final = 3
_HEADER: Final = struct.Struct("<BH")
_CHECKSUM: Final = struct.Struct("<I")

_rule_state_decoder = msgspec.msgpack.Decoder(RuleState)
_ARMED, _SWAPPED = 1, 2


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a rule state beside the facts. `since_ms`: `as_of_ms` less the newest event;
    `peaks`: days and CLVs in turn; the rest only where it differs from these."""

    model_version: str
    since_ms: int
    flags: int
    floor_minor: int
    peaks: list[int]
    episode_ms: int | None = None  # None: the newest event is the order
    episode_id: bytes = b""
    raised: RaisedWarning | None = None
    deferred_since_ms: int = -1
    quiet_until_day: int = -1


_encoder = msgspec.msgpack.Encoder()
_kept_decoder = msgspec.msgpack.Decoder(_Kept)


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
    return encode_all([customer.rule_state], [customer.facts])[0]


def encode_all(
    rule_states: Sequence[RuleState | tuple[Any, ...]], facts: Sequence[CustomerState]
) -> list[bytes]:
    """`encode` of each, in a fraction of the time. A rule state may be a tuple of its fields, the
    peaks pairs."""
    return [
        _framed(rule_state, of_one, data)
        for rule_state, of_one, data in zip(
            rule_states, facts, packed_many.pack_all(facts), strict=True
        )
    ]


def _framed(rule_state: RuleState | tuple[Any, ...], facts: CustomerState, data: bytes) -> bytes:
    kept = _kept(rule_state, facts)
    body = _HEADER.pack(CUSTOMER_VERSION, len(kept)) + kept + data
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _kept(rule_state: RuleState | tuple[Any, ...], facts: CustomerState) -> bytes:
    if isinstance(rule_state, RuleState):
        rule_state = msgspec.structs.astuple(rule_state)
        pairs = [(peak.day, peak.clv_minor) for peak in rule_state[2]]
    else:
        pairs = rule_state[2]
    version, as_of_ms, _, armed, episode_ms, episode_id, raised, _, _, *others = rule_state
    since_ms, floor_minor, swapped, quiet_until_day = others
    newest_ms = facts.newest_ms
    fields: list[object] = [
        version,
        as_of_ms - newest_ms,
        _ARMED * armed | _SWAPPED * swapped,
        floor_minor,
        [number for pair in pairs for number in pair],
    ]
    of_newest = episode_ms == newest_ms and episode_id == facts.newest_id
    rest = (raised, since_ms, quiet_until_day)
    if not of_newest or rest != _NO_REST:
        fields.append(None if of_newest else episode_ms)
        fields += (b"" if of_newest else episode_id, *rest)
    return _encoder.encode(fields)


_NO_REST: Final = (None, -1, -1)


def decode(data: bytes) -> CustomerRecord:
    """The customer that `encode` of this or an older version wrote.

    Raises CustomerNewer where a newer one did, CustomerDamaged for anything else.
    """
    (found,) = decode_all([data])
    if isinstance(found, StateError):
        raise found
    return found


def decode_all(data: Sequence[bytes]) -> list[CustomerRecord | CustomerNewer | CustomerDamaged]:
    """`decode` of each, in a fraction of the time, or what it raises."""
    found: list[CustomerRecord | CustomerNewer | CustomerDamaged] = []
    newest: list[tuple[int, bytes]] = []
    for one in data:
        try:
            body = _body(one)
            reader = READERS.get(body[0])
            if reader is None:
                raise _unknown(body[0])
            if reader is _read:
                newest.append((len(found), body))
            found.append(UNKNOWN if reader is _read else reader(body))
        except (struct.error, ValueError, StateError) as error:
            found.append(_refused(error))
    facts = packed_many.unpack_all([body[_facts_at(body) :] for _, body in newest])
    for (place, body), of_one in zip(newest, facts, strict=True):
        try:
            found[place] = _with_rule_state(of_one, body)
        except (ValueError, StateError) as error:
            found[place] = _refused(error)
    return found


def _body(data: bytes) -> bytes:
    """What the checksum covers. Raises CustomerDamaged where it does not fit."""
    body = data[: -_CHECKSUM.size]
    if len(data) <= _CHECKSUM.size:
        raise CustomerDamaged(f"{len(data)} bytes are too few for a customer")
    if data[-_CHECKSUM.size :] != _CHECKSUM.pack(zlib.crc32(body)):
        raise CustomerDamaged("the checksum does not fit the bytes")
    return body


def _unknown(version: int) -> CustomerNewer | CustomerDamaged:
    if version > CUSTOMER_VERSION:
        return CustomerNewer("customer", version, CUSTOMER_VERSION)
    return CustomerDamaged(f"version {version}, which no program wrote")


def _refused(error: Exception) -> CustomerNewer | CustomerDamaged:
    if isinstance(error, CustomerNewer | CustomerDamaged):
        return error
    if isinstance(error, StateNewer):
        return CustomerNewer("state", error.version, error.known)
    return CustomerDamaged(f"the bytes cannot be read: {error}")


def _facts_at(body: bytes) -> int:
    return _HEADER.size + int(_HEADER.unpack_from(body.ljust(_HEADER.size, b"\0"))[1])


def _with_rule_state(facts: CustomerState | StateError, body: bytes) -> CustomerRecord:
    if isinstance(facts, StateError):
        raise facts
    kept = _kept_decoder.decode(body[_HEADER.size : _facts_at(body)])
    newest_ms, of_newest = facts.newest_ms, kept.episode_ms is None
    numbers = iter(kept.peaks)
    rule_state = RuleState(
        model_version=kept.model_version,
        as_of_ms=newest_ms + kept.since_ms,
        peaks=tuple(
            [Peak(day, clv_minor) for day, clv_minor in zip(numbers, numbers, strict=True)]
        ),
        armed=bool(kept.flags & _ARMED),
        episode_ms=newest_ms if kept.episode_ms is None else kept.episode_ms,
        episode_id=facts.newest_id if of_newest else kept.episode_id,
        raised=kept.raised,
        deferred_since_ms=kept.deferred_since_ms,
        floor_minor=kept.floor_minor,
        swapped=bool(kept.flags & _SWAPPED),
        quiet_until_day=kept.quiet_until_day,
    )
    return CustomerRecord(facts, rule_state)


def _read(body: bytes) -> CustomerRecord:
    return _with_rule_state(packed.unpack(body[_facts_at(body) :]), body)


def _read_unpacked(body: bytes) -> CustomerRecord:
    _, size = _HEADER.unpack_from(body)
    at = _HEADER.size + size
    rule_state = _rule_state_decoder.decode(body[_HEADER.size : at])
    return CustomerRecord(facts_module.decode(body[at:]), rule_state)


READERS: Final[dict[int, Callable[[bytes], CustomerRecord]]] = {
    1: _read_unpacked,
    2: _read_unpacked,
    3: _read,
}
"""A reader of each version, from what the checksum covers to today's CustomerRecord."""
