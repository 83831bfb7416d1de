"""Everything that the pickle of a model may name. What is not here is not imported, let alone
called: no function that does more than arithmetic, and no class beyond those that models are made
of (`model.estimators.kinds`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "builtins": ("slice",),
    "model.data.attributes": ("Column",),
    "model.estimators.bgnbd": ("BGNBD", "GammaGamma"),
    "model.estimators.blend": ("Blend",),
    "model.estimators.clv": ("ClvModel",),
    "model.estimators.hurdle": ("HurdleRegressor",),
    "model.estimators.lifetime": ("LifetimeValue",),
    "model.estimators.glm": ("LinearSum", "LogisticChance", "PoissonValue", "RevenueChance"),
    "model.estimators.pipelines": ("PipelineValue",),
    "model.estimators.regression": ("SignedLogisticRegression", "SignedPoissonRegressor"),
    "model.estimators.selection": ("ImportanceSelector", "relevance"),
    "model.estimators.transform": ("SignedLogClip", "WithAttributes"),
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
    "model.regression": "model.estimators.regression",
    "model.selection": "model.estimators.selection",
    "model.transform": "model.estimators.transform",
}

ALLOWED: Final = frozenset((module, name) for module, names in _NAMES.items() for name in names)
