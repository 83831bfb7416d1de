"""Settings: read once from the environment, frozen, passed down. All faults are named together.

Every variable is one field below: its alias is the variable's name, its description the README's
(`settings_table`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from features.ledger import MAX_MEMORY_DAYS, IdMemory
from features.orders import OrderRules
from model.monitored import OLD_AFTER_DAYS
from model.policy import Policy, Reference, Stake
from model.signature import SigningError, Trust, read_keys
from streamer.deadletters import Limits
from streamer.store import StartAt

_POLICY: Final = Policy()
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_REDIS_SCHEMES: Final = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+cluster://",
    "rediss+cluster://",
)
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT")
_MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
# What can be guessed in a lifetime is no token.
_TOKEN: Final = re.compile(r"[!-~]{16,1024}")
_PREFIX: Final = "CLV_"
_PERCENTILES: Final = {2: "95,85", 3: "90,70,40"}


class SettingsRefused(Exception):
    """Set, correct or unset the variables that the message names, and start again."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def duration_ms(text: str) -> int:
    """A duration such as `200ms`, `90s`, `15m`, `24h` or `7d`, in milliseconds.

    Raises ValueError, with the remedy. A bare number is refused: its unit would be a guess.

    >>> duration_ms("1.5h")
    5400000
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("write a number and a unit: 200ms, 90s, 15m, 24h or 7d")
    return round(float(match[1]) * _UNITS_MS[match[2]])


def _duration(value: object) -> object:
    return duration_ms(value) if isinstance(value, str) else value


def _or_off(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() == "off":
        return None
    return value


def _duration_or_off(value: object) -> object:
    try:
        return _duration(_or_off(value))
    except ValueError as error:
        raise ValueError(f"{error}; or off") from None


def _switch(value: object) -> object:
    if isinstance(value, str):
        known = {"on": True, "off": False}
        if value.strip().lower() not in known:
            raise ValueError("write on or off")
        return known[value.strip().lower()]
    return value


def _topic(value: object) -> object:
    if isinstance(value, str) and (not _TOPIC.fullmatch(value) or value in {".", ".."}):
        raise ValueError("use 1 to 249 of: letters, digits, dot, underscore, hyphen")
    return value


def _level(value: object) -> object:
    if isinstance(value, str) and value.upper() not in _LEVELS:
        raise ValueError(f"use one of {', '.join(_LEVELS)}")
    return value.upper() if isinstance(value, str) else value


def _one_of(known: tuple[str, ...]) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and value.strip().upper() not in known:
            raise ValueError(f"use one of {', '.join(known)}")
        return value.strip().upper() if isinstance(value, str) else value

    return BeforeValidator(check)


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return path


def _keys(path: Path) -> Path:
    try:
        read_keys(path)
    except SigningError as error:
        raise ValueError(str(error)) from None
    return path


def _token(value: object) -> object:
    if isinstance(value, str) and not _TOKEN.fullmatch(value):
        raise ValueError("write 16 to 1024 printable characters without spaces")
    return value


def _servers(value: object) -> object:
    if isinstance(value, str) and value:
        for server in value.split(","):
            host, colon, port = server.strip().rpartition(":")
            if not (host and colon and port.isdigit() and 0 < int(port) < 65536) or "@" in host:
                # The value is not repeated: people write passwords into it.
                raise ValueError("write host:port[,host:port...], without a login")
    return value


def _redis_url(value: object) -> object:
    if isinstance(value, str) and value:
        if not value.startswith(_REDIS_SCHEMES):
            raise ValueError(
                "write redis://host:port/0, rediss://..., unix:///path/to/socket or"
                " redis+cluster://host:port,host:port"
            )
        return SecretStr(value)
    return value


def _url_passwords(url: str) -> list[str]:
    """Passwords in a URL, as written and as meant; all of a URL that cannot be taken apart."""
    try:
        parts = urlsplit(url)
        found = [parts.password or "", *parse_qs(parts.query).get("password", [])]
    except ValueError:
        return [url]
    return [text for one in found if one for text in (one, unquote(one), quote(one, safe=""))]


def _currency(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch("[A-Z]{3}", value):
        raise ValueError("write an ISO 4217 code: USD, EUR, ...")
    return value


def _at_most_30s(value: int) -> int:
    if value > 30_000:
        raise ValueError("set at most 30s, as long as a request to the broker may take")
    return value


def _min_silence(value: object) -> object:
    """Days; None stands for H/2, half the model's horizon."""
    if isinstance(value, str) and value.replace(" ", "").upper() == "H/2":
        return None
    return value


def _falling(count: int) -> BeforeValidator:
    """So many percentiles, comma-separated, none above the one before it."""

    def check(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            found = tuple(float(part) for part in value.split(","))
        except ValueError:
            found = ()
        bounds = (100.0, *found, 0.0)
        if len(found) != count or not all(high >= low for high, low in pairwise(bounds)):
            raise ValueError(f"write {count} percentiles that fall, like {_PERCENTILES[count]}")
        return found

    return BeforeValidator(check)


DurationMs = Annotated[int, BeforeValidator(_duration), Field(gt=0)]
DurationMsOrOff = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_duration_or_off)]
Days = Annotated[int, Field(ge=1)]
DaysOrOff = Annotated[Days | None, BeforeValidator(_or_off)]
CountOrOff = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_or_off)]
ShareOrOff = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_or_off)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Topic = Annotated[str, BeforeValidator(_topic)]
File = Annotated[Path, AfterValidator(_readable)] | None
KeysFile = Annotated[Path, AfterValidator(_keys)] | None


class Settings(BaseModel):
    """Everything the worker may be told. Field names carry the units; `load` reads it."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=False,
    )

    kafka_bootstrap_servers: Annotated[str, BeforeValidator(_servers)] = Field(
        default="",
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        description="Kafka brokers to start from: `host:port`, comma-separated.",
    )
    kafka_security_protocol: Annotated[str, _one_of(_PROTOCOLS)] = Field(
        default="PLAINTEXT",
        validation_alias="CLV_KAFKA_SECURITY_PROTOCOL",
        description="`PLAINTEXT`, `SSL`, `SASL_SSL` or `SASL_PLAINTEXT`, as the brokers' listener.",
    )
    kafka_sasl_mechanism: Annotated[str, _one_of(_MECHANISMS)] | None = Field(
        default=None,
        validation_alias="CLV_KAFKA_SASL_MECHANISM",
        description="`SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`; for the `SASL_` protocols.",
    )
    kafka_username: str | None = Field(
        default=None,
        validation_alias="CLV_KAFKA_USERNAME",
        description="User for SASL.",
    )
    kafka_password: SecretStr | None = Field(
        default=None,
        validation_alias="CLV_KAFKA_PASSWORD",
        description="Password for SASL; a secret.",
    )
    kafka_ca_file: File = Field(
        default=None,
        validation_alias="CLV_KAFKA_CA_FILE",
        description="PEM file of the authorities that sign the brokers; unset: the system's.",
    )
    kafka_cert_file: File = Field(
        default=None,
        validation_alias="CLV_KAFKA_CERT_FILE",
        description="PEM file of our own certificate, where brokers ask for one.",
    )
    kafka_key_file: File = Field(
        default=None,
        validation_alias="CLV_KAFKA_KEY_FILE",
        description="PEM file of that certificate's key, not encrypted.",
    )
    kafka_allow_plaintext_sasl: Switch = Field(
        default=False,
        validation_alias="CLV_KAFKA_ALLOW_PLAINTEXT_SASL",
        description="`on`: send the login to Kafka without TLS, for everybody on the way to read.",
    )
    redis_url: Annotated[SecretStr, BeforeValidator(_redis_url)] = Field(
        default=SecretStr(""),
        validation_alias="REDIS_URL",
        description="Redis or Valkey: `redis://`, `rediss://` or `unix://`; a cluster:"
        " `redis+cluster://host:port,host:port` or `rediss+cluster://`.",
    )
    redis_ca_file: File = Field(
        default=None,
        validation_alias="CLV_REDIS_CA_FILE",
        description="PEM file of the authorities that sign the Redis; unset: the system's.",
    )
    redis_cert_file: File = Field(
        default=None,
        validation_alias="CLV_REDIS_CERT_FILE",
        description="PEM file of our own certificate, where the Redis asks for one.",
    )
    redis_key_file: File = Field(
        default=None,
        validation_alias="CLV_REDIS_KEY_FILE",
        description="PEM file of that certificate's key, not encrypted.",
    )
    model: Path | None = Field(
        default=None,
        validation_alias="CLV_MODEL",
        description="Directory of the model artifact, as `python -m model train` writes it, or of"
        " a registry, whose current version is used.",
    )
    attributes: Path | None = Field(
        default=None,
        validation_alias="CLV_ATTRIBUTES",
        description="CSV of customer attributes, keyed by `user_id`, read when a model is loaded;"
        " needed for one that was trained with such.",
    )
    model_check_ms: DurationMsOrOff = Field(
        default="5s",
        validation_alias="CLV_MODEL_CHECK",
        validate_default=True,
        description="How often a registry is asked whether another version is current; `off`: at"
        " the start alone.",
    )
    model_keys: KeysFile = Field(
        default=None,
        validation_alias="CLV_MODEL_KEYS",
        description="File of public keys, one a line: only models that one of them has signed.",
    )
    require_signature: Switch | None = Field(
        default=None,
        validation_alias="CLV_REQUIRE_SIGNATURE",
        description="`on` refuses models without a signature; `off`, with keys, takes them too.",
        json_schema_extra={"default_text": "on with CLV_MODEL_KEYS"},
    )
    shadow_model: Path | None = Field(
        default=None,
        validation_alias="CLV_SHADOW_MODEL",
        description="Another artifact or registry, whose model is compared with the live one and"
        " changes nothing; unset: none.",
    )
    shadow_share: float = Field(
        default=0.1,
        validation_alias="CLV_SHADOW_SHARE",
        gt=0,
        le=1,
        description="Share of the customers that are followed under the shadow model.",
    )
    monitor: Switch = Field(
        default=True,
        validation_alias="CLV_MONITOR",
        description="`on`: once a day of event time, some customers are read from the Redis to see"
        " whether the model still fits them.",
    )
    model_old_after_days: DaysOrOff = Field(
        default=OLD_AFTER_DAYS,
        validation_alias="CLV_MODEL_OLD_AFTER_DAYS",
        description="Days of event time after which a model is called old, in the log and the"
        " metrics, or `off`. One horizon is granted on top, for `retrain` trains up to that long"
        " ago.",
    )
    group: Topic = Field(
        default="clv-streamer", validation_alias="CLV_GROUP", description="Kafka consumer group."
    )
    orders_topic: Topic = Field(
        default="orders", validation_alias="CLV_ORDERS_TOPIC", description="Orders come from here."
    )
    warnings_topic: Topic = Field(
        default="churn-warnings",
        validation_alias="CLV_WARNINGS_TOPIC",
        description="Warnings and recoveries go here.",
    )
    scores_topic: Topic = Field(
        default="clv-scores",
        validation_alias="CLV_SCORES_TOPIC",
        description="Scores go here; a compacted topic.",
    )
    dead_letter_topic: Topic = Field(
        default="orders-dead-letter",
        validation_alias="CLV_DEAD_LETTER_TOPIC",
        description="Records that break a rule go here, with the reason.",
    )
    erasures_topic: Topic = Field(
        default="clv-erasures",
        validation_alias="CLV_ERASURES_TOPIC",
        description="Who was forgotten, as hashes; a compacted topic.",
    )
    dead_letter_max_run: CountOrOff = Field(
        default=500,
        validation_alias="CLV_DEAD_LETTER_MAX_RUN",
        description="Bad records in a row of one partition above which a worker stops, or `off`.",
    )
    dead_letter_max_ratio: ShareOrOff = Field(
        default=0.2,
        validation_alias="CLV_DEAD_LETTER_MAX_RATIO",
        description="Share of bad records in the window above which a worker stops, or `off`.",
    )
    dead_letter_window: int = Field(
        default=5_000,
        validation_alias="CLV_DEAD_LETTER_WINDOW",
        ge=1,
        le=100_000,
        description="Last records of a partition over which that share is taken.",
    )
    scores: Switch = Field(
        default=True,
        validation_alias="CLV_SCORES",
        description="`on`: every scoring is published; `off`: none.",
    )
    partitions: int = Field(
        default=4,
        validation_alias="CLV_PARTITIONS",
        ge=1,
        le=10_000,
        description="Partitions of the topics that we make ourselves.",
    )
    currency: Annotated[str, BeforeValidator(_currency)] = Field(
        default="USD",
        validation_alias="CLV_CURRENCY",
        description="Currency of all orders, ISO 4217.",
    )
    max_future_ms: DurationMs = Field(
        default="24h",
        validation_alias="CLV_MAX_FUTURE",
        validate_default=True,
        description="How far an order's time may lie ahead of the broker's record timestamp.",
    )
    allowed_lateness_ms: DurationMs = Field(
        default="1h",
        validation_alias="CLV_ALLOWED_LATENESS",
        validate_default=True,
        description="How long late orders are waited for before an instant is scored.",
    )
    idle_after_ms: DurationMsOrOff = Field(
        default="60s",
        validation_alias="CLV_IDLE_AFTER",
        validate_default=True,
        description="A partition without orders for this long follows the clock; `off`: never.",
    )
    batch: int = Field(
        default=1000,
        validation_alias="CLV_BATCH",
        ge=1,
        le=100_000,
        description="Most records in one batch.",
    )
    cache_customers: int = Field(
        default=100_000,
        validation_alias="CLV_CACHE_CUSTOMERS",
        ge=0,
        description="Customers kept decoded in memory by a worker; about 2 KB each.",
    )
    id_memory_days: int = Field(
        default=MAX_MEMORY_DAYS,
        validation_alias="CLV_ID_MEMORY_DAYS",
        ge=1,
        le=MAX_MEMORY_DAYS,
        description="Days for which a customer's order ids are remembered, to know repeats.",
    )
    id_memory_size: int = Field(
        default=1000,
        validation_alias="CLV_ID_MEMORY_SIZE",
        ge=1,
        description="Most order ids remembered for one customer.",
    )
    start_at: StartAt = Field(
        default=StartAt.AUTO,
        validation_alias="CLV_START_AT",
        description="Where to begin a partition of which the Redis knows nothing and whose log has"
        " lost its first orders: `log-start`; `auto`: there too, unless the group has committed"
        " offsets, so that the Redis has lost what it had; `refuse`: nowhere.",
        json_schema_extra={"default_text": "auto"},
    )
    rebuild_partly: Switch = Field(
        default=False,
        validation_alias="CLV_REBUILD_PARTLY",
        description="A customer whose bytes in the Redis are damaged is rebuilt from the log;"
        " `on`: also where the log has lost orders. `off`: the worker stops then.",
    )
    state_namespace: Topic = Field(
        default="clv",
        validation_alias="CLV_STATE_NAMESPACE",
        description="First part of every key in Redis.",
    )
    cluster_id: Topic | None = Field(
        default=None,
        validation_alias="CLV_CLUSTER_ID",
        description="Name of the Kafka cluster in the keys; unset: what the brokers report.",
    )
    web_bind: str = Field(
        default="127.0.0.1",
        validation_alias="CLV_WEB_BIND",
        min_length=1,
        description="Address of the worker's pages and its API; not loopback: with a token.",
    )
    web_port: int = Field(
        default=6066,
        validation_alias="CLV_WEB_PORT",
        ge=0,
        le=65535,
        description="Their port; 0 switches them off.",
    )
    web_token: Annotated[SecretStr, BeforeValidator(_token)] | None = Field(
        default=None,
        validation_alias="CLV_WEB_TOKEN",
        description="Bearer token that all pages but `/healthz` ask for; a secret.",
    )
    api: Switch = Field(
        default=True,
        validation_alias="CLV_API",
        description="`off`: without the pages of the prediction API, which name customers.",
    )
    log_level: Annotated[str, BeforeValidator(_level)] = Field(
        default="INFO",
        validation_alias="CLV_LOG_LEVEL",
        description="`DEBUG`, `INFO`, `WARNING` or `ERROR`.",
    )
    session_timeout_ms: Annotated[DurationMs, AfterValidator(_at_most_30s)] = Field(
        default="10s",
        validation_alias="CLV_SESSION_TIMEOUT",
        validate_default=True,
        description="A worker without a heartbeat for this long loses its partitions; up to 30s.",
    )
    fetch_max_wait_ms: DurationMs = Field(
        default="200ms",
        validation_alias="CLV_FETCH_MAX_WAIT",
        validate_default=True,
        description="How long a broker may hold a fetch that finds nothing.",
    )
    watchdog_ms: DurationMs = Field(
        default="120s",
        validation_alias="CLV_WATCHDOG",
        validate_default=True,
        description="Without progress for this long, a worker exits with code 70 and says why.",
    )
    reference: Literal["peak", "last_order", "previous", "ewma"] = Field(
        default="peak",
        validation_alias="CLV_REFERENCE",
        description="What a CLV is compared with: `peak` (the highest at an event of late),"
        " `last_order`, `previous` (the scoring before) or `ewma` (a mean that forgets).",
    )
    reference_days: int = Field(
        default=90,
        validation_alias="CLV_REFERENCE_DAYS",
        ge=1,
        description="Days over which a peak counts.",
    )
    ewma_half_life_days: int = Field(
        default=30,
        validation_alias="CLV_EWMA_HALF_LIFE_DAYS",
        ge=1,
        description="Days after which a scoring weighs half in `ewma`.",
    )
    drop: float = Field(
        default=_POLICY.drop,
        validation_alias="CLV_DROP",
        gt=0,
        lt=1,
        description="A silence warns once this share of the reference is gone.",
    )
    event_drop: float = Field(
        default=_POLICY.event_drop,
        validation_alias="CLV_EVENT_DROP",
        gt=0,
        lt=1,
        description="The same where an order or refund lowers the CLV itself.",
    )
    floor_percentile: float = Field(
        default=70.0,
        validation_alias="CLV_FLOOR_PERCENTILE",
        ge=0,
        le=100,
        description="Only customers whose reference reaches this percentile of CLV are warned of.",
    )
    floor: float | None = Field(
        default=None,
        validation_alias="CLV_FLOOR",
        ge=0,
        allow_inf_nan=False,
        description="The same as an amount of money, instead of the percentile.",
    )
    min_orders: int = Field(
        default=1,
        validation_alias="CLV_MIN_ORDERS",
        ge=1,
        description="Days with an order that a customer needs to be warned of; 2 leaves one-time"
        " buyers out.",
    )
    min_history_days: int = Field(
        default=0,
        validation_alias="CLV_MIN_HISTORY_DAYS",
        ge=0,
        description="Days since the first order before a customer is warned of.",
    )
    min_silence_days: Annotated[Days | None, BeforeValidator(_min_silence)] = Field(
        default=None,
        validation_alias="CLV_MIN_SILENCE",
        description="Days without an order before silence may warn; `H/2`: half the horizon.",
        json_schema_extra={"default_text": "H/2"},
    )
    one_time_silence_days: Days | None = Field(
        default=None,
        validation_alias="CLV_ONE_TIME_SILENCE",
        description="The same for one-time buyers; unset: no different.",
    )
    churn_percentile: float = Field(
        default=_POLICY.churn_percentile,
        validation_alias="CLV_CHURN_PERCENTILE",
        ge=0,
        le=100,
        description="Silence warns once P(churn) reaches this percentile of the active customers in"
        " training; 0: whatever it is.",
    )
    late_silence_days: Days | None = Field(
        default=None,
        validation_alias="CLV_LATE_SILENCE",
        description="Days without an order after which P(churn) is no longer asked; unset: 5/6 of"
        " the horizon.",
    )
    cooldown_days: int = Field(
        default=0,
        validation_alias="CLV_COOLDOWN_DAYS",
        ge=0,
        description="Days after a warning without another one of the same customer.",
    )
    swap_spread_days: int = Field(
        default=_POLICY.swap_spread_days,
        validation_alias="CLV_SWAP_SPREAD_DAYS",
        ge=0,
        description="Days over which the warnings that a new model brings are spread; 0: none.",
    )
    budget_per_day: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        validation_alias="CLV_BUDGET_PER_DAY",
        description="At most so many warnings a day, those with the most at stake and the surest;"
        " unset: all.",
    )
    budget_value: Literal["spend", "reference"] = Field(
        default="spend",
        validation_alias="CLV_BUDGET_VALUE",
        description="What is at stake for a budget: `spend` (net revenue of the last horizon) or"
        " `reference` (the CLV that the rule compares with).",
    )
    budget_certainty: float = Field(
        default=_POLICY.budget_certainty,
        validation_alias="CLV_BUDGET_CERTAINTY",
        ge=0,
        le=100,
        description="The power of P(churn) by which a budget ranks: 1 is the most money, more are"
        " more often right.",
    )
    refresh_days: DaysOrOff = Field(
        default=7,
        validation_alias="CLV_REFRESH_DAYS",
        description="Days between scorings of customers with nothing to decide, or `off`.",
    )
    grid_days: int = Field(
        default=1,
        validation_alias="CLV_GRID_DAYS",
        ge=1,
        description="Days between the instants at which silent customers are scored.",
    )

    segment_percentiles: Annotated[tuple[float, float, float], _falling(3)] = Field(
        default=_POLICY.segment_percentiles,
        validation_alias="CLV_SEGMENT_PERCENTILES",
        description="Where the segments top, high and middle begin, in percentiles of CLV among"
        " the customers that the model was trained on; below is low.",
        json_schema_extra={"default_text": _PERCENTILES[3]},
    )
    severity_percentiles: Annotated[tuple[float, float], _falling(2)] = Field(
        default=_POLICY.severity_percentiles,
        validation_alias="CLV_SEVERITY_PERCENTILES",
        description="Where the severities high and medium begin: the expected loss against the"
        " same percentiles; below is low.",
        json_schema_extra={"default_text": _PERCENTILES[2]},
    )
    holdout_share: float = Field(
        default=0.0,
        validation_alias="CLV_HOLDOUT_SHARE",
        ge=0,
        le=1,
        description="Share of customers whose warnings are marked `holdout`, to measure by.",
    )

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no log line may hold: passwords as they were written and as they are sent."""
        given = (self.kafka_password, self.web_token)
        found = [secret.get_secret_value() for secret in given if secret is not None]
        found += _url_passwords(self.redis_url.get_secret_value())
        return tuple(dict.fromkeys(found))

    @property
    def policy(self) -> Policy:
        """The knobs of the drop rule."""
        known: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(Policy)
            if field.name in type(self).model_fields
        }
        kinds = {"reference": Reference(self.reference), "budget_value": Stake(self.budget_value)}
        return Policy(**known | kinds)

    @property
    def order_rules(self) -> OrderRules:
        return OrderRules(currency=self.currency, max_future_ms=self.max_future_ms)

    @property
    def trust(self) -> Trust:
        """Who may have made a model."""
        return Trust.of(self.model_keys, self.require_signature)

    @property
    def dead_letter_limits(self) -> Limits:
        """The most that may be set aside of a partition."""
        return Limits(self.dead_letter_max_run, self.dead_letter_max_ratio, self.dead_letter_window)

    @property
    def id_memory(self) -> IdMemory:
        return IdMemory(days=self.id_memory_days, size=self.id_memory_size)

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str],
        needs: tuple[str, ...] = ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "CLV_MODEL"),
    ) -> Self:
        """The settings in `environ`; an empty variable counts as unset.

        `needs` are variables without a default that the command cannot do without.
        Raises SettingsRefused with every fault: variable, value (unless secret) and remedy.
        """
        known = variables()
        given = {name: environ[name] for name in known if environ.get(name, "").strip()}
        faults = [
            f"{name} is not set: {known[name].description}" for name in needs if name not in given
        ]
        faults += [*_shared_topics(given), *_kafka_faults(given), *_redis_faults(given)]
        faults += [*_web_faults(given), *_signature_faults(given)]
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            faults += [_fault(one, given) for one in error.errors(include_url=False)]
            raise SettingsRefused(faults) from None
        if faults:
            raise SettingsRefused(faults)
        return settings


def variables() -> dict[str, FieldInfo]:
    """The settings by their variables' names."""
    return {str(field.validation_alias): field for field in Settings.model_fields.values()}


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One line for each variable that looks like ours and is not: usually a misspelling."""
    known = variables()
    lines = []
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1)
            lines.append(f"{name} is not a setting" + (f"; {near[0]} is" if near else ""))
    return lines


def settings_page() -> str:
    """docs/configuration.md."""
    return f"""# Configuration

Everything comes from the environment, read once at the start; all faults are named at once. An
empty variable counts as unset. Durations have a unit: `200ms`, `90s`, `15m`, `24h`, `7d`. This page
is what `python -m streamer settings` prints; a test holds the two together. What TLS, logins and
the token need is told in [security](security.md).

{settings_table()}
"""


def settings_table() -> str:
    """Every variable with its default and meaning, as a Markdown table."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    rows += [
        f"| `{name}` | {_default_text(field)} | {field.description} |"
        for name, field in variables().items()
    ]
    return "\n".join(rows) + "\n"


def _shared_topics(given: Mapping[str, str]) -> list[str]:
    """A fault for each topic name that is used twice."""
    users: dict[str, list[str]] = {}
    for name, field in variables().items():
        if name.endswith("_TOPIC"):
            users.setdefault(given.get(name, field.default), []).append(name)
    return [
        f"{' and '.join(names)} are both {topic!r}: name different topics"
        for topic, names in users.items()
        if len(names) > 1
    ]


def _kafka_faults(given: Mapping[str, str]) -> list[str]:
    """A fault for each variable of Kafka's security that lacks its others."""
    name = "CLV_KAFKA_SECURITY_PROTOCOL"
    protocol = given.get(name, "PLAINTEXT").strip().upper()
    if protocol not in _PROTOCOLS:
        return []
    login = [f"CLV_KAFKA_{part}" for part in ("SASL_MECHANISM", "USERNAME", "PASSWORD")]
    files = [f"CLV_KAFKA_{part}_FILE" for part in ("CA", "CERT", "KEY")]
    faults = []
    if protocol.startswith("SASL_"):
        faults += [
            f"{one} is not set: {name}={protocol} needs it" for one in login if one not in given
        ]
    else:
        faults += [f"{one} is set: set {name}=SASL_SSL with it" for one in login if one in given]
    if not protocol.endswith("SSL"):
        faults += [
            f"{one} is set: set {name}=SSL or SASL_SSL with it" for one in files if one in given
        ]
    allowed = given.get("CLV_KAFKA_ALLOW_PLAINTEXT_SASL", "off").strip().lower() == "on"
    if protocol == "SASL_PLAINTEXT" and not allowed:
        faults.append(
            f"{name}=SASL_PLAINTEXT sends the login without TLS: use SASL_SSL, or say"
            " CLV_KAFKA_ALLOW_PLAINTEXT_SASL=on"
        )
    return faults + _lone(given, "CLV_KAFKA_CERT_FILE", "CLV_KAFKA_KEY_FILE")


def _redis_faults(given: Mapping[str, str]) -> list[str]:
    """A fault for each variable of Redis' TLS that lacks its others."""
    files = [f"CLV_REDIS_{part}_FILE" for part in ("CA", "CERT", "KEY")]
    faults = []
    if "REDIS_URL" in given and not given["REDIS_URL"].startswith("rediss"):
        faults = [
            f"{one} is set: write REDIS_URL=rediss://... with it" for one in files if one in given
        ]
    return faults + _lone(given, "CLV_REDIS_CERT_FILE", "CLV_REDIS_KEY_FILE")


def _lone(given: Mapping[str, str], one: str, other: str) -> list[str]:
    """A fault where only one of a pair is set."""
    if (one in given) == (other in given):
        return []
    missing, present = (one, other) if other in given else (other, one)
    return [f"{missing} is not set: {present} needs it"]


def _web_faults(given: Mapping[str, str]) -> list[str]:
    """A fault where others could reach our pages without a token."""
    bind, port = given.get("CLV_WEB_BIND", "127.0.0.1"), given.get("CLV_WEB_PORT", "")
    if is_loopback(bind) or "CLV_WEB_TOKEN" in given or port.strip() == "0":
        return []
    return [
        f"CLV_WEB_BIND={bind!r} is not a loopback address: set CLV_WEB_TOKEN, bind 127.0.0.1, or"
        " switch the pages off with CLV_WEB_PORT=0"
    ]


def _signature_faults(given: Mapping[str, str]) -> list[str]:
    """A fault where a signature is asked for that nothing could check."""
    wanted = given.get("CLV_REQUIRE_SIGNATURE", "").strip().lower() == "on"
    if not wanted or "CLV_MODEL_KEYS" in given:
        return []
    return ["CLV_MODEL_KEYS is not set: CLV_REQUIRE_SIGNATURE=on needs it"]


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach the address; False for names but `localhost`."""
    try:
        return ipaddress.ip_address(host.strip()).is_loopback
    except ValueError:
        return host.strip().lower() == "localhost"


def _default_text(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_text" in extra:
        return f"`{extra['default_text']}`"
    value: Any = field.default
    if isinstance(value, SecretStr) or value in ("", None):
        return "–"
    if isinstance(value, bool):
        value = "on" if value else "off"
    return f"`{value}`"


_REMEDIES: Final = {
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "float_parsing": "write a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}
# Values that may hold a password are not repeated.
_SECRET: Final = frozenset(
    {"REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "CLV_KAFKA_PASSWORD", "CLV_WEB_TOKEN"}
)


def _fault(error: ErrorDetails, given: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    shown = "" if name in _SECRET else f"={given[name]!r}"
    known = _REMEDIES.get(error["type"])
    if known is None:
        return f"{name}{shown}: {error['msg'].removeprefix('Value error, ')}"
    return f"{name}{shown}: {known.format(**error.get('ctx', {}))}"
