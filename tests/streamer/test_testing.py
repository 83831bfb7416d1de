"""The pytest plugin: made-up customers and logs, replayed in a test's own process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import OrderType
from model.artifact.artifact import Artifact
from model.data.synthetic import Shop, generate, write_csv
from streamer import testing
from streamer.commands.cli import cli
from streamer.replay.customer_builder import Customer
from streamer.replay.order_log import NoSuchCustomer, OrderLog, ReplayedLog
from streamer.testing import customer, order_log

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "testing-your-shop.md"
DAY_MS = 86_400_000
UNTIL = "2026-03-01"
UNTIL_MS = 1_772_323_200_000


def weekly(user_id: str = "alice") -> Customer:
    return customer(user_id).orders(every="7d", until=UNTIL)


def days(made_up: Customer) -> list[float]:
    """When its events are, in days from UNTIL."""
    return [(order.ts_ms - UNTIL_MS) / DAY_MS for order in made_up.as_orders("USD")]


# --- customers ------------------------------------------------------------------------------------


def test_orders_end_where_they_are_told_to() -> None:
    orders = weekly().as_orders("USD")
    assert len(orders) == 27
    assert orders[-1].ts_ms == UNTIL_MS
    assert {b.ts_ms - a.ts_ms for a, b in pairwise(orders)} == {7 * DAY_MS}
    assert {order.amount_minor for order in orders} == {5_000}
    assert len({order.order_id for order in orders}) == 27


@pytest.mark.parametrize(
    ("made_up", "expected"),
    [
        (customer("a").orders(every="2d", until=UNTIL, count=3), [-4, -2, 0]),
        (customer("a").orders(every="2d", start=UNTIL, count=3), [0, 2, 4]),
        (customer("a").orders(every="2d", start=UNTIL, until="2026-03-06"), [0, 2, 4]),
        (customer("a").orders(every="36h", start=UNTIL, count=3), [0, 1.5, 3]),
        (customer("a").orders(every=timedelta(days=1), start=UNTIL, count=2), [0, 1]),
        (customer("a").order(UNTIL).order("2026-03-02T12:00:00Z"), [0, 1.5]),
        (customer("a").order(UNTIL).orders(every="2d", count=2), [0, 2, 4]),
        (
            customer("a").order(UNTIL).then_silent("9d").orders_again(every="2d", count=2),
            [0, 9, 11],
        ),
        (customer("a").order(UNTIL).refund(after="3d"), [0, 3]),
        (customer("a").order(UNTIL).cancel(), [0, 1]),
    ],
)
def test_a_story_happens_when_it_is_told_to(made_up: Customer, expected: list[float]) -> None:
    assert days(made_up) == expected


def test_what_is_taken_back_names_its_order() -> None:
    made_up = customer("a").order(UNTIL, amount="80.5").order("2026-03-05", amount=30)
    order, refund = made_up.refund(amount="12.34").as_orders("USD")[1:]
    assert (refund.order_id, refund.type) == (order.order_id, OrderType.REFUND)
    assert refund.amount_minor == 1_234
    cancellation = made_up.cancel().as_orders("USD")[-1]
    assert (cancellation.order_id, cancellation.type) == (order.order_id, OrderType.CANCELLATION)
    assert made_up.refund().as_orders("USD")[-1].amount_minor == 3_000


def test_amounts_are_in_the_currencys_own_unit() -> None:
    for amount in ("12.5", 12.5, Decimal("12.5")):
        assert customer("a").order(UNTIL, amount=amount).as_orders("USD")[0].amount_minor == 1_250
    assert customer("a").order(UNTIL, amount=500).as_orders("JPY")[0].amount_minor == 500


def test_a_story_told_on_leaves_the_old_one_as_it_was() -> None:
    beginning = weekly()
    beginning.then_silent("60d").orders_again(every="7d", count=2)
    assert len(beginning.as_orders("USD")) == 27


@pytest.mark.parametrize(
    ("tell", "told"),
    [
        (lambda c: c.orders(every="7d"), "orders need a start or an until"),
        (lambda c: c.orders(every="7d", start=UNTIL), "need an until or a count"),
        (lambda c: c.orders(every="7d", start=UNTIL, until="2026-02-01"), "no order lies between"),
        (lambda c: c.orders(every="7", until=UNTIL), "write a number and a unit"),
        (lambda c: c.orders(every="0d", until=UNTIL), "a span of 0d is none"),
        (lambda c: c.order("tomorrow"), "'tomorrow' is not a time; write 2026-03-01"),
        (lambda c: c.order("2026-03-01T12:00:00"), "has no offset"),
        (lambda c: c.order(UNTIL, amount=-5), "is negative; what goes back is a refund"),
        (lambda c: c.order(UNTIL, amount="5,00"), "is not a decimal number"),
        (lambda c: c.refund(), "there is no order yet to take back"),
        (lambda c: c.then_silent(), "give them an order before they fall silent"),
        (lambda c: c.order(UNTIL).orders_again(every="7d", count=1), r'then_silent\("60d"\)'),
        (lambda c: c.order(UNTIL).then_silent().order("2026-04-01"), "is silent to the end"),
    ],
)
def test_a_story_that_cannot_be_meant_is_refused_with_the_remedy(
    tell: Callable[[Customer], object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        tell(customer("a"))


# --- replaying ------------------------------------------------------------------------------------


def test_a_regular_who_stops_is_warned_of_once(clv_model: Artifact) -> None:
    replayed = order_log(weekly().then_silent()).replay(clv_model)
    (warning,) = replayed.warnings
    assert (warning.user_id, warning.trigger, warning.kind) == ("alice", "silence", "warning")
    assert replayed.warnings_of("alice") == [warning]
    assert replayed.dead_letters == []


def test_without_silence_the_log_ends_with_its_last_order(clv_model: Artifact) -> None:
    replayed = order_log(weekly()).replay(clv_model)
    assert replayed.warnings == []
    assert replayed.until_ms == UNTIL_MS


def test_silence_lasts_as_long_as_the_model_looks_ahead(clv_model: Artifact) -> None:
    replayed = order_log(weekly().then_silent()).replay(clv_model)
    assert replayed.until_ms == UNTIL_MS + (clv_model.manifest.horizon_days + 1) * DAY_MS
    # Scored for the last time in the last week of the horizon.
    assert "2026-05-23" < replayed.scores[-1].as_of < "2026-05-31"


def test_a_score_is_known_at_any_instant_of_the_log(clv_model: Artifact) -> None:
    replayed = order_log(weekly().then_silent("60d")).replay(clv_model)
    at_the_last, later = (replayed.score("alice", as_of=day) for day in (UNTIL, "2026-04-01"))
    assert at_the_last.orders == later.orders == 27
    assert (at_the_last.days_since_last_order, later.days_since_last_order) == (0, 31)
    assert at_the_last.clv > later.clv > replayed.score("alice").clv
    first = replayed.score("alice", as_of="2025-08-31")
    assert (first.orders, first.net_revenue) == (1, 50.0)
    assert first.as_of == "2025-08-31T00:00:00Z"


def test_a_score_as_of_a_warning_is_the_warnings(clv_model: Artifact) -> None:
    log = order_log(
        weekly().then_silent(),
        customer("bob").orders(every="30d", until=UNTIL).order("2026-03-05", amount=900).refund(),
    )
    replayed = log.replay(clv_model)
    assert {warning.trigger for warning in replayed.warnings} == {"silence"}
    assert {drop.trigger for drop in replayed.value_drops} == {"refund"}
    for warning in replayed.warnings + replayed.value_drops:
        score = replayed.score(warning.user_id, as_of=warning.as_of)
        assert (score.clv, score.churn_probability) == (warning.clv, warning.churn_probability)


def test_a_score_is_what_was_published_then(clv_model: Artifact) -> None:
    replayed = order_log(weekly().then_silent(), weekly("bob")).replay(clv_model)
    published = replayed.scores_of("alice")
    assert len(published) > 27
    for said in published[::5]:
        score = replayed.score("alice", as_of=said.as_of)
        assert (score.clv, score.segment) == (said.clv, said.segment)
        assert score.churn_probability == said.churn_probability


@pytest.mark.parametrize("early", ["0.3", "0.7"])
def test_warnings_are_those_of_the_worker_that_publishes_scores(
    early: str, clv_model: Artifact, clv_model_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "orders.csv"
    write_csv(generate(Shop(customers=150, days=400, arrival_days=200, seed=8)).orders, path)
    settings = {"CLV_EARLY": early}
    replayed = order_log(path).replay(clv_model, until="2024-03-01", settings=settings)
    arguments = ["replay", path, "--model", clv_model_path, "--out", tmp_path]
    command = [*map(str, arguments), "--until", "2024-03-01"]
    assert CliRunner().invoke(cli, command, env=settings).exit_code == 0
    encode = msgspec.json.Encoder().encode
    warnings = (tmp_path / "warnings.jsonl").read_bytes().splitlines()
    assert len(warnings) > 50
    for kind, values in (
        ("warning", replayed.warnings),
        ("recovered", replayed.recoveries),
        ("value_drop", replayed.value_drops),
    ):
        written = [line for line in warnings if f'"kind":"{kind}"'.encode() in line]
        assert [encode(value) for value in values] == written
    scores = (tmp_path / "scores.jsonl").read_bytes().splitlines()
    assert [encode(score) for score in replayed.scores] == scores


def test_scores_can_be_switched_off_as_in_the_worker(clv_model: Artifact) -> None:
    replayed = order_log(weekly().then_silent()).replay(clv_model, settings={"CLV_SCORES": "off"})
    assert replayed.scores == []
    assert len(replayed.warnings) == 1


def test_settings_are_the_workers(clv_model: Artifact) -> None:
    log = order_log(weekly().then_silent())
    (held,) = log.replay(clv_model, settings={"CLV_HOLDOUT_SHARE": "1"}).warnings
    assert held.holdout
    assert log.replay(clv_model, settings={"CLV_FLOOR": "1e9"}).warnings == []


@pytest.mark.parametrize(
    ("percentiles", "segment"), [("0,0,0", "top"), ("100,100,0", "middle"), ("100,0,0", "high")]
)
def test_segments_begin_where_they_are_told_to(
    percentiles: str, segment: str, clv_model: Artifact
) -> None:
    settings = {"CLV_SEGMENT_PERCENTILES": percentiles}
    once = customer("ann").order(UNTIL, amount=5).then_silent("3d")
    replayed = order_log(once).replay(clv_model, settings=settings)
    assert replayed.score("ann").segment == segment
    assert {score.segment for score in replayed.scores} == {segment}


def test_until_cuts_the_log_and_lets_time_pass_up_to_it(clv_model: Artifact) -> None:
    log = order_log(weekly())
    replayed = log.replay(clv_model, until="2026-01-11")
    assert replayed.score("alice").orders == 19
    assert len(log.replay(clv_model, until="2026-06-01").warnings) == 1


def test_who_is_not_there_is_said_so(clv_model: Artifact) -> None:
    replayed = order_log(weekly()).replay(clv_model)
    with pytest.raises(NoSuchCustomer, match="no order of 'alise'; did you mean 'alice'"):
        replayed.warnings_of("alise")
    with pytest.raises(NoSuchCustomer, match="'alice' is not known before 2025-08-31"):
        replayed.score("alice", as_of="2025-01-01")
    with pytest.raises(ValueError, match="lies after 2026-03-01T00:00:00Z, the end of the log"):
        replayed.score("alice", as_of="2026-03-02")


def test_one_story_a_customer() -> None:
    with pytest.raises(ValueError, match="'alice' is there 2 times"):
        order_log(weekly(), weekly())


def test_files_and_customers_are_merged_by_time(clv_model: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    write_csv(generate(Shop(customers=30, days=300, arrival_days=200, seed=5)).orders, path)
    alice = customer("alice").orders(every="7d", until="2023-08-01")
    both = order_log(path, alice).replay(clv_model)
    alone = order_log(str(path)).replay(clv_model)
    assert "alice" in both.user_ids
    assert set(alone.user_ids) == set(both.user_ids) - {"alice"}
    assert [w for w in both.warnings if w.user_id != "alice"] == alone.warnings


def test_rows_that_are_no_orders_are_dead_letters(clv_model: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("order_id,user_id,ts,amount\n1,ann,2026-03-01T00:00:00Z,5\n2,ann,soon,5\n")
    replayed = order_log(path).replay(clv_model)
    (letter,) = replayed.dead_letters
    assert (letter.reason, letter.source) == ("bad_ts", f"{path}:3")
    assert replayed.score("ann").orders == 1


def test_an_order_beyond_the_id_memory_is_a_dead_letter(clv_model: Artifact) -> None:
    old = customer("ann").order("2026-03-01").order("2025-01-01")
    # Customers tell their orders in time; a late one comes in a file.
    assert days(old) == sorted(days(old))
    replayed = order_log(old).replay(clv_model, settings={"CLV_ID_MEMORY_DAYS": "30"})
    assert replayed.dead_letters == []


def test_a_model_may_be_a_directory(clv_model: Artifact, clv_model_path: Path) -> None:
    log = order_log(weekly().then_silent())
    assert log.replay(clv_model_path).warnings == log.replay(clv_model).warnings
    assert log.replay(str(clv_model_path)).warnings == log.replay(clv_model).warnings


def test_a_log_without_orders_gives_nothing(clv_model: Artifact) -> None:
    replayed = order_log().replay(clv_model)
    assert (replayed.warnings, replayed.scores, replayed.user_ids) == ([], [], [])


async def test_it_works_within_an_event_loop(clv_model: Artifact) -> None:
    assert len(order_log(weekly().then_silent()).replay(clv_model).warnings) == 1


@given(every=st.integers(1, 60), count=st.integers(1, 20), silent=st.integers(1, 120))
def test_nobody_is_warned_of_before_their_silence(
    every: int, count: int, silent: int, clv_model: Artifact
) -> None:
    made_up = customer("ann").orders(every=f"{every}d", start="2025-01-01", count=count)
    replayed: ReplayedLog = order_log(made_up.then_silent(f"{silent}d")).replay(clv_model)
    for warning in replayed.warnings:
        assert warning.days_since_last_order is not None
        assert warning.days_since_last_order >= clv_model.manifest.horizon_days // 3


# --- the plugin -----------------------------------------------------------------------------------


def test_the_fixtures_are_the_functions(
    order_log: Callable[..., OrderLog], customer: Callable[[str], Customer]
) -> None:
    assert order_log is testing.order_log
    assert customer is testing.customer


def test_an_installed_package_brings_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # One name for both ways: pytest then knows that it has it already.
    assert project["entry-points"]["pytest11"] == {"streamer.testing": "streamer.testing"}


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, streamer.testing;"
        "print(*sorted({'numpy', 'faust', 'sklearn', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_the_guides_own_tests_pass(tmp_path: Path) -> None:
    blocks = dict(re.findall(r"```python (\S+)\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL))
    assert set(blocks) == {"conftest.py", "test_shop.py"}
    for name, code in blocks.items():
        (tmp_path / name).write_text(code)
    rows = [f"o{n},c-17,2026-0{1 + n // 4}-{1 + n % 4 * 7:02d}T10:00:00Z,80" for n in range(9)]
    (tmp_path / "orders.csv").write_text("\n".join(["order_id,user_id,ts,amount", *rows]) + "\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


@pytest.mark.parametrize("name", ["order_log", "customer", "clv_model", "clv_model_path"])
def test_the_guide_names_every_fixture(name: str) -> None:
    assert f"`{name}" in GUIDE.read_text()
