"""What is judged and what comes of it: events and scheduled customers in, scorings out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from features.events.orders import Order
from features.facts.state import Applied, CustomerState, Effect
from model.decide.codec import CustomerRecord
from model.decide.outcome import Answered
from model.decide.rule_state import Peak, RaisedWarning, Trigger
from model.decide.scoring import Score


class ScheduledCustomer(msgspec.Struct, frozen=True, gc=False):
    """A customer, and the next grid instant (epoch ms) at which it is due."""

    customer: CustomerRecord
    due_ms: int | None


class Event(msgspec.Struct, frozen=True, gc=False):
    """An order event at an offset of the log. `watermark_ms` is the partition's watermark with this
    event counted in: instants up to it are closed and judged before the event is folded."""

    offset: int
    order: Order
    watermark_ms: int


class Scoring(msgspec.Struct, frozen=True, gc=False):
    """One scoring that others may want to hear of. `offset` is that of the event behind it, None
    for a grid instant; `facts` are those scored; `reference` that of the rule at that moment;
    `answered` the warning that an order came after; `value_drop` what an event tells of value
    lost."""

    user_id: str
    offset: int | None
    as_of_ms: int
    trigger: Trigger
    score: Score
    reference: Peak | None
    facts: CustomerState
    raised: RaisedWarning | None
    answered: Answered | None = None
    value_drop: RaisedWarning | None = None

    @property
    def notice(self) -> RaisedWarning | None:
        """What is to be told: the warning, or the value drop."""
        return self.raised or self.value_drop


class Contested(NamedTuple):
    """What becomes of a customer whose warning the budget has no place for: the track, and the
    scoring if it is to be told anyway."""

    track: ScheduledCustomer
    scoring: Scoring | None


@dataclass(slots=True)
class JudgedBatch:
    """What a batch did: the customers as they are now, every scoring worth publishing, and what
    each event did to the facts, by offset. `reach_ms` has, of the events beyond the id memory, how
    far back that reaches.

    `changed` names the customers whose facts or rule state changed; of the others only the due time
    may have. `contested`: under a budget, everyone for whom a warning was raised at an instant;
    `model.judge.budget` settles who is warned of.
    """

    tracks: dict[str, ScheduledCustomer] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    scorings: list[Scoring] = field(default_factory=list)
    effects: dict[int, Effect] = field(default_factory=dict)
    reach_ms: dict[int, int] = field(default_factory=dict)
    contested: dict[str, Contested] = field(default_factory=dict)
    instants: int = 0

    def note(self, done: Iterable[tuple[int, Applied]]) -> None:
        """Writes down what events did, by offset."""
        for offset, applied in done:
            self.effects[offset] = applied.effect
            if applied.effect is Effect.BEYOND_MEMORY:
                self.reach_ms[offset] = applied.reach_ms
