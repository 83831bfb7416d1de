"""A customer's facts: a commutative fold over order events.

Any arrival order of the same events gives the same facts, to the byte, as long as no event comes
in later than the id memory reaches back; what comes later still is set aside, never guessed at.
A cancellation, refund or correction finds its order as long as that order is remembered.

Size at work: about 15 bytes for each event remembered (`features.facts.ledger`, and `IdMemory`
there for how many) + 24 for each day with an event in the last `HISTORY_DAYS`; days before that are
one summary. What is stored of it: `model.decide.codec`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from features.errors import FactsError
from features.events.orders import Order, OrderType
from features.facts import buckets as day_buckets
from features.facts import ledger as order_ledger
from features.facts.buckets import Bucket
from features.facts.ledger import Entry, IdMemory
from features.times import MS_PER_DAY, UTC, Calendar

# The longest window is 365 days; what is older matters for lifetime values only.
HISTORY_DAYS: Final = order_ledger.MAX_MEMORY_DAYS
# An id that comes again this long after, without an `updated_at`, is hardly the same order.
REUSED_AFTER_MS: Final = 14 * MS_PER_DAY


class StateError(FactsError):
    """The bytes are not a customer state of a known version. Newer versions need a newer
    program; anything else is damage: rebuild the customer from the log."""


class StateNewer(StateError):
    """A newer version wrote the state: run that version, or a newer one. It is not damage."""

    def __init__(self, what: str, version: int, known: int) -> None:
        super().__init__(
            f"{what} version {version} is newer than {known}, the newest known here; "
            "run the version that wrote it, or a newer one"
        )
        self.version = version
        self.known = known


class Before(msgspec.Struct, frozen=True, gc=False):
    """Summary of the days older than HISTORY_DAYS; money in minor units, days since the epoch.

    `gap_sq_days2` is the sum of squared gaps between consecutive purchase days in the summary.
    """

    orders: int = 0
    gross: int = 0
    refunded: int = 0
    purchase_days: int = 0
    first_day: int = 0
    last_day: int = 0
    first_day_gross: int = 0
    last_day_gross: int = 0
    gap_sq_days2: int = 0


NOTHING_BEFORE: Final = Before()


class CustomerState(msgspec.Struct, frozen=True, gc=False):
    """The facts of one customer. Change it through `apply`; read it through `vector`.

    `buckets`: see `features.facts.buckets`; `ledger`: see `features.facts.ledger`; `forgotten_ms`:
    event time of the newest event that the ledger no longer holds (-1: none).
    """

    buckets: bytes = b""
    ledger: bytes = b""
    before: Before = NOTHING_BEFORE
    forgotten_ms: int = -1

    @property
    def newest_ms(self) -> int:
        """Event time of the newest event; -1 where there is none."""
        return order_ledger.newest_ms(self.ledger)

    @property
    def newest_id(self) -> bytes:
        """Hash of the newest event's order id; empty where there is none."""
        return order_ledger.newest(self.ledger)[1]

    def last_order_ms(self, calendar: Calendar = UTC) -> int | None:
        """Event time of the last order that was not taken back; None without one."""
        newest = order_ledger.newest_order_alone(self.ledger)
        if newest is not None:
            return newest
        for entry in order_ledger.entries_newest_first(self.ledger):
            if entry.type is OrderType.ORDER and not _cancelled(
                order_ledger.find(self.ledger, entry.id_hash)
            ):
                return entry.ts_ms
        day = self.last_purchase_day
        return None if day is None else calendar.start_ms(day)

    @property
    def last_purchase_day(self) -> int | None:
        """Day of the last order that was not taken back; None without one."""
        day = day_buckets.last_purchase_day(self.buckets)
        if day is None and self.before.purchase_days:
            return self.before.last_day
        return day


EMPTY: Final = CustomerState()
DEFAULT_MEMORY: Final = IdMemory()


class Effect(enum.StrEnum):
    """What an event did to the facts.

    A repeat is exactly what is remembered. A correction is the same event with other values, of
    which the newest count, be they these or those. An id reused is a correction of a time more than
    REUSED_AFTER_MS apart for which the shop does not say `updated_at`: most likely another order.
    An event beyond memory can no longer be told from a repeat, and is not counted.
    """

    NEW = "new"
    REPEAT = "repeat"
    CORRECTION = "correction"
    ID_REUSED = "id_reused"
    BEYOND_MEMORY = "beyond_memory"


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The facts after an event (the same object where it changes nothing), and what it did.

    `known`: an event of the same order and type had been counted. `order_hash`: the order id's.
    `reach_ms`: the newest instant that lies beyond the id memory.
    """

    state: CustomerState
    effect: Effect
    known: bool
    order_hash: bytes
    reach_ms: int


def apply(
    state: CustomerState,
    order: Order,
    memory: IdMemory = DEFAULT_MEMORY,
    calendar: Calendar = UTC,
) -> Applied:
    """The facts with one more event, and what it did.

    Events with the same order id and type are versions of one event, those of refunds by
    `refund_id` or by time and amount (`features.facts.ledger.Entry.is_same`). Of several versions
    the one with the newest `updated_at` counts, then of the greater (time, amount), whichever came
    first.
    A cancelled order and its refunds count for nothing.
    """
    applied = _appended(state, order, memory, calendar)
    if applied is not None:
        return applied
    entry = order_ledger.entry_of(order, calendar)
    reach_ms = _reach_ms(state.forgotten_ms, state.newest_ms, memory, calendar)
    known = order_ledger.find(state.ledger, entry.id_hash)
    same = next((other for other in known if other.is_same(entry)), None) if known else None
    effect = _effect(same, entry)
    was_known = same is not None and same.type is entry.type
    if same and same.version >= entry.version:
        return Applied(state, effect, was_known, entry.id_hash, reach_ms)
    if entry.ts_ms <= reach_ms:
        return Applied(state, Effect.BEYOND_MEMORY, was_known, entry.id_hash, reach_ms)
    ledger, buckets = state.ledger, state.buckets
    if known:
        after = [other for other in known if other is not same] + [entry]
        for change in _changes(known, after, calendar):
            buckets = day_buckets.add(buckets, change)
    elif (put := _contribution(entry, calendar)) is not None:
        buckets = day_buckets.add(buckets, put)
    ledger, forgotten_ms = _ledger_after(ledger, same, entry, memory)
    after_it = _bounded(state, buckets, ledger, forgotten_ms, calendar)
    return Applied(after_it, effect, was_known, entry.id_hash, reach_ms)


def _appended(
    state: CustomerState, order: Order, memory: IdMemory, calendar: Calendar
) -> Applied | None:
    """What `apply` gives for an order that is new and newer than all others, as nearly every one
    is; None for any other event."""
    if order.type is not OrderType.ORDER or order.refund_id or order.updated_ms >= 0:
        return None
    order_hash, ledger, ts_ms = order_ledger.id_hash(order.order_id), state.ledger, order.ts_ms
    if order_hash in ledger or ts_ms <= state.forgotten_ms:
        return None
    day = calendar.day_of(ts_ms)
    after = order_ledger.appended(ledger, order, order_hash, day, memory)
    if after is None:
        return None
    days = day_buckets.with_order(state.buckets, day, order.amount_minor, day - HISTORY_DAYS)
    if days is None:
        return None
    return Applied(
        CustomerState(days, after, state.before, state.forgotten_ms),
        Effect.NEW,
        False,
        order_hash,
        _reach_ms(state.forgotten_ms, order_ledger.newest_ms(ledger), memory, calendar),
    )


def _reach_ms(forgotten_ms: int, newest_ms: int, memory: IdMemory, calendar: Calendar) -> int:
    """The newest instant that lies beyond the id memory."""
    return max(
        forgotten_ms,
        newest_ms - memory.days * MS_PER_DAY,
        # Days are of 23 to 25 hours, and one that is summarised must stay as it is.
        calendar.start_ms(calendar.day_of(newest_ms) - HISTORY_DAYS) - 1,
    )


def _effect(same: Entry | None, entry: Entry) -> Effect:
    """What an event within memory does, given the version of it that is remembered."""
    if same is None:
        return Effect.NEW
    if same.order == entry.order:
        return Effect.REPEAT
    apart = abs(same.ts_ms - entry.ts_ms) > REUSED_AFTER_MS
    return Effect.ID_REUSED if apart and entry.updated_ms < 0 else Effect.CORRECTION


def _changes(
    before: Sequence[Entry], after: Sequence[Entry], calendar: Calendar
) -> Iterator[Bucket]:
    """What one order's events add to the day buckets now, less what they added before."""
    sums: dict[int, list[int]] = {}
    for sign, events in ((1, after), (-1, before)):
        if _cancelled(events):
            continue
        for event in events:
            if (bucket := _contribution(event, calendar)) is not None:
                of_day = sums.setdefault(bucket.day, [0, 0, 0])
                of_day[0] += sign * bucket.orders
                of_day[1] += sign * bucket.gross
                of_day[2] += sign * bucket.refunded
    return (Bucket(day, *of_day) for day, of_day in sums.items() if any(of_day))


def _contribution(event: Entry, calendar: Calendar) -> Bucket | None:
    """What an order or refund, not cancelled, puts into its day."""
    if event.type is OrderType.ORDER:
        return Bucket(calendar.day_of(event.ts_ms), 1, event.amount_minor, 0)
    if event.type is OrderType.REFUND:
        return Bucket(calendar.day_of(event.ts_ms), 0, 0, event.amount_minor)
    return None


def _cancelled(events: Iterable[Entry]) -> bool:
    return any(e.type is OrderType.CANCELLATION for e in events)


def _ledger_after(
    ledger: bytes, same: Entry | None, entry: Entry, memory: IdMemory
) -> tuple[bytes, int]:
    """The ledger with an event in place of another version of it, within the bounds of its memory;
    and the time of the newest event that is forgotten for it (-1: none is)."""
    wide = order_ledger.is_wide(ledger)
    if same:
        ledger = order_ledger.remove(ledger, same)
    newest_ms = max(order_ledger.newest_ms(ledger), entry.ts_ms)
    ledger, by_age_ms = order_ledger.remembered(ledger, newest_ms, memory)
    # Who once had an event with marks keeps a wide ledger, in whatever order events came.
    ledger = order_ledger.add(ledger, entry) if ledger else order_ledger.of([entry], wide=wide)
    ledger, by_size_ms = order_ledger.bounded(ledger, memory)
    return ledger, max(by_age_ms, by_size_ms)


def _bounded(
    state: CustomerState, buckets: bytes, ledger: bytes, forgotten_ms: int, calendar: Calendar
) -> CustomerState:
    """The state with new buckets and ledger, old days of it summarised."""
    before = state.before
    horizon_day = calendar.day_of(order_ledger.newest_ms(ledger)) - HISTORY_DAYS
    while buckets and day_buckets.first_day(buckets) < horizon_day:
        before = _summarised(before, day_buckets.read(buckets, 0))
        buckets = buckets[day_buckets.RECORD_BYTES :]
    return CustomerState(buckets, ledger, before, max(state.forgotten_ms, forgotten_ms))


def _summarised(before: Before, bucket: Bucket) -> Before:
    """The summary with one more, later, day in it."""
    if not bucket.orders:
        return msgspec.structs.replace(before, refunded=before.refunded + bucket.refunded)
    first = not before.purchase_days
    gap_days = 0 if first else bucket.day - before.last_day
    return Before(
        orders=before.orders + bucket.orders,
        gross=before.gross + bucket.gross,
        refunded=before.refunded + bucket.refunded,
        purchase_days=before.purchase_days + 1,
        first_day=bucket.day if first else before.first_day,
        last_day=bucket.day,
        first_day_gross=bucket.gross if first else before.first_day_gross,
        last_day_gross=bucket.gross,
        gap_sq_days2=before.gap_sq_days2 + gap_days**2,
    )
