"""Compiled expressions answer what jmespath answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.mapping.paths import PathError, compiled, is_true

_EXPRESSIONS = [
    "a",
    "a.b",
    '"a b"',
    "a || b",
    "a && b",
    "!a",
    "a == 'x'",
    "a != b",
    "a == `1`",
    "a == `true`",
    "a.b.a || b.a || 'none'",
    "a[0]",
    "a[].b",
    "[a, b][?@] | [0]",
    "(a == 'x' || b == `0`) && a.b",
    "a | b",
    "a == 'x' || a == 'y' || a == ''",
    "a.b != 'x' && a.b != 'y'",
    "a == 'x' || b == 'y'",
    "a || b || a.b || `0`",
    "a && b && 'x'",
    "@",
    "{x: a, y: b.a}",
]
_leaves = st.none() | st.booleans() | st.sampled_from([0, 1, 2, "", "x", "y"])
_records = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "a b"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("expression", _EXPRESSIONS)
@given(record=_records)
def test_a_compiled_expression_finds_what_jmespath_finds(expression: str, record: Any) -> None:
    slow = jmespath.search(expression, record)
    fast = compiled(expression)(record)
    assert fast == slow
    assert isinstance(fast, bool) is isinstance(slow, bool)


@given(_records)
def test_truth_is_that_of_jmespath(value: Any) -> None:
    assert is_true(value) is (jmespath.search("!a", {"a": value}) is False)


def test_nothing_is_a_number_however_exactly_it_is_written() -> None:
    assert compiled("total || revenue")({"total": Decimal("0.00"), "revenue": 25}) == 0


def test_values_that_nest_deeper_than_python_compares_are_a_path_error() -> None:
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(PathError, match="line 3"):
        compiled("a == b", "line 3: ")({"a": deep, "b": [deep]})


@pytest.mark.parametrize("text", ["", "a.", "Created at", "a[", "a ==", "nothing_such(a)("])
def test_what_is_no_expression_is_refused_when_it_is_compiled(text: str) -> None:
    with pytest.raises(PathError):
        compiled(text)


def test_a_function_that_cannot_take_its_value_is_a_path_error_and_no_traceback() -> None:
    with pytest.raises(PathError):
        compiled("join('-', a)")({"a": [1]})
