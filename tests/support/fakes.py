"""Fakes that a test can reckon with: a model whose CLVs are sums, and effects that fail on call."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import numpy as np

from features.arrays import Floats
from features.columns.rhythm import RHYTHM_NAMES, Typical
from features.columns.vector import FEATURE_NAMES
from features.events.orders import Order, OrderRules, OrderType
from features.facts.ledger import IdMemory
from features.facts.state import EMPTY, CustomerState, apply
from features.times import MS_PER_DAY, UTC, Calendar
from model.decide.learned import NOTHING_LEARNED, Learned, Threshold
from model.decide.policy import Policy
from model.decide.scoring import Scorer
from model.estimators.risk import OddsRegression, Risk
from model.judge.judge import Judge
from streamer.listing import tally
from streamer.listing.tally import Tally
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.erasures import ErasureKeys, Erasures
from streamer.pipeline.messages import ChurnWarning, Writer
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.pipeline.rebuild import Quarantined
from streamer.records import LogRange, MemoryPublisher, Message, Partition, PublishFailed, Topics
from streamer.store.base import Claim, Outbox, Outcome, Stored, StoreUnavailable, Write
from streamer.store.memory import MemoryStore

T = TypeVar("T")

START_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
HOUR_MS = 3_600_000
HORIZON_DAYS = 40
ORDERS_0 = Partition("orders", 0)
TOPICS = Topics()
ERASURE_KEYS = ErasureKeys.parse("T" * 32)

# Revenue of 90 days, what an order is worth, a charge for each day of silence: so that silence,
# refunds and cheap orders all can lower a CLV. Major units for each unit of the feature.
WEIGHTS: Mapping[str, float] = {
    "net_minor_90d": 0.01,
    "aov_minor_lifetime": 0.05,
    "days_since_last_order": -1.0,
}


def erased(*who: tuple[str, int]) -> Erasures:
    """What a worker has read of the erasures of these customers."""
    found = Erasures(ERASURE_KEYS)
    for user_id, at_ms in who:
        found.add(user_id, at_ms)
    return found


@dataclass(frozen=True)
class LinearModel:
    """CLV = bias + sum of weight x feature, at least 0; churn grows by 1/40 a day of silence."""

    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    bias: float = 0.0
    factor: float = 1.0

    def clv(self, X: Floats) -> Floats:
        total = np.full(len(X), self.bias)
        for name, weight in self.weights.items():
            total = total + weight * X[:, FEATURE_NAMES.index(name)]
        return np.asarray(np.round(np.maximum(total * self.factor, 0.0), 2), np.float64)

    def churn(self, X: Floats) -> Floats:
        silent = X[:, FEATURE_NAMES.index("days_since_last_order")]
        return np.asarray(np.round(np.clip(silent / 40.0, 0.0, 1.0), 6), np.float64)


class CannotScore(Exception):
    """Raised for chosen rows."""


@dataclass(frozen=True)
class Raising(LinearModel):
    """Raises where a row has so many orders; -1: always."""

    orders: int = 0

    def clv(self, X: Floats) -> Floats:
        if self.orders == -1 or (X[:, FEATURE_NAMES.index("orders_lifetime")] == self.orders).any():
            raise CannotScore
        return super().clv(X)


def scorer(
    model: LinearModel | None = None,
    version: str = "fake-1",
    sure_days: int | None = None,
    calendar: Calendar = UTC,
) -> Scorer:
    """A scorer in USD over 40 days; the training population's CLVs are 0.00, 1.00 … 100.00.

    With `sure_days` it has learnt to warn after so many days of silence, if not of somebody who
    bought twice; without, nothing.
    """
    return Scorer(
        model=model or LinearModel(),
        model_version=version,
        currency="USD",
        horizon_days=HORIZON_DAYS,
        score_quantiles_major=tuple(float(p) for p in range(101)),
        risk=None if sure_days is None else RISK,
        learned=NOTHING_LEARNED if sure_days is None else learned(sure_days),
        calendar=calendar,
    )


def _logistic(**weights: float) -> OddsRegression:
    return OddsRegression(0.0, tuple(weights.get(name, 0.0) for name in RHYTHM_NAMES))


TYPICAL = Typical(3.0, 0.5, 5_000.0, (1.0, 0.5, 0.0))
# P(churn) grows with the silence; whoever bought twice is more likely to order soon.
RISK = Risk(
    horizon_days=HORIZON_DAYS,
    typical=TYPICAL,
    low=(-50.0,) * len(RHYTHM_NAMES),
    high=(50.0,) * len(RHYTHM_NAMES),
    churn=_logistic(silence=2.0),
    soon=_logistic(log_orders=4.0, silence=-2.0),
)


def learned(sure_days: int) -> Learned:
    """Thresholds at which one-time buyers are warned of after so many days, as 0.5 asks."""
    share = sure_days / HORIZON_DAYS
    index = float(np.log1p(np.exp(2 * share)) - np.log1p(np.exp(-2 * share)))
    return Learned(
        thresholds=(
            Threshold(0.9, round(index - 0.3, 6), 0.5, 25.0),
            Threshold(0.5, round(index, 6), 0.6, 20.0),
            Threshold(0.1, round(index + 0.3, 6), 0.7, 10.0),
        ),
        left=100,
        returned=50,
    )


def judge(
    policy: Policy | None = None, by: Scorer | None = None, memory: IdMemory | None = None
) -> Judge:
    by = by or scorer()
    return Judge(by, by.rules(policy or Policy()), memory or IdMemory())


def pipeline(
    judged_by: Judge | None = None,
    *,
    lateness_ms: int = 0,
    publish_scores: bool = True,
) -> Pipeline:
    judged_by = judged_by or judge()
    return Pipeline(
        judge=judged_by,
        writer=Writer.of(judged_by.scorer, judged_by.rules, TOPICS),
        order_rules=OrderRules(),
        topics=TOPICS,
        allowed_lateness_ms=lateness_ms,
        publish_scores=publish_scores,
    )


# --- orders and records --------------------------------------------------------------------------


def at(day: float) -> int:
    """Epoch milliseconds of a day (0 is 2025-01-01; fractions are times of day)."""
    return START_MS + round(day * MS_PER_DAY)


def an_order(
    user: str,
    day: float,
    amount_minor: int = 5_000,
    type: OrderType = OrderType.ORDER,
    id: str | None = None,
) -> Order:
    return Order(id or f"{user}-{day}", user, at(day), amount_minor, type)


def facts_of(orders: Iterable[Order], state: CustomerState = EMPTY) -> CustomerState:
    """The customer folded from orders."""
    for order in orders:
        state = apply(state, order).state
    return state


def every(
    user: str, days: float, orders: int, amount_minor: int = 5_000, first_day: float = 0.5
) -> list[Order]:
    """Orders every so many days, then silence."""
    return [an_order(user, first_day + n * days, amount_minor) for n in range(orders)]


def by_time(*histories: Iterable[Order]) -> list[Order]:
    """One log of several customers' orders."""
    return sorted((o for orders in histories for o in orders), key=lambda order: order.ts_ms)


@dataclass(frozen=True)
class Rec:
    """A record of the orders topic."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()


def wire(order: Order) -> bytes:
    """The order as the shop sends it."""
    cents = Decimal(order.amount_minor).scaleb(-2)
    head = {"order_id": order.order_id, "user_id": order.user_id, "ts": order.ts_ms}
    marks = {"refund_id": order.refund_id} if order.refund_id else {}
    marks |= {"updated_at": order.updated_ms} if order.updated_ms >= 0 else {}
    text = json.dumps({**head, **marks, "type": order.type.wire}, ensure_ascii=False)
    return f'{text[:-1]}, "amount": {cents:f}}}'.encode()


def records(orders: Iterable[Order | bytes | None], first: int = 0) -> list[Rec]:
    """Orders, or raw values, as the records of a partition, sent as soon as they happened."""
    found = []
    for offset, order in enumerate(orders, first):
        if isinstance(order, Order):
            found.append(Rec(offset, order.user_id.encode(), wire(order), order.ts_ms))
        else:
            found.append(Rec(offset, None, order, START_MS))
    return found


def renamed(orders: Iterable[Order], user: str) -> list[Order]:
    return [msgspec.structs.replace(order, user_id=user) for order in orders]


def log_of(log: Sequence[Rec], partitions: int = 1) -> LogRange:
    """What the broker says of a partition with these records."""
    if not log:
        return LogRange(0, 0, partitions)
    return LogRange(log[0].offset, log[-1].offset + 1, partitions)


# --- effects -------------------------------------------------------------------------------------


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that only awaits fakes, and so never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        value: T = finished.value
        return value
    coroutine.close()
    raise AssertionError("a coroutine over fakes waited for something")


class Crash(Exception):
    """The process ends here."""


class Faults:
    """Counts effects, twice each: before it takes place and after, when only its answer can still
    be lost. `at` names the counts at which `raises` strikes; None raises what the effect would."""

    def __init__(self, at: Iterable[int] = (), raises: Callable[[], Exception] | None = None):
        self.at = set(at)
        self.count = 0
        self.names: list[str] = []
        self._raises = raises

    def point(self, name: str, usual: type[Exception]) -> None:
        here = self.count
        self.count += 1
        self.names.append(name)
        if here in self.at:
            raise self._raises() if self._raises else usual(f"told to fail at {here}, {name}")


class FaultyStore:
    """A MemoryStore that fails where it is told to."""

    def __init__(self, faults: Faults, kept: MemoryStore | None = None) -> None:
        self.faults = faults
        self.kept = kept or MemoryStore()

    async def _do(self, name: str, effect: Coroutine[Any, Any, T]) -> T:
        try:
            self.faults.point(f"before {name}", StoreUnavailable)
            result = await effect
        finally:
            effect.close()
        self.faults.point(f"after {name}", StoreUnavailable)
        return result

    async def claim(self, partition: Partition, partition_count: int, **log: Any) -> Claim:
        return await self._do("claim", self.kept.claim(partition, partition_count, **log))

    async def load(self, partition: Partition, user_ids: Sequence[str]) -> list[Stored]:
        return await self._do("load", self.kept.load(partition, user_ids))

    async def due(self, partition: Partition, until_ms: int, limit: int) -> list[tuple[str, int]]:
        return await self._do("due", self.kept.due(partition, until_ms, limit))

    async def due_times(self, partition: Partition, user_ids: Sequence[str]) -> list[int | None]:
        return await self._do("due times", self.kept.due_times(partition, user_ids))

    async def write(self, partition: Partition, epoch: int, sequence: int, write: Write) -> Outcome:
        return await self._do("write", self.kept.write(partition, epoch, sequence, write))

    async def remove(
        self,
        partition: Partition,
        epoch: int,
        sequence: int,
        user_ids: Sequence[str],
        next_offset: int | None,
        said: bytes = b"",
    ) -> Outcome:
        removing = self.kept.remove(partition, epoch, sequence, user_ids, next_offset, said)
        return await self._do("remove", removing)

    async def open_warnings(self, partition: Partition) -> list[bytes]:
        return await self.kept.open_warnings(partition)

    async def outbox(self, partition: Partition, limit: int) -> Outbox:
        return await self._do("outbox", self.kept.outbox(partition, limit))

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        return await self._do("trim", self.kept.trim(partition, epoch, first, count))

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        return await self._do("quarantined", self.kept.quarantined(partition))

    async def peek(self, partition: Partition) -> Claim | None:
        return await self._do("peek", self.kept.peek(partition))

    async def ping(self) -> None:
        await self.kept.ping()

    async def close(self) -> None:
        await self.kept.close()


class SwitchedStore:
    """A store that may be another from one call to the next, as a server that lost writes is."""

    def __init__(self, now: Any) -> None:
        self.now = now

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


class FaultyPublisher(MemoryPublisher):
    """A MemoryPublisher that fails where it is told to; after the fact, the messages are out."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    async def publish(self, messages: Sequence[Message]) -> None:
        self.faults.point("before publish", PublishFailed)
        await super().publish(messages)
        self.faults.point("after publish", PublishFailed)


# --- what is left behind -------------------------------------------------------------------------


@dataclass(frozen=True)
class Left:
    """Everything a partition leaves: states and due times, progress, open warnings, counts, and the
    distinct messages by topic. Two deliveries of one log are alike when these are equal."""

    states: dict[str, Stored]
    next_offset: int | None
    high_ts_ms: int | None
    outbox: int
    listed: set[bytes]
    tally: Tally
    messages: dict[str, set[Message]]


def left(
    store: MemoryStore,
    publisher: MemoryPublisher,
    users: Iterable[str],
    partition: Partition = ORDERS_0,
) -> Left:
    names = sorted(set(users))
    stood = done(store.peek(partition))
    return Left(
        states=dict(zip(names, done(store.load(partition, names)), strict=True)),
        next_offset=stood.next_offset if stood else None,
        high_ts_ms=stood.high_ts_ms if stood else None,
        outbox=len(done(store.outbox(partition, 10**6)).entries),
        listed=set(done(store.open_warnings(partition))),
        tally=tally.decode(stood.tally if stood else None),
        messages={
            topic: set(publisher.of(topic))
            for topic in (TOPICS.warnings, TOPICS.scores, TOPICS.dead_letters)
        },
    )


def quarantined(data: bytes) -> Quarantined:
    """What the quarantine has of a customer."""
    return msgspec.msgpack.decode(data, type=Quarantined)


def users_of(log: Iterable[Rec]) -> set[str]:
    return {record.key.decode() for record in log if record.key}


def claimed(
    log: Sequence[Rec],
    store: Any,
    publisher: Any,
    through: Pipeline | None = None,
    **options: Any,
) -> PartitionRunner:
    """A runner that owns the partition."""
    runner = PartitionRunner(
        ORDERS_0, store, publisher, through or pipeline(), RunnerOptions(**options)
    )
    done(runner.claim(log_of(log)))
    return runner


def warned(orders: list[Order], until_day: float = 200) -> list[ChurnWarning]:
    """What these orders and the silences after them put on the warnings topic; half held out."""
    publisher = MemoryPublisher()
    log = records(orders)
    policy = Policy(floor_percentile=0, holdout_share=0.5)
    runner = claimed(log, MemoryStore(), publisher, pipeline(judge(policy)))
    done(runner.process(log))
    done(runner.tick(at(until_day)))
    return said_by(publisher)


def said_by(publisher: MemoryPublisher) -> list[ChurnWarning]:
    """What was published to the warnings topic."""
    decode = msgspec.json.Decoder(ChurnWarning).decode
    return [decode(message.value or b"") for message in publisher.of(TOPICS.warnings)]
