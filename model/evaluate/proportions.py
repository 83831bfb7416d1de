"""The interval of a share, good for few and for extreme ones: Wilson (1927), JASA 22."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import Final

Z95: Final = NormalDist().inv_cdf(0.975)


def interval(hits: int, of: int) -> tuple[float, float] | None:
    """The 95 % interval of a share; None of nothing.

    >>> tuple(round(end, 3) for end in interval(0, 10))
    (0.0, 0.278)
    """
    if not of:
        return None
    share, z2 = hits / of, Z95 * Z95
    middle = share + z2 / (2 * of)
    half = Z95 * sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    scale = 1 + z2 / of
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)
