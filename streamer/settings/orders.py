"""The settings of whoever knows the shop's orders."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from features.ledger import MAX_EVENTS, MAX_MEMORY_DAYS, RECENT_DAYS, IdMemory
from features.orders import FreeOrders, OrderRules
from streamer.settings.fields import (
    Currency,
    DateMs,
    DurationMs,
    DurationMsOrOff,
    Section,
    Timezone,
)


class OrderSettings(Section):
    """What the orders are like."""

    heading: ClassVar = "Whoever knows the orders"

    currency: Currency = Field(
        default="USD",
        validation_alias="CLV_CURRENCY",
        description="Currency of all orders, ISO 4217.",
    )
    max_future_ms: DurationMs = Field(
        default="1h",
        validation_alias="CLV_MAX_FUTURE",
        validate_default=True,
        description="How far an order's time may lie ahead of the worker's clock, and of the"
        " record's timestamp.",
    )
    earliest_ms: DateMs = Field(
        default="1990-01-01",
        validation_alias="CLV_EARLIEST",
        validate_default=True,
        description="The first day that an order may be of; older ones have no date.",
    )
    timezone: Timezone = Field(
        default="UTC",
        validation_alias="CLV_TIMEZONE",
        description="The shop's own zone (IANA), where its days begin; that of the model.",
    )
    free_orders: FreeOrders = Field(
        default=FreeOrders.COUNT,
        validation_alias="CLV_FREE_ORDERS",
        description="Orders of amount 0: `count` as purchases, or `ignore` until they are paid.",
    )
    allowed_lateness_ms: DurationMs = Field(
        default="1h",
        validation_alias="CLV_ALLOWED_LATENESS",
        validate_default=True,
        description="How long late orders are waited for before an instant is scored.",
    )
    idle_after_ms: DurationMsOrOff = Field(
        default="60s",
        validation_alias="CLV_IDLE_AFTER",
        validate_default=True,
        description="A partition without orders for this long follows the clock; `off`: never.",
    )
    id_memory_days: int = Field(
        default=MAX_MEMORY_DAYS,
        validation_alias="CLV_ID_MEMORY_DAYS",
        ge=1,
        le=MAX_MEMORY_DAYS,
        description="Days for which a customer's order ids are remembered, to know repeats.",
    )
    id_memory_size: int = Field(
        default=1000,
        validation_alias="CLV_ID_MEMORY_SIZE",
        ge=1,
        le=MAX_EVENTS,
        description="Most order ids remembered for one customer; those of the last"
        f" {RECENT_DAYS} days are in any case, up to {MAX_EVENTS:,}.",
    )

    @property
    def order_rules(self) -> OrderRules:
        return OrderRules(
            currency=self.currency,
            max_future_ms=self.max_future_ms,
            earliest_ms=self.earliest_ms,
            free_orders=self.free_orders,
        )

    @property
    def id_memory(self) -> IdMemory:
        return IdMemory(days=self.id_memory_days, size=self.id_memory_size)
