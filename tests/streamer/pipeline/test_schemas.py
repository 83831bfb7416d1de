"""The published schemas against everything that is produced, and every order that is taken."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import (  # type: ignore[import-untyped]
    Draft202012Validator,
    ValidationError,
)

from features.events.orders import Order, OrderRules, OrderType, Reason, parse
from model.data.synthetic import Shop, generate
from model.decide.policy import Policy
from model.decide.rule_state import Trigger
from model.explain.reasons import Factor
from streamer.pipeline.erasures import Marker, Move, digest, marker, move
from streamer.pipeline.messages import (
    RECOVERED_KIND,
    REFERENCE,
    VALUE_DROP_KIND,
    WARNING_KIND,
    ChurnWarning,
    ClvScore,
    dead_letter,
)
from streamer.records import MemoryPublisher, Message
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    ERASURE_KEYS,
    TOPICS,
    at,
    by_time,
    claimed,
    done,
    judge,
    pipeline,
    records,
    wire,
)
from tests.support.strategies import histories

NAMES = ("order-1", "churn-warning-1", "clv-score-1", "dead-letter-1", "erasure-2", "move-1")


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        files("streamer.pipeline").joinpath(f"schemas/{name}.json").read_text()
    )
    return found


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name), format_checker=Draft202012Validator.FORMAT_CHECKER)


def headers(message: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers}


@pytest.fixture(scope="module")
def produced() -> MemoryPublisher:
    """What a few hundred customers, and some bad records, make a partition say."""
    orders = generate(Shop(customers=300, days=400, arrival_days=250, seed=5)).orders
    first = orders[0]
    refunds = [
        Order(o.order_id, o.user_id, o.ts_ms + 1, o.amount_minor, OrderType.REFUND)
        for o in orders[::17]
    ]
    values: list[Order | bytes | None] = list(by_time(orders, refunds))
    values += [b"", b"[]", b"\xff", wire(first).replace(b'"amount": ', b'"amount": -1')]
    values.append(Order("ancient", orders[-1].user_id, at(-2_000), 1))
    publisher = MemoryPublisher()
    log = records(values)
    through = pipeline(judge(Policy(floor_percentile=0, holdout_share=0.2)))
    runner = claimed(log, MemoryStore(), publisher, through)
    done(runner.process(log))
    done(runner.tick(at(3_000)))
    return publisher


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_says_what_each_field_means(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["description"]
    undescribed = [
        field
        for field, about in schema(name)["properties"].items()
        if "description" not in about and "const" not in about
    ]
    assert undescribed == []


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_schema_fit_it(name: str) -> None:
    for example in schema(name).get("examples", []):
        validator(name).validate(example)


def test_every_warning_fits_its_schema(produced: MemoryPublisher) -> None:
    values = [json.loads(message.value or b"") for message in produced.of(TOPICS.warnings)]
    assert {value["trigger"] for value in values} == {trigger.value for trigger in Trigger}
    assert {value["holdout"] for value in values} == {True, False}
    for value in values:
        validator("churn-warning-1").validate(value)


def test_every_score_fits_its_schema(produced: MemoryPublisher) -> None:
    values = [json.loads(message.value or b"") for message in produced.of(TOPICS.scores)]
    assert {value["trigger"] for value in values} == {trigger.value for trigger in Trigger}
    assert {value["reference_clv"] is None for value in values} == {True, False}
    for value in values:
        validator("clv-score-1").validate(value)


def test_every_dead_letter_fits_its_schema(produced: MemoryPublisher) -> None:
    found = [headers(message) for message in produced.of(TOPICS.dead_letters)]
    assert {value["reason"] for value in found} == {
        *("empty", "not_an_object", "not_json", "bad_amount", "beyond_id_memory")
    }
    for value in found:
        validator("dead-letter-1").validate(value)


def test_a_dead_letter_that_was_redriven_fits_its_schema() -> None:
    rejected = parse(b"", None, None, OrderRules())
    assert not isinstance(rejected, Order)
    long = b"x" * 2_000_000
    letter = dead_letter(
        rejected, key=long, value=long, source=("orders", 0, 7), topic="dead", redriven=2
    )
    about = schema("dead-letter-1")
    assert set(headers(letter)) == set(about["properties"])
    validator("dead-letter-1").validate(headers(letter))


def test_what_goes_to_the_erasures_topic_fits_its_schemas() -> None:
    written = {
        "erasure-2": marker(digest("ann"), 1_772_625_600_000, "clv-erasures", ERASURE_KEYS),
        "move-1": move("orders", {0: 5_012, 1: 0}, "clv-erasures"),
    }
    for name, message in written.items():
        validator(name).validate(json.loads(message.value or b""))
    assert re.fullmatch(rb"[0-9a-f]{32}", written["erasure-2"].key or b"")
    assert written["move-1"].key == b"move:orders"


def test_key_and_user_are_one(produced: MemoryPublisher) -> None:
    for message in produced.of(TOPICS.warnings) + produced.of(TOPICS.scores):
        assert json.loads(message.value or b"")["user_id"].encode() == message.key


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("churn-warning-1", ChurnWarning),
        ("clv-score-1", ClvScore),
        ("erasure-2", Marker),
        ("move-1", Move),
    ],
)
def test_a_schema_has_the_fields_that_are_written(name: str, written: type[msgspec.Struct]) -> None:
    about = schema(name)
    assert set(about["properties"]) == set(written.__struct_fields__)
    assert set(about["required"]) == set(written.__struct_fields__)


def test_a_schema_has_every_code_that_can_be_written() -> None:
    warning, letter = schema("churn-warning-1"), schema("dead-letter-1")["properties"]
    fields = warning["properties"]
    assert set(letter["reason"]["enum"]) == {reason.value for reason in Reason}
    factors = fields["reasons"]["items"]["properties"]["factor"]["enum"]
    assert set(factors) == {factor.value for factor in Factor}
    assert REFERENCE in fields["reference"]["enum"]
    assert set(fields["kind"]["enum"]) == {WARNING_KIND, RECOVERED_KIND, VALUE_DROP_KIND}
    for about in (warning, schema("clv-score-1")):
        assert set(about["properties"]["trigger"]["enum"]) == {trigger.value for trigger in Trigger}


# --- orders --------------------------------------------------------------------------------------


@given(events=histories())
def test_every_order_that_a_shop_sends_fits_the_schema(events: list[Order]) -> None:
    for event in events:
        if isinstance(parse(wire(event), None, None, OrderRules()), Order):
            validator("order-1").validate(json.loads(wire(event)))


_IDS = st.sampled_from(["ada", "x" * 128, "🛒" * 128, "\x00"]) | st.text(max_size=130)
_STAMPS = st.sampled_from(
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00.123456Z",
        "2026-03-01t12:00:00z",
        "2026-03-01 12:00:00+01:00",
        "2026-03-01T12:00:00+0100",
        "2026-03-01T12:00:00-23:59",
        "2026-03-01T12:00:00",
        "2026-03-01",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2026-02-30T00:00:00Z",
        "12:00",
        "",
    ]
)
_INSTANTS = st.integers(10**11, 253_402_300_799_999) | st.sampled_from(
    [-1, 0, 10**11, 10**11 - 1, 253_402_300_799_999, 253_402_300_800_000]
)
_AMOUNT_TEXTS = st.floats(-10, 2e9).map(repr) | st.sampled_from(
    ["0", "-0", "-0.0", "-0.001", "-1e-9", "-1E-400", "0.005", "12.50", "1e9", "1E9", "1e-400"]
)


@given(
    data=st.fixed_dictionaries(
        {"order_id": _IDS, "user_id": _IDS, "ts": _STAMPS | _INSTANTS},
        optional={
            "type": st.sampled_from(["order", "refund", "cancellation", "Order"]),
            "currency": st.sampled_from(["USD", None, "USD", "EUR"]),
            "note": st.none() | st.integers(),
        },
    ),
    amount=_AMOUNT_TEXTS,
)
def test_whatever_is_taken_for_an_order_fits_the_schema(data: dict[str, Any], amount: str) -> None:
    value = f'{json.dumps(data)[:-1]}, "amount": {amount}}}'.encode()
    if isinstance(parse(value, None, None, OrderRules()), Order):
        validator("order-1").validate(json.loads(value))


@pytest.mark.parametrize(
    "change",
    [
        {"order_id": ""},
        {"user_id": "x" * 129},
        {"user_id": 5},
        {"ts": "2026-03-01T12:00:00"},
        {"ts": 1_772_366_400},
        {"ts": None},
        {"amount": -1},
        {"amount": -0.001},
        {"amount": "12.50"},
        {"type": "return"},
        {"currency": "dollars"},
        {"refund_id": ""},
        {"updated_at": []},
    ],
)
def test_what_breaks_the_schema_is_no_order(change: dict[str, Any]) -> None:
    good = {"order_id": "1", "user_id": "ada", "ts": "2026-03-01T12:00:00Z", "amount": 12.5}
    validator("order-1").validate(good)
    bad = good | change
    with pytest.raises(ValidationError):
        validator("order-1").validate(bad)
    assert not isinstance(parse(json.dumps(bad).encode(), None, None, OrderRules()), Order)


@pytest.mark.parametrize("field", ["order_id", "user_id", "ts", "amount"])
def test_an_order_without_a_required_field_is_none(field: str) -> None:
    bad = {"order_id": "1", "user_id": "ada", "ts": "2026-03-01T12:00:00Z", "amount": 12.5}
    del bad[field]
    with pytest.raises(ValidationError):
        validator("order-1").validate(bad)
    assert not isinstance(parse(json.dumps(bad).encode(), None, None, OrderRules()), Order)
