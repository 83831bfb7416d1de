"""JMESPath expressions compiled to functions: the same answers in a fraction of the time.

Names, comparisons with `==` and `!=`, literals and the logical operators, of which nearly all
mappings are made, become closures that raise nothing; whatever else an expression has is left to
`jmespath` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from features.errors import FactsError

Get: TypeAlias = Callable[[Any], Any]
_FAULTS: Final = (JMESPathError, TypeError, ValueError, RecursionError)


class PathError(FactsError):
    """The text is no JMESPath expression, or has no value for a record; the message says why."""


def compiled(expression: str, place: str = "") -> Get:
    """What finds the value of an expression in a record; None where there is nothing. Raises
    PathError, also when it is called: for a function that is given what it does not take; the
    message begins with `place` then.

    >>> compiled("customer.id || email")({"customer": None, "email": "kim@shop.test"})
    'kim@shop.test'
    """
    try:
        tree = jmespath.compile(expression).parsed
        found = _compiled(tree)
    except (JMESPathError, ValueError, RecursionError) as error:
        raise PathError(_first_line(error)) from None
    return found if _never_raises(tree) else _guarded(found, place)


def _guarded(inner: Get, place: str) -> Get:
    def get(record: Any) -> Any:
        try:
            return inner(record)
        except _FAULTS as error:
            raise PathError(place + _first_line(error)) from None

    return get


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def is_true(value: Any) -> bool:
    """What JMESPath takes for true: everything but null, false, and empty texts and lists; so 0,
    too, however it is written."""
    return bool(value) or (isinstance(value, int | float | Decimal) and value is not False)


def _never_raises(node: Any) -> bool:
    """Whether its closures need no guard: a comparison of two values of a record may go as deep as
    they do."""
    kind, children = node["type"], node["children"]
    if kind == "comparator":
        if node["value"] not in ("eq", "ne") or not any(map(_is_scalar, children)):
            return False
    elif kind not in _CLOSED:
        return False
    return all(map(_never_raises, children))


_CLOSED: Final = frozenset(
    {"field", "literal", "current", "identity", "subexpression", "pipe"}
    | {"or_expression", "and_expression", "not_expression"}
)


def _is_scalar(node: Any) -> bool:
    return node["type"] == "literal" and not isinstance(node["value"], list | dict)


def _compiled(node: Any) -> Get:
    kind, children = node["type"], node["children"]
    if kind == "field":
        return _field(node["value"])
    if kind == "literal":
        return _constant(node["value"])
    if kind in ("current", "identity"):
        return lambda record: record
    if kind in ("subexpression", "pipe"):
        return _chained([_compiled(child) for child in children])
    if kind in ("or_expression", "and_expression"):
        parts = _flat(node, kind)
        among = _among(parts, "eq" if kind == "or_expression" else "ne")
        if among is not None:
            return among
        return (_first_true if kind == "or_expression" else _first_false)(
            [_compiled(part) for part in parts]
        )
    if kind == "not_expression":
        (inner,) = map(_compiled, children)
        return lambda record: not is_true(inner(record))
    if kind == "comparator" and node["value"] in ("eq", "ne"):
        left, right = map(_compiled, children)
        return _compared(left, right, node["value"] == "eq")
    interpreter = TreeInterpreter()
    return lambda record: interpreter.visit(node, record)


def _flat(node: Any, kind: str) -> list[Any]:
    """The operands of a chain of one operator."""
    if node["type"] != kind:
        return [node]
    return [part for child in node["children"] for part in _flat(child, kind)]


def _among(parts: Sequence[Any], operator: str) -> Get | None:
    """For `a == 'x' || a == 'y' || ...`, and `a != 'x' && a != 'y' && ...`: one look into a set."""
    texts = set()
    for part in parts:
        if part["type"] != "comparator" or part["value"] != operator:
            return None
        left, right = part["children"]
        if right["type"] != "literal" or not isinstance(right["value"], str):
            return None
        if left != parts[0]["children"][0]:
            return None
        texts.add(right["value"])
    value_of, known, equal = _compiled(parts[0]["children"][0]), frozenset(texts), operator == "eq"

    def get(record: Any) -> bool:
        value = value_of(record)
        return (isinstance(value, str) and value in known) is equal

    return get


def _first_true(gets: Sequence[Get]) -> Get:
    *before, last = gets

    def get(record: Any) -> Any:
        for one in before:
            found = one(record)
            if found or is_true(found):
                return found
        return last(record)

    return get


def _first_false(gets: Sequence[Get]) -> Get:
    *before, last = gets

    def get(record: Any) -> Any:
        for one in before:
            found = one(record)
            if not is_true(found):
                return found
        return last(record)

    return get


def _constant(value: Any) -> Get:
    return lambda record: value


def _field(name: str) -> Get:
    def get(record: Any) -> Any:
        return record.get(name) if isinstance(record, dict) else None

    return get


def _chained(steps: list[Get]) -> Get:
    if len(steps) == 2:
        first, second = steps
        return lambda record: second(first(record))

    def get(record: Any) -> Any:
        for step in steps:
            record = step(record)
        return record

    return get


def _compared(left: Get, right: Get, equal: bool) -> Get:
    def get(record: Any) -> bool:
        one, other = left(record), right(record)
        # In JSON true is not 1, though in Python it is.
        same = one == other and (one is True or one is False) == (other is True or other is False)
        return same is equal

    return get
