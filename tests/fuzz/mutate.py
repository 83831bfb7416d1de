"""Inputs made of kept seeds: cut, doubled, spliced, and with what breaks parsers put in.

`FUZZ_EXAMPLES` is how many a target tries; in CI it is as many as a minute takes.
"""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SEEDS: Final = Path(__file__).parent / "seeds"
fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_ODD: Final = (
    b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\x1b[2J", b'"', b"{",
    b"}", b"[" * 600, b"]", b",", b":", b"-0", b"1e999", b"-1e-999", b"1" * 400, b"9" * 20,
    b"NaN", b"Infinity", b"null", b"true", b'""', b"\r\n", b"\xef\xbb\xbf", b"0x10", b"1_000",
    b"=1+1",
)  # fmt: skip


def seeds_of(target: str) -> list[bytes]:
    """The seeds of a target, in the order of their names."""
    found = [path.read_bytes() for path in sorted((SEEDS / target).iterdir())]
    assert found, f"no seeds in {SEEDS / target}"
    return found


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with up to six things done to it."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 64)))
        put = draw(
            st.sampled_from(
                [b"", data[start:end] * 2, draw(st.sampled_from(_ODD)), draw(st.binary(max_size=8))]
            )
        )
        data = data[:start] + put + data[end:]
    if draw(st.booleans()):
        other = draw(st.sampled_from(seeds))
        data = data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]
    return data


_ODD_VALUES: Final = (
    None, True, "", "blend", [], {}, [[]], [None], 0, [1e308] * 3, "NaN", "../current",
    {"schema": 1},
)  # fmt: skip
_ODD_NUMBERS: Final = (
    0, -1, 1, 3, 2**53, 10**30, -0.0, 1e-320, 1e-9, 0.5, 1e9, 1e15, -1e15, 1e308, -1e308,
)  # fmt: skip


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document with one or two of its values gone, doubled or odd."""
    found = deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        at = found
        while at:
            name = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if isinstance(at[name], dict | list) and at[name] and draw(st.integers(0, 5)):
                at = at[name]
                continue
            if type(at[name]) in (int, float) and draw(st.integers(0, 9)):
                at[name] = draw(st.sampled_from(_ODD_NUMBERS))
            elif draw(st.booleans()):
                at[name] = deepcopy(draw(st.sampled_from(_ODD_VALUES)))
            elif draw(st.booleans()) and isinstance(at, list):
                at.insert(name, deepcopy(at[name]))
            else:
                del at[name]
            break
    return found
