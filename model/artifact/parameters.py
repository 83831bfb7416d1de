"""A model as data: its parameters in JSON, checked on reading and built by our own constructors.

Nothing in the file is run or looked up by name. Every part has its fields, types and ranges below,
arrays are of finite numbers and of the shapes that fit each other, and what is built scores as the
model did that was written, to the bit. Kinds whose regressors are scikit-learn's own structures
(forest, boosting, network, hurdle) have no such form: `written` gives None for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from sklearn._loss import HalfTweedieLoss
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import Ridge, TweedieRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from features.arrays import Floats
from model.artifact.parts import (
    MOST,
    MOST_WIDTH,
    Best,
    Blended,
    ChancePart,
    Churn,
    Clip,
    Important,
    Known,
    Lifetime,
    Linear,
    Logistic,
    Parameters,
    Part,
    Poisson,
    PoissonPart,
    PurchaseRates,
    Rotation,
    Spend,
    Standard,
    Steps,
    Sum,
    Tweedie,
)
from model.estimators.bgnbd import BGNBD, GammaGamma
from model.estimators.blend import Blend
from model.estimators.clv import ClvModel
from model.estimators.glm import (
    LinearSum,
    LogisticChance,
    PoissonValue,
    RevenueChance,
    SignedLogisticRegression,
    SignedPoissonRegressor,
)
from model.estimators.lifetime import LifetimeValue
from model.estimators.pipelines import ImportanceSelector, PipelineValue, relevance
from model.estimators.transform import Scale, SignedLogClip, WithAttributes

SCHEMA: Final = "clv-parameters/1"
# The default model has 30 kB; with thousands of categories of attributes it has a few megabytes.
MAX_BYTES: Final = 20_000_000


class Misfit(ValueError):
    """Parameters do not fit each other; the message says which."""


def written(model: ClvModel) -> bytes | None:
    """The model's file; None for one that is not made of arrays."""
    value, chance = _described(model.value), _described(model.chance)
    if value is None or chance is None:
        return None
    parameters = Parameters(
        SCHEMA, model.kind, model.options, model.feature_names, model.attributes,
        model.horizon_days, model.currency, float(model.top), value, chance,
        model.timezone,
    )  # fmt: skip
    return msgspec.json.encode(parameters, enc_hook=_encoded) + b"\n"


def read(data: bytes) -> ClvModel:
    """The model of a file. Raises ValueError (msgspec.DecodeError, Misfit) that says what is
    wrong with it."""
    parameters = msgspec.json.decode(data, type=Parameters, dec_hook=_decoded)
    if parameters.schema != SCHEMA:
        raise Misfit(f"schema {parameters.schema!r}, expected {SCHEMA}")
    width = len(parameters.feature_names)
    _check_columns("chance.kept", parameters.chance.kept, width)
    model = ClvModel.__new__(ClvModel)
    vars(model).update(
        value=_built(parameters.value, width),
        chance=_built(parameters.chance, width),
        **{
            name: getattr(parameters, name)
            for name in ("kind", "options", "feature_names", "attributes", "horizon_days",
                         "currency", "top")
        },
    )  # fmt: skip
    if parameters.timezone != model.timezone:
        model.timezone = parameters.timezone
    return model


def _encoded(thing: Any) -> Any:
    if isinstance(thing, np.ndarray | np.generic):
        return thing.tolist()
    raise NotImplementedError(type(thing))


def _decoded(kind: type, thing: Any) -> Floats:
    array = np.asarray(thing)
    if array.dtype.kind not in "fib" or array.ndim not in (1, 2) or array.size > 10 * MOST_WIDTH:
        raise ValueError("an array must have one or two dimensions of numbers")
    if array.dtype.kind == "b":
        return array
    array = array.astype(np.float64)
    if not (np.abs(array) <= MOST).all():
        raise ValueError(f"an array has a number beyond {MOST:g}")
    return array


# --- from objects to parts ----------------------------------------------------------------------


def _fields(part: type[Part], thing: Any, **more: Any) -> Any:
    """The part whose fields have the object's values, those that are objects described."""
    known = {
        name: _described(getattr(thing, name, None))
        for name in part.__struct_fields__
        if name not in more
    }
    return part(**known, **more)


def _described(thing: Any) -> Any:
    """The part that an object becomes; values that are none of ours stay as they are, and None is
    given for a regressor that has no parts."""
    if isinstance(thing, LinearSum):
        steps = dict(thing.pipeline.steps)
        return Sum(*(_described(steps[name]) for name in ("range", "scale", "regression")))
    if isinstance(thing, StandardScaler):
        return _fields(Standard, thing, settled=isinstance(thing, Scale))
    if isinstance(thing, PipelineValue):
        return _steps(thing)
    if isinstance(thing, PCA):
        by_column = not thing.components_.flags.c_contiguous
        return _fields(Rotation, thing, by_column=by_column)
    for of, part in _PARTS.items():
        if type(thing) is of:
            return _fields(part, thing)
    if isinstance(thing, np.generic):
        return thing.item()
    return thing


def _steps(value: PipelineValue) -> Any:
    steps = dict(value.pipeline.steps) if value.unit else {}
    regression = steps.get("regression")
    if regression is not None and type(regression) not in _PARTS:
        return None
    return _fields(
        Steps, value, prepare=_described(steps.get("range")), scale=_described(steps.get("scale")),
        chosen=_described(steps.get("select")), rotate=_described(steps.get("rotate")),
        regression=_described(regression), unit=float(value.unit),
    )  # fmt: skip


# --- and back -----------------------------------------------------------------------------------


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise Misfit(what)


def _check_columns(name: str, columns: list[int], width: int) -> None:
    _check(all(column < width for column in columns), f"{name} names a column beyond {width}")


def _check_width(name: str, width: int, *vectors: Floats) -> None:
    fits = all(vector.shape == (width,) and vector.dtype.kind == "f" for vector in vectors)
    _check(fits, f"{name} needs {width} numbers")


def _object(of: Any, part: Part, **more: Any) -> Any:
    """An object of ours with the part's fields, but for those given and those that are None
    where it has none."""
    thing = of.__new__(of)
    fields = {name: getattr(part, name) for name in part.__struct_fields__}
    if fields.get("n_iter_", 0) is None:
        del fields["n_iter_"]
    vars(thing).update(fields | more)
    return thing


def _clip(part: Clip, width: int) -> SignedLogClip:
    _check_width("clip", width, part.low_, part.high_)
    _check(bool((part.low_ <= part.high_).all()), "clip.low_ is above clip.high_")
    return _object(SignedLogClip, part, n_features_in_=width)  # type: ignore[no-any-return]


def _prepared(part: Clip | Known, width: int) -> tuple[Any, int]:
    """The fitted preparation of so many columns, and how many come out of it."""
    if isinstance(part, Clip):
        return _clip(part, width), width
    _check(part.n_features_in_ == width, f"known.n_features_in_ is not {width}")
    numbers = sum(one is None for one in part.categories)
    _check(part.features + len(part.categories) == width, "known.categories do not fit")
    _check_width("known.medians_", numbers, part.medians_)
    # Of every text one column, and one each for texts that are missing and that are new.
    texts = sum(one + 2 for one in part.categories if one is not None)
    _check(texts <= MOST_WIDTH, "known.categories are too many")
    stream, known = _clip(part.stream_, part.features), _clip(part.numbers_, numbers)
    made = _object(WithAttributes, part, stream_=stream, numbers_=known)
    return made, part.features + 2 * numbers + texts


def _standard(part: Standard, width: int) -> Any:
    _check_width("standard", width, part.mean_, part.scale_, part.var_)
    _check(bool((part.scale_ > 0).all()), "standard.scale_ must be above 0")
    made: Any = Scale() if part.settled else StandardScaler()
    vars(made).update(
        mean_=part.mean_, scale_=part.scale_, var_=part.var_,
        n_samples_seen_=part.n_samples_seen_, n_features_in_=width,
    )  # fmt: skip
    return made


def _regression(part: Any, width: int) -> Any:
    _check_width("coef_", width, part.coef_)
    if isinstance(part, Linear):
        made = Ridge(alpha=part.alpha)
        vars(made).update(solver_="cholesky")
    elif isinstance(part, Tweedie):
        made = TweedieRegressor(
            power=part.power, alpha=part.alpha, link="log", solver="newton-cholesky",
            max_iter=300, tol=part.tol,
        )  # fmt: skip
        vars(made).update(_base_loss=HalfTweedieLoss(power=part.power))
    elif isinstance(part, Poisson):
        return _object(SignedPoissonRegressor, part, n_features_in_=width)
    else:
        classes = np.array([False, True])
        return _object(SignedLogisticRegression, part, n_features_in_=width, classes_=classes)
    # A number of numpy's, as fitting makes it: a sum of another kind has other last bits.
    vars(made).update(
        coef_=part.coef_, intercept_=np.float64(part.intercept_), n_features_in_=width
    )
    return made


def _sum(part: Sum, width: int) -> LinearSum:
    prepare, out = _prepared(part.prepare, width)
    steps = [("range", prepare), ("scale", _standard(part.scale, out))]
    return LinearSum(Pipeline([*steps, ("regression", _regression(part.regression, out))]))


def _chosen(part: Best | Important, width: int) -> tuple[Any, int]:
    if isinstance(part, Best):
        _check_width("best.scores_", width, part.scores_)
        _check(1 <= part.k <= width, f"best.k is not within {width}")
        made = SelectKBest(relevance, k=part.k)
        vars(made).update(scores_=part.scores_, pvalues_=None, n_features_in_=width)
        return made, part.k
    _check_width("important.importances_", width, part.importances_)
    _check(part.kept_.shape == (width,) and part.kept_.dtype.kind == "b", "important.kept_")
    return _object(ImportanceSelector, part, n_features_in_=width), int(part.kept_.sum())


def _pipeline(part: Steps, width: int) -> PipelineValue:
    made = PipelineValue.__new__(PipelineValue)
    vars(made).update(select=part.select, select_by=part.select_by, pca=part.pca, unit=part.unit)
    if not part.unit:
        return made
    if part.prepare is None or part.scale is None or part.regression is None:
        raise Misfit("steps.prepare, scale or regression is missing")
    prepare, width = _prepared(part.prepare, width)
    steps = [("range", prepare), ("scale", _standard(part.scale, width))]
    if part.chosen is not None:
        chosen, width = _chosen(part.chosen, width)
        steps.append(("select", chosen))
    if part.rotate is not None:
        rotation, count = part.rotate, len(part.rotate.components_)
        _check(rotation.components_.shape == (count, width), "rotation.components_")
        _check_width("rotation.mean_", width, rotation.mean_)
        rotate = PCA(count, svd_solver="full")
        vars(rotate).update(
            mean_=rotation.mean_, n_components_=count,
            components_=np.asarray(rotation.components_, order="F" if rotation.by_column else "C"),
            n_samples_=rotation.n_samples_, n_features_in_=width, _fit_svd_solver="full",
        )  # fmt: skip
        steps.append(("rotate", rotate))
        width = count
    made.pipeline = Pipeline([*steps, ("regression", _regression(part.regression, width))])
    return made


def _lifetime(part: Lifetime, width: int) -> LifetimeValue:
    _check_columns("lifetime.columns", part.columns, width)
    purchases, spend = (
        of(**{name: getattr(fitted, name) for name in fitted.__struct_fields__})
        for of, fitted in ((BGNBD, part.purchases), (GammaGamma, part.spend))
    )
    return _object(LifetimeValue, part, purchases=purchases, spend=spend)  # type: ignore[no-any-return]


def _poisson(part: PoissonPart, width: int) -> PoissonValue:
    return _object(PoissonValue, part, linear=_sum(part.linear, width))  # type: ignore[no-any-return]


def _blend(part: Blended, width: int) -> Blend:
    _check_columns("blend.kept", part.kept, width)
    smooth = len(part.kept)
    _check_columns("blend.floored", part.floored, smooth)
    both = part.lifetime is not None and part.correction is not None
    _check(both or (part.lifetime is None and part.correction is None), "blend.lifetime alone")
    linear = part.chance.linear
    return _object(  # type: ignore[no-any-return]
        Blend, part,
        regression=_poisson(part.regression, smooth + both),
        chance=_object(
            RevenueChance, part.chance, linear=None if linear is None else _sum(linear, smooth)
        ),
        lifetime=None if part.lifetime is None else _lifetime(part.lifetime, width),
        correction=None if part.correction is None else _poisson(part.correction, smooth),
    )  # fmt: skip


def _churn(part: Churn, width: int) -> LogisticChance:
    smooth = len(part.kept)
    _check_columns("chance.floored", part.floored, smooth)
    return _object(LogisticChance, part, linear=_sum(part.linear, smooth))  # type: ignore[no-any-return]


_PARTS: Final[dict[type, type[Part]]] = {
    SignedLogClip: Clip, WithAttributes: Known, SignedPoissonRegressor: Poisson,
    SignedLogisticRegression: Logistic, PoissonValue: PoissonPart, RevenueChance: ChancePart,
    LogisticChance: Churn, BGNBD: PurchaseRates, GammaGamma: Spend, LifetimeValue: Lifetime,
    Blend: Blended, SelectKBest: Best, ImportanceSelector: Important,
    Ridge: Linear, TweedieRegressor: Tweedie,
}  # fmt: skip
_BUILDERS: Final[dict[type, Callable[[Any, int], Any]]] = {
    Blended: _blend, Lifetime: _lifetime, Steps: _pipeline, Churn: _churn,
}  # fmt: skip


def _built(part: Part, width: int) -> Any:
    return _BUILDERS[type(part)](part, width)
