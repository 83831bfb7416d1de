"""How long a customer has been one: what minimum history and one-time buyers are decided by."""

from __future__ import annotations

import enum

import msgspec

from features.facts import buckets
from features.facts.state import CustomerState


class Tenure(enum.StrEnum):
    """A customer's history as a code: bought on one day only; on several, but for less than one
    horizon; longer."""

    ONE_TIME = "one_time"
    YOUNG = "young"
    ESTABLISHED = "established"


class PurchaseHistory(msgspec.Struct, frozen=True, gc=False):
    """When a customer bought: first and last day, and on how many days (no more are counted
    than were asked for)."""

    first_day: int
    last_day: int
    purchase_days: int

    def tenure(self, as_of_day: int, horizon_days: int) -> Tenure:
        """The code as of a day."""
        if self.purchase_days < 2:
            return Tenure.ONE_TIME
        young = as_of_day - self.first_day < horizon_days
        return Tenure.YOUNG if young else Tenure.ESTABLISHED


def history_of(facts: CustomerState, enough: int = 2) -> PurchaseHistory | None:
    """The history of a customer, purchase days counted up to `enough`; None without a purchase."""
    days = facts.buckets
    before = facts.before
    count, first, last = 0, before.first_day, before.last_day
    for at in range(len(days) - buckets.RECORD_BYTES, -1, -buckets.RECORD_BYTES):
        day, orders = buckets.day_and_orders(days, at)
        if orders:
            last = last if count else day
            count += 1
            if count >= enough:
                break
    if not count and not before.purchase_days:
        return None
    if not before.purchase_days:
        first = _first_purchase_day(days)
    return PurchaseHistory(first, last, min(count + before.purchase_days, enough))


def _first_purchase_day(days: bytes) -> int:
    """The oldest day with an order, of buckets that have one."""
    for at in range(0, len(days), buckets.RECORD_BYTES):
        day, orders = buckets.day_and_orders(days, at)
        if orders:
            return day
    raise AssertionError("no purchase in the buckets")
