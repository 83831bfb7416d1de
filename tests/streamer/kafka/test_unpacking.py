"""Batches that unpack to more than they should, or to nothing that is a record."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from aiokafka import TopicPartition, codec
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Reason
from streamer.kafka import unpacking
from streamer.kafka.unpacking import BoundedRecords, TooLarge, bound
from streamer.pipeline.read import unreadable
from streamer.records import Unreadable

CODECS: dict[str, tuple[int, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": (1, codec.gzip_encode, unpacking.gunzipped),
    "snappy": (2, codec.snappy_encode, unpacking.unsnapped),
    "lz4": (3, codec.lz4_encode, unpacking.unlz4),
    "zstd": (4, codec.zstd_encode, unpacking.unzstd),
}
MOST = 300_000


@pytest.fixture(autouse=True)
def _a_small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bound()
    monkeypatch.setattr(unpacking, "MOST_BYTES", MOST)


def batch(values: list[bytes], base_offset: int = 0, codec: int = 0) -> bytearray:
    """A batch as a producer makes it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 2**31 - 1)
    for number, value in enumerate(values):
        builder.append(number, 1_000, b"key", value, [])
    built: bytearray = builder.build()
    struct.pack_into(">q", built, 0, base_offset)
    return built


def read(*batches: bytes | bytearray, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    records = MemoryRecords(b"".join(bytes(one) for one in batches))
    tp = TopicPartition("orders", 0)
    found = BoundedRecords(tp, records, None, start, None, None, True, READ_UNCOMMITTED)
    for record in found:
        assert (record.topic, record.partition) == ("orders", 0)
        yield record.offset, record.value


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(max_size=5_000), times=st.integers(1, 50))
def test_what_is_within_the_bound_is_unpacked_as_it_was(name: str, data: bytes, times: int) -> None:
    _, pack, unpack = CODECS[name]
    whole = data * times
    if len(whole) <= MOST:
        assert unpack(pack(whole)) == whole
        assert unpack(memoryview(pack(whole))) == whole


def test_snappy_without_blocks_is_unpacked_too() -> None:
    packed = codec.snappy_encode(b"abc" * 1_000, xerial_compatible=False)
    assert unpacking.unsnapped(packed) == b"abc" * 1_000


@pytest.mark.parametrize("name", CODECS)
def test_a_bomb_is_refused_in_memory_that_is_bounded(name: str) -> None:
    _, pack, unpack = CODECS[name]
    packed = pack(b" " * 30_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="more than 300,000 bytes"):
            unpack(packed)
        assert tracemalloc.get_traced_memory()[1] < 6 * MOST + 2 * len(packed)
    finally:
        tracemalloc.stop()


def test_a_snappy_of_many_small_blocks_is_bounded_as_a_whole() -> None:
    packed = codec.snappy_encode(b" " * (2 * MOST), xerial_blocksize=1_000)
    with pytest.raises(TooLarge):
        unpacking.unsnapped(packed)


@pytest.mark.parametrize("name", CODECS)
def test_a_bomb_between_good_batches_is_set_aside_alone(name: str) -> None:
    number = CODECS[name][0]
    bomb = batch([b"x", b" " * (2 * MOST)], 2, number)
    (first, second, third, fourth) = read(
        batch([b"a", b"b"], 0, number), bomb, batch([b"c"], 4, number)
    )
    assert [first, second, fourth] == [(0, b"a"), (1, b"b"), (4, b"c")]
    assert third[0] == 3
    assert isinstance(third[1], Unreadable)
    assert third[1].decode() == (
        f"a batch in {name} from offset 2 to 3: it unpacks to more than 300,000 bytes"
    )


def test_one_who_begins_in_the_middle_of_a_bomb_hears_of_it_all_the_same() -> None:
    bomb = batch([b"x", b" " * (2 * MOST)], 2, 1)
    assert [offset for offset, _ in read(bomb, start=3)] == [3]


@given(st.data())
def test_no_bytes_in_a_batch_keep_the_next_one_from_being_read(data: st.DataObject) -> None:
    number = data.draw(st.sampled_from([0, 1, 2, 3, 4]))
    broken = batch([b"one", b"two" * 50], 0, number)
    at = data.draw(st.integers(61, len(broken) - 1))  # behind the batch's own header
    broken[at] = data.draw(st.integers(0, 255))
    struct.pack_into(">I", broken, 17, calc_crc32c(bytes(broken[21:])))
    *_, last = read(broken, batch([b"good"], 2))
    assert last == (2, b"good")


def test_a_codec_that_is_not_installed_is_no_fault_of_the_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(payload: object) -> bytes:
        raise NotImplementedError("Zstd codec is not available")

    module = __import__("sys").modules[unpacking.default_records.DefaultRecordBatch.__module__]
    monkeypatch.setattr(module, "zstd_decode", missing)
    with pytest.raises(NotImplementedError):
        list(read(batch([b"a" * 100], 0, 4)))


def test_what_stands_for_a_batch_becomes_a_dead_letter_that_says_so() -> None:
    value = Unreadable(b"a batch in gzip from offset 2 to 3: it unpacks to more than 9 bytes")
    outcome = unreadable(value)
    assert outcome.reason is Reason.NOT_JSON
    assert outcome.detail == (
        "a batch in gzip from offset 2 to 3: it unpacks to more than 9 bytes; fix the producer"
    )


def test_members_of_a_gzip_file_are_bounded_together() -> None:
    with pytest.raises(TooLarge):
        unpacking.gunzipped(gzip.compress(b" " * MOST) * 2)
