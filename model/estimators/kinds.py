"""The kinds of model that can be trained, by name, each with its options.

Every kind but `blend` and `bgnbd` is a scikit-learn pipeline and takes `select`, `select_by` and
`pca` besides its own options. P(churn) is a logistic regression in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge, TweedieRegressor
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no types

from features.arrays import Floats
from features.columns.catalog import feature_of
from features.columns.vector import FEATURE_NAMES
from features.events.money import minor_exponent
from model.data.training_rows import DEFAULT_KIND, TooLittleData, TrainingConfig, TrainingSet
from model.errors import ModelError
from model.estimators.base import Examples, ValueModel
from model.estimators.bgnbd import FitError
from model.estimators.blend import CORRECTION_WEIGHT, POISSON_ALPHA, Blend
from model.estimators.clv import ClvModel
from model.estimators.glm import LogisticChance, SignedPoissonRegressor
from model.estimators.hurdle import HurdleRegressor
from model.estimators.lifetime import LifetimeValue
from model.estimators.pipelines import PipelineValue, SelectBy

DEFAULT: Final = DEFAULT_KIND

Setting: TypeAlias = int | float | str


class OptionError(ModelError, ValueError):
    """There is no such kind of model, or it has no such option or value. The message says which
    there are; `python -m model train --list-kinds` lists all."""


@dataclass(frozen=True, slots=True)
class Option:
    """A setting of a kind. Its type is that of `default`; numbers lie between `least` and `most`,
    a text is one of `candidates`, which for numbers are the values that a search tries."""

    default: Setting
    candidates: tuple[Setting, ...]
    summary: str
    least: float = 0
    most: float = 1_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value model: `make(**options)` is an unfitted one; `summary` is for people;
    `plain`: it is saved as parameters, which run nothing, and not as a pickle."""

    summary: str
    make: Callable[..., ValueModel]
    options: Mapping[str, Option] = field(default_factory=dict)
    plain: bool = True


_COLUMNS: Final = {
    "select": Option(0, (0, 0, 12, 20), "keep the best so many features; 0 keeps all", 0, 10_000),
    "select_by": Option("kbest", ("kbest", "importance"), "by correlation, or by a forest"),
    "pca": Option(0, (0, 0, 8, 16), "rotate into so many components; 0 does not", 0, 10_000),
}
_ALPHA: Final = (0.003, 0.01, 0.03, 0.1, 0.3)
_TREES: Final = {
    "max_iter": Option(150, (75, 150, 300), "trees, one after another", 1, 5_000),
    "learning_rate": Option(0.05, (0.03, 0.05, 0.1), "how much each tree adds", 1e-4, 1),
    "max_leaf_nodes": Option(15, (7, 15, 31), "leaves of a tree at most", 2, 255),
    "min_samples_leaf": Option(40, (20, 40, 100), "rows of a leaf at least", 1),
    "l2": Option(1.0, (0.0, 1.0, 10.0), "penalty on what a leaf says"),
}


def _kind(
    summary: str, regressor: Callable[..., Any], plain: bool = True, **options: Option
) -> Kind:
    """A kind whose pipeline ends in `regressor(**its own options)`."""

    def make(select: int, select_by: SelectBy, pca: int, **own: Any) -> ValueModel:
        return PipelineValue(partial(regressor, **own), select, select_by, pca)

    return Kind(summary, make, {**options, **_COLUMNS}, plain)


def _linear(alpha: float) -> Any:
    return Ridge(alpha=alpha)


def _poisson(alpha: float) -> Any:
    return SignedPoissonRegressor(alpha)


def _tweedie(alpha: float, power: float) -> Any:
    return TweedieRegressor(
        power=power, alpha=alpha, link="log", solver="newton-cholesky", max_iter=300, tol=1e-10
    )


def _forest(trees: int, min_samples_leaf: int, max_features: float) -> Any:
    # Bounded leaves keep the file small, one seed the same forest.
    return RandomForestRegressor(
        trees,
        min_samples_leaf=min_samples_leaf,
        max_features=max_features,
        max_leaf_nodes=512,
        random_state=0,
    )


def _boosting(l2: float, **options: Any) -> Any:
    return HistGradientBoostingRegressor(
        loss="poisson", l2_regularization=l2, early_stopping=False, random_state=0, **options
    )


def _mlp(width: int, layers: int, alpha: float, epochs: int) -> Any:
    return MLPRegressor(
        hidden_layer_sizes=(width,) * layers,
        loss="poisson",
        alpha=alpha,
        max_iter=epochs,
        random_state=0,
    )


def _hurdle(parts: str, l2: float, **options: Any) -> Any:
    if parts == "glm":
        chance: Any = LogisticRegression(solver="newton-cholesky", tol=1e-10)
        return HurdleRegressor(chance, SignedPoissonRegressor(0.03))
    chance = HistGradientBoostingClassifier(
        l2_regularization=l2, early_stopping=False, random_state=0, **options
    )
    return HurdleRegressor(chance, _boosting(l2, **options))


KINDS: Final[Mapping[str, Kind]] = {
    "blend": Kind(
        "the default: Poisson regressions that start from BG/NBD + Gamma-Gamma",
        Blend,
        {
            "alpha": Option(POISSON_ALPHA, _ALPHA, "penalty of the regression"),
            "correction_weight": Option(
                CORRECTION_WEIGHT, (0.0, 0.05, 0.25, 0.5), "share of BG/NBD corrected", 0, 1
            ),
        },
    ),
    "bgnbd": Kind("BG/NBD + Gamma-Gamma alone: no features but RFM, no labels", LifetimeValue),
    "linear": _kind(
        "linear regression of revenue on logarithms of features",
        _linear,
        alpha=Option(1.0, (0.1, 1.0, 10.0, 100.0), "L2 penalty"),
    ),
    "poisson": _kind(
        "Poisson regression with log link and signed coefficients",
        _poisson,
        alpha=Option(POISSON_ALPHA, _ALPHA, "L2 penalty"),
    ),
    "tweedie": _kind(
        "Tweedie regression with log link: many zeros, and a long tail",
        _tweedie,
        alpha=Option(0.03, _ALPHA, "L2 penalty"),
        power=Option(1.5, (1.2, 1.5, 1.8), "of the variance: 1 Poisson, 2 gamma", 1, 1.99),
    ),
    "forest": _kind(
        "random forest",
        _forest,
        plain=False,
        trees=Option(100, (50, 100), "number of trees", 1, 1_000),
        min_samples_leaf=Option(20, (10, 20, 50), "rows of a leaf at least", 1),
        max_features=Option(0.33, (0.2, 0.33, 0.6), "share of features tried at a split", 0.01, 1),
    ),
    "boosting": _kind(
        "histogram gradient boosting, Poisson loss, monotone in the obvious features",
        _boosting,
        plain=False,
        **_TREES,
    ),
    "mlp": _kind(
        "neural network (multi-layer perceptron), Poisson loss, scaled log features",
        _mlp,
        plain=False,
        width=Option(32, (16, 32, 64), "neurons of a layer", 1, 1_024),
        layers=Option(2, (1, 2, 3), "hidden layers", 1, 8),
        alpha=Option(0.01, (0.001, 0.01, 0.1, 1.0), "L2 penalty"),
        epochs=Option(40, (20, 40, 80), "passes over the rows at most", 1, 10_000),
    ),
    "hurdle": _kind(
        "P(any revenue) times the revenue if any, both boosted and monotone",
        _hurdle,
        plain=False,
        parts=Option("boosting", ("boosting", "glm"), "what both parts are"),
        **_TREES,
    ),
}


def kind_of(name: str) -> Kind:
    """The kind of a name. Raises OptionError."""
    if name not in KINDS:
        raise OptionError(f"there is no kind of model {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]


def options_of(kind: str, given: Mapping[str, object]) -> dict[str, Setting]:
    """All options of a kind: those given, as texts or values, checked, and defaults for the rest.
    Raises OptionError naming kind, option and remedy."""
    known = kind_of(kind).options
    for name in given:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise OptionError(f"kind {kind} has no option {name!r}; {there}")
    return {
        name: _checked(kind, name, option, given[name]) if name in given else option.default
        for name, option in known.items()
    }


def _checked(kind: str, name: str, option: Option, value: object) -> Setting:
    wanted = type(option.default)
    if wanted is str:
        if value not in option.candidates:
            there = " or ".join(str(candidate) for candidate in option.candidates)
            raise OptionError(f"option {name} of kind {kind} is {value!r}; it must be {there}")
        return str(value)
    noun = "a whole number" if wanted is int else "a number"
    try:
        number = int(str(value)) if wanted is int else float(str(value))
    except ValueError:
        raise OptionError(f"option {name} of kind {kind} is {value!r}; it must be {noun}") from None
    if not option.least <= number <= option.most:
        raise OptionError(
            f"option {name} of kind {kind} is {value!r}; it must be {noun} from"
            f" {option.least:g} to {option.most:g}"
        )
    return number


def fitted(
    examples: Examples, kind: str = DEFAULT, options: Mapping[str, object] | None = None
) -> ClvModel:
    """The model of a kind, fitted on examples. Raises OptionError, and FitError of a lifetime
    model without repeat purchases."""
    full = options_of(kind, options or {})
    return ClvModel.fit(examples, kind_of(kind).make(**full), LogisticChance(), kind, full)


def fit(rows: TrainingSet, config: TrainingConfig, known: Floats) -> ClvModel:
    """The model of a training set and of the `population` known at its cutoff; the same rows give
    the same model. Raises TooLittleData where a kind needs what they do not have, and OptionError.
    """
    # One thread: sums, and so the model, do not depend on the number of cores, and several threads
    # on matrices this narrow take many times longer on a busy machine.
    with threadpool_limits(limits=1):
        try:
            return fitted(examples(rows, config, known), config.kind, config.options)
        except FitError as error:
            raise TooLittleData(f"kind {config.kind} cannot be fitted: {error}") from None


def examples(rows: TrainingSet, config: TrainingConfig, known: Floats) -> Examples:
    """The rows as a model is fitted on them: in major units, the newest weighing most."""
    age_days = rows.day.max() - rows.day
    attributes = () if config.attributes is None else config.attributes.columns
    columns = (*FEATURE_NAMES, *(column.feature for column in attributes))
    return Examples(
        X=rows.X,
        revenue=rows.labels.revenue_minor / 10.0 ** minor_exponent(config.currency),
        churned=rows.labels.churned,
        weight=0.5 ** (age_days / config.half_life_days),
        day=rows.day,
        population=known,
        columns=columns,
        horizon_days=config.horizon_days,
        currency=config.currency,
        timezone=config.calendar.name,
        signs=tuple(feature_of(name).sign for name in columns),
        attributes=attributes,
    )
