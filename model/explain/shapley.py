"""Why a CLV is what it is: what each group of features adds to that of a typical customer.

The contributions are Shapley values (Shapley 1953) of the game whose players are the groups of
`model.explain.groups` and whose value for a set of groups is the CLV, in minor units, of the
typical customer who has those groups from the customer explained. With few groups all sets can be
asked: so they are exact, of any model, on the scale of money (a model that is linear in logarithms
included: what silence takes away depends on how much there was to take). They add up to the CLV
less the typical customer's, and a group in which the two are equal gets nothing.

`model.explain.reasons` is another matter: why a CLV fell between two instants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from math import factorial
from typing import Final

import msgspec
import numpy as np

from features.arrays import Floats, Ints
from features.columns.vector import FEATURE_NAMES
from model.decide.scoring import Scorer
from model.estimators.clv import widened
from model.estimators.transform import signed_log
from model.explain.groups import Mixer, groups_of

# Rows of a call of the model, so that memory does not grow with the customers.
_ROWS: Final = 32_768


class CannotExplain(Exception):
    """The model does not say who its typical customer is: retrain it with this version."""


class Explanation(msgspec.Struct, frozen=True):
    """A CLV in parts, all in minor units: the typical customer's, and what each group adds to it.

    `contributions` are the largest first, whichever sign; every group is among them, and
    `baseline_minor` and they together are the CLV to the last minor unit.
    """

    baseline_minor: int
    contributions: tuple[tuple[str, int], ...]

    @property
    def clv_minor(self) -> int:
        """The CLV that is explained."""
        return self.baseline_minor + sum(minor for _, minor in self.contributions)


def explain(scorer: Scorer, X: Floats) -> list[Explanation]:
    """The explanation of each feature vector of X, shape (n, k). Raises CannotExplain.

    A customer costs a row of the model for each set of groups: 16, or 32 with attributes.
    """
    if not scorer.typical:
        raise CannotExplain(
            f"model {scorer.model_version} does not name its typical customer; retrain it"
        )
    names = tuple(getattr(scorer.model, "feature_names", FEATURE_NAMES))
    X = widened(X, len(names))
    step = max(1, _ROWS >> len(groups_of(names)))
    return [
        explanation
        for first in range(0, len(X), step)
        for explanation in _explained(scorer, X[first : first + step], names)
    ]


def _explained(scorer: Scorer, X: Floats, names: tuple[str, ...]) -> Iterator[Explanation]:
    groups = groups_of(names)
    values = _values(scorer, Mixer.of(X, np.array(scorer.typical), names))
    shares = shapley(values).tolist()
    for parts, baseline in zip(shares, values[:, 0].tolist(), strict=True):
        named = zip((group.value for group in groups), in_units(parts), strict=True)
        yield Explanation(baseline, tuple(sorted(named, key=lambda part: -abs(part[1]))))


def _values(scorer: Scorer, mixer: Mixer) -> Ints:
    """CLVs in minor units for all sets of groups, shape (n, 2 ** groups): bit i of the column's
    number says whether group i is the customer's own. One call of the model."""
    groups = groups_of(mixer.feature_names)
    sets = [
        [group for i, group in enumerate(groups) if number >> i & 1]
        for number in range(1 << len(groups))
    ]
    rows = mixer.rows(sets)
    return scorer.clv_minor(rows.reshape(-1, rows.shape[-1])).reshape(len(sets), -1).T


def shapley(values: Ints) -> Ints:
    """Shapley values of n games of g players, times g! (so that they are whole), shape (n, g).

    `values` of shape (n, 2 ** g) has the value of every set of players; bit i of a column's number
    says whether player i is in it.
    """
    # Integers: exact, and the same in a batch of any size.
    return values @ _weights(values.shape[1].bit_length() - 1)


@cache
def _weights(players: int) -> Ints:
    """In how many of all orders of the players each set is the one before (negative) or after each
    player comes, shape (2 ** g, g)."""
    weights = np.zeros((1 << players, players), np.int64)
    for player in range(players):
        others = [other for other in range(players) if other != player]
        for size in range(players):
            orders = factorial(size) * factorial(players - 1 - size)
            for chosen in combinations(others, size):
                without = sum(1 << other for other in chosen)
                weights[without, player] -= orders
                weights[without | 1 << player, player] += orders
    return weights


def in_units(parts: Sequence[int]) -> list[int]:
    """Shapley values as `shapley` has them, in whole units: each off by less than one, and adding
    up to what they did. Rounded down, and the units that are left given to those who lost most
    (largest remainder); of equals, to the first."""
    orders = factorial(len(parts))
    left = sum(parts) // orders - sum(part // orders for part in parts)
    most = sorted(range(len(parts)), key=lambda i: -(parts[i] % orders))[:left]
    return [part // orders + (i in most) for i, part in enumerate(parts)]


def typical(known: Floats) -> Floats:
    """The feature vector of the most ordinary of the customers `known`, shape (k,): a real one, the
    nearest to the medians of all features, in logarithms and standard deviations."""
    # Attributes may be missing; whoever is nearest without them is near enough.
    logs = np.nan_to_num(signed_log(known))
    spread = logs.std(axis=0)
    distance = (logs - np.median(logs, axis=0)) / np.where(spread > 0, spread, 1.0)
    nearest: Floats = known[int(np.argmin((distance**2).sum(axis=1)))]
    return nearest
