"""The settings of whoever knows the shop's orders."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from features.events.ids import PLACEHOLDERS, placeholders_of
from features.events.orders import FreeOrders, OrderRules
from features.facts.ledger import MAX_EVENTS, MAX_MEMORY_DAYS, IdMemory
from model.files.merged_accounts import read_accounts
from streamer.settings.fields import (
    Currency,
    DateMs,
    DurationMs,
    DurationMsOrOff,
    Section,
    Switch,
    Timezone,
)

# Once, as the setting says, whoever asks.
_accounts = lru_cache(maxsize=4)(read_accounts)


class OrderSettings(Section):
    """What the orders are like."""

    heading: ClassVar = "Whoever knows the orders"

    currency: Currency = "USD"
    """Currency of all orders, ISO 4217."""
    max_future_ms: DurationMs = Field("1h", validate_default=True)
    """How far an order may lie ahead of the worker's clock, and of the record's timestamp."""
    earliest_ms: DateMs = Field("1990-01-01", validate_default=True)
    """The first day that an order may be of; older ones have no date."""
    timezone: Timezone = "UTC"
    """The shop's own zone (IANA), where its days begin; that of the model."""
    free_orders: FreeOrders = FreeOrders.COUNT
    """Orders of amount 0: `count` as purchases, or `ignore` until they are paid."""
    placeholders: str = Field("", json_schema_extra={"default_text": "nan, null, guest, 0, ..."})
    """Customer ids that name nobody, with commas: such orders are set aside. A list replaces the
    default one."""
    merge_ids: Switch = False
    """Customer ids that differ only in case, blanks at the ends or a trailing `.0` are one."""
    merged_accounts: Path | None = None
    """CSV of `user_id` and `same_as`, accounts that the shop has merged, read at the start."""
    allowed_lateness_ms: DurationMs = Field("1h", validate_default=True)
    """How long late orders are waited for before an instant is scored."""
    idle_after_ms: DurationMsOrOff = Field("60s", validate_default=True)
    """A partition without orders for this long follows the clock; `off`: never."""
    id_memory_days: int = Field(MAX_MEMORY_DAYS, ge=1, le=MAX_MEMORY_DAYS)
    """Days for which a customer's order ids are remembered, to know repeats."""
    id_memory_size: int = Field(1000, ge=1, le=MAX_EVENTS)
    """Most order ids remembered for one customer; those of the last 7 days are in any case."""

    @property
    def order_rules(self) -> OrderRules:
        return OrderRules(
            currency=self.currency,
            max_future_ms=self.max_future_ms,
            earliest_ms=self.earliest_ms,
            free_orders=self.free_orders,
            placeholders=(
                placeholders_of(self.placeholders.split(",")) if self.placeholders else PLACEHOLDERS
            ),
            merge_ids=self.merge_ids,
            same_as=(
                {}
                if self.merged_accounts is None
                else _accounts(self.merged_accounts, merge_ids=self.merge_ids)
            ),
        )

    @property
    def id_memory(self) -> IdMemory:
        return IdMemory(days=self.id_memory_days, size=self.id_memory_size)
