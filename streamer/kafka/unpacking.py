"""Batches unpacked within a bound: a few kilobytes on the wire may unpack to gigabytes.

aiokafka unpacks a batch whole, by functions that know no limit, and whoever may write to a topic
chooses what comes out. So its functions are replaced by ones that stop, for every consumer of this
process, and in place of a batch that cannot be unpacked comes one record, whose value says why
(`Unreadable`). It has the batch's last offset: what it stands for are the offsets up to there.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import aiokafka.consumer.fetcher
import cramjam
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, legacy_records
from aiokafka.structs import ConsumerRecord

from streamer.records import Unreadable

# Many times what producers batch: 1 MiB at most goes over the wire, and orders compress by ten.
MOST_BYTES: Final = 32 * 2**20
Packed = bytes | memoryview

_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_FIRST_GUESS: Final = 8
_CODECS: Final = {n: f"a batch in {c}" for n, c in enumerate(("gzip", "snappy", "lz4", "zstd"), 1)}


class TooLarge(Exception):
    """A batch would unpack to more than `MOST_BYTES`."""

    def __init__(self) -> None:
        super().__init__(f"it unpacks to more than {MOST_BYTES:,} bytes")


# What bytes can do to those who unpack them; not a codec that is not installed, nor a machine
# without memory: with those, the next worker may have more luck.
_UNREADABLE: Final = (
    TooLarge,
    CorruptRecordException,
    cramjam.DecompressionError,
    zlib.error,
    gzip.BadGzipFile,
    EOFError,
    IndexError,
    ValueError,
    struct.error,
)


def gunzipped(payload: Packed) -> bytes:
    """Raises TooLarge, and what gzip raises."""
    with gzip.GzipFile(fileobj=io.BytesIO(payload), mode="r") as file:
        found = file.read(MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise TooLarge
    return found


def unsnapped(payload: Packed) -> bytes:
    """Snappy, raw or in the blocks of Java's library. Raises TooLarge and cramjam's errors."""
    data = memoryview(payload)
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _within(cramjam.snappy.decompress_raw_into, data, MOST_BYTES)
    out, cursor = bytearray(), _XERIAL_HEADER_BYTES
    while cursor < len(data):
        (size,) = struct.unpack_from("!i", data, cursor)
        if size < 0:
            raise ValueError("a block of negative size")
        cursor += 4
        block = data[cursor : cursor + size]
        out += _within(cramjam.snappy.decompress_raw_into, block, MOST_BYTES - len(out))
        cursor += size
    return bytes(out)


def unlz4(payload: Packed) -> bytes:
    """Raises TooLarge and cramjam's errors."""
    return _within(cramjam.lz4.decompress_into, memoryview(payload), MOST_BYTES)


def unzstd(payload: Packed) -> bytes:
    """Raises TooLarge and cramjam's errors."""
    return _within(cramjam.zstd.decompress_into, memoryview(payload), MOST_BYTES)


def _within(unpack: Callable[[bytes, bytearray], int], data: memoryview, most: int) -> bytes:
    """Unpacked into a buffer that grows, for cramjam has no limit but the buffer's size."""
    size = min(most, _FIRST_GUESS * len(data) + 4096)
    while True:
        buffer = bytearray(size)
        try:
            return bytes(memoryview(buffer)[: unpack(bytes(data), buffer)])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error) and "smaller than required" not in str(error):
                raise
        if size == most:
            raise TooLarge
        size = min(most, 4 * size)


class _Batch:
    """A batch of aiokafka's, whose iteration ends in a record that says so where it fails."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        last = getattr(self._batch, "base_offset", None)
        try:
            for record in self._batch:
                yield record
                last = record.offset + 1
        except _UNREADABLE as error:
            yield self._stand_in(last, error)

    def _stand_in(self, first: int | None, error: Exception) -> ConsumerRecord[bytes, bytes]:
        batch = self._batch
        end = batch.next_offset - 1
        # The messages of other errors may hold what customers wrote.
        why = (
            str(error) if isinstance(error, TooLarge) else f"it is damaged ({type(error).__name__})"
        )
        codec = _CODECS.get(getattr(batch, "compression_type", 0), "a batch")
        text = f"{codec} from offset {end if first is None else first} to {end}: {why}"
        return ConsumerRecord(
            topic="",
            partition=-1,
            offset=end,
            timestamp=getattr(batch, "max_timestamp", -1),
            timestamp_type=0,
            key=None,
            value=Unreadable(text.encode()),
            checksum=None,
            serialized_key_size=-1,
            serialized_value_size=-1,
            headers=(),
        )


class _Batches:
    """aiokafka's records of a fetch, batch by batch."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch:
        return _Batch(self._records.next_batch())


def not_copied(value: bytes | None) -> bytes | None:
    """The deserializer of a consumer that needs no more of a record than `streamer.records.Record`
    has, and so takes aiokafka's own: to copy it takes as long as to unpack it."""
    return value


class BoundedRecords(aiokafka.consumer.fetcher.PartitionRecords):  # type: ignore[misc]
    """aiokafka's records of a partition, with bounded batches."""

    def __init__(self, tp: Any, records: Any, *rest: Any) -> None:
        super().__init__(tp, _Batches(records), *rest)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if self._value_deserializer is not_copied:
            return record
        return super()._consumer_record(tp, record)


def bound() -> None:
    """Has every consumer that is made in this process unpack within the bound."""
    replaced: dict[str, Callable[[Packed], bytes]] = {
        "gzip_decode": gunzipped,
        "snappy_decode": unsnapped,
        "lz4_decode": unlz4,
        "zstd_decode": unzstd,
    }
    for batch in (default_records.DefaultRecordBatch, legacy_records.LegacyRecordBatch):
        module = sys.modules[batch.__module__]
        for name, function in replaced.items():
            if hasattr(module, name):
                setattr(module, name, function)
    aiokafka.consumer.fetcher.PartitionRecords = BoundedRecords
