"""A model fitted to training rows."""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no types

from features.arrays import Floats
from features.catalog import feature_of
from features.money import minor_exponent
from features.vector import FEATURE_NAMES
from model.data.training_rows import TooLittleData, TrainingConfig, TrainingSet
from model.estimators.base import Examples
from model.estimators.bgnbd import FitError
from model.estimators.clv import ClvModel
from model.estimators.kinds import fitted


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
