"""A model as data: the same bits, and nothing in the file but numbers that fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.artifact.artifact import version_of
from model.artifact.parameters import read, written
from model.data.training_rows import training_set
from model.estimators.clv import ClvModel
from model.estimators.kinds import fit, options_of
from tests.support import modelling

_MADE_OF_ARRAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("blend", {}),
    ("bgnbd", {}),
    ("linear", {}),
    ("linear", {"pca": 4}),
    ("poisson", {"select": 8}),
    ("tweedie", {"select": 9, "select_by": "importance", "pca": 3}),
)


@cache
def _model(at: int) -> ClvModel:
    kind, options = _MADE_OF_ARRAYS[at]
    config = replace(modelling.CONFIG, kind=kind, options=options_of(kind, options))
    rows = training_set(modelling.orders(), config, modelling.cutoff_day())
    return fit(rows, config, modelling.known())


def _file(at: int = 0) -> dict[str, Any]:
    data = written(_model(at))
    assert data is not None
    found: dict[str, Any] = msgspec.json.decode(data)
    return found


@pytest.mark.parametrize("at", range(len(_MADE_OF_ARRAYS)))
def test_what_is_read_scores_to_the_bit_as_what_was_written(at: int) -> None:
    model = _model(at)
    data = written(model)
    assert data is not None
    again = read(data)
    assert version_of(again) == version_of(model)
    assert written(again) == data
    X = modelling.random_rows(2, 500)
    for rows in (X[:1], X[:7], X):
        assert again.value.predict(rows).tobytes() == model.value.predict(rows).tobytes()
        assert again.chance.predict(rows).tobytes() == model.chance.predict(rows).tobytes()
        assert again.clv(rows).tobytes() == model.clv(rows).tobytes()


def _places(thing: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a file; of a list, the first and the last place."""
    if path:
        yield path
    if isinstance(thing, dict):
        for name, value in thing.items():
            yield from _places(value, (*path, name))
    elif isinstance(thing, list) and thing:
        for at in {0, len(thing) - 1}:
            yield from _places(thing[at], (*path, at))


# Deferred: whoever only collects the tests trains nothing.
_PLACES = st.deferred(
    lambda: st.sampled_from(
        [(at, path) for at in range(len(_MADE_OF_ARRAYS)) for path in _places(_file(at))]
    )
)
_JUNK = st.sampled_from(
    [None, True, -1, 10**12, 2**70, 1e300, "", "x", [], [1.0], [[1.0]], [None], {}, {"is": "Blend"},
     {"is": "Clip", "low_": [1e9], "high_": [0]}, {"__array_interface__": 1}]
)  # fmt: skip


@given(_PLACES, _JUNK, st.sampled_from(["put", "leave out", "add", "twice"]))
def test_a_file_changed_anywhere_is_refused_or_scores_numbers(
    place: tuple[int, tuple[Any, ...]], junk: Any, how: str
) -> None:
    at, path = place
    changed = _file(at)
    above: Any = changed
    for step in path[:-1]:
        above = above[step]
    if how == "put":
        above[path[-1]] = junk
    elif how == "leave out":
        del above[path[-1]]
    elif how == "twice" and isinstance(above, list):
        above.append(above[path[-1]])
    elif isinstance(above, dict):
        above["_checked"] = junk
    try:
        model = read(msgspec.json.encode(changed))
    except ValueError:
        return  # msgspec's errors are of it as well
    if len(model.feature_names) == len(modelling.model().feature_names):
        with np.errstate(all="ignore"):
            clv, churn = model.clv(modelling.known()[:20]), model.churn(modelling.known()[:20])
        assert np.isfinite(clv).all()
        assert ((churn >= 0) & (churn <= 1)).all()
