"""Messages and their ids: what they depend on, and above all what they do not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.facts.ledger import id_hash
from model.decide.policy import Policy
from model.decide.rule_state import Peak, RaisedWarning, Trigger
from streamer.pipeline.messages import (
    REDRIVEN,
    in_holdout,
    pack,
    times_redriven,
    unpack,
    warning_id,
)
from streamer.records import MemoryPublisher, Message
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    TOPICS,
    an_order,
    at,
    claimed,
    done,
    every,
    judge,
    pipeline,
    records,
    scorer,
)

FIRED = RaisedWarning(
    trigger=Trigger.SILENCE,
    as_of_ms=at(20),
    clv_minor=6_000,
    reference=Peak(20_089, 10_000),
    episode_ms=at(0),
    episode_id=id_hash("order 0"),
)
_JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


# --- ids -----------------------------------------------------------------------------------------


def test_the_id_of_a_warning_is_stable() -> None:
    # Whoever acts on warnings keeps these ids: a change here makes every old warning a new one.
    assert warning_id("ada", FIRED, "7016eaba") == "545099cdf8526aec409a97f486f3249b"


@given(
    as_of_ms=st.integers(0, 2**42),
    clv_minor=st.integers(0, 10**9),
    trigger=st.sampled_from(list(Trigger)),
    day=st.integers(0, 30_000),
)
def test_an_id_does_not_depend_on_when_or_how_low(
    as_of_ms: int, clv_minor: int, trigger: Trigger, day: int
) -> None:
    other = msgspec.structs.replace(
        FIRED,
        as_of_ms=as_of_ms,
        clv_minor=clv_minor,
        trigger=trigger,
        reference=Peak(day, clv_minor + 1),
    )
    assert warning_id("ada", other, "p") == warning_id("ada", FIRED, "p")


def test_an_id_depends_on_customer_episode_and_policy() -> None:
    replaced = msgspec.structs.replace
    ids = {
        warning_id("ada", FIRED, "p"),
        warning_id("ben", FIRED, "p"),
        warning_id("ada", FIRED, "q"),
        warning_id("ada", replaced(FIRED, episode_ms=at(1)), "p"),
        warning_id("ada", replaced(FIRED, episode_id=id_hash("other")), "p"),
    }
    assert len(ids) == 5


@given(users=st.lists(_JSON_TEXT, min_size=2, max_size=2, unique=True))
def test_no_two_customers_share_an_id(users: list[str]) -> None:
    assert warning_id(users[0], FIRED, "p") != warning_id(users[1], FIRED, "p")


# --- what goes out -------------------------------------------------------------------------------


def said(
    topic: str, policy: Policy | None = None, currency: str = "USD"
) -> list[dict[str, object]]:
    """What is said of a weekly customer, of whom the last order was on day 14, by day 60."""
    by = replace(scorer(), currency=currency)
    publisher = MemoryPublisher()
    log = records(every("ada", 7, 3, amount_minor=1_200))
    runner = claimed(log, MemoryStore(), publisher, pipeline(judge(policy, by)))
    done(runner.process(log))
    done(runner.tick(at(60)))
    return [msgspec.json.decode(message.value or b"") for message in publisher.of(topic)]


def test_a_warning_has_everything_to_act_on() -> None:
    (warning,) = said(TOPICS.warnings, Policy())
    # 36.00 of orders and 60.00 for their size; 20.00 of it are gone after half of the horizon.
    assert warning == {
        **warning,
        "schema": "churn-warning/1",
        "kind": "warning",
        "user_id": "ada",
        "as_of": "2025-02-04T00:00:00Z",
        "trigger": "silence",
        "clv": 76.0,
        "reference_clv": 96.0,
        "reference": "peak",
        "drop": 0.2083,
        "value_at_risk": 20.0,
        "churn_probability": 0.5,
        "reasons": [{"factor": "silence", "share": 1.0}],
        "last_order_at": "2025-01-15T12:00:00Z",
        "days_since_last_order": 20,
        "horizon_days": 40,
        "currency": "USD",
        "model_version": "fake-1",
        "holdout": False,
    }


def test_a_score_has_the_reference_of_the_rule_before_it() -> None:
    scores = said(TOPICS.scores)
    assert scores[0] == {
        "schema": "clv-score/1",
        "user_id": "ada",
        "as_of": "2025-01-01T12:00:00Z",
        "clv": 72.0,
        "segment": "high",
        "churn_probability": 0.0,
        "reference_clv": None,
        "trigger": "order",
        "model_version": "fake-1",
    }
    assert [score["reference_clv"] for score in scores[1:5]] == [72.0, 72.0, 72.0, 84.0]


def test_money_goes_out_in_major_units_of_its_currency() -> None:
    cents, yen = said(TOPICS.scores), said(TOPICS.scores, currency="JPY")
    # The fake model speaks of hundredths, whatever the currency.
    assert (cents[0]["clv"], yen[0]["clv"]) == (72.0, 72.0)
    assert isinstance(yen[0]["clv"], float)


# --- holdout -------------------------------------------------------------------------------------


def test_the_holdout_is_its_share_of_the_customers() -> None:
    held = sum(in_holdout(f"user-{number}", 0.1) for number in range(20_000))
    assert 1_850 < held < 2_150


def test_a_customer_held_out_stays_so_when_the_share_grows() -> None:
    users = [f"user-{number}" for number in range(500)]
    shares = (0.0, 0.05, 0.2, 0.5, 1.0)
    held = [{user for user in users if in_holdout(user, share)} for share in shares]
    assert all(smaller <= larger for smaller, larger in pairwise(held))
    assert (held[0], held[-1]) == (set(), set(users))


def test_who_is_held_out_is_stable() -> None:
    assert [user for user in "abcdefghij" if in_holdout(user, 0.3)] == list("cfhj")


def test_the_holdout_is_stamped_and_nothing_else_changes() -> None:
    (inside,) = said(TOPICS.warnings, Policy(holdout_share=1.0))
    (outside,) = said(TOPICS.warnings, Policy())
    changed = {name for name in inside if inside[name] != outside[name]}
    assert changed == {"holdout", "policy_version", "warning_id"}
    assert inside["holdout"] is True


# --- forms ---------------------------------------------------------------------------------------


@given(
    message=st.builds(
        Message,
        topic=_JSON_TEXT,
        key=st.none() | st.binary(),
        value=st.none() | st.binary(),
        headers=st.lists(st.tuples(_JSON_TEXT, st.binary())).map(tuple),
    )
)
def test_an_outbox_entry_is_the_message(message: Message) -> None:
    assert unpack(pack(message)) == message


@pytest.mark.parametrize(
    ("value", "count"), [(b"1", 1), (b"12", 12), (b"", 0), (b"x", 0), (b"-1", 0), (b"9" * 50, 0)]
)
def test_only_a_count_of_ours_says_how_often_a_record_was_redriven(
    value: bytes, count: int
) -> None:
    assert times_redriven([("other", b"7"), (REDRIVEN, value)]) == count
    assert times_redriven([]) == 0


def test_what_one_customer_is_told_does_not_depend_on_an_order_of_another() -> None:
    log = records([*every("ada", 7, 3, amount_minor=1_200), an_order("ben", 300, 100)])
    publisher = MemoryPublisher()
    runner = claimed(log, MemoryStore(), publisher, pipeline(judge(Policy())))
    done(runner.process(log))
    (warning,) = publisher.of(TOPICS.warnings)
    assert msgspec.json.decode(warning.value or b"") == said(TOPICS.warnings, Policy())[0]
