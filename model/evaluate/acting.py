"""What acting on warnings brought: customers who were treated against those held out.

Who is held out is a matter of a hash, so the two differ by chance and by the treatment alone. Each
customer counts once, with the first warning: later ones depend on what the first one's treatment
did, and their horizons overlap. A policy holds a share of its own out, so customers are compared
within policies, and these weighed by n1 n2 / (n1 + n2).

Returns: Newcombe's hybrid score interval (1998, Stat. Med. 17, method 10), put together over
policies as Yan & Su (2010, Stat. Biopharm. Res. 2) do. Revenue is mostly 0 and else has a heavy
tail, of which a small arm has seen little: where an interval of Welch's covers 80 to 92 %. The
variance of an arm is therefore the largest of three: its own, that of both arms, and that of
everybody's revenue above 0 in the arm's own scale; and the skewness of the difference, from the
same, bends the interval (the first terms of Cornish & Fisher). Under 30 customers with revenue in
an arm, or fewer than the squared skewness of that revenue, no interval is given (after Cochran's
rule for when means are normal enough).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import msgspec
import numpy as np

from features.arrays import Bools, Floats
from model.evaluate.proportions import Z95, interval

LEAST: Final = 20
"""Customers in each arm from which the difference of returns has an interval."""
LEAST_WITH_REVENUE: Final = 30
"""Customers with revenue in each arm from which the difference of revenue has one."""
# A difference is told from chance by 95 %, four times out of five.
_POWER: Final = Z95 + NormalDist().inv_cdf(0.8)


class Interval(msgspec.Struct, frozen=True):
    """A difference, treated less held out, and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def may_be_chance(self) -> bool:
        """Whether 0 lies in it."""
        return self.low <= 0.0 <= self.high

    def times(self, factor: float) -> Interval:
        """The difference of so many."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


class Measured(msgspec.Struct, frozen=True):
    """A mean of each arm, and the difference, which is None where there are too few customers to
    say: `too_few` says what is missing. `variances`: of one treated and one held-out customer."""

    treated: float
    held_out: float
    difference: Interval | None
    too_few: str
    variances: tuple[float, float]


class Comparison(msgspec.Struct, frozen=True):
    """Customers in both arms, and what is measured of them: the share that ordered within the
    horizon after the warning, and their net revenue in it in major units (None: it is not known of
    anybody); `with_revenue` are those of whom it is."""

    treated: int
    held_out: int
    returned: Measured
    with_revenue: int
    revenue: Measured | None


@dataclass(frozen=True, slots=True)
class Arms:
    """Warned customers, each once: the policy, whether held out, whether they ordered within the
    horizon after the warning, and their net revenue in it (NaN: unknown); shape (n,)."""

    policy: Sequence[str]
    held_out: Bools
    returned: Bools
    revenue: Floats


def compare(arms: Arms) -> Comparison | None:
    """The two arms compared; None where no policy has customers in both."""
    pairs = _pairs(arms, arms.returned.astype(np.float64))
    if not pairs:
        return None
    valued = _pairs(arms, arms.revenue)
    return Comparison(
        treated=sum(len(pair.treated) for pair in pairs),
        held_out=sum(len(pair.held_out) for pair in pairs),
        returned=_returned(pairs),
        with_revenue=sum(len(pair.treated) + len(pair.held_out) for pair in valued),
        revenue=_revenue(valued) if valued else None,
    )


def needed(variances: tuple[float, float], share: float, size: float) -> int:
    """How many customers have to be compared, a `share` of them held out, for a difference of this
    size to be told from chance with a probability of 80 %."""
    treated, held_out = variances
    return math.ceil((treated / (1 - share) + held_out / share) * (_POWER / size) ** 2)


def weeks_until(customers: int, sent_days: Sequence[int], today: int, horizon_days: int) -> int:
    """In how many weeks so many customers will have been warned of, with a horizon of days after
    it, if warnings go on as they came: on `sent_days`, ascending and not empty."""
    if customers <= len(sent_days):
        day = float(sent_days[max(customers, 1) - 1])
    else:
        per_day = len(sent_days) / max(today - sent_days[0], 1)
        day = today + (customers - len(sent_days)) / per_day
    return max(math.ceil((day + horizon_days - today) / 7), 0)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two arms of a policy, and how much it weighs."""

    treated: Floats
    held_out: Floats
    weight: float


def _pairs(arms: Arms, values: Floats) -> list[_Pair]:
    """The policies that have values in both arms; their weights add up to 1."""
    policies, known = np.asarray(arms.policy, object), np.isfinite(values)
    found = []
    for policy in sorted(set(arms.policy)):
        mine = (policies == policy) & known
        treated, held_out = values[mine & ~arms.held_out], values[mine & arms.held_out]
        if len(treated) and len(held_out):
            found.append((treated, held_out, len(treated) * len(held_out) / int(mine.sum())))
    total = sum(weight for *_, weight in found)
    return [_Pair(treated, held_out, weight / total) for treated, held_out, weight in found]


def _mean(pairs: Sequence[_Pair], arm: str) -> float:
    return float(sum(pair.weight * getattr(pair, arm).mean() for pair in pairs))


def _smallest(counts: Sequence[tuple[int, int]]) -> int:
    """The customers of the smaller arm, over all policies."""
    return min(sum(treated for treated, _ in counts), sum(held_out for _, held_out in counts))


def _returned(pairs: Sequence[_Pair]) -> Measured:
    treated, held_out = _mean(pairs, "treated"), _mean(pairs, "held_out")
    below = above = 0.0
    for pair in pairs:
        (share, low, high), (share_out, low_out, high_out) = (
            (float(arm.mean()), *(interval(int(arm.sum()), len(arm)) or (0.0, 1.0)))
            for arm in (pair.treated, pair.held_out)
        )
        below += pair.weight**2 * ((share - low) ** 2 + (high_out - share_out) ** 2)
        above += pair.weight**2 * ((high - share) ** 2 + (share_out - low_out) ** 2)
    gain = treated - held_out
    smallest = _smallest([(len(pair.treated), len(pair.held_out)) for pair in pairs])
    enough = smallest >= LEAST
    return Measured(
        treated,
        held_out,
        Interval(gain, gain - math.sqrt(below), gain + math.sqrt(above)) if enough else None,
        "" if enough else f"{smallest} customers in the smaller arm, {LEAST} are needed",
        (treated * (1 - treated), held_out * (1 - held_out)),
    )


def _revenue(pairs: Sequence[_Pair]) -> Measured:
    treated, held_out = _mean(pairs, "treated"), _mean(pairs, "held_out")
    arms = [values for pair in pairs for values in (pair.treated, pair.held_out)]
    some = [values[values != 0] for values in arms]
    scales = [_scale(values) for values in some]
    shape = np.concatenate([v / scale for v, scale in zip(some, scales, strict=True)])
    moments = [float((shape**power).mean()) if len(shape) else 0.0 for power in (1, 2, 3)]
    least = max(LEAST_WITH_REVENUE, math.ceil(_skewness(shape) ** 2))
    smallest = _smallest([(len(a), len(b)) for a, b in zip(some[::2], some[1::2], strict=True)])
    tails = [
        _tail(values, scale, moments, _pooled(pairs[at // 2]))
        for at, (values, scale) in enumerate(zip(arms, scales, strict=True))
    ]
    gain = treated - held_out
    enough = smallest >= least
    return Measured(
        treated,
        held_out,
        _bent(gain, pairs, arms, tails) if enough else None,
        ""
        if enough
        else f"{smallest} customers with revenue in the smaller arm, {least} are needed",
        (
            sum(pair.weight * v for pair, (v, _) in zip(pairs, tails[::2], strict=True)),
            sum(pair.weight * v for pair, (v, _) in zip(pairs, tails[1::2], strict=True)),
        ),
    )


def _scale(values: Floats) -> float:
    """The geometric mean of what is above 0, which no single customer moves much."""
    above = values[values > 0]
    return float(np.exp(np.log(above).mean())) if len(above) else 1.0


def _skewness(values: Floats) -> float:
    if len(values) < 2 or not values.std():
        return 0.0
    return float((((values - values.mean()) / values.std()) ** 3).mean())


def _pooled(pair: _Pair) -> float:
    """The variance within the arms of a policy."""
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in (pair.treated, pair.held_out))
    return squares / max(len(pair.treated) + len(pair.held_out) - 2, 1)


def _tail(
    values: Floats, scale: float, moments: Sequence[float], pooled: float
) -> tuple[float, float]:
    """Variance and third central moment of one customer of an arm: the share with revenue is the
    arm's own, its shape everybody's; the variance no less than what the arm, or both, have seen."""
    n, share = len(values), float((values != 0).mean())
    first, second, third = (share * m * scale ** (at + 1) for at, m in enumerate(moments))
    spread = max(second - first**2, 0.0) * n / max(n - 1, 1)
    bend = third - 3 * first * second + 2 * first**3
    own = float(values.var(ddof=1)) if n > 1 else 0.0
    variance = max(spread, own, pooled)
    return variance, bend * (variance / spread) ** 1.5 if spread else 0.0


def _bent(
    gain: float,
    pairs: Sequence[_Pair],
    arms: Sequence[Floats],
    tails: Sequence[tuple[float, float]],
) -> Interval:
    """The interval of a difference of means, from the variance and the third moment of each arm."""
    variance = third = spent = 0.0
    for at, (values, (spread, bend)) in enumerate(zip(arms, tails, strict=True)):
        n, weight = len(values), pairs[at // 2].weight
        sign = -1.0 if at % 2 else 1.0
        part = weight**2 * spread / n
        variance += part
        third += sign * weight**3 * bend / n**2
        spent += part**2 / max(n - 1, 1)
    if not variance:
        return Interval(gain, gain, gain)
    error = math.sqrt(variance)
    quantile = _student(variance**2 / spent)
    skew = third / error**3 / 6 * (quantile**2 - 1)
    return Interval(gain, gain - error * (quantile + skew), gain + error * (quantile - skew))


def _student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t (Abramowitz & Stegun 26.7.5), good to .001 from 8 degrees
    of freedom on."""
    z = Z95
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
