"""How one variable's text is read and checked: the types that settings are declared with.

What a type refuses it refuses with a ValueError whose message is the remedy.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
)

from features.times import MS_PER_DAY, calendar_of, day_of_date
from model.artifact.signature import SigningError, read_keys
from streamer.pipeline.erasures import ErasureKeys
from streamer.standard_webhooks import key_of

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT")
PERCENTILES: Final = {2: "95,85", 3: "90,70,40"}
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": MS_PER_DAY}
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
_MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
# What can be guessed in a lifetime is no token.
_TOKEN: Final = re.compile(r"[!-~]{16,1024}")


def _variable(field: str) -> str:
    return "CLV_" + field.removesuffix("_ms").upper()


class Section(BaseModel):
    """Some of the settings: a field's name is the variable's, with its unit where it has one, and
    the text under it what the pages say. `heading`: who sets them."""

    heading: ClassVar[str]

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=False,
        use_attribute_docstrings=True,
        alias_generator=AliasGenerator(validation_alias=_variable),
    )


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


def _erasure_key(value: object) -> object:
    if isinstance(value, str):
        ErasureKeys.parse(value)
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


def _registry_url(value: object) -> object:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            # The value is not repeated: it may have a password.
            raise ValueError("write http(s)://host:port and the path of Confluent's API")
        return SecretStr(value)
    return value


def _webhook_url(value: object) -> object:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
            # The value is not repeated: receivers have secrets in their paths.
            raise ValueError("write http(s)://host/path of the receiver")
        if parts.username is not None:
            raise ValueError("write it without a login: the signature says who sends")
        return SecretStr(value)
    return value


def _webhook_secret(value: object) -> object:
    if isinstance(value, str):
        key_of(value)
    return value


def _currency(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch("[A-Z]{3}", value):
        raise ValueError("write an ISO 4217 code: USD, EUR, ...")
    return value


def _date_ms(value: object) -> object:
    return day_of_date(value) * MS_PER_DAY if isinstance(value, str) else value


def _timezone(value: object) -> object:
    return calendar_of(value).name if isinstance(value, str) else value


def _at_most_30s(value: int) -> int:
    if value > 30_000:
        raise ValueError("set at most 30s, as long as a request to the broker may take")
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
            raise ValueError(f"write {count} percentiles that fall, like {PERCENTILES[count]}")
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
Protocol = Annotated[str, _one_of(PROTOCOLS)]
Mechanism = Annotated[str, _one_of(_MECHANISMS)]
Servers = Annotated[str, BeforeValidator(_servers)]
RedisUrl = Annotated[SecretStr, BeforeValidator(_redis_url)]
WebhookUrl = Annotated[SecretStr, BeforeValidator(_webhook_url)]
WebhookSecret = Annotated[SecretStr, BeforeValidator(_webhook_secret)]
RegistryUrl = Annotated[SecretStr, BeforeValidator(_registry_url)]
Secret = Annotated[SecretStr, BeforeValidator(_token)]
ErasureKey = Annotated[SecretStr, BeforeValidator(_erasure_key)]
DateMs = Annotated[int, BeforeValidator(_date_ms), Field(ge=0)]
Timezone = Annotated[str, BeforeValidator(_timezone)]
Currency = Annotated[str, BeforeValidator(_currency)]
LogLevel = Annotated[str, BeforeValidator(_level)]
SessionTimeoutMs = Annotated[DurationMs, AfterValidator(_at_most_30s)]
Segments = Annotated[tuple[float, float, float], _falling(3)]
Severities = Annotated[tuple[float, float], _falling(2)]


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach the address; False for names but `localhost`."""
    try:
        return ipaddress.ip_address(host.strip()).is_loopback
    except ValueError:
        return host.strip().lower() == "localhost"
