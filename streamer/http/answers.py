"""What the prediction API answers, computed: scores, segments and contributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, isnan
from typing import Final, Literal, TypeAlias, cast

import msgspec
import numpy as np
import numpy.typing as npt

from features.arrays import Floats
from features.columns.rhythm import GROUPS
from features.columns.table import tabulate
from features.columns.vector import FEATURE_NAMES, vectors_of
from features.facts.state import CustomerState
from features.times import rfc3339
from model.decide.codec import CustomerRecord
from model.decide.scoring import Scorer
from streamer.http.requests import MAX_FAULTS, BodyRefused, Fault, FromFeatures, FromOrders, Row
from streamer.pipeline.batch import Pipeline

Segment: TypeAlias = Literal["top", "high", "middle", "low"]

# Still a whole number that every reader of JSON can hold.
_MOST_MINOR: Final = 10**14
# Some 20 ms of work: whoever waits for the processor waits no longer.
_EXPLAINED_AT_ONCE: Final = 128


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a group of features adds to the CLV of the model's typical customer, major units."""

    group: str
    amount: float


@dataclass(frozen=True, slots=True)
class ChurnContribution:
    """What a group of columns (`features.columns.rhythm.GROUPS`) adds to ln(P / (1 - P)) of the
    average customer-day."""

    group: str
    log_odds: float


# P(churn) of the average customer-day, and what each group adds to the logarithm of its odds, the
# largest first. None where it was not asked for or the model cannot say.
ChurnParts: TypeAlias = tuple[float, tuple[ChurnContribution, ...]] | None

# The typical customer's CLV, and what each group adds to it: together the CLV, to the minor unit
# (`model.explain.shapley`); the largest first. Major units. None where the model cannot say.
Parts: TypeAlias = tuple[float, tuple[Contribution, ...]] | None


class Prediction(msgspec.Struct, frozen=True):
    """A record of `POST /predict`, scored. Money in major units of `currency`.

    `baseline` and the amounts of `contributions` add up to `clv`, to the minor unit; both are null
    where they were not asked for, or where the model does not name its typical customer. `as_of` is
    null for ready features: they are as of an instant already.

    `churn_probability` is that of no order within the horizon, given the customer's own gaps: null
    for ready features, which do not have them. The logarithm of its odds is that of
    `churn_baseline` and the `churn_contributions` added up; null as above.
    """

    clv: float
    churn_probability: float | None
    churn_baseline: float | None
    churn_contributions: tuple[ChurnContribution, ...] | None
    segment: Segment
    baseline: float | None
    contributions: tuple[Contribution, ...] | None
    as_of: str | None
    model_version: str
    horizon_days: int
    currency: str


def predictions(
    pipeline: Pipeline,
    rows: Sequence[Row],
    *,
    contributions: bool,
    between: Callable[[], None] = lambda: None,
) -> list[Prediction]:
    """The predictions of rows, in their order, scored by one call of the model; their contributions
    take further ones, and `between` is called between those.

    Raises BodyRefused where features are beyond what the model can score.
    """
    scorer = pipeline.judge.scorer
    at = [i for i, row in enumerate(rows) if isinstance(row, FromOrders)]
    pairs = [(row.facts, row.as_of_ms) for row in rows if isinstance(row, FromOrders)]
    table = tabulate(pairs, scorer.calendar) if pairs else None
    X = np.empty((len(rows), len(FEATURE_NAMES)))
    if table is not None:
        X[at] = vectors_of(table)
    for i, row in enumerate(rows):
        if isinstance(row, FromFeatures):
            X[i] = row.vector
    if scorer.attributes is not None:
        X = np.hstack([X, np.array([row.attributes for row in rows])])
    seen = None if table is None or scorer.risk is None else scorer.risk.rows(table)
    clv_minor, churn = _rated(scorer, rows, X, at, seen)
    parts: list[Parts] = []
    for start in range(0, len(rows), _EXPLAINED_AT_ONCE) if contributions else ():
        between()
        parts += explained(pipeline, X[start : start + _EXPLAINED_AT_ONCE])
    between()
    churn_parts: list[ChurnParts] = [None] * len(rows)
    if contributions:
        for i, part in zip(at, churn_explained(scorer, pairs, seen), strict=True):
            churn_parts[i] = part
    nothing: list[None] = [None] * len(rows)
    return [
        prediction_of(
            pipeline, worth, gone, row.as_of_ms if isinstance(row, FromOrders) else None, why, part
        )
        for row, worth, gone, why, part in zip(
            rows, clv_minor.tolist(), churn.tolist(), parts or nothing, churn_parts, strict=True
        )
    ]


def prediction_of(
    pipeline: Pipeline,
    clv_minor: int,
    churn: float,
    as_of_ms: int | None,
    parts: Parts,
    churn_parts: ChurnParts,
) -> Prediction:
    """A CLV and P(churn) by the pipeline's model, for whoever asks; NaN is a P(churn) that nobody
    knows."""
    scorer = pipeline.judge.scorer
    baseline, contributions = (None, None) if parts is None else parts
    churn_baseline, churn_contributions = (None, None) if churn_parts is None else churn_parts
    return Prediction(
        clv=pipeline.writer.major(clv_minor),
        churn_probability=None if isnan(churn) else churn,
        churn_baseline=churn_baseline,
        churn_contributions=churn_contributions,
        segment=cast(Segment, pipeline.judge.rules.segment(clv_minor)),
        baseline=baseline,
        contributions=contributions,
        as_of=None if as_of_ms is None else rfc3339(as_of_ms),
        model_version=scorer.model_version,
        horizon_days=scorer.horizon_days,
        currency=scorer.currency,
    )


def explained(pipeline: Pipeline, X: Floats) -> list[Parts]:
    """What the CLV of each feature vector is made of; None where the model cannot say."""
    # It brings scikit-learn, which a worker imports while the group assigns partitions.
    from model.explain.shapley import explain

    scorer, major = pipeline.judge.scorer, pipeline.writer.major
    if not scorer.typical:
        return [None] * len(X)
    return [
        (
            major(one.baseline_minor),
            tuple(Contribution(group, major(minor)) for group, minor in one.contributions),
        )
        for one in explain(scorer, X)
    ]


def churn_explained(
    scorer: Scorer, pairs: Sequence[tuple[CustomerState, int]], seen: Floats | None
) -> list[ChurnParts]:
    """What P(churn) of each customer as of an instant is made of, of the rows that the model sees
    of them; None where nobody bought, or the model cannot say."""
    risk = scorer.risk
    parts = None if risk is None or seen is None else risk.parts(seen)
    if risk is None or parts is None:
        return [None] * len(pairs)
    baseline = round(1.0 / (1.0 + exp(-risk.baseline)), 6)
    return [
        None
        if facts.last_purchase_day is None
        else (
            baseline,
            tuple(
                ChurnContribution(group, round(log_odds, 4))
                for group, log_odds in sorted(
                    zip(GROUPS, row, strict=True), key=lambda part: -abs(part[1])
                )
            ),
        )
        for (facts, _), row in zip(pairs, parts.tolist(), strict=True)
    ]


def newest_ms(customer: CustomerRecord) -> int:
    """The earliest instant that a customer can be scored as of: that of what is known last."""
    return max(customer.facts.newest_ms, 0)


def _rated(
    scorer: Scorer, rows: Sequence[Row], X: Floats, at: Sequence[int], seen: Floats | None
) -> tuple[npt.NDArray[np.int64], Floats]:
    """CLVs in minor units, and P(churn), known of the rows `at` by what the model sees of them.
    Raises BodyRefused for ready features whose CLV is no number that JSON can carry."""
    churn = None
    if scorer.risk is not None and seen is not None:
        churn = np.full(len(rows), np.nan)
        churn[at] = scorer.risk.churn.probability(seen)
    with np.errstate(all="ignore"):
        try:
            clv_minor, churn = scorer.rate(X, churn)
        except ValueError:
            _refuse(rows, ~np.isfinite(scorer.model.clv(X)))
            raise
    # What was too large for an integer is the lowest of all.
    _refuse(rows, (clv_minor < 0) | (clv_minor >= _MOST_MINOR))
    return clv_minor, churn


def _refuse(rows: Sequence[Row], beyond: npt.NDArray[np.bool_]) -> None:
    """Raises BodyRefused if any of the rows beyond any range are of ready features."""
    detail = "no customer has such features: their CLV is out of range; check units and names"
    faults = [
        Fault(detail, f"#/records/{i}", i)
        for i in np.flatnonzero(beyond).tolist()
        if isinstance(rows[i], FromFeatures)
    ]
    if faults:
        shown = faults[:MAX_FAULTS]
        raise BodyRefused(422, shown, complete=len(shown) == len(faults))
