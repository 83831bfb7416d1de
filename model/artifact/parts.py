"""The parts that a model's parameters come in: their fields, types and ranges."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from features.times import UTC
from model.data.attributes import Column

MOST: Final = 1e15
MOST_WIDTH: Final = 100_000

Number: TypeAlias = Annotated[float, Meta(ge=-MOST, le=MOST)]
Positive: TypeAlias = Annotated[float, Meta(gt=0, le=MOST)]
Amount: TypeAlias = Annotated[float, Meta(ge=0, le=MOST)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_WIDTH)]
Columns: TypeAlias = Annotated[list[Count], Meta(max_length=MOST_WIDTH)]
Signs: TypeAlias = Annotated[list[Annotated[int, Meta(ge=-1, le=1)]], Meta(max_length=MOST_WIDTH)]
Text: TypeAlias = Annotated[str, Meta(max_length=1_000)]


class Part(msgspec.Struct, forbid_unknown_fields=True, tag_field="is", tag=True):
    pass


class Clip(Part):
    low_: np.ndarray
    high_: np.ndarray


class Known(Part):
    features: Count
    categories: list[Count | None]
    stream_: Clip
    numbers_: Clip
    medians_: np.ndarray
    n_features_in_: Count


class Standard(Part):
    """`settled` is of models whose numbers are the same on every processor."""

    mean_: np.ndarray
    scale_: np.ndarray
    var_: np.ndarray
    n_samples_seen_: Amount
    settled: bool


class Poisson(Part):
    alpha: Amount
    signs: Signs | None
    coef_: np.ndarray
    intercept_: Number
    n_iter_: Count | None


class Logistic(Part):
    C: Positive
    signs: Signs | None
    coef_: np.ndarray
    intercept_: Number
    n_iter_: Count | None


class Sum(Part):
    """Preparation, standardisation, regression: what a linear sum is made of."""

    prepare: Clip | Known
    scale: Standard
    regression: Poisson | Logistic


class PoissonPart(Part):
    alpha: Amount
    unit: Positive
    linear: Sum


class ChancePart(Part):
    C: Positive
    linear: Sum | None


class Churn(Part):
    C: Positive
    kept: Columns
    floored: Columns
    linear: Sum


class PurchaseRates(Part):
    r: Positive
    alpha: Positive
    a: Positive
    b: Positive
    log_likelihood: Number


class Spend(Part):
    p: Positive
    q: Positive
    gamma: Positive
    log_likelihood: Number


class Lifetime(Part):
    bounded: bool
    columns: Annotated[list[Count], Meta(min_length=4, max_length=4)]
    horizon_days: Annotated[int, Meta(ge=1, le=100_000)]
    unit: Positive
    purchases: PurchaseRates
    spend: Spend


class Blended(Part):
    regression: PoissonPart
    chance: ChancePart
    correction_weight: Amount
    kept: Columns
    floored: Columns
    unit: Positive
    lifetime: Lifetime | None
    correction: PoissonPart | None
    balance: Number
    level: Number


class Best(Part):
    k: Count
    scores_: np.ndarray


class Important(Part):
    count: Count
    importances_: np.ndarray
    kept_: np.ndarray


class Rotation(Part):
    """`by_column`: how the components lie in memory, on which last bits of a product hang."""

    mean_: np.ndarray
    components_: np.ndarray
    by_column: bool
    n_samples_: Annotated[int, Meta(ge=0)]


class Linear(Part):
    alpha: Amount
    coef_: np.ndarray
    intercept_: Number


class Tweedie(Part):
    alpha: Amount
    power: Annotated[float, Meta(ge=1, le=2)]
    tol: Positive
    coef_: np.ndarray
    intercept_: Number


class Steps(Part):
    select: Count
    select_by: Text
    pca: Count
    unit: Amount
    prepare: Clip | Known | None
    scale: Standard | None
    chosen: Best | Important | None
    rotate: Rotation | None
    regression: Linear | Poisson | Tweedie | None


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of a model. `feature_names` are those of the columns of X, attributes last."""

    schema: str
    kind: Text
    options: dict[Text, int | float | Text]
    feature_names: tuple[Text, ...]
    attributes: tuple[Column, ...]
    horizon_days: Annotated[int, Meta(ge=1, le=100_000)]
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    top: Amount
    value: Blended | Lifetime | Steps
    chance: Churn
    timezone: Text = UTC.name
