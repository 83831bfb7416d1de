"""Everything that the pickle of a model may name. What is not here is not imported, let alone
called: no function that does more than arithmetic, and no class beyond those that models are made
of (`model.estimators.kinds`)."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning

from model.artifact.files import PICKLE_FILE, ArtifactRefused
from model.artifact.manifest import RETRAIN
from model.estimators.clv import ClvModel
from model.estimators.pipelines import PipelineValue

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "builtins": ("slice",),
    "model.data.attributes": ("Column",),
    "model.estimators.bgnbd": ("BGNBD", "GammaGamma"),
    "model.estimators.blend": ("Blend",),
    "model.estimators.clv": ("ClvModel",),
    "model.estimators.hurdle": ("HurdleRegressor",),
    "model.estimators.lifetime": ("LifetimeValue",),
    "model.estimators.glm": (
        "LinearSum",
        "LogisticChance",
        "PoissonValue",
        "RevenueChance",
        "SignedLogisticRegression",
        "SignedPoissonRegressor",
    ),
    "model.estimators.pipelines": ("ImportanceSelector", "PipelineValue", "relevance"),
    "model.estimators.transform": ("Scale", "SignedLogClip", "WithAttributes"),
    "numpy": ("dtype", "float64", "ndarray"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.numeric": ("_frombuffer",),
    "sklearn._loss._loss": ("CyHalfBinomialLoss", "CyHalfPoissonLoss", "CyHalfTweedieLoss"),
    "sklearn._loss.link": ("Interval", "LogLink", "LogitLink"),
    "sklearn._loss.loss": ("HalfBinomialLoss", "HalfPoissonLoss", "HalfTweedieLoss"),
    "sklearn.decomposition._pca": ("PCA",),
    "sklearn.ensemble._forest": ("RandomForestRegressor",),
    "sklearn.ensemble._hist_gradient_boosting.binning": ("_BinMapper",),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": (
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    ),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.feature_selection._univariate_selection": ("SelectKBest",),
    "sklearn.linear_model._glm.glm": ("TweedieRegressor",),
    "sklearn.linear_model._logistic": ("LogisticRegression",),
    "sklearn.linear_model._ridge": ("Ridge",),
    "sklearn.neural_network._multilayer_perceptron": ("MLPRegressor",),
    "sklearn.pipeline": ("Pipeline",),
    "sklearn.preprocessing._data": ("StandardScaler",),
    "sklearn.preprocessing._label": ("LabelEncoder",),
    "sklearn.tree._classes": ("DecisionTreeRegressor",),
    "sklearn.tree._tree": ("Tree",),
}

# Where the classes stood in artifacts written before 0.2: the same objects, by their old names.
FORMER: Final[Mapping[str, str]] = {
    "model.attributes": "model.data.attributes",
    "model.bgnbd": "model.estimators.bgnbd",
    "model.blend": "model.estimators.blend",
    "model.clv": "model.estimators.clv",
    "model.hurdle": "model.estimators.hurdle",
    "model.lifetime": "model.estimators.lifetime",
    "model.loglinear": "model.estimators.glm",
    "model.pipelines": "model.estimators.pipelines",
    "model.regression": "model.estimators.glm",
    "model.selection": "model.estimators.pipelines",
    "model.transform": "model.estimators.transform",
}

ALLOWED: Final = frozenset((module, name) for module, names in _NAMES.items() for name in names)


class _ForbiddenName(Exception):
    pass


class _ModelUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = FORMER.get(module, module)
        if (module, name) not in ALLOWED:
            raise _ForbiddenName(f"{module}.{name}")
        return super().find_class(module, name)


def unpickled(path: Path, data: bytes) -> ClvModel:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            model = _ModelUnpickler(io.BytesIO(data)).load()
    except _ForbiddenName as error:
        raise ArtifactRefused(
            path, PICKLE_FILE, f"naming {error}", "only parts of a model", "do not trust its source"
        ) from None
    except InconsistentVersionWarning as error:
        raise ArtifactRefused(
            path, "scikit-learn of training", error.original_sklearn_version,
            error.current_sklearn_version, RETRAIN,
        ) from None  # fmt: skip
    except Exception as error:  # unpickling damaged bytes may raise anything
        raise ArtifactRefused(
            path, PICKLE_FILE, f"unreadable ({type(error).__name__}: {error})", "a model", RETRAIN
        ) from None
    if not isinstance(model, ClvModel):
        raise ArtifactRefused(path, PICKLE_FILE, type(model).__name__, "ClvModel", RETRAIN)
    try:
        check_trees(model.value)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise ArtifactRefused(
            path, PICKLE_FILE, f"a damaged tree ({error})", "a model", RETRAIN
        ) from None
    return model


def check_trees(value: Any) -> None:
    """Raises ValueError where a node of a tree leads nowhere, or back: scikit-learn follows nodes
    without a look, out of the memory that it has or for ever."""
    if not isinstance(value, PipelineValue) or not value.unit:
        return
    regression = value.pipeline[-1]
    parts = [regression, getattr(regression, "chance_", None), getattr(regression, "amount_", None)]
    for part in parts:
        for tree in getattr(part, "estimators_", ()):
            _check_nodes(*_of_forest(tree.tree_), features=tree.tree_.n_features)
        for stage in getattr(part, "_predictors", ()):
            for predictor in stage:
                nodes = predictor.nodes
                if nodes["is_categorical"].any():
                    raise ValueError("a split by category")
                _check_nodes(
                    nodes["left"], nodes["right"], nodes["feature_idx"], nodes["num_threshold"],
                    nodes["value"], nodes["is_leaf"].astype(bool), features=part.n_features_in_,
                )  # fmt: skip


def _of_forest(tree: Any) -> tuple[Any, ...]:
    # Its own count first: what lies beyond the nodes that are there must not be read.
    state = tree.__getstate__() if len(tree.value) == tree.node_count else None
    if state is None or len(state["nodes"]) != tree.node_count or tree.n_outputs != 1:
        raise ValueError("nodes that are not there")
    nodes = state["nodes"]
    left = nodes["left_child"]
    return left, nodes["right_child"], nodes["feature"], nodes["threshold"], tree.value, left < 0


def _check_nodes(
    left: Any, right: Any, feature: Any, threshold: Any, value: Any, leaf: Any, *, features: int
) -> None:
    at, inner = np.arange(len(left)), ~leaf
    if not len(left) or not np.isfinite(value).all():
        raise ValueError("no nodes, or values that are no numbers")
    for child in (left, right):
        # Deeper nodes come later, so what only goes on ends.
        if not ((child > at) & (child < len(left)))[inner].all():
            raise ValueError("a node that leads nowhere, or back")
    if not ((feature >= 0) & (feature < features) & ~np.isnan(threshold))[inner].all():
        raise ValueError("a split by no feature")
