"""Customers made up for a test: when they order, what they take back, when they fall silent.

    customer("alice").orders(every="7d", until="2026-03-01").then_silent()

A date means 00:00 UTC of it. Each call tells the story on and gives a new customer; the old one
stays as it was, so that several customers can share their beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Final, TypeAlias

from features.events.money import read_amount
from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, Instant, instant_ms, rfc3339
from streamer.settings.fields import duration_ms

Span: TypeAlias = str | timedelta
Amount: TypeAlias = str | int | float | Decimal

# Orders that only say when they end begin half a year before: long enough to be known by them.
_HALF_A_YEAR_MS: Final = 182 * MS_PER_DAY


@dataclass(frozen=True, slots=True)
class Happening:
    """An order event; `amount` in major units, as text, until the model's currency is known."""

    order_id: str
    ts_ms: int
    amount: str
    type: OrderType = OrderType.ORDER


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer's story, as told up to `now_ms`. `open_end`: silent from then on for as long as
    the model looks ahead."""

    user_id: str
    happenings: tuple[Happening, ...] = ()
    now_ms: int | None = None
    paused: bool = False
    open_end: bool = False

    def order(self, at: Instant, *, amount: Amount = 50) -> Customer:
        """One order."""
        return self._with_orders([instant_ms(at)], amount)

    def orders(
        self,
        *,
        every: Span,
        until: Instant | None = None,
        start: Instant | None = None,
        count: int | None = None,
        amount: Amount = 50,
    ) -> Customer:
        """Orders at even distances, each of `amount` in major units.

        From `start` up to and including `until`, or `count` of them. Without `start` they go on
        from what was told so far; where that is nothing, the last one is at `until` and they are
        counted back from it, half a year or `count` of them.
        """
        step_ms = span_ms(every)
        until_ms = None if until is None else instant_ms(until)
        first_ms = self._next_ms(step_ms) if start is None else instant_ms(start)
        if first_ms is None:
            if until_ms is None:
                raise ValueError(f"{self.user_id}: orders need a start or an until")
            back = (_HALF_A_YEAR_MS // step_ms if count is None else count - 1) * step_ms
            first_ms = until_ms - back
        elif until_ms is None and count is None:
            raise ValueError(f"{self.user_id}: orders need an until or a count, or never end")
        if count is None:
            assert until_ms is not None
            count = (until_ms - first_ms) // step_ms + 1
        if count < 1:
            raise ValueError(
                f"{self.user_id}: no order lies between {rfc3339(first_ms)} and until; choose a"
                " later until or an earlier start"
            )
        return self._with_orders([first_ms + n * step_ms for n in range(count)], amount)

    def orders_again(
        self,
        *,
        every: Span,
        until: Instant | None = None,
        count: int | None = None,
        amount: Amount = 50,
    ) -> Customer:
        """Orders after a silence: the first one when it ends."""
        if not self.paused:
            raise ValueError(f'{self.user_id}: say first for how long: then_silent("60d")')
        return self.orders(every=every, until=until, count=count, amount=amount)

    def refund(self, *, after: Span = "1d", amount: Amount | None = None) -> Customer:
        """The last order paid back: all of it, or `amount`."""
        order = self._last_order()
        back = order.amount if amount is None else str(amount)
        return self._taken_back(order, after, back, OrderType.REFUND)

    def cancel(self, *, after: Span = "1d") -> Customer:
        """The last order cancelled, as though it had never been."""
        order = self._last_order()
        return self._taken_back(order, after, order.amount, OrderType.CANCELLATION)

    def then_silent(self, span: Span | None = None) -> Customer:
        """Nothing more, for `span`; without one for as long as the model looks ahead."""
        if self.now_ms is None:
            raise ValueError(f"{self.user_id}: give them an order before they fall silent")
        passed_ms = 0 if span is None else span_ms(span)
        return replace(
            self, now_ms=self.now_ms + passed_ms, paused=span is not None, open_end=span is None
        )

    def as_orders(self, currency: str) -> list[Order]:
        """The order events, in time, with amounts of a currency."""
        return [
            Order(h.order_id, self.user_id, h.ts_ms, read_amount(h.amount, currency).minor, h.type)
            for h in sorted(self.happenings, key=lambda happening: happening.ts_ms)
        ]

    def _next_ms(self, step_ms: int) -> int | None:
        self._check_open_end()
        if self.now_ms is None:
            return None
        return self.now_ms if self.paused else self.now_ms + step_ms

    def _with_orders(self, instants_ms: Sequence[int], amount: Amount) -> Customer:
        self._check_open_end()
        known = sum(happening.type is OrderType.ORDER for happening in self.happenings)
        more = tuple(
            Happening(f"{self.user_id}-{known + n}", ts_ms, _money(amount))
            for n, ts_ms in enumerate(instants_ms, start=1)
        )
        return self._told(more)

    def _taken_back(self, order: Happening, after: Span, amount: str, kind: OrderType) -> Customer:
        taken = Happening(order.order_id, order.ts_ms + span_ms(after), _money(amount), kind)
        return self._told((taken,))

    def _told(self, more: tuple[Happening, ...]) -> Customer:
        newest_ms = max(happening.ts_ms for happening in more)
        now_ms = newest_ms if self.now_ms is None else max(self.now_ms, newest_ms)
        return replace(self, happenings=self.happenings + more, now_ms=now_ms, paused=False)

    def _last_order(self) -> Happening:
        orders = [h for h in self.happenings if h.type is OrderType.ORDER]
        if not orders:
            raise ValueError(f"{self.user_id}: there is no order yet to take back")
        return orders[-1]

    def _check_open_end(self) -> None:
        if self.open_end:
            raise ValueError(f'{self.user_id} is silent to the end; say then_silent("60d") instead')


def span_ms(span: Span) -> int:
    """Milliseconds of a span such as `36h`, `7d` or a timedelta; more than none."""
    ms = duration_ms(span) if isinstance(span, str) else round(span / timedelta(milliseconds=1))
    if ms <= 0:
        raise ValueError(f"a span of {span} is none; write 36h, 7d, ...")
    return ms


def _money(amount: Amount) -> str:
    text = str(amount)
    if read_amount(text, "CLF").minor < 0:
        raise ValueError(f"amount {text} is negative; what goes back is a refund")
    return text
