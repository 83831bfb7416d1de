"""A batch judged so that a customer who cannot be scored holds up nobody else. Pure.

Where judging a batch raises, it is halved until the customers are alone whose scoring it is; of
those each event is tried by itself. So who and what is left out depends on the customers and their
events alone, never on how they were cut into batches. Where the model cannot score a plain customer
either, or more fail than do not, it is not the customers: the error is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from features.arrays import Ints
from features.events.orders import Order
from features.facts.state import EMPTY, apply
from features.times import MS_PER_DAY
from model.decide.scoring import Scorer
from model.judge.customers import CustomerArrays
from model.judge.judge import Judge, JudgedArrays, Where
from model.judge.judged import Event

FEW: Final = 20
"""So many customers of one batch may fail although none else is in it."""


@dataclass(slots=True)
class Isolated:
    """A batch judged without what could not be.

    `unscored`: the error of each event that is not folded. `rescheduled`: the errors of customers
    whose instants could not be judged; they are due again on the next day. `users`: the places of
    whom all of these belong to.
    """

    judged: JudgedArrays
    unscored: dict[Where, Exception] = field(default_factory=dict)
    rescheduled: list[Exception] = field(default_factory=list)
    users: set[int] = field(default_factory=set)


def judge_isolated(
    judge: Judge,
    customers: CustomerArrays,
    events: Sequence[Sequence[Event]] = (),
    until_ms: int | None = None,
) -> Isolated:
    """What `Judge.judge_all` gives, and what it could not be asked for; see there for the
    arguments.

    Raises what scoring raises where it is the model, and not some customers.
    """
    try:
        return Isolated(judge.judge_all(customers, events, until_ms))
    except MemoryError:
        raise
    except Exception as error:
        search = _Search(judge, customers, events, until_ms)
        if not scores_a_plain_customer(judge.scorer):
            raise
        search.among(np.arange(len(customers)))
        failed = len(search.users)
        if failed > FEW and 2 * failed > len(customers):
            raise error
    judged = JudgedArrays.together(customers, search.parts)
    return Isolated(judged, search.unscored, search.rescheduled, search.users)


def scores_a_plain_customer(scorer: Scorer) -> bool:
    """Whether a customer with one order, of a month ago, can be scored."""
    state = apply(EMPTY, Order("probe", "probe", 20_000 * MS_PER_DAY, 1_000)).state
    try:
        scorer.scores([(state, 20_030 * MS_PER_DAY)])
    except Exception:
        return False
    return True


@dataclass(slots=True)
class _Search:
    judge: Judge
    customers: CustomerArrays
    events: Sequence[Sequence[Event]]
    until_ms: int | None
    parts: list[tuple[Ints, CustomerArrays, JudgedArrays]] = field(default_factory=list)
    unscored: dict[Where, Exception] = field(default_factory=dict)
    rescheduled: list[Exception] = field(default_factory=list)
    users: set[int] = field(default_factory=set)

    def among(self, places: Ints) -> None:
        """Judges these customers, together where that is possible."""
        if len(places) == 1:
            self._alone(int(places[0]))
            return
        for half in np.array_split(places, 2):
            events = [self.events[place] for place in half.tolist()] if self.events else ()
            some = self.customers.take(half)
            try:
                judged = self.judge.judge_all(some, events, self.until_ms)
                self.parts.append((half, some, judged))
            except MemoryError:
                raise
            except Exception:
                self.among(half)

    def _alone(self, place: int) -> None:
        customer = self.customers.take(np.array([place]))
        for event in self.events[place] if self.events else ():
            customer, error = self._try(place, customer, [event], None)
            if error is not None:
                self.unscored[place, event.offset] = error
        if self.until_ms is None:
            return
        customer, error = self._try(place, customer, [], self.until_ms)
        if error is not None:
            self.rescheduled.append(error)
            self.parts.append((np.array([place]), customer, self._put_off(customer)))

    def _put_off(self, customer: CustomerArrays) -> JudgedArrays:
        """The customer, due again tomorrow."""
        assert self.until_ms is not None
        calendar = self.judge.rules.calendar
        later = customer.changeable()
        later["due_ms"][:] = calendar.start_ms(calendar.day_of(self.until_ms) + 1)
        return JudgedArrays.unchanged(later)

    def _try(
        self, place: int, customer: CustomerArrays, events: Sequence[Event], until_ms: int | None
    ) -> tuple[CustomerArrays, Exception | None]:
        try:
            judged = self.judge.judge_all(customer, [events], until_ms)
        except MemoryError:
            raise
        except Exception as error:
            self.users.add(place)
            return customer, error
        self.parts.append((np.array([place]), customer, judged))
        return judged.customers, None
