"""Settings: read once from the environment, frozen, passed down. All faults are named together.

Every variable is one field of a section, and sections are by who sets them: its type (`fields`) is
how it is read, the text under it what the reference says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from streamer.errors import StreamerError
from streamer.settings.fields import PROTOCOLS, Section, is_loopback
from streamer.settings.models import ModelSettings
from streamer.settings.orders import OrderSettings
from streamer.settings.servers import ServerSettings
from streamer.settings.warnings import WarningSettings
from streamer.settings.worker import WorkerSettings

_PREFIX: Final = "CLV_"
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
    {
        "REDIS_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "CLV_KAFKA_PASSWORD",
        "CLV_SCHEMA_REGISTRY_URL",
        "CLV_SHOPIFY_SECRET",
        "CLV_STRIPE_SECRET",
        "CLV_WEB_TOKEN",
        "CLV_ERASURE_KEY",
        "CLV_WEBHOOK_URL",
        "CLV_WEBHOOK_SECRET",
    }
)


class SettingsRefused(StreamerError):
    """Set, correct or unset the variables that the message names, and start again."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


# A class further right is listed further up in the reference.
class Settings(WarningSettings, OrderSettings, ModelSettings, WorkerSettings, ServerSettings):
    """Everything the worker may be told; `load` reads it."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no log line may hold: passwords as they were written and as they are sent."""
        hooks = (self.webhook_url, self.webhook_secret, self.shopify_secret, self.stripe_secret)
        given = (self.kafka_password, self.web_token, *hooks)
        found = [secret.get_secret_value() for secret in given if secret is not None]
        found += [secret.decode() for secret in self.erasure_keys.secrets.values()]
        for url in (self.redis_url, self.schema_registry_url):
            found += _url_passwords("" if url is None else url.get_secret_value())
        return tuple(dict.fromkeys(found))

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
        faults = [f"{name} is not set: {told(known[name])}" for name in needs if name not in given]
        faults += _together(given, known)
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            faults += [_refusal(one, given) for one in error.errors(include_url=False)]
            raise SettingsRefused(faults) from None
        if faults:
            raise SettingsRefused(faults)
        return settings


def variables() -> dict[str, FieldInfo]:
    """The settings by their variables' names."""
    return {str(field.validation_alias): field for field in Settings.model_fields.values()}


def told(field: FieldInfo) -> str:
    """What a setting does, on one line."""
    return " ".join((field.description or "").split())


def sections() -> dict[str, list[FieldInfo]]:
    """The settings by who sets them, in the order of the reference."""
    found = {}
    for section in reversed(Settings.__mro__):
        if issubclass(section, Section) and "heading" in vars(section):
            found[section.heading] = [section.model_fields[name] for name in _own(section)]
    return found


def _own(section: type[Section]) -> list[str]:
    return [name for name in section.model_fields if name in section.__annotations__]


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One line for each variable that looks like ours and is not: usually a misspelling."""
    known = variables()
    lines = []
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1)
            lines.append(f"{name} is not a setting" + (f"; {near[0]} is" if near else ""))
    return lines


def _url_passwords(url: str) -> list[str]:
    """Passwords in a URL, as written and as meant; all of a URL that cannot be taken apart."""
    try:
        parts = urlsplit(url)
        found = [parts.password or "", *parse_qs(parts.query).get("password", [])]
    except ValueError:
        return [url]
    return [text for one in found if one for text in (one, unquote(one), quote(one, safe=""))]


def _refusal(error: ErrorDetails, given: Mapping[str, str]) -> str:
    """The fault of a value that its type refuses."""
    name = str(error["loc"][0])
    shown = "" if name in _SECRET else f"={given[name]!r}"
    known = _REMEDIES.get(error["type"])
    if known is None:
        return f"{name}{shown}: {error['msg'].removeprefix('Value error, ')}"
    return f"{name}{shown}: {known.format(**error.get('ctx', {}))}"


def _together(given: Mapping[str, str], known: Mapping[str, FieldInfo]) -> list[str]:
    """The faults of variables that do not go together, whatever each of them says. `known` are all
    settings by their variables' names."""
    return [
        *_shared_topics(given, known),
        *_kafka_faults(given),
        *_redis_faults(given),
        *_web_faults(given),
        *_lone(given, "CLV_WEBHOOK_URL", "CLV_WEBHOOK_SECRET"),
        *_signature_faults(given),
    ]


def _shared_topics(given: Mapping[str, str], known: Mapping[str, FieldInfo]) -> list[str]:
    """A fault for each topic name that is used twice."""
    users: dict[str, list[str]] = {}
    for name, field in known.items():
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
    if protocol not in PROTOCOLS:
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
