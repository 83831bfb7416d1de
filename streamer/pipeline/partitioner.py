"""Which partition a key goes to: Kafka's own rule, so that producers in any language agree.

The hash is spelled out although aiokafka has one: a replay must not import aiokafka, and
this one takes half the time, or of many keys a fortieth. A test holds them together.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_WORD: Final = struct.Struct("<I")
# Arrays of fewer keys, or of longer ones, cost more than they save.
_MANY: Final = 50
_SHORT: Final = 64


def partition_for(key: bytes, count: int) -> int:
    """The partition, 0 to `count` - 1, that Kafka's Java client gives a message with this key.

    Source: `BuiltInPartitioner.partitionForKey`: toPositive(murmur2(key)) % count.
    librdkafka's own default is another one (crc32): set `partitioner=murmur2_random` there.
    Raises ValueError for a count below one.

    >>> partition_for(b"foobar", 4)
    2
    """
    if count < 1:
        raise ValueError(f"count={count}: a topic has at least one partition")
    return (_murmur2(key) & 0x7FFFFFFF) % count


def partitions_for(keys: Sequence[bytes], count: int) -> list[int]:
    """`partition_for` of each key."""
    longest = max(map(len, keys), default=0)
    if len(keys) < _MANY or longest > _SHORT:
        return [partition_for(key, count) for key in keys]
    length = np.fromiter(map(len, keys), np.uint32, len(keys))
    # One word more than there may be, for the bytes after the last whole one; zeros follow a key.
    words = np.array(keys, f"S{longest // 4 * 4 + 4}").view("<u4").reshape(len(keys), -1)
    whole, mixing = length // 4, np.uint32(_M)
    h: NDArray[Any] = length ^ np.uint32(_SEED)
    for at in range(longest // 4):
        k: NDArray[Any] = words[:, at] * mixing
        k = (k ^ k >> 24) * mixing
        h = np.where(at < whole, h * mixing ^ k, h)
    rest = words[np.arange(len(keys)), whole]
    h = np.where(length % 4 > 0, (h ^ rest) * mixing, h)
    h = (h ^ h >> 13) * mixing
    found: list[int] = (((h ^ h >> 15) & 0x7FFFFFFF) % count).tolist()
    return found


Partitioner = Callable[[bytes, int], int]

MURMUR2: Final = "murmur2"
PARTITIONERS: Final[Mapping[str, Partitioner]] = {
    MURMUR2: partition_for,
    "crc32": lambda key, count: zlib.crc32(key) % count,
}
"""By the names in notes of moves; those of earlier versions have crc32, librdkafka's default."""


@lru_cache(maxsize=1 << 16)
def _murmur2(key: bytes) -> int:
    """The 32-bit murmur2 hash, unsigned, with Kafka's seed (`Utils.murmur2`).

    The same customers come again and again, so the answers are kept: 2-4 us become 0.1 us.
    """
    length = len(key)
    h = _SEED ^ length
    whole = length & ~3
    for (word,) in _WORD.iter_unpack(key[:whole]):
        k = word * _M & _MASK
        k ^= k >> 24
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    if length != whole:
        h ^= int.from_bytes(key[whole:], "little")
        h = h * _M & _MASK
    h ^= h >> 13
    h = h * _M & _MASK
    return h ^ (h >> 15)
