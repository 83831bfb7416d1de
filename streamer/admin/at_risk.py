"""Who is slipping away right now, from the state that workers keep."""

from __future__ import annotations

from typing import Final

from model.decide import codec as customer_bytes
from model.decide.codec import CustomerRecord
from model.report.slipping import SlippingList, slipping
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import listed_until
from streamer.records import Partition
from streamer.store.base import StateStore

_CHUNK: Final = 200


async def at_risk(
    store: StateStore, pipeline: Pipeline, topic: str, partitions: int, as_of_ms: int | None
) -> SlippingList:
    """Those with an open warning as of an instant (epoch ms; None: of the newest event)."""
    newest = 0
    customers: list[tuple[str, CustomerRecord]] = []
    for number in range(partitions):
        partition = Partition(topic, number)
        claim = await store.peek(partition)
        if claim is not None and claim.high_ts_ms is not None:
            newest = max(newest, claim.high_ts_ms)
        users = [listed_until(entry)[0] for entry in await store.open_warnings(partition)]
        for start in range(0, len(users), _CHUNK):
            chunk = users[start : start + _CHUNK]
            for user, stored in zip(chunk, await store.load(partition, chunk), strict=True):
                if stored.state is not None:
                    customers.append((user, customer_bytes.decode(stored.state)))
    judge = pipeline.judge
    return slipping(customers, judge.scorer, judge.rules, newest if as_of_ms is None else as_of_ms)
