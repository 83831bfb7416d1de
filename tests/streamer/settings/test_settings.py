from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.events.orders import OrderRules
from features.facts.ledger import IdMemory
from model.artifact.signature import ANYBODY
from model.decide.policy import Policy
from streamer.commands.reference import settings_table
from streamer.settings import Settings, SettingsRefused, unknown_variables, variables
from streamer.settings.fields import duration_ms

NEEDED = {
    "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
    "REDIS_URL": "redis://user:hunter2@store:6379/0",
    "CLV_MODEL": "artifact",
}


def test_defaults_make_a_worker_of_the_three_needed_variables() -> None:
    settings = Settings.load(NEEDED)
    assert settings.group == "clv-streamer"
    assert settings.max_future_ms == 3_600_000
    assert settings.idle_after_ms == 60_000
    assert settings.early == 0.5


def test_the_default_policy_is_the_models_own() -> None:
    assert Settings().policy == Policy()
    assert Settings().policy.version == Policy().version


def test_the_default_rules_are_those_of_the_features() -> None:
    assert Settings().order_rules == OrderRules()
    assert Settings().id_memory == IdMemory()


def test_a_policy_takes_every_knob() -> None:
    knobs = {
        "CLV_FLOOR_PERCENTILE": "50",
        "CLV_EARLY": "0.7",
        "CLV_PRECISION": "0.6",
        "CLV_BUDGET_PER_DAY": "20",
        "CLV_MONEY": "2",
        "CLV_HOLDOUT_SHARE": "0.1",
    }
    assert Settings.load(knobs, needs=()).policy == Policy(
        floor_percentile=50.0,
        early=0.7,
        precision=0.6,
        budget_per_day=20,
        money=2.0,
        holdout_share=0.1,
    )


def test_segments_and_severities_begin_where_one_says() -> None:
    settings = Settings.load(
        {"CLV_SEGMENT_PERCENTILES": "95, 80,50", "CLV_SEVERITY_PERCENTILES": "99,90.5"}, needs=()
    )
    assert settings.policy == Policy(
        segment_percentiles=(95.0, 80.0, 50.0), severity_percentiles=(99.0, 90.5)
    )
    assert settings.policy.version != Policy().version


@pytest.mark.parametrize(
    "text", ["90", "90,70", "40,70,90", "101,5,4", "5,4,-1", "nan,5,4", "a,b,c"]
)
def test_percentiles_fall(text: str) -> None:
    with pytest.raises(SettingsRefused, match="write 3 percentiles that fall, like 90,70,40"):
        Settings.load({"CLV_SEGMENT_PERCENTILES": text}, needs=())


def test_the_table_shows_percentiles_as_one_writes_them() -> None:
    assert "| `CLV_SEGMENT_PERCENTILES` | `90,70,40` |" in settings_table()
    assert "| `CLV_SEVERITY_PERCENTILES` | `95,85` |" in settings_table()


def test_all_faults_are_named_at_once_with_variable_value_and_remedy() -> None:
    with pytest.raises(SettingsRefused) as refused:
        Settings.load(
            {
                "CLV_BATCH": "many",
                "CLV_MAX_FUTURE": "24",
                "CLV_EARLY": "3",
                "CLV_SCORES": "yes",
                "CLV_IDLE_AFTER": "soon",
                "CLV_SESSION_TIMEOUT": "60s",
                "CLV_SCORES_TOPIC": "orders",
            }
        )
    assert sorted(refused.value.faults) == [
        "CLV_BATCH='many': write a whole number",
        "CLV_EARLY='3': must be less than 1.0",
        "CLV_IDLE_AFTER='soon': write a number and a unit: 200ms, 90s, 15m, 24h or 7d; or off",
        "CLV_MAX_FUTURE='24': write a number and a unit: 200ms, 90s, 15m, 24h or 7d",
        "CLV_MODEL is not set: Directory of the model artifact, as `python -m model train` "
        "writes it, or of a registry, whose current version is used.",
        "CLV_ORDERS_TOPIC and CLV_SCORES_TOPIC are both 'orders': name different topics",
        "CLV_SCORES='yes': write on or off",
        "CLV_SESSION_TIMEOUT='60s': set at most 30s, as long as a request to the broker may take",
        "KAFKA_BOOTSTRAP_SERVERS is not set: Kafka brokers to start from: `host:port`, "
        "comma-separated.",
        "REDIS_URL is not set: Redis or Valkey: `redis://`, `rediss://` or `unix://`; a cluster: "
        "`redis+cluster://host:port,host:port` or `rediss+cluster://`.",
    ]


def test_a_fault_in_a_secret_does_not_repeat_it() -> None:
    with pytest.raises(SettingsRefused) as refused:
        Settings.load(
            {"REDIS_URL": "http://u:hunter2@x", "KAFKA_BOOTSTRAP_SERVERS": "u:hunter2@x:1"},
            needs=(),
        )
    assert len(refused.value.faults) == 2
    assert "hunter2" not in str(refused.value)


def test_secrets_are_not_in_the_representation() -> None:
    settings = Settings.load(NEEDED)
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)
    assert settings.redis_url.get_secret_value() == NEEDED["REDIS_URL"]


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.load({"CLV_BATCH": " ", "CLV_CLUSTER_ID": ""}, needs=()).batch == 1000


def test_off_switches_off() -> None:
    settings = Settings.load({"CLV_IDLE_AFTER": "off", "CLV_SCORES": "off"}, needs=())
    assert settings.idle_after_ms is None
    assert settings.scores is False


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().batch = 1


def test_every_setting_is_documented() -> None:
    table = settings_table()
    assert len(variables()) == len(Settings.model_fields)
    for name, field in variables().items():
        assert name.isupper()
        assert field.description, name
        assert table.count(f"`{name}`") == 1


def test_the_table_shows_defaults_as_one_writes_them() -> None:
    assert "| `CLV_MAX_FUTURE` | `1h` |" in settings_table()
    assert "| `CLV_SCORES` | `on` |" in settings_table()
    assert "| `CLV_EARLY` | `0.5` |" in settings_table()


def test_a_misspelt_variable_is_pointed_out() -> None:
    assert unknown_variables({"CLV_WARNING_TOPIC": "x", "CLV_BATCH": "1", "PATH": "/"}) == [
        "CLV_WARNING_TOPIC is not a setting; CLV_WARNINGS_TOPIC is"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("200ms", 200), ("90s", 90_000), ("15m", 900_000), ("24h", 86_400_000), ("7d", 604_800_000)],
)
def test_durations_carry_their_unit(text: str, expected: int) -> None:
    assert duration_ms(text) == expected


@given(st.text(max_size=12))
def test_no_text_makes_a_duration_fail_otherwise_than_with_the_remedy(text: str) -> None:
    try:
        duration = duration_ms(text)
    except ValueError as error:
        duration = 0
        told = str(error)
    else:
        told = "write a number and a unit"
    assert duration >= 0
    assert "write a number and a unit" in told


def test_log_levels_are_those_of_logging() -> None:
    for level in ("debug", "INFO", "Warning", "ERROR"):
        level_of = Settings.load({"CLV_LOG_LEVEL": level}, needs=()).log_level
        assert level_of in logging.getLevelNamesMapping()


def test_a_signature_needs_keys_to_be_checked_with(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="CLV_MODEL_KEYS is not set: CLV_REQUIRE_SIGNATURE"):
        Settings.load({**NEEDED, "CLV_REQUIRE_SIGNATURE": "on"})
    keys = tmp_path / "keys"
    keys.write_text(f"{'A' * 43}= alice\n")
    for switch, required in (("", True), ("on", True), ("off", False)):
        given = {**NEEDED, "CLV_MODEL_KEYS": str(keys), "CLV_REQUIRE_SIGNATURE": switch}
        trust = Settings.load(given).trust
        assert trust.keys == {bytes(32)}
        assert trust.required is required
    assert Settings.load(NEEDED).trust == ANYBODY


def test_a_file_of_keys_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice\n")
    with pytest.raises(SettingsRefused, match=r"CLV_MODEL_KEYS.*keys:1 is not a public key"):
        Settings.load({**NEEDED, "CLV_MODEL_KEYS": str(keys)})
