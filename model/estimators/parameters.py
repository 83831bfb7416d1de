"""Everything that decides what a fitted model says, as a list of numbers.

The bytes of a pickle do not serve: they change with how objects happen to be shared. So the same
parts that pickling would write are walked and taken by value.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]

# Of the library and not of the model; the manifest has it.
_SKIPPED = frozenset({"_sklearn_version"})


def numbers_of(thing: object) -> Iterator[Numbers]:
    """Arrays of numbers that are equal for equal objects, before and after pickling.

    Texts and names come as the bytes of their UTF-8. Follows `__reduce_ex__`; a part that contains
    itself is taken once.
    """
    return _walk(thing, ())


def _walk(thing: Any, above: tuple[int, ...]) -> Iterator[Numbers]:
    if isinstance(thing, np.ndarray):
        yield from _of_array(thing, above)
    elif isinstance(thing, str | bytes):
        yield _of_text(thing)
    elif thing is None or isinstance(thing, int | float | np.generic):
        yield _of_number(thing)
    elif isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType | np.ufunc):
        yield _of_text(getattr(thing, "__qualname__", thing.__name__))
    elif id(thing) not in above:
        for part in _parts(thing):
            yield from _walk(part, (*above, id(thing)))


def _parts(thing: Any) -> Iterator[object]:
    if isinstance(thing, Mapping):
        for key in sorted(thing, key=str):
            if key not in _SKIPPED:
                yield key
                yield thing[key]
    elif isinstance(thing, list | tuple):
        yield len(thing)
        yield from thing
    elif isinstance(thing, set | frozenset):
        yield from sorted(thing, key=str)
    else:
        reduced = thing.__reduce_ex__(4)
        yield from [reduced] if isinstance(reduced, str) else reduced[:3]


def _of_array(array: Numbers, above: tuple[int, ...]) -> Iterator[Numbers]:
    if array.dtype.names is not None:
        # Field by field: what lies between the fields of a structure is left to chance.
        for name in array.dtype.names:
            yield np.ascontiguousarray(array[name])
    elif array.dtype.kind in "OUS":
        yield from _walk(array.tolist(), above)
    else:
        yield array


def _of_number(number: Any) -> Numbers:
    if number is None:
        return _of_text("None")
    # Too long for a float, as seeds of random numbers are: digit by digit.
    return np.array([float(number)]) if abs(number) < 2**53 else _of_text(repr(number))


def _of_text(text: str | bytes) -> Numbers:
    return np.frombuffer(text if isinstance(text, bytes) else text.encode(), dtype=np.uint8)
