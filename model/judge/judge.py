"""Order events and grid instants of a batch of customers: folded, scored, decided.

What comes out for a customer depends on that customer's events and instants alone, in their order,
and never on how they were cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from features.arrays import Bools, Ints
from features.facts.ledger import IdMemory
from features.facts.state import DEFAULT_MEMORY, CustomerState, Effect
from model.decide.policy import Rules
from model.decide.scoring import Scorer
from model.judge.customers import NEVER, CustomerArrays
from model.judge.events import judge_events
from model.judge.folds import Folds
from model.judge.judged import Contested, Event, JudgedBatch, ScheduledCustomer, Scoring
from model.judge.kept import encoded
from model.judge.scorings import NO_SCORINGS, Scorings
from model.judge.silences import judge_silences
from model.judge.stepwise import Stepwise

Where: TypeAlias = tuple[int, int]
"""The place of a customer, and the offset of an event of theirs."""


@dataclass(slots=True)
class JudgedArrays:
    """What a batch did: the customers as they are now, in their places, every scoring worth
    publishing, in the order of telling, and what events did that were not just new. `reach_ms` has,
    of the events beyond the id memory, how far back that reaches.

    `changed`: whose facts or rule state changed; of the others only the due time may have.
    `contested`: under a budget, everyone for whom a warning was raised at an instant, by place;
    `model.judge.budget` settles who is warned of. `folds`: the events that scorings speak of.
    """

    customers: CustomerArrays
    changed: Bools
    scorings: Scorings
    effects: dict[Where, Effect] = field(default_factory=dict)
    reach_ms: dict[Where, int] = field(default_factory=dict)
    contested: dict[int, Contested] = field(default_factory=dict)
    folds: Folds | None = None
    instants: int = 0

    @classmethod
    def unchanged(cls, customers: CustomerArrays) -> JudgedArrays:
        """Customers of whom nothing was judged."""
        nobody = np.zeros(len(customers), bool)
        return cls(customers, nobody, Scorings.of(customers.users, []))

    @classmethod
    def together(
        cls, customers: CustomerArrays, parts: Sequence[tuple[Ints, CustomerArrays, JudgedArrays]]
    ) -> JudgedArrays:
        """What was judged of customers at some places, as they were before it, one after the
        other."""
        found = cls.unchanged(customers)
        users = customers.users
        told: list[tuple[int, Scoring]] = []
        for places, before, part in parts:
            at = places.tolist()
            found.changed[places] |= part.changed
            whose = part.scorings.place.tolist()
            told += [(at[n], one) for n, one in zip(whose, part.objects(before), strict=True)]
            found.effects |= {(at[n], offset): one for (n, offset), one in part.effects.items()}
            found.reach_ms |= {(at[n], offset): ms for (n, offset), ms in part.reach_ms.items()}
            found.contested |= {at[n]: one for n, one in part.contested.items()}
            found.instants += part.instants
        found.scorings = Scorings.together([Scorings.of(users, told)])
        after = [(places, part.customers) for places, _, part in parts]
        found.customers = _with_parts(customers, after)
        return found

    @classmethod
    def of(cls, batch: JudgedBatch) -> JudgedArrays:
        """A batch of objects, judged without events."""
        users = list(batch.tracks)
        place = {user: at for at, user in enumerate(users)}
        told = Scorings.of(users, [(place[one.user_id], one) for one in batch.scorings])
        return cls(
            customers=CustomerArrays.of(batch.tracks.items()),
            changed=np.array([user in batch.changed for user in users], bool),
            scorings=Scorings.together([told]),
            contested={place[user]: one for user, one in batch.contested.items()},
            instants=batch.instants,
        )

    def states(self) -> dict[str, bytes]:
        """Those who changed, as they are stored."""
        users, changed = self.customers.users, np.flatnonzero(self.changed)
        states = encoded(self.customers, changed)
        return dict(zip([users[place] for place in changed.tolist()], states, strict=True))

    def due_ms(self) -> dict[str, int | None]:
        """When everybody is due next; None: not at all."""
        due = zip(self.customers.users, self.customers["due_ms"].tolist(), strict=True)
        return {user: None if at_ms == NEVER else at_ms for user, at_ms in due}

    def objects(self, before: CustomerArrays) -> list[Scoring]:
        """The scorings one by one; `before`: the customers before the batch."""

        def facts(place: int, fold: int) -> CustomerState:
            folds = self.folds
            return before.facts_of(place) if folds is None or fold < 0 else folds.facts_after(fold)

        return [self.scorings.scoring(row, facts) for row in range(len(self.scorings))]

    def batch(self, before: CustomerArrays, events: Sequence[Sequence[Event]] = ()) -> JudgedBatch:
        """The same as objects; `before`: the customers before the batch, who had these events."""
        users = before.users
        batch = JudgedBatch(scorings=self.objects(before), instants=self.instants)
        batch.tracks = {user: self.customers.track(place) for place, user in enumerate(users)}
        batch.changed = {users[place] for place in np.flatnonzero(self.changed).tolist()}
        batch.effects = {
            event.offset: self.effects.get((place, event.offset), Effect.NEW)
            for place, some in enumerate(events)
            for event in some
        }
        batch.reach_ms = {offset: reach_ms for (_, offset), reach_ms in self.reach_ms.items()}
        batch.contested = {users[place]: one for place, one in self.contested.items()}
        return batch


@dataclass(frozen=True, slots=True)
class Judge:
    """Everything that a rule state depends on beside the customer: model, rules, id memory."""

    scorer: Scorer
    rules: Rules
    memory: IdMemory = DEFAULT_MEMORY

    def judge_all(
        self,
        customers: CustomerArrays,
        events: Sequence[Sequence[Event]] = (),
        until_ms: int | None = None,
    ) -> JudgedArrays:
        """Customers after their events, and after the due instants up to `until_ms` if given.

        `events`: of each customer, or none at all. Users may be there twice, and offsets, as those
        of several partitions are. Under a budget whoever is due at an instant must be judged for it
        before anything later is: see `model.judge.budget`.
        """
        users = customers.users
        eventful = np.array([bool(some) for some in events or [()] * len(users)], bool)
        settled = customers.settled(self.scorer.model_version)
        parts: list[tuple[Ints, CustomerArrays]] = []
        scorings: list[Scorings] = []
        changed = np.zeros(len(users), bool)
        left = np.flatnonzero(~settled)
        instants, folds = 0, None
        if until_ms is None:
            who = np.flatnonzero(settled & eventful)
            if len(who):
                some = customers.some(who)
                followed = judge_events(
                    some, [events[at] for at in who.tolist()], self.scorer, self.rules, self.memory
                )
                folds, instants = followed.folds, followed.instants
                scorings = [one.of_all(users, who) for one in followed.scorings]
                parts.append((who[followed.places], followed.customers))
                changed[who[followed.places]] = True
                left = np.append(left, who[np.array(followed.left, np.int64)])
        else:
            is_silent = settled & ~eventful & (customers["due_ms"] != NEVER)
            who = np.flatnonzero(is_silent)
            left = np.flatnonzero(~is_silent)
            if len(who):
                some = customers.some(who)
                silent = judge_silences(some, np.full(len(who), until_ms), self.scorer, self.rules)
                instants = silent.instants
                scorings.append(silent.scorings.of_all(users, who))
                parts.append((who, silent.customers))
                changed[who[silent.changed]] = True
                left = np.append(left, who[silent.left])
        judged = JudgedArrays(customers, changed, NO_SCORINGS, folds=folds, instants=instants)
        for group in _apart(left.tolist(), users, events):
            scorings.append(self._stepwise(group, customers, events, until_ms, judged, parts))
        judged.scorings = Scorings.together(scorings or [Scorings.of(users, ())])
        judged.customers = _with_parts(customers, parts)
        return judged

    def judge(
        self,
        tracks: Mapping[str, ScheduledCustomer],
        events: Mapping[str, Sequence[Event]],
        until_ms: int | None = None,
    ) -> JudgedBatch:
        """`judge_all` customers who are objects. Every user in `events` must be in `tracks`."""
        users = list(tracks)
        of_each = [events.get(user, ()) for user in users]
        customers = CustomerArrays.of(tracks.items())
        return self.judge_all(customers, of_each, until_ms).batch(customers, of_each)

    def _stepwise(
        self,
        places: Sequence[int],
        customers: CustomerArrays,
        events: Sequence[Sequence[Event]],
        until_ms: int | None,
        judged: JudgedArrays,
        parts: list[tuple[Ints, CustomerArrays]],
    ) -> Scorings:
        """Judges customers of different ids, and of different offsets, one after the other;
        `judged` and `parts` have them afterwards."""
        users = customers.users
        place_of = {users[place]: place for place in places}
        of_users = {users[place]: events[place] for place in places if events}
        tracks = {users[place]: customers.track(place) for place in places}
        batch = Stepwise(self.scorer, self.rules, self.memory).judge(tracks, of_users, until_ms)
        parts.append((np.array(places, np.int64), CustomerArrays.of(batch.tracks.items())))
        judged.changed[[place_of[user] for user in batch.changed]] = True
        judged.instants += batch.instants
        judged.contested |= {place_of[user]: one for user, one in batch.contested.items()}
        for user, some in of_users.items():
            for offset in [event.offset for event in some]:
                where = place_of[user], offset
                if batch.effects[offset] is not Effect.NEW:
                    judged.effects[where] = batch.effects[offset]
                if offset in batch.reach_ms:
                    judged.reach_ms[where] = batch.reach_ms[offset]
        return Scorings.of(users, [(place_of[one.user_id], one) for one in batch.scorings])


def _apart(
    places: Sequence[int], users: Sequence[str], events: Sequence[Sequence[Event]]
) -> Iterator[list[int]]:
    """Customers in groups in which no user id and no offset is there twice."""
    while places:
        group, later = list[int](), list[int]()
        seen, offsets = set[str](), set[int]()
        for place in places:
            own = {event.offset for event in events[place]} if events else set[int]()
            if users[place] in seen or own & offsets:
                later.append(place)
                continue
            group.append(place)
            seen.add(users[place])
            offsets |= own
        yield group
        places = later


def _with_parts(
    customers: CustomerArrays, parts: Sequence[tuple[Ints, CustomerArrays]]
) -> CustomerArrays:
    """The customers with others in some places."""
    if len(parts) == 1 and len(parts[0][0]) == len(customers):
        return parts[0][1]
    order = np.arange(len(customers))
    size = len(customers)
    for places, some in parts:
        order[places] = size + np.arange(len(some))
        size += len(some)
    return CustomerArrays.together([customers, *(some for _, some in parts)]).take(order)
