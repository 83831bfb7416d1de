"""One customer as the store has it: facts, score as of an instant, last warning."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import msgspec

from features.columns.catalog import WINDOWS_DAYS
from features.columns.table import tabulate
from features.columns.vector import FEATURE_NAMES
from features.events.money import currency_name, money_text
from features.times import iso_day, rfc3339
from model.decide import codec as customer_bytes
from model.decide.codec import CustomerRecord
from model.decide.outcome import Ending, ending
from model.explain.quiet import Quiet, why_quiet
from model.explain.tree_shap import FeaturePart, by_feature
from model.report.escape import line
from streamer.errors import StreamerError
from streamer.http.answers import (
    Contribution,
    Prediction,
    churn_explained,
    explained,
    prediction_of,
)
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import warning_id
from streamer.pipeline.partitioner import partition_for
from streamer.records import Partition
from streamer.store.base import StateStore

# Where a customer is, its bytes, and its due time.
Found: TypeAlias = tuple[Partition, bytes, int | None]


class UnknownCustomer(StreamerError):
    """The store has no such customer. Check the id, CLV_STATE_NAMESPACE and CLV_ORDERS_TOPIC."""


@dataclass(frozen=True, slots=True)
class LastWarning:
    """The last warning of a customer; money in major units. `open`: no order has come since, and
    the model's horizon is not over."""

    warning_id: str
    open: bool
    as_of: str
    trigger: str
    clv: float
    reference_clv: float
    drop: float


@dataclass(frozen=True, slots=True)
class Window:
    """The last `days` before an instant: orders, and revenue net of refunds in major units."""

    days: int
    orders: int
    net_revenue: float


class CustomerView(Prediction, frozen=True, kw_only=True):
    """A customer of the live state. Money in major units of `currency`.

    The facts are as of `as_of`, as the score is; `baseline` and the amounts of `contributions` add
    up to `clv`, to the minor unit, and are null where the model does not name its typical customer;
    `reference_clv` is what the rule compares the CLV with; `armed` says whether it may warn.
    `frequency` counts purchase days after the first; `recency_days` is the age at the last
    purchase, `T_days` the age now, `monetary_value` the mean value of those purchase days.
    """

    user_id: str
    partition: str
    as_of: str
    churn_probability: float
    reference_clv: float | None
    orders: int
    net_revenue: float
    first_order_on: str | None
    last_order_at: str | None
    days_since_last_order: int | None
    frequency: int
    recency_days: int
    T_days: int
    monetary_value: float
    windows: tuple[Window, ...]
    next_rescoring_at: str | None
    armed: bool
    withheld_since: str | None
    open_warning: LastWarning | None
    last_warning: LastWarning | None
    state_bytes: int


async def find_customer(user_id: str, store: StateStore, topic: str, partition_count: int) -> Found:
    """Where the customer is, its bytes and its due time. Raises UnknownCustomer."""
    (found,) = await find_customers([user_id], store, topic, partition_count)
    if found is None:
        raise UnknownCustomer(
            f"no customer {user_id!r} in the {partition_count} partitions of topic {topic!r}"
        )
    return found


async def find_customers(
    user_ids: Sequence[str], store: StateStore, topic: str, partition_count: int
) -> list[Found | None]:
    """Where each customer is, its bytes and its due time; None for those who are nowhere.

    Kafka's own partition of the key is asked first, then every other one, since a shop's producer
    may spread customers by a hash of its own.
    """
    homes = defaultdict[int, list[str]](list)
    for user_id in dict.fromkeys(user_ids):
        homes[partition_for(user_id.encode(), partition_count)].append(user_id)

    async def ask(at: Mapping[int, Sequence[str]]) -> None:
        asked = [(Partition(topic, number), users) for number, users in at.items() if users]
        answers = await asyncio.gather(*(store.load(place, users) for place, users in asked))
        for (place, users), answer in zip(asked, answers, strict=True):
            for user_id, stored in zip(users, answer, strict=True):
                if stored.state is not None:
                    found[user_id] = (place, stored.state, stored.due_ms)

    found: dict[str, Found] = {}
    await ask(homes)
    missing = {
        number: [
            user_id
            for home, users in homes.items()
            for user_id in users
            if user_id not in found and home != number
        ]
        for number in range(partition_count)
    }
    await ask(missing)
    return [found.get(user_id) for user_id in user_ids]


def features_of(
    user_id: str, state: bytes, pipeline: Pipeline, as_of_ms: int | None
) -> tuple[FeaturePart, ...] | None:
    """What single features did to the CLV that `view` has: SHAP values, which take half a second to
    import. None where the model is not made of trees, or the extra `explain` is not installed."""
    customer = customer_bytes.decode(state)
    pair = (customer.facts, _instant_ms(customer, as_of_ms))
    scorer = pipeline.judge.scorer
    found = by_feature(scorer, scorer.rows([pair], [user_id]))
    return None if found is None else found[0]


def quiet(user_id: str, state: bytes, pipeline: Pipeline, as_of_ms: int | None) -> Quiet:
    """Why no warning of the customer is raised, and when one would be."""
    customer = customer_bytes.decode(state)
    return why_quiet(user_id, customer, pipeline.judge, _instant_ms(customer, as_of_ms))


def _instant_ms(customer: CustomerRecord, as_of_ms: int | None) -> int:
    return max(customer.rule_state.as_of_ms, 0) if as_of_ms is None else as_of_ms


def view(
    user_id: str,
    partition: Partition,
    state: bytes,
    due_ms: int | None,
    pipeline: Pipeline,
    as_of_ms: int | None,
) -> CustomerView:
    """The customer as of an instant (epoch ms; None: the last scoring that was recorded)."""
    customer = customer_bytes.decode(state)
    as_of_ms = _instant_ms(customer, as_of_ms)
    sought = Sought(user_id, (partition, state, due_ms), customer, as_of_ms)
    return views([sought], pipeline)[0]


class Sought(NamedTuple):
    """A customer who was found, decoded, and the instant to be seen as of, in epoch ms."""

    user_id: str
    found: Found
    customer: CustomerRecord
    as_of_ms: int


def views(sought: Sequence[Sought], pipeline: Pipeline) -> list[CustomerView]:
    """Customers, scored and explained by one call of the model each: a batch of 32 takes a
    twentieth of the time that 32 of one take."""
    scorer = pipeline.judge.scorer
    pairs = [(one.customer.facts, one.as_of_ms) for one in sought]
    table = tabulate(pairs, scorer.calendar)
    X = scorer.vectors(table, [one.user_id for one in sought])
    seen = None if scorer.risk is None else scorer.risk.rows(table)
    gone = None if scorer.risk is None or seen is None else scorer.risk.churn.probability(seen)
    clv_minor, churn = scorer.rate(X, gone)
    return [
        _view(one, dict(zip(FEATURE_NAMES, row, strict=False)), pipeline, prediction)
        for one, row, prediction in zip(
            sought,
            X.tolist(),
            (
                prediction_of(pipeline, worth, gone, one.as_of_ms, parts, churn_parts)
                for one, worth, gone, parts, churn_parts in zip(
                    sought,
                    clv_minor.tolist(),
                    churn.tolist(),
                    explained(pipeline, X),
                    churn_explained(scorer, pairs, seen),
                    strict=True,
                )
            ),
            strict=True,
        )
    ]


def _view(
    sought: Sought, named: Mapping[str, float], pipeline: Pipeline, prediction: Prediction
) -> CustomerView:
    user_id, (partition, state, due_ms), customer, as_of_ms = sought
    facts, rule_state = customer.facts, customer.rule_state
    scorer = pipeline.judge.scorer
    shared: dict[str, Any] = msgspec.structs.asdict(prediction)
    reference = rule_state.reference
    last_day, last_ms = facts.last_purchase_day, facts.last_order_ms(scorer.calendar)
    major = pipeline.writer.major
    day_of = scorer.calendar.day_of
    first_day = day_of(as_of_ms) - int(named["T_days"])
    last_warning = _last_warning(user_id, customer, pipeline, as_of_ms)
    return CustomerView(
        user_id=user_id,
        partition=partition.tag,
        **shared,
        reference_clv=major(reference.clv_minor) if reference else None,
        orders=int(named["orders_lifetime"]),
        net_revenue=major(round(named["net_minor_lifetime"])),
        first_order_on=None if last_day is None else iso_day(first_day),
        last_order_at=None if last_ms is None else rfc3339(last_ms),
        days_since_last_order=None if last_day is None else day_of(as_of_ms) - last_day,
        frequency=int(named["frequency"]),
        recency_days=int(named["recency_days"]),
        T_days=int(named["T_days"]),
        monetary_value=major(round(named["monetary_value_minor"])),
        windows=tuple(
            Window(
                days=days,
                orders=int(named[f"orders_{days}d"]),
                net_revenue=major(round(named[f"net_minor_{days}d"])),
            )
            for days in WINDOWS_DAYS
        ),
        next_rescoring_at=None if due_ms is None else rfc3339(due_ms),
        armed=rule_state.armed,
        withheld_since=None
        if rule_state.deferred_since_ms < 0
        else rfc3339(rule_state.deferred_since_ms),
        open_warning=last_warning if last_warning and last_warning.open else None,
        last_warning=last_warning,
        state_bytes=len(state),
    )


def _last_warning(
    user_id: str, customer: CustomerRecord, pipeline: Pipeline, as_of_ms: int
) -> LastWarning | None:
    rule_state = customer.rule_state
    raised = rule_state.raised
    if raised is None:
        return None
    writer, horizon_days = pipeline.writer, pipeline.judge.rules.horizon_days
    unanswered = ending(raised.as_of_ms, None, None, as_of_ms, horizon_days)
    return LastWarning(
        warning_id=warning_id(user_id, raised, raised.policy_version or writer.policy_version),
        open=not rule_state.armed and raised.as_of_ms <= as_of_ms and unanswered is Ending.OPEN,
        as_of=rfc3339(raised.as_of_ms),
        trigger=raised.trigger.value,
        clv=writer.major(raised.clv_minor),
        reference_clv=writer.major(raised.reference.clv_minor),
        drop=round(raised.drop, 4),
    )


def text(shown: CustomerView, features: Sequence[FeaturePart] | None = None) -> str:
    """The view for a person, under 80 columns; with what single features did, where that is
    known."""
    money = partial(money_text, currency=shown.currency)
    horizon = f"{currency_name(shown.currency)} of the next {shown.horizon_days} days"
    reference = "none" if shown.reference_clv is None else money(shown.reference_clv)
    lines = [
        f"{line(shown.user_id)}  as of {shown.as_of}  ({shown.partition})",
        "",
        f"  CLV                 {money(shown.clv):>12}  {horizon}, segment {shown.segment}",
        f"  churn probability   {shown.churn_probability:>12.1%}",
        f"  reference CLV       {reference:>12}  highest at an event of late",
        f"  orders              {shown.orders:>12,}  net revenue {money(shown.net_revenue)}",
        f"  first order         {shown.first_order_on or 'none':>12}",
        f"  last order          {(shown.last_order_at or 'none')[:10]:>12}  "
        f"{_silence(shown.days_since_last_order)}",
        f"  next rescoring      {(shown.next_rescoring_at or 'none')[:10]:>12}",
    ]
    warned = shown.last_warning
    if warned is None:
        lines.append(f"  last warning        {'none':>12}")
    else:
        lines.append(
            f"  last warning        {warned.as_of[:10]:>12}  {warned.trigger}: CLV"
            f" {money(warned.clv)}, {warned.drop:.0%} under {money(warned.reference_clv)}"
        )
    if shown.withheld_since:
        lines.append(
            f"  withheld            {shown.withheld_since[:10]:>12}  by the budget, since then"
        )
    if shown.baseline is not None and shown.contributions is not None:
        lines += _explanation(shown.clv, shown.baseline, shown.contributions, money)
    if shown.churn_baseline is not None and shown.churn_contributions is not None:
        lines += [
            f"  What makes P(churn), from {shown.churn_baseline:.1%} on average (log-odds):",
            *(f"    {p.group:<18}{p.log_odds:>+12.2f}" for p in shown.churn_contributions),
            "",
        ]
    if features:
        lines += _of_features(features, money)
    lines.append(f"  model {shown.model_version}, state of {shown.state_bytes:,} bytes")
    return "\n".join(lines)


_SHOWN_FEATURES = 8

# What a group holds, for those who read the table for the first time.
_HOLDS = {
    "silence": "days since the last order",
    "frequency": "how many orders, and how far apart",
    "baskets": "what an order is worth",
    "refunds": "what was sent back",
    "attributes": "what the shop knows besides orders",
}


def _explanation(
    clv: float, baseline: float, parts: Sequence[Contribution], money: partial[str]
) -> list[str]:
    """The CLV as a sum, one line for each summand."""
    return [
        "",
        "  What makes this CLV, compared with the model's typical customer:",
        f"    typical customer  {money(baseline):>12}",
        *(
            f"    {part.group:<18}{money(part.amount, signed=True):>12}"
            f"  {_HOLDS.get(part.group, '')}".rstrip()
            for part in parts
        ),
        f"    {'CLV':<18}{money(clv):>12}",
        "",
    ]


def _of_features(parts: Sequence[FeaturePart], money: partial[str]) -> list[str]:
    """The features that did most; money added, or what the CLV was multiplied by."""
    return [
        "  What single features did to it (SHAP values of the trees), the largest:",
        *(
            f"    {part.feature:<26}{money(part.amount, signed=True):>12}"
            if part.amount is not None
            else f"    {part.feature:<26}{f'x {part.factor:.3f}':>12}"
            for part in parts[:_SHOWN_FEATURES]
        ),
        "",
    ]


def _silence(days: int | None) -> str:
    return "" if days is None else f"{days} days before"
