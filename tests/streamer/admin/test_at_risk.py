"""The list from a running state is that of the log's own simulation."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec

from features.times import rfc3339
from model.backtest.run import trained
from model.backtest.simulate import Simulation
from model.data.synthetic import generate
from model.data.training_rows import TrainingConfig
from model.decide import codec as customer_bytes
from model.decide.policy import Policy
from model.judge.judge import Judge
from model.report.slipping import slipping, slipping_csv
from model.training.build import SHOP
from streamer.admin.at_risk import at_risk
from streamer.pipeline.messages import Message, pack
from streamer.records import Partition
from streamer.store.base import Stored
from tests.support.fakes import pipeline

DAY_MS = 86_400_000


@dataclass
class Kept:
    """What a store has of one partition."""

    states: dict[str, bytes]
    entries: list[bytes]
    high_ts_ms: int

    async def peek(self, partition: Partition) -> Any:
        return SimpleNamespace(high_ts_ms=self.high_ts_ms) if partition.number == 0 else None

    async def open_warnings(self, partition: Partition) -> list[bytes]:
        return self.entries if partition.number == 0 else []

    async def load(self, partition: Partition, users: Sequence[str]) -> list[Stored]:
        return [Stored(self.states.get(user), None) for user in users]


def entry(user: str, as_of_ms: int) -> bytes:
    value = {"user_id": user, "as_of": rfc3339(as_of_ms), "horizon_days": 90}
    return pack(Message("churn-warnings", user.encode(), msgspec.json.encode(value)))


async def test_the_list_of_a_running_state_is_that_of_its_log() -> None:
    orders = generate(SHOP).orders
    first, last = orders[0].ts_ms // DAY_MS, orders[-1].ts_ms // DAY_MS
    scorer = trained(orders, last, TrainingConfig(90))
    judge = Judge(scorer, scorer.rules(Policy()))
    simulation = Simulation(orders, judge)
    for day in range(first, last + 1):
        simulation.day(day)
    customers = dict(simulation.records())
    warned = [
        entry(user, record.rule_state.raised.as_of_ms)
        for user, record in customers.items()
        if record.rule_state.raised is not None and not record.rule_state.armed
    ]
    states = {user: customer_bytes.encode(record) for user, record in customers.items()}
    newest = orders[-1].ts_ms
    # One whose state was erased since is on no list.
    store: Any = Kept(states, [*warned, entry("erased", newest)], newest)
    found = await at_risk(store, pipeline(judge), "orders", 2, None)
    expected = slipping(customers.items(), scorer, judge.rules, newest)
    assert found.customers == expected.customers
    assert found.customers
    rows = list(csv.DictReader(io.StringIO(slipping_csv(found.customers))))
    assert [row["customer"] for row in rows] == [one.customer for one in expected.customers]
