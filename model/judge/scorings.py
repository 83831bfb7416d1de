"""The scorings of a batch as arrays, with an object for the few of which there is more to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np

from features.arrays import Floats, Ints
from features.facts.state import CustomerState
from model.decide.rule_state import Peak, Trigger
from model.decide.scoring import Score
from model.judge.judged import Scoring

TRIGGERS: Final = tuple(Trigger)
_CODES: Final = {trigger: code for code, trigger in enumerate(TRIGGERS)}
INSTANT: Final = -1
"""`offset` of a grid instant: what an event closes is told of before it."""
_NONE: Final = -1


@dataclass(frozen=True, slots=True)
class Scorings:
    """m scorings, arrays of shape (m,).

    `users`: of all customers, of which `place` names one each; `offset`: of the event, or INSTANT;
    `fold`: of the event among the folds of the batch (`model.judge.folds`), -1 of others;
    `trigger`: into TRIGGERS; money in minor units; `reference_minor` -1: none. `whole`: by row, the
    scorings that are objects, those with a warning, value drop or answer among them.
    """

    users: Sequence[str]
    place: Ints
    offset: Ints
    fold: Ints
    as_of_ms: Ints
    trigger: Ints
    clv_minor: Ints
    churn: Floats
    reference_day: Ints
    reference_minor: Ints
    whole: Mapping[int, Scoring]

    @classmethod
    def of(cls, users: Sequence[str], scorings: Sequence[tuple[int, Scoring]]) -> Self:
        """The scorings of customers at some places, in their order."""
        rows = [
            (
                place,
                INSTANT if one.offset is None else one.offset,
                -1,
                one.as_of_ms,
                _CODES[one.trigger],
                one.score.clv_minor,
                *((one.reference.day, one.reference.clv_minor) if one.reference else (0, _NONE)),
            )
            for place, one in scorings
        ]
        place, offset, fold, as_of_ms, trigger, clv, day, reference = (
            np.array(rows, np.int64).reshape(len(rows), 8).T
        )
        return cls(
            users,
            place,
            offset,
            fold,
            as_of_ms,
            trigger,
            clv,
            churn=np.array([one.score.churn_probability for _, one in scorings], np.float64),
            reference_day=day,
            reference_minor=reference,
            whole={row: one for row, (_, one) in enumerate(scorings)},
        )

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """Several of the same customers, in the order in which they are told of: by instant, then
        what an event closes before it, then by user."""
        found, users = parts[0], parts[0].users
        if len(parts) > 1:
            whole: dict[int, Scoring] = {}
            rows = 0
            for part in parts:
                whole |= {rows + row: one for row, one in part.whole.items()}
                rows += len(part)
            joined: dict[str, Any] = {
                name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS
            }
            found = replace(found, **joined, whole=whole)
        instants = np.flatnonzero(found.offset == INSTANT)
        keys = [found.offset, found.as_of_ms]
        if len(instants):
            rank = np.zeros(len(found), np.int64)
            silent = [users[place] for place in found.place[instants].tolist()]
            order_of = {user: at for at, user in enumerate(sorted(set(silent)))}
            rank[instants] = [order_of[user] for user in silent]
            keys.insert(0, rank)
        return found.take(np.lexsort(keys))

    def __len__(self) -> int:
        return len(self.place)

    def take(self, rows: Ints) -> Self:
        """Some of them, in this order."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        whole = self.whole
        if whole:
            at = {row: n for n, row in enumerate(rows.tolist()) if row in whole}
            whole = {n: whole[row] for row, n in sorted(at.items(), key=lambda item: item[1])}
        return replace(self, **columns, whole=whole)

    def of_all(self, users: Sequence[str], places: Ints) -> Self:
        """The same, with the places that their customers have among more users."""
        if len(places) == len(users):
            return self
        return replace(self, users=users, place=places[self.place] if len(self) else self.place)

    @property
    def told(self) -> list[Scoring]:
        """Those of which there is more to tell than a score."""
        return [one for one in self.whole.values() if one.raised or one.value_drop or one.answered]

    def scoring(self, row: int, facts: Callable[[int, int], CustomerState]) -> Scoring:
        """One of them as an object; `facts` gives those scored, by place and fold."""
        if row in self.whole:
            return self.whole[row]
        offset, reference = int(self.offset[row]), int(self.reference_minor[row])
        return Scoring(
            user_id=self.users[int(self.place[row])],
            offset=None if offset == INSTANT else offset,
            as_of_ms=int(self.as_of_ms[row]),
            trigger=TRIGGERS[int(self.trigger[row])],
            score=Score(int(self.clv_minor[row]), float(self.churn[row])),
            reference=None if reference == _NONE else Peak(int(self.reference_day[row]), reference),
            facts=facts(int(self.place[row]), int(self.fold[row])),
            raised=None,
        )


_COLUMNS: Final = (
    "place",
    "offset",
    "fold",
    "as_of_ms",
    "trigger",
    "clv_minor",
    "churn",
    "reference_day",
    "reference_minor",
)

NO_SCORINGS: Final = Scorings.of((), ())
"""Nothing is told of anybody."""
