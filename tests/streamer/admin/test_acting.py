"""What acting brought, from warnings and orders: who is compared, and what they ordered then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as some

from features.events.orders import Order, OrderType
from features.facts.state import HISTORY_DAYS
from features.times import UTC, day_of
from model.decide import codec
from model.decide.codec import CustomerRecord
from model.decide.rule_state import NEW
from streamer.admin.acting import (
    First,
    acting,
    first_warnings,
    revenue_of_log,
    revenue_of_store,
    text,
)
from streamer.admin.outcomes import endings
from streamer.commands.cli import cli
from streamer.pipeline.messages import ChurnWarning
from streamer.pipeline.partitioner import partition_for
from streamer.records import Partition
from streamer.store.base import Write
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    HORIZON_DAYS,
    an_order,
    at,
    by_time,
    done,
    every,
    facts_of,
    warned,
)

SHOP = by_time(*(every(f"user-{n}", 7, 3) for n in range(120)))
BACK = [an_order(f"user-{n}", 50.5, 2_500) for n in range(0, 120, 2)]
AFTER = [an_order("user-1", 75.5, 9_900)]  # later than 40 days after the warning


def firsts_of(records: list[ChurnWarning], now: float) -> tuple[list[First], int]:
    return first_warnings(endings(records, at(now)), UTC)


def test_everybody_counts_once_with_the_first_warning() -> None:
    orders = by_time(SHOP, BACK)
    firsts, later = firsts_of(warned(orders, until_day=250), 250)
    users = [first.warning.user_id for first in firsts]
    assert len(users) == len(set(users)) == 120
    assert later == 60  # who came back, and fell silent again
    assert {first.days for first in firsts} == {(day_of(at(34)), day_of(at(34)) + HORIZON_DAYS)}
    assert all(
        first.returned == (first.warning.user_id in {o.user_id for o in BACK}) for first in firsts
    )


def test_a_horizon_that_runs_counts_nobody_sooner_who_came_back() -> None:
    records = warned(by_time(SHOP, BACK), until_day=60)
    firsts, _ = firsts_of(records, 60)
    assert not [first for first in firsts if first.over]
    found = acting(firsts, 0, {}, day_of(at(60)))
    assert found
    assert (found.compared, found.running) == (None, 120)
    assert "of 120 it is running" in text(found)
    firsts, _ = firsts_of(records, 74)
    assert all(first.over for first in firsts)


def test_a_policy_that_held_nobody_out_is_left_alone() -> None:
    records = warned(SHOP)
    untried = [
        msgspec.structs.replace(r, policy_version="before", holdout=False, warning_id=f"x{n}")
        for n, r in enumerate(records)
    ]
    earlier = [msgspec.structs.replace(r, as_of="2025-01-20T00:00:00Z") for r in untried]
    assert firsts_of([*earlier, *records], 200) == firsts_of(records, 200)
    assert firsts_of(untried, 200) == ([], 0)
    assert acting([], 0, {}, 0) is None
    assert "CLV_HOLDOUT_SHARE" in text(None)


def test_revenue_is_that_of_the_horizon_after_the_warning() -> None:
    firsts, _ = firsts_of(warned(by_time(SHOP, BACK)), 200)
    back_again = [an_order("user-2", 60.5, 700)]
    refund = [an_order("user-4", 60.5, 500, OrderType.REFUND, id="user-4-50.5")]
    twice = [BACK[3]]
    orders = by_time(SHOP, BACK, twice, back_again, refund, AFTER)
    found = revenue_of_log(orders, firsts, UTC)
    assert found["user-1"] == 0
    assert found["user-2"] == 3_200
    assert found["user-4"] == 2_000
    assert found["user-6"] == 2_500  # sent twice, counted once
    assert set(found) == {f"user-{n}" for n in range(120)}


def test_a_log_that_ends_or_begins_within_the_horizon_knows_no_revenue() -> None:
    firsts, _ = firsts_of(warned(SHOP), 200)
    assert set(revenue_of_log(SHOP, firsts, UTC).values()) == {None}
    # Day 73, the last of the horizon, is in the log.
    whole = by_time(SHOP, [an_order("somebody", 73.5)])
    assert set(revenue_of_log(whole, firsts, UTC).values()) == {0}
    late = [an_order("user-1", 35.5), an_order("user-1", 90.5)]
    assert revenue_of_log(late, firsts, UTC)["user-1"] is None
    assert revenue_of_log([], firsts, UTC)["user-1"] is None
    # A customer of whom the log knows nothing did not order nothing.
    assert revenue_of_log(whole[1:], firsts, UTC)["user-0"] == 0
    assert (
        revenue_of_log([o for o in whole if o.user_id != "user-0"], firsts, UTC)["user-0"] is None
    )


def stored(orders: list[Order], partitions: int = 3, *, astray: bool = False) -> MemoryStore:
    """A store with the customers of the orders, where their key belongs or one further."""
    store = MemoryStore()
    users = sorted({order.user_id for order in orders})
    for number in range(partitions):
        partition = Partition("orders", number)
        claim = done(store.claim(partition, partitions))
        here = [
            user
            for user in users
            if (partition_for(user.encode(), partitions) + astray) % partitions == number
        ]
        states = {
            user: codec.encode(
                CustomerRecord(facts_of([o for o in orders if o.user_id == user]), NEW)
            )
            for user in here
        }
        done(store.write(partition, claim.epoch, claim.sequence, Write(states, {}, [], 1, 0)))
    return store


@pytest.mark.parametrize("astray", [False, True])
def test_states_and_a_log_say_the_same(astray: bool) -> None:
    orders = by_time(SHOP, BACK, AFTER, [an_order("user-5", 60.5, -0 + 100)])
    firsts, _ = firsts_of(warned(by_time(SHOP, BACK)), 200)
    store = stored(orders, astray=astray)
    found = done(revenue_of_store(store, "orders", 3, firsts, UTC))
    assert found == revenue_of_log(orders, firsts, UTC)


def test_days_that_are_summed_up_are_not_known() -> None:
    firsts, _ = firsts_of(warned(SHOP), 200)
    day = 36 + HISTORY_DAYS
    store = stored([*SHOP, an_order("user-1", day), an_order("user-2", day - 3)])
    found = done(revenue_of_store(store, "orders", 3, firsts, UTC))
    assert found["user-1"] is None
    assert found["user-2"] == found["user-0"] == 0
    nowhere = done(revenue_of_store(MemoryStore(), "orders", 3, firsts, UTC))
    assert set(nowhere.values()) == {None}


@given(some.permutations(by_time(SHOP[:30], BACK, AFTER, BACK[:5])))
def test_the_order_of_a_log_changes_nothing(orders: list[Order]) -> None:
    firsts = FIRSTS
    assert revenue_of_log(orders, firsts, UTC) == revenue_of_log(
        by_time(SHOP[:30], BACK, AFTER), firsts, UTC
    )


FIRSTS, _ = firsts_of(warned(by_time(SHOP, BACK)), 200)


def test_the_command_says_what_acting_brought(tmp_path: Path) -> None:
    treated = [f.warning.user_id for f in FIRSTS if not f.warning.holdout]
    back = [an_order(user, 50.5, 2_500) for user in treated[:45]]
    orders = by_time(SHOP, back, AFTER)
    warnings, log, page = (tmp_path / name for name in ("warnings.jsonl", "orders.csv", "o.html"))
    records = warned(by_time(SHOP, back), until_day=75)
    warnings.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    log.write_text(
        "order_id,user_id,ts,amount\n"
        + "".join(f"{o.order_id},{o.user_id},{o.ts_ms},{o.amount_minor / 100}\n" for o in orders)
    )
    arguments = ["outcomes", str(warnings), "--orders", str(log), "--as-of", "2025-03-20"]
    ran = CliRunner().invoke(cli, [*arguments, "--html", str(page)])
    assert ran.exit_code == 0, ran.output
    said = ran.stdout
    assert max(map(len, said.replace(str(page), "").splitlines())) <= 80
    assert "treated customers against" in said
    assert "net revenue: too few yet, 0 customers with revenue" in said
    assert "can be told from chance" in said
    assert "What acting brought" in page.read_text()
    found = msgspec.json.decode(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    compared = found["acting"]["compared"]
    assert compared["returned"]["held_out"] == 0
    assert compared["returned"]["difference"]["low"] > 0
    assert compared["revenue"]["treated"] == pytest.approx(45 * 25 / len(treated))


def test_without_orders_the_command_says_how_to_get_revenue(tmp_path: Path) -> None:
    warnings = tmp_path / "warnings.jsonl"
    warnings.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in warned(SHOP)))
    ran = CliRunner().invoke(cli, ["outcomes", str(warnings), "--as-of", "2025-06-01"])
    assert ran.exit_code == 0, ran.output
    assert "For revenue give --orders, or set REDIS_URL." in ran.output


def test_weeks_and_horizons_are_of_the_zone_that_is_named(tmp_path: Path) -> None:
    warnings = tmp_path / "warnings.jsonl"
    record = next(r for r in warned(SHOP) if r.holdout)
    # Midnight of a Monday in Berlin, when it is Sunday in UTC.
    berlin = msgspec.structs.replace(record, as_of="2025-02-02T23:00:00Z")
    warnings.write_bytes(msgspec.json.encode(berlin))
    for zone, week in (("UTC", "2025-01-27"), ("Europe/Berlin", "2025-02-03")):
        ran = CliRunner().invoke(cli, ["outcomes", str(warnings), "--timezone", zone, "--json"])
        assert ran.exit_code == 0, ran.output
        assert [one["week"] for one in msgspec.json.decode(ran.stdout)["weeks"]] == [week]
