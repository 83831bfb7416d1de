"""The demo's report: who is slipping away as of the log's end, and how good such warnings were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from model.backtest.raised import by_month
from model.decide import codec
from model.decide.codec import CustomerRecord
from model.decide.policy import Policy
from model.decide.scoring import Scorer
from model.report.slipping import SlippingList, slipping, slipping_csv
from model.report.slipping_page import ListFound, PastWarnings, slipping_page
from streamer.admin.outcomes import endings
from streamer.demo.call_list import CallLists
from streamer.pipeline.messages import ChurnWarning
from streamer.pipeline.partitioner import partition_for
from streamer.records import Partition
from streamer.store.base import StateStore

PAGE: Final = "slipping.html"
CSV: Final = "slipping.csv"
_LOADED: Final = 1_000


async def customers(
    store: StateStore, topic: str, partitions: int, users: Iterable[str]
) -> list[tuple[str, CustomerRecord]]:
    """The customers as the worker left them. Raises StoreUnavailable and StateError."""
    homes: list[list[str]] = [[] for _ in range(partitions)]
    for user in users:
        homes[partition_for(user.encode(), partitions)].append(user)
    found = []
    for number, mine in enumerate(homes):
        for start in range(0, len(mine), _LOADED):
            page = mine[start : start + _LOADED]
            stored = await store.load(Partition(topic, number), page)
            found += [
                (user, codec.decode(one.state))
                for user, one in zip(page, stored, strict=True)
                if one.state is not None
            ]
    return found


def past_of(
    records: Sequence[ChurnWarning], since: str, as_of_ms: int, lists: CallLists | None
) -> PastWarnings:
    """How the warnings sent from an instant on had ended as of a later one, and the call lists of a
    day in between."""
    ended = [
        (one.warning.as_of, one.ending)
        for one in endings(records, as_of_ms)
        # Of the others some have come back and nobody has left yet.
        if one.over and one.warning.as_of >= since
    ]
    if lists is None:
        return PastWarnings(by_month(ended))
    size = len(lists.ours.customers)
    return PastWarnings(
        by_month(ended),
        lists=[
            ListFound(
                each.by,
                len(each.left) / size,
                each.lost_minor / lists.lost_minor if lists.lost_minor else None,
            )
            for each in (lists.ours, *lists.simple)
        ],
        listed=f"Whom to call on {lists.day}: {size:,} customers by each list, of the half that"
        " spent most.",
    )


def write_report(
    directory: Path,
    kept: Iterable[tuple[str, CustomerRecord]],
    scorer: Scorer,
    policy: Policy,
    as_of_ms: int,
    past: PastWarnings,
) -> SlippingList:
    """Writes PAGE and CSV into the directory; who is on them."""
    found = slipping(kept, scorer, scorer.rules(policy), as_of_ms)
    (directory / CSV).write_text(slipping_csv(found.customers), newline="")
    (directory / PAGE).write_text(slipping_page(found, past, CSV))
    return found
