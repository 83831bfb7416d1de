"""A customer as stored: facts and rule state, framed with a version and a checksum.

The frame outlives the versions: the first byte is the version, the last four are the CRC-32 of all
before them, whatever a version puts in between. So bytes that fit their checksum are what some
version wrote, and may be refused as newer; bytes that do not are damage, whatever they begin with.
Of this version, little-endian:

    version, flags, number of peaks, 1 byte each; 4 of the floor; 6 of the model's version
    of each peak: 2 of its day, 4 of its CLV
    where they say so: 2 for the length of a `Rest`, and that
    the ledger, as `features.facts.ledger` has it: a new order changes its end alone

To change what is written: raise CUSTOMER_VERSION, give READERS a reader of the version before that
makes today's CustomerRecord of it, and put bytes of that version under `tests/data/states`.
Customers are read in the version they have and written in the newest, so they move over as they are
touched.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

import msgspec

from features.facts import buckets as day_buckets
from features.facts import former
from features.facts import ledger as order_ledger
from features.facts.counted import NO_DAY, counted, uneven_day
from features.facts.state import (
    EMPTY,
    NOTHING_BEFORE,
    Before,
    CustomerState,
    StateError,
    StateNewer,
)
from model.decide.rule_state import NEW, Peak, RaisedWarning, RuleState

CUSTOMER_VERSION: Final = 4
FIXED: Final = struct.Struct("<BBBI6s")
PEAK: Final = struct.Struct("<HI")
ARMED, SWAPPED, HAS_REST = 1, 2, 4
CHECKSUM_BYTES: Final = 4
INTACT: Final = zlib.crc32(bytes(CHECKSUM_BYTES))
"""The checksum of bytes together with their checksum."""
_REST_SIZE: Final = struct.Struct("<H")
_MOST_PEAKS: Final = 255
_NO_FLOOR: Final = 2**32 - 1
_NO_MODEL: Final = bytes(6)


_FIELDS: Final = len(Before.__struct_fields__)
_Numbers: TypeAlias = Annotated[list[int], msgspec.Meta(min_length=_FIELDS, max_length=_FIELDS)]


class Rest(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What few customers have, only where it differs from this. `since_ms`: `as_of_ms` less the
    newest event; `episode_ms`: None: the newest event is the order; `uneven_day`, and `days` up to
    it, four numbers each: see `features.facts.counted`; the last three where they do not fit."""

    since_ms: int = msgspec.field(name="s", default=0)
    raised: RaisedWarning | None = msgspec.field(name="r", default=None)
    deferred_since_ms: int = msgspec.field(name="d", default=-1)
    quiet_until_day: int = msgspec.field(name="q", default=-1)
    episode_ms: int | None = msgspec.field(name="e", default=None)
    episode_id: bytes = msgspec.field(name="i", default=b"")
    forgotten_ms: int = msgspec.field(name="f", default=-1)
    before: _Numbers | None = msgspec.field(name="b", default=None)
    uneven_day: int | None = msgspec.field(name="u", default=None)
    days: list[int] = msgspec.field(name="k", default_factory=list)
    model_version: str | None = msgspec.field(name="m", default=None)
    floor_minor: int | None = msgspec.field(name="l", default=None)
    peaks: list[int] | None = msgspec.field(name="p", default=None)


NO_REST: Final = Rest()
_rest_encoder = msgspec.msgpack.Encoder()
_rest_decoder = msgspec.msgpack.Decoder(Rest)


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
    facts, state = customer.facts, customer.rule_state
    peaks = peaks_of([(peak.day, peak.clv_minor) for peak in state.peaks])
    return framed(
        state.model_version,
        state.episode_id,
        state.raised,
        (
            state.as_of_ms,
            state.armed,
            state.episode_ms,
            state.deferred_since_ms,
            state.floor_minor,
            state.swapped,
            state.quiet_until_day,
        ),
        peaks,
        (facts.ledger, facts.forgotten_ms, facts.before),
        uneven_day(facts.buckets, facts.ledger),
        facts.buckets,
    )


def peaks_of(pairs: Sequence[Sequence[int]]) -> bytes | list[int]:
    """Days and CLVs as they are stored, or, where they do not fit into that, in turn."""
    if len(pairs) <= _MOST_PEAKS:
        with suppress(struct.error):
            return b"".join([PEAK.pack(day, clv_minor) for day, clv_minor in pairs])
    return [number for pair in pairs for number in pair]


def framed(
    model_version: str,
    episode_id: bytes,
    raised: RaisedWarning | None,
    rule: Sequence[int],
    peaks: bytes | list[int],
    facts: tuple[bytes, int, Before],
    uneven: int,
    buckets: bytes,
) -> bytes:
    """A customer's bytes. `rule`: numbers of the rule state, in their order; `peaks`: see
    `peaks_of`; `facts`: ledger, forgotten time and summary; `uneven`: the uneven day of the
    buckets, of which only those up to it are looked at."""
    as_of_ms, armed, episode_ms, deferred_since_ms, floor_minor, swapped, quiet_until_day = rule
    ledger, forgotten_ms, before = facts
    model = _model_bytes(model_version)
    newest_ms, newest_id = order_ledger.newest(ledger)
    of_newest = episode_ms == newest_ms and episode_id == newest_id
    flags = (ARMED if armed else 0) | (SWAPPED if swapped else 0)
    packed = peaks if isinstance(peaks, bytes) else b""
    floor = floor_minor + 1 if -1 <= floor_minor < _NO_FLOOR else 0
    rest = b""
    if not (
        of_newest
        and model
        and as_of_ms == newest_ms
        and uneven == NO_DAY
        and raised is None
        and forgotten_ms == deferred_since_ms == quiet_until_day == -1
        and (before is NOTHING_BEFORE or before == NOTHING_BEFORE)
        and packed is peaks
        and floor == floor_minor + 1
    ):
        flags |= HAS_REST
        rest = _rest_encoder.encode(
            Rest(
                as_of_ms - newest_ms,
                raised,
                deferred_since_ms,
                quiet_until_day,
                None if of_newest else episode_ms,
                b"" if of_newest else episode_id,
                forgotten_ms,
                None if before == NOTHING_BEFORE else list(msgspec.structs.astuple(before)),
                None if uneven == NO_DAY else uneven,
                _days(buckets, uneven),
                None if model else model_version,
                None if floor == floor_minor + 1 else floor_minor,
                None if isinstance(peaks, bytes) else peaks,
            )
        )
        rest = _REST_SIZE.pack(len(rest)) + rest
    count = len(packed) // PEAK.size
    fixed = FIXED.pack(CUSTOMER_VERSION, flags, count, floor, model or _NO_MODEL)
    body = fixed + packed + rest + ledger
    return body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little")


@lru_cache(maxsize=1_024)
def _model_bytes(version: str) -> bytes | None:
    """A model's version in half its length, where it is one as manifests have; else None."""
    with suppress(ValueError):
        found = bytes.fromhex(version)
        if len(found) == len(_NO_MODEL) and found.hex() == version:
            return found
    return None


def _days(buckets: bytes, uneven: int) -> list[int]:
    """The buckets up to a day, as numbers."""
    if uneven == NO_DAY:
        return []
    every = [
        msgspec.structs.astuple(day_buckets.read(buckets, at))
        for at in range(0, len(buckets), day_buckets.RECORD_BYTES)
    ]
    return [number for one in every if one[0] <= uneven for number in one]


def decode(data: bytes) -> CustomerRecord:
    """The customer that `encode` of this or an older version wrote.

    Raises CustomerNewer where a newer one did, CustomerDamaged for anything else.
    """
    if len(data) <= CHECKSUM_BYTES:
        raise CustomerDamaged(f"{len(data)} bytes are too few for a customer")
    if zlib.crc32(data) != INTACT:
        raise CustomerDamaged("the checksum does not fit the bytes")
    reader = READERS.get(data[0])
    if reader is None and data[0] > CUSTOMER_VERSION:
        raise CustomerNewer("customer", data[0], CUSTOMER_VERSION)
    if reader is None:
        raise CustomerDamaged(f"version {data[0]}, which no program wrote")
    try:
        return reader(data[:-CHECKSUM_BYTES])
    except StateNewer as error:
        raise CustomerNewer("state", error.version, error.known) from None
    except (struct.error, ValueError, OverflowError, StateError) as error:
        raise CustomerDamaged(f"the bytes cannot be read: {error}") from None


def _read(body: bytes) -> CustomerRecord:
    _, flags, count, floor, model = FIXED.unpack_from(body)
    at, end = FIXED.size, FIXED.size + count * PEAK.size
    peaks = list(PEAK.iter_unpack(body[at:end]))
    rest = NO_REST
    if flags & HAS_REST:
        rest, end = rest_at(body, end)
    ledger = body[end:]
    if len(peaks) < count or not order_ledger.is_whole(ledger):
        raise StateError(f"{len(ledger)} bytes are no ledger")
    if rest.peaks is not None:
        numbers = iter(rest.peaks)
        peaks = list(zip(numbers, numbers, strict=True))
    made = counted(order_ledger.entries(ledger), uneven_of(rest))
    buckets = days_of(rest) + b"".join(
        [day_buckets.record(*msgspec.structs.astuple(one)) for one in made]
    )
    facts = CustomerState(buckets, ledger, before_of(rest), rest.forgotten_ms)
    version = model.hex() if rest.model_version is None else rest.model_version
    floor_minor = floor - 1 if rest.floor_minor is None else rest.floor_minor
    return CustomerRecord(facts, _rule_state(rest, facts, version, flags, floor_minor, peaks))


def _rule_state(
    kept: Rest | _Kept,
    facts: CustomerState,
    model_version: str,
    flags: int,
    floor_minor: int,
    peaks: Iterable[Sequence[int]],
) -> RuleState:
    """The rule state of what is kept of it beside the facts."""
    newest_ms, newest_id = order_ledger.newest(facts.ledger)
    return RuleState(
        model_version=model_version,
        as_of_ms=newest_ms + kept.since_ms,
        peaks=tuple([Peak(day, clv_minor) for day, clv_minor in peaks]),
        armed=bool(flags & ARMED),
        episode_ms=newest_ms if kept.episode_ms is None else kept.episode_ms,
        episode_id=newest_id if kept.episode_ms is None else kept.episode_id,
        raised=kept.raised,
        deferred_since_ms=kept.deferred_since_ms,
        floor_minor=floor_minor,
        swapped=bool(flags & SWAPPED),
        quiet_until_day=kept.quiet_until_day,
    )


def rest_at(body: bytes, at: int) -> tuple[Rest, int]:
    """What stands there, and where it ends."""
    (size,) = _REST_SIZE.unpack_from(body, at)
    end = at + _REST_SIZE.size + size
    return _rest_decoder.decode(body[at + _REST_SIZE.size : end]), end


def days_of(rest: Rest) -> bytes:
    """The buckets that are stored as they are."""
    numbers = iter(rest.days)
    return b"".join([day_buckets.record(*one) for one in zip(*[numbers] * 4, strict=True)])


def uneven_of(rest: Rest) -> int:
    """The uneven day of the buckets."""
    return NO_DAY if rest.uneven_day is None else rest.uneven_day


def before_of(rest: Rest) -> Before:
    """The summary of the days before the buckets."""
    return NOTHING_BEFORE if rest.before is None else Before(*rest.before)


def _read_packed(body: bytes) -> CustomerRecord:
    _, size = _HEADER.unpack_from(body)
    at = _HEADER.size + size
    kept, facts = _kept_decoder.decode(body[_HEADER.size : at]), former.read(body[at:])
    numbers = iter(kept.peaks)
    peaks = zip(numbers, numbers, strict=True)
    version, flags, floor_minor = kept.model_version, kept.flags, kept.floor_minor
    return CustomerRecord(facts, _rule_state(kept, facts, version, flags, floor_minor, peaks))


def _read_unpacked(body: bytes) -> CustomerRecord:
    _, size = _HEADER.unpack_from(body)
    at = _HEADER.size + size
    rule_state = _rule_state_decoder.decode(body[_HEADER.size : at])
    return CustomerRecord(former.read(body[at:]), rule_state)


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What version 3 kept of a rule state beside the facts."""

    model_version: str
    since_ms: int
    flags: int
    floor_minor: int
    peaks: list[int]
    episode_ms: int | None = None
    episode_id: bytes = b""
    raised: RaisedWarning | None = None
    deferred_since_ms: int = -1
    quiet_until_day: int = -1


_HEADER: Final = struct.Struct("<BH")
_rule_state_decoder = msgspec.msgpack.Decoder(RuleState)
_kept_decoder = msgspec.msgpack.Decoder(_Kept)

READERS: Final[dict[int, Callable[[bytes], CustomerRecord]]] = {
    1: _read_unpacked,
    2: _read_unpacked,
    3: _read_packed,
    4: _read,
}
"""A reader of each version, from what the checksum covers to today's CustomerRecord."""
