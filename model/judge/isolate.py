"""A batch judged so that a customer who cannot be scored holds up nobody else. Pure.

Where judging a batch raises, it is halved until the customers are alone whose scoring it is; of
those each event is tried by itself. So who and what is left out depends on the customers and their
events alone, never on how they were cut into batches. Where the model cannot score a plain customer
either, or more fail than do not, it is not the customers: the error is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from features.events.orders import Order
from features.facts.state import EMPTY, apply
from features.times import MS_PER_DAY
from model.decide.scoring import Scorer
from model.judge.budget import joined
from model.judge.judge import Judge
from model.judge.judged import Event, JudgedBatch, ScheduledCustomer, telling_order

FEW: Final = 20
"""So many customers of one batch may fail although none else is in it."""


@dataclass(slots=True)
class Isolated:
    """A batch judged without what could not be.

    `unscored`: by offset, the error of each event that is not folded. `rescheduled`: the errors of
    customers whose instants could not be judged; they are due again on the next day. `users`:
    whom all of these belong to.
    """

    judged: JudgedBatch = field(default_factory=JudgedBatch)
    unscored: dict[int, Exception] = field(default_factory=dict)
    rescheduled: list[Exception] = field(default_factory=list)
    users: set[str] = field(default_factory=set)


def judge_isolated(
    judge: Judge,
    tracks: Mapping[str, ScheduledCustomer],
    events: Mapping[str, Sequence[Event]],
    until_ms: int | None = None,
) -> Isolated:
    """What `Judge.judge` gives, and what it could not be asked for; see there for the arguments.

    Raises what scoring raises where it is the model, and not some customers.
    """
    try:
        return Isolated(judge.judge(tracks, events, until_ms))
    except MemoryError:
        raise
    except Exception as error:
        search = _Search(judge, tracks, events, until_ms)
        if not scores_a_plain_customer(judge.scorer):
            raise
        search.among(list(tracks))
        failed = len(search.found.users)
        if failed > FEW and 2 * failed > len(tracks):
            raise error
    search.found.judged.scorings.sort(key=telling_order)
    return search.found


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
    tracks: Mapping[str, ScheduledCustomer]
    events: Mapping[str, Sequence[Event]]
    until_ms: int | None
    found: Isolated = field(default_factory=Isolated)

    def among(self, users: Sequence[str]) -> None:
        """Judges these customers, together where that is possible."""
        if len(users) == 1:
            self._alone(users[0])
            return
        for half in (users[: len(users) // 2], users[len(users) // 2 :]):
            if not half:
                continue
            try:
                events = {user: self.events[user] for user in half if user in self.events}
                self._add(
                    self.judge.judge({u: self.tracks[u] for u in half}, events, self.until_ms)
                )
            except MemoryError:
                raise
            except Exception:
                self.among(half)

    def _alone(self, user_id: str) -> None:
        track = self.tracks[user_id]
        for event in self.events.get(user_id, ()):
            error = self._try(user_id, track, [event], None)
            if error is not None:
                self.found.unscored[event.offset] = error
            else:
                track = self.found.judged.tracks[user_id]
        if self.until_ms is None:
            return
        error = self._try(user_id, track, [], self.until_ms)
        if error is not None:
            self.found.rescheduled.append(error)
            calendar = self.judge.rules.calendar
            tomorrow_ms = calendar.start_ms(calendar.day_of(self.until_ms) + 1)
            self.found.judged.tracks[user_id] = ScheduledCustomer(track.customer, tomorrow_ms)

    def _try(
        self, user_id: str, track: ScheduledCustomer, events: Sequence[Event], until_ms: int | None
    ) -> Exception | None:
        try:
            self._add(self.judge.judge({user_id: track}, {user_id: events}, until_ms))
        except MemoryError:
            raise
        except Exception as error:
            self.found.users.add(user_id)
            return error
        return None

    def _add(self, part: JudgedBatch) -> None:
        self.found.judged = joined(self.found.judged, part)
