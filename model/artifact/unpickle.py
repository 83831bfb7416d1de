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

from sklearn.exceptions import InconsistentVersionWarning

from model.artifact.files import MODEL_FILE, ArtifactRefused
from model.artifact.manifest import RETRAIN
from model.estimators.clv import ClvModel

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
            path, MODEL_FILE, f"naming {error}", "only parts of a model", "do not trust its source"
        ) from None
    except InconsistentVersionWarning as error:
        raise ArtifactRefused(
            path, "scikit-learn of training", error.original_sklearn_version,
            error.current_sklearn_version, RETRAIN,
        ) from None  # fmt: skip
    except Exception as error:  # unpickling damaged bytes may raise anything
        raise ArtifactRefused(
            path, MODEL_FILE, f"unreadable ({type(error).__name__}: {error})", "a model", RETRAIN
        ) from None
    if not isinstance(model, ClvModel):
        raise ArtifactRefused(path, MODEL_FILE, type(model).__name__, "ClvModel", RETRAIN)
    return model
