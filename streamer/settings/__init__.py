"""Settings: read once from the environment, frozen, passed down. All faults are named together.

Every variable is one field of `config_servers`, `config_worker` or `config_warnings`: its alias is
the variable's name, its type (`config_values`) how it is read, its description what
docs/configuration.md says of it (`config_page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from streamer.errors import StreamerError
from streamer.settings.faults import refusal, together
from streamer.settings.servers import ServerSettings
from streamer.settings.warnings import WarningSettings
from streamer.settings.worker import WorkerSettings

_PREFIX: Final = "CLV_"


class SettingsRefused(StreamerError):
    """Set, correct or unset the variables that the message names, and start again."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


# A class further right is listed further up in docs/configuration.md.
class Settings(WarningSettings, WorkerSettings, ServerSettings):
    """Everything the worker may be told; `load` reads it."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no log line may hold: passwords as they were written and as they are sent."""
        given = (self.kafka_password, self.web_token)
        found = [secret.get_secret_value() for secret in given if secret is not None]
        found += _url_passwords(self.redis_url.get_secret_value())
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
        faults = [
            f"{name} is not set: {known[name].description}" for name in needs if name not in given
        ]
        faults += together(given, known)
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            faults += [refusal(one, given) for one in error.errors(include_url=False)]
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


def _url_passwords(url: str) -> list[str]:
    """Passwords in a URL, as written and as meant; all of a URL that cannot be taken apart."""
    try:
        parts = urlsplit(url)
        found = [parts.password or "", *parse_qs(parts.query).get("password", [])]
    except ValueError:
        return [url]
    return [text for one in found if one for text in (one, unquote(one), quote(one, safe=""))]
