"""The kinds of model that can be trained, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from model.blend import Blend
from model.clv import ClvModel
from model.estimator import Examples, ValueModel
from model.loglinear import LogisticChance

DEFAULT: Final = "blend"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value model: `make(**options)` is an unfitted one; `summary` is for people."""

    summary: str
    make: Callable[..., ValueModel]


KINDS: Final[Mapping[str, Kind]] = {
    "blend": Kind("the default: Poisson regression and BG/NBD + Gamma-Gamma together", Blend),
}


def fitted(
    examples: Examples, kind: str = DEFAULT, options: Mapping[str, Any] | None = None
) -> ClvModel:
    """The model of a kind, fitted on examples."""
    given = dict(options or {})
    return ClvModel.fit(examples, KINDS[kind].make(**given), LogisticChance(), kind, given)
