"""A customer's stored bytes: what every version wrote is read, and nothing else is."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.facts import former
from model.decide import codec as customer_module
from model.decide.codec import (
    CUSTOMER_VERSION,
    READERS,
    UNKNOWN,
    CustomerDamaged,
    CustomerNewer,
    CustomerRecord,
    decode,
    encode,
)
from model.judge.kept import read
from tests.support.golden_states import STATES, meaning, shapes, write

GOLDEN = sorted(STATES.glob("v*/*.bin"))
WARNED = shapes()["warned-of-silence"]


def sealed(body: bytes) -> bytes:
    """The bytes with a checksum that fits."""
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_any_version_stored_is_read_for_ever(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    assert meaning(decode(path.read_bytes())) == expected


def test_every_version_has_a_reader_and_golden_bytes() -> None:
    versions = {f"v{version}" for version in READERS}
    assert {path.parent.name for path in GOLDEN} == versions
    assert max(READERS) == CUSTOMER_VERSION


def test_this_version_writes_the_bytes_that_it_has_always_written() -> None:
    for path in GOLDEN:
        if path.parent.name == f"v{CUSTOMER_VERSION}":
            assert encode(decode(path.read_bytes())) == path.read_bytes(), path


def test_golden_bytes_are_never_written_over(tmp_path: Path) -> None:
    write(tmp_path / "v1")
    with pytest.raises(FileExistsError):
        write(tmp_path / "v1")


def test_the_shapes_are_of_every_kind() -> None:
    found = shapes()
    assert found["warned-of-silence"].rule_state.raised
    assert found["summarised"].facts.before.purchase_days > 1
    assert found["forgetful"].facts.forgotten_ms > 0


@pytest.mark.parametrize("name", sorted(shapes()))
def test_a_customer_comes_back_as_it_was(name: str) -> None:
    customer = shapes()[name]
    assert decode(encode(customer)) == customer


def test_a_newer_version_is_told_from_damage_by_its_checksum() -> None:
    newer = sealed(bytes([CUSTOMER_VERSION + 1]) + b"whatever it has")
    with pytest.raises(CustomerNewer, match=r"version 5 is newer than 4.*run the version") as error:
        decode(newer)
    assert (error.value.version, error.value.known) == (CUSTOMER_VERSION + 1, CUSTOMER_VERSION)
    with pytest.raises(CustomerDamaged):
        decode(newer[:-1] + b"?")


def test_newer_facts_in_a_known_frame_are_newer_too() -> None:
    body = bytearray((STATES / "v3" / "weekly.bin").read_bytes()[:-4])
    body[3 + int.from_bytes(body[1:3], "little")] = former.NEWEST + 1
    with pytest.raises(CustomerNewer, match="state version 4"):
        decode(sealed(bytes(body)))


@given(st.binary(max_size=200))
def test_foreign_bytes_are_damage(data: bytes) -> None:
    with pytest.raises(CustomerDamaged):
        decode(data)


@given(st.binary(max_size=200))
def test_foreign_bytes_with_a_checksum_are_damage_or_newer(data: bytes) -> None:
    with pytest.raises((CustomerDamaged, CustomerNewer)):
        decode(sealed(data))


@given(st.sampled_from(sorted(shapes())), st.data())
def test_a_single_flipped_bit_is_damage(name: str, data: st.DataObject) -> None:
    stored = bytearray(encode(shapes()[name]))
    bit = data.draw(st.integers(0, 8 * len(stored) - 1))
    stored[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CustomerDamaged):
        decode(bytes(stored))


@given(st.sampled_from(sorted(shapes())), st.data())
def test_a_torn_customer_is_damage(name: str, data: st.DataObject) -> None:
    stored = encode(shapes()[name])
    cut = data.draw(st.integers(0, len(stored) - 1))
    for torn in (stored[:cut], stored[cut + 1 :], stored + stored[: cut + 1]):
        with pytest.raises(CustomerDamaged):
            decode(torn)


def test_a_customer_of_the_version_before_moves_over_with_the_next_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the next change of format will do."""
    stored = encode(WARNED)
    now, coming = CUSTOMER_VERSION, CUSTOMER_VERSION + 1
    reader = READERS[now]
    monkeypatch.setattr(customer_module, "CUSTOMER_VERSION", coming)
    monkeypatch.setitem(READERS, coming, lambda body: reader(bytes([now]) + body[1:]))
    read = decode(stored)
    assert read == WARNED
    moved = encode(read)
    assert moved[0] == coming
    assert decode(moved) == WARNED
    monkeypatch.undo()
    with pytest.raises(CustomerNewer):
        decode(moved)


def test_an_unknown_customer_is_encoded_like_any_other() -> None:
    assert decode(encode(UNKNOWN)) == CustomerRecord()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
@given(data=st.data())
def test_damage_with_a_checksum_that_fits_never_raises_anything_else(
    path: Path, data: st.DataObject
) -> None:
    body = bytearray(path.read_bytes()[:-4])
    for at in data.draw(st.lists(st.integers(1, len(body) - 1), max_size=3)):
        body[at] = data.draw(st.integers(0, 255))
    stored = sealed(bytes(body[: data.draw(st.integers(1, len(body)))]))
    try:
        alone: object = decode(stored)
    except (CustomerDamaged, CustomerNewer) as error:
        alone = str(error)
    arrays, refused = read(["ada", "ben"], [stored, encode(WARNED)], [None, None])
    assert (str(refused[0]) if refused else arrays.track(0).customer) == alone
    assert arrays.track(len(arrays) - 1).customer == WARNED
