"""Attributes as columns, held against scikit-learn's own transformers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from model.estimators.transform import SignedLogClip, WithAttributes

_STREAM = st.floats(-1e6, 1e6)
_NUMBER = st.one_of(st.just(np.nan), st.floats(-1e3, 1e3))
# Two texts are known: code 2 is one that training never saw.
_TEXT = st.sampled_from([np.nan, 0.0, 1.0, 2.0])
_ROW = st.tuples(_STREAM, _STREAM, _TEXT, _NUMBER, _TEXT, _NUMBER)


@given(st.lists(_ROW, min_size=1, max_size=12), st.lists(_ROW, min_size=1, max_size=6))
def test_it_is_what_imputers_and_encoders_make_of_the_same_rows(
    seen: list[tuple[float, ...]], new: list[tuple[float, ...]]
) -> None:
    fitted_on, rows = np.array(seen), np.array(new)
    ours = WithAttributes(2, [2, None, 2, None]).fit(fitted_on).transform(rows)
    imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(fitted_on[:, [3, 5]])
    encoder = OneHotEncoder(categories=[[-1.0, 0.0, 1.0, 2.0]], sparse_output=False)

    def logs(train: np.ndarray, then: np.ndarray) -> np.ndarray:
        return SignedLogClip().fit(train).transform(then)

    theirs = [
        logs(fitted_on[:, :2], rows[:, :2]),
        logs(imputer.transform(fitted_on[:, [3, 5]]), imputer.transform(rows[:, [3, 5]])),
        np.isnan(rows[:, [3, 5]]),
        *(encoder.fit_transform(np.nan_to_num(rows[:, [at]], nan=-1.0)) for at in (2, 4)),
    ]
    np.testing.assert_array_equal(ours, np.hstack(theirs))


def test_attributes_may_all_be_texts_or_all_be_numbers() -> None:
    rows = np.array([[3.0, 1.0], [4.0, np.nan]])
    texts = WithAttributes(1, [2]).fit(rows).transform(rows)
    assert texts[:, 1:].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    numbers = WithAttributes(1, [None]).fit(rows).transform(rows)
    np.testing.assert_allclose(numbers[:, 1:], [[np.log(2.0), 0], [np.log(2.0), 1]], atol=1e-9)
