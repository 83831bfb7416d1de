"""One customer as the store has it: facts, score as of an instant, last warning."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from features.buckets import MS_PER_DAY, day_of
from features.vector import FEATURE_NAMES, vectors
from model import customer as customer_bytes
from model.customer import Customer
from model.scoring import score
from streamer.messages import rfc3339
from streamer.partition import Pipeline
from streamer.store import Partition, StateStore


class UnknownCustomer(Exception):
    """The store has no such customer. Check the id, CLV_STATE_NAMESPACE and CLV_ORDERS_TOPIC."""


@dataclass(frozen=True, slots=True)
class LastWarning:
    """The last warning of a customer; money in major units."""

    as_of: str
    trigger: str
    clv: float
    reference_clv: float
    drop: float


@dataclass(frozen=True, slots=True)
class CustomerView:
    """What `show` prints; money in major units."""

    user_id: str
    partition: str
    as_of: str
    clv: float
    segment: str
    churn_probability: float
    reference_clv: float | None
    currency: str
    horizon_days: int
    model_version: str
    orders: int
    net_revenue: float
    first_order_on: str | None
    last_order_at: str | None
    days_since_last_order: int | None
    next_rescoring_at: str | None
    armed: bool
    withheld_since: str | None
    last_warning: LastWarning | None
    state_bytes: int

    def as_dict(self) -> dict[str, object]:
        """The view as plain values, for JSON."""
        return asdict(self)


async def find_customer(
    user_id: str, store: StateStore, topic: str, partition_count: int
) -> tuple[Partition, bytes, int | None]:
    """Where the customer is, its bytes and its due time. Every partition is asked, since a shop's
    producer may spread customers by a hash of its own. Raises UnknownCustomer."""
    for number in range(partition_count):
        partition = Partition(topic, number)
        (stored,) = await store.load(partition, [user_id])
        if stored.state is not None:
            return partition, stored.state, stored.due_ms
    raise UnknownCustomer(
        f"no customer {user_id!r} in the {partition_count} partitions of topic {topic!r}"
    )


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
    facts, judgement = customer.facts, customer.judgement
    as_of_ms = max(judgement.as_of_ms, 0) if as_of_ms is None else as_of_ms
    scorer, rules = pipeline.judge.scorer, pipeline.judge.rules
    now = score(facts, as_of_ms, scorer)
    named = dict(zip(FEATURE_NAMES, vectors([(facts, as_of_ms)])[0].tolist(), strict=True))
    reference = judgement.reference(as_of_ms, rules)
    last_day, last_ms = facts.last_purchase_day, facts.last_order_ms
    major = pipeline.writer.major
    first_day = day_of(as_of_ms) - int(named["T_days"])
    return CustomerView(
        user_id=user_id,
        partition=partition.tag,
        as_of=rfc3339(as_of_ms),
        clv=major(now.clv_minor),
        segment=rules.segment(now.clv_minor),
        churn_probability=now.churn_probability,
        reference_clv=major(reference.clv_minor) if reference else None,
        currency=scorer.currency,
        horizon_days=scorer.horizon_days,
        model_version=scorer.model_version,
        orders=int(named["orders_lifetime"]),
        net_revenue=major(round(named["net_minor_lifetime"])),
        first_order_on=None if last_day is None else rfc3339(first_day * MS_PER_DAY)[:10],
        last_order_at=None if last_ms is None else rfc3339(last_ms),
        days_since_last_order=None if last_day is None else day_of(as_of_ms) - last_day,
        next_rescoring_at=None if due_ms is None else rfc3339(due_ms),
        armed=judgement.armed,
        withheld_since=None if judgement.withheld_ms < 0 else rfc3339(judgement.withheld_ms),
        last_warning=_last_warning(customer, pipeline),
        state_bytes=len(state),
    )


def _last_warning(customer: Customer, pipeline: Pipeline) -> LastWarning | None:
    fired = customer.judgement.fired
    if fired is None:
        return None
    major = pipeline.writer.major
    return LastWarning(
        as_of=rfc3339(fired.as_of_ms),
        trigger=fired.trigger.value,
        clv=major(fired.clv_minor),
        reference_clv=major(fired.reference.clv_minor),
        drop=round(fired.drop, 4),
    )


def text(shown: CustomerView) -> str:
    """The view for a person, under 80 columns."""
    money = f"{shown.currency} of the next {shown.horizon_days} days"
    reference = "none" if shown.reference_clv is None else f"{shown.reference_clv:,.2f}"
    lines = [
        f"{shown.user_id}  as of {shown.as_of}  ({shown.partition})",
        "",
        f"  CLV                 {shown.clv:>12,.2f}  {money}, segment {shown.segment}",
        f"  churn probability   {shown.churn_probability:>12.1%}",
        f"  reference CLV       {reference:>12}  highest at an event of late",
        f"  orders              {shown.orders:>12,}  net revenue {shown.net_revenue:,.2f}",
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
            f" {warned.clv:,.2f}, {warned.drop:.0%} under {warned.reference_clv:,.2f}"
        )
    if shown.withheld_since:
        lines.append(
            f"  withheld            {shown.withheld_since[:10]:>12}  by the budget, since then"
        )
    lines.append(f"  model {shown.model_version}, state of {shown.state_bytes:,} bytes")
    return "\n".join(lines)


def _silence(days: int | None) -> str:
    return "" if days is None else f"{days} days before"
