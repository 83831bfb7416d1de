"""Many customers as arrays: what a batch is judged from, and what it leaves.

Each is a row of numbers and a row of objects, with day buckets and peaks in two flat arrays beside
them. A row is a `ScheduledCustomer`, and becomes one where somebody asks for one customer alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.arrays import Bools, Ints, flat_places
from features.columns.table import BEFORE_COLUMNS, FactColumns
from features.facts import buckets
from features.facts.counted import NO_DAY
from features.facts.state import NOTHING_BEFORE, Before, CustomerState
from model.decide.codec import CustomerRecord
from model.decide.rule_state import Peak, RuleState
from model.judge.judged import ScheduledCustomer

Objects: TypeAlias = NDArray[np.object_]

NEVER: Final = -1
"""`due_ms` of who is not due at all."""
UNSEEN: Final = NO_DAY - 1

_RULE: Final = (
    "as_of_ms",
    "armed",
    "episode_ms",
    "deferred_since_ms",
    "floor_minor",
    "swapped",
    "quiet_until_day",
)
# Where in the flat arrays a customer's buckets and peaks begin, and how many; then what is known of
# the purchases (`features.columns.table.Bought`), of the facts (`features.facts.counted` has the
# uneven day, UNSEEN where nobody looked) and of the rule state.
NUMBERS: Final = {
    name: at
    for at, name in enumerate(
        (
            *("bucket_at", "buckets", "peak_at", "peaks", "due_ms"),
            *("first_day", "last_day", "purchase_days", "forgotten_ms", "uneven_day"),
            *_RULE,
            *(f"before_{name}" for name in BEFORE_COLUMNS),
        )
    )
}
_OBJECTS: Final = {
    name: at for at, name in enumerate(("user", "ledger", "model_version", "episode_id", "raised"))
}
OBJECTS: Final = len(_OBJECTS)
BEFORE: Final = slice(len(NUMBERS) - len(BEFORE_COLUMNS), len(NUMBERS))
_OF_RULE: Final = slice(NUMBERS[_RULE[0]], NUMBERS[_RULE[-1]] + 1)
_WORDS: Final = buckets.RECORD_BYTES // 8


@dataclass(frozen=True, slots=True)
class CustomerArrays:
    """n customers. `numbers` and `objects` have a row each; `buckets`, shape (b, 3), are the words
    of `features.facts.buckets.DTYPE`, and `peaks`, shape (p, 2), days and CLVs in minor units, of
    which each customer has a part."""

    numbers: Ints
    objects: Objects
    buckets: Ints
    peaks: Ints

    @classmethod
    def of(cls, tracks: Iterable[tuple[str, ScheduledCustomer]]) -> CustomerArrays:
        """The arrays of some customers."""
        found = list(tracks)
        facts = [track.customer.facts for _, track in found]
        states = [track.customer.rule_state for _, track in found]
        numbers = np.zeros((len(found), len(NUMBERS)), np.int64)
        objects = np.empty((len(found), len(_OBJECTS)), object)
        flat = np.frombuffer(b"".join([one.buckets for one in facts]), np.int64)
        peaks = [(peak.day, peak.clv_minor) for state in states for peak in state.peaks]
        made = cls(
            numbers,
            objects,
            flat.reshape(-1, _WORDS),
            np.array(peaks, np.int64).reshape(len(peaks), 2),
        )
        if not found:
            return made
        rule = [[getattr(state, name) for name in _RULE] for state in states]
        numbers[:, _OF_RULE] = rule
        made["due_ms"][:] = [NEVER if t.due_ms is None else t.due_ms for _, t in found]
        made["forgotten_ms"][:] = [one.forgotten_ms for one in facts]
        made["uneven_day"][:] = UNSEEN
        columns = FactColumns.of(facts)
        made["bucket_at"][:], made["buckets"][:] = columns.start, columns.count
        count = np.array([len(state.peaks) for state in states], np.int64)
        made["peak_at"][:], made["peaks"][:] = np.cumsum(count) - count, count
        numbers[:, BEFORE] = columns.before
        for name, column in columns.bought()._asdict().items():
            made[BOUGHT[name]][:] = column
        for at, (user_id, track) in enumerate(found):
            rule_state = track.customer.rule_state
            objects[at] = (
                user_id,
                track.customer.facts.ledger,
                rule_state.model_version,
                rule_state.episode_id,
                rule_state.raised,
            )
        return made

    @classmethod
    def together(cls, parts: Sequence[CustomerArrays]) -> CustomerArrays:
        """The customers of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        made = cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__slots__))
        for name, column in (("bucket_at", "buckets"), ("peak_at", "peaks")):
            sizes = np.cumsum([0, *(len(getattr(part, column)) for part in parts)])[:-1]
            made[name][:] += np.repeat(sizes, [len(part) for part in parts])
        return made

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, name: str) -> Any:
        """A column, shape (n,): not a copy."""
        at = NUMBERS.get(name)
        return self.objects[:, _OBJECTS[name]] if at is None else self.numbers[:, at]

    @property
    def users(self) -> list[str]:
        """Whose they are; the same id may be there twice, of two partitions."""
        users: list[str] = self["user"].tolist()
        return users

    def take(self, places: Ints) -> CustomerArrays:
        """Some of them, with flat arrays that hold theirs alone."""
        made = CustomerArrays(self.numbers[places], self.objects[places], self.buckets, self.peaks)
        at, count = made["bucket_at"], made["buckets"]
        flat = self.buckets[flat_places(at, count)]
        at[:] = np.cumsum(count) - count
        at, count = made["peak_at"], made["peaks"]
        peaks = self.peaks[flat_places(at, count)]
        at[:] = np.cumsum(count) - count
        return CustomerArrays(made.numbers, made.objects, flat, peaks)

    def some(self, places: Ints) -> CustomerArrays:
        """`take` of rising places, or all of them as they are."""
        return self if len(places) == len(self) else self.take(places)

    def changeable(self) -> CustomerArrays:
        """The same customers, whose numbers and objects may be written to."""
        return CustomerArrays(self.numbers.copy(), self.objects.copy(), self.buckets, self.peaks)

    def replaced(self, places: Ints, by: CustomerArrays) -> CustomerArrays:
        """These customers with others in some places."""
        order = np.arange(len(self))
        order[places] = len(self) + np.arange(len(places))
        return CustomerArrays.together([self, by]).take(order)

    def facts(self) -> FactColumns:
        """The facts of all."""
        days = self.buckets.view(buckets.DTYPE)[:, 0]
        return FactColumns(
            start=self["bucket_at"],
            count=self["buckets"],
            day=days["day"].astype(np.int64),
            orders=days["orders"].astype(np.int64),
            gross=days["gross"].astype(np.int64),
            refunded=days["refunded"].astype(np.int64),
            before=self.numbers[:, BEFORE],
        )

    def days_at(self, places: Ints) -> Ints:
        """The days of the buckets at some places among all."""
        return np.asarray(self.buckets.view(buckets.DTYPE)[:, 0]["day"][places], np.int64)

    def references(self) -> Ints:
        """The CLV that each is compared with; -1: none."""
        return self.compared()[:, 1]

    def compared(self) -> Ints:
        """Day and CLV of what each is compared with, shape (n, 2); 0 and -1: none."""
        found = np.zeros((len(self), 2), np.int64)
        found[:, 1] = -1
        has = self["peaks"] > 0
        found[has] = self.peaks[self["peak_at"][has]]
        return found

    def settled(self, model_version: str) -> Bools:
        """Who has no other model to move to."""
        of_model = np.asarray(self["model_version"] == model_version, bool)
        return np.asarray((self["swapped"] == 0) & ((self["peaks"] == 0) | of_model))

    # --- one customer ------------------------------------------------------------------------

    def facts_of(self, place: int) -> CustomerState:
        """The facts of one."""
        row = self.numbers[place].tolist()
        at = row[NUMBERS["bucket_at"]]
        before = row[BEFORE]
        return CustomerState(
            self.buckets[at : at + row[NUMBERS["buckets"]]].tobytes(),
            self.objects[place, _OBJECTS["ledger"]],
            Before(*before) if any(before) else NOTHING_BEFORE,
            row[NUMBERS["forgotten_ms"]],
        )

    def rule_state_of(self, place: int) -> RuleState:
        """What the rule remembers of one."""
        row = self.numbers[place].tolist()
        at = row[NUMBERS["peak_at"]]
        as_of_ms, armed, episode_ms, since_ms, floor_minor, swapped, quiet_until = row[_OF_RULE]
        _, _, version, episode_id, raised = self.objects[place].tolist()
        peaks = self.peaks[at : at + row[NUMBERS["peaks"]]].tolist()
        return RuleState(
            version,
            as_of_ms,
            tuple([Peak(day, clv_minor) for day, clv_minor in peaks]),
            bool(armed),
            episode_ms,
            episode_id,
            raised,
            deferred_since_ms=since_ms,
            floor_minor=floor_minor,
            swapped=bool(swapped),
            quiet_until_day=quiet_until,
        )

    def track(self, place: int) -> ScheduledCustomer:
        """One of them."""
        due_ms = int(self.numbers[place, NUMBERS["due_ms"]])
        customer = CustomerRecord(self.facts_of(place), self.rule_state_of(place))
        return ScheduledCustomer(customer, None if due_ms == NEVER else due_ms)

    def put_rule_state(self, place: int, state: RuleState) -> None:
        """Writes what the rule remembers of one; the peaks must be those that are there."""
        self.numbers[place, _OF_RULE] = [getattr(state, name) for name in _RULE]
        self.objects[place, _OBJECTS["raised"]] = state.raised


BOUGHT: Final = {"first_day": "first_day", "last_day": "last_day", "days": "purchase_days"}
