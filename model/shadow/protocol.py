"""What a comparison of two models is told, and what it tells."""

from __future__ import annotations

from typing import Final

import msgspec

from features.events.orders import Order

QUANTILES: Final = (5, 25, 50, 75, 95)
MIN_PAIRS: Final = 10


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How far two models agree on the customers followed; CLVs by their newest scores.

    `spearman` of the CLVs, `ratio_quantiles` of shadow / live at percentiles 5, 25, 50, 75, 95
    where the live CLV is not 0, `mean_ratio` of the two mean CLVs: each None below MIN_PAIRS.
    Warnings by episode: of `both`, `added` by the shadow alone, `removed` that the live model alone
    gave. The other may still follow: `days_later` is by how many days the shadow's come later
    (median, negative: sooner), where both did.
    """

    live: str
    shadow: str
    customers: int
    scorings: int
    spearman: float | None
    ratio_quantiles: list[float] | None
    mean_ratio: float | None
    both: int
    added: int
    removed: int
    days_later: float | None
    failed: int


class Step(msgspec.Struct, frozen=True, array_like=True):
    """What one write of a partition was judged from, as far as customers are followed.

    `met`: customers not met before, with due time (epoch ms) and stored bytes. `events`: place,
    order and watermark of each. `until_ms`: up to when whoever is due is judged.
    """

    partition: int
    met: list[tuple[str, int | None, bytes]] = []
    events: list[tuple[int, Order, int]] = []
    until_ms: int | None = None
    anew: bool = False  # forget whom of the partition was followed
    erased: str | None = None
