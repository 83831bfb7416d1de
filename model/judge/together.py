"""Batches of several partitions judged in one go: a call costs more than a few customers. Pure.

What comes out for a customer depends on that customer alone (`model.judge.judge`), so each batch
gets what it would have got by itself, failures included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from features.facts.state import Effect
from model.judge.customers import CustomerArrays
from model.judge.isolate import Isolated, judge_isolated
from model.judge.judge import Judge, JudgedArrays, Where
from model.judge.judged import Event


class Arrived(NamedTuple):
    """Customers, and the events of each."""

    customers: CustomerArrays
    events: Sequence[Sequence[Event]]

    @classmethod
    def of(cls, customers: CustomerArrays, events: Mapping[str, Sequence[Event]]) -> Arrived:
        """The events by user id."""
        return cls(customers, [events[user] for user in customers.users])


def judge_together(judge: Judge, asked: Sequence[Arrived]) -> list[Isolated | Exception]:
    """What `judge_isolated` makes of each, or raises."""
    if len(asked) > 1:
        try:
            customers = CustomerArrays.together([one.customers for one in asked])
            events = list(chain.from_iterable(one.events for one in asked))
            judged = judge.judge_all(customers, events)
            return list(map(Isolated, _parted(judged, [len(one.customers) for one in asked])))
        except Exception:  # of one of them, who is found where each is judged alone
            pass
    found: list[Isolated | Exception] = []
    for one in asked:
        try:
            found.append(judge_isolated(judge, one.customers, one.events))
        except Exception as error:
            found.append(error)
    return found


@dataclass(slots=True)
class _Part(JudgedArrays):
    """What was judged of one batch; `encoded`: those who changed, where that was done for all."""

    encoded: Sequence[bytes] | None = None

    def states(self) -> dict[str, bytes]:
        if self.encoded is None:
            return JudgedArrays.states(self)
        users = self.customers["user"][self.changed].tolist()
        return dict(zip(users, self.encoded, strict=True))


def _parted(judged: JudgedArrays, sizes: Sequence[int]) -> list[_Part]:
    """What was judged, of so many customers each; the instants are counted with the first."""
    whose = np.repeat(np.arange(len(sizes)), sizes)
    starts = (np.cumsum(sizes) - sizes).tolist()
    states = list(judged.states().values())
    until = np.append(0, np.cumsum(judged.changed))
    all_apart = len(states) == until[-1]  # no customer is in two of them
    effects: list[dict[Where, Effect]] = [{} for _ in sizes]
    reach_ms: list[dict[Where, int]] = [{} for _ in sizes]
    for (place, offset), effect in judged.effects.items():
        effects[whose[place]][place - starts[whose[place]], offset] = effect
    for (place, offset), ms in judged.reach_ms.items():
        reach_ms[whose[place]][place - starts[whose[place]], offset] = ms
    found = []
    for at, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        customers = judged.customers.take(np.arange(start, start + size))
        scorings = judged.scorings.take(np.flatnonzero(whose[judged.scorings.place] == at))
        found.append(
            _Part(
                customers,
                judged.changed[start : start + size],
                replace(scorings, users=customers.users, place=scorings.place - start),
                effects[at],
                reach_ms[at],
                folds=judged.folds,
                instants=0 if at else judged.instants,
                encoded=states[until[start] : until[start + size]] if all_apart else None,
            )
        )
    return found
