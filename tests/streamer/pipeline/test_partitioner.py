from __future__ import annotations

import aiokafka.partitioner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.partitioner import _murmur2, partition_for, partitions_for


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, hashed: int) -> None:
    assert _murmur2(key) == hashed & 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_the_hash_is_aiokafkas_for_any_key(key: bytes) -> None:
    assert _murmur2(key) == aiokafka.partitioner.murmur2(key) & 0xFFFFFFFF


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_a_key_stays_within_the_partitions(key: bytes, count: int) -> None:
    assert 0 <= partition_for(key, count) < count


@given(st.lists(st.binary(max_size=70), min_size=1), st.integers(1, 1000))
def test_many_keys_go_where_each_goes_by_itself(keys: list[bytes], count: int) -> None:
    many = keys * 50
    assert partitions_for(many, count) == [partition_for(key, count) for key in many]


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="count=0"):
        partition_for(b"key", 0)
