"""What clients of Kafka and Redis are told for TLS and logins, from the settings.

Names of servers are always checked against their certificates; no setting switches that off.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final, NoReturn

from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streamer.settings import Settings, SettingsRefused

_CIPHERED: Final = "the key is encrypted"


def kafka_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of every aiokafka client: producer, consumer and admin client.

    Raises SettingsRefused for files that are not what they should be.
    """
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return {}
    arguments: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        arguments["ssl_context"] = _kafka_context(settings)
    if protocol.startswith("SASL_"):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": _password(settings),
        }
    return arguments


def faust_credentials(settings: Settings) -> CredentialsT | None:
    """The same for Faust, which makes the consumer's arguments of it; None without security."""
    protocol = settings.kafka_security_protocol
    context = _kafka_context(settings) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL_"):
        return SASLCredentials(
            username=settings.kafka_username,
            password=_password(settings),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


def redis_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of every redis-py client that speaks TLS; empty where nothing but the URL is set.

    Raises SettingsRefused for files that are not what they should be.
    """
    files = {
        "ssl_ca_certs": settings.redis_ca_file,
        "ssl_certfile": settings.redis_cert_file,
        "ssl_keyfile": settings.redis_key_file,
    }
    given = {name: str(path) for name, path in files.items() if path is not None}
    if given:
        # redis-py makes its own when it connects; what is wrong is said now, by the variable.
        _context("REDIS", settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file)
    return given


def _password(settings: Settings) -> str | None:
    secret = settings.kafka_password
    return None if secret is None else secret.get_secret_value()


def _kafka_context(settings: Settings) -> ssl.SSLContext:
    return _context(
        "KAFKA", settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file
    )


def _context(server: str, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and host name checked."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError:
        raise SettingsRefused(
            [f"CLV_{server}_CA_FILE={str(ca)!r}: has no certificates in PEM form"]
        ) from None
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(cert, key, password=_refuse)
        except (OSError, ValueError) as error:
            why = _CIPHERED if _CIPHERED in str(error) else "is not the key of that certificate"
            raise SettingsRefused(
                [
                    f"CLV_{server}_CERT_FILE={str(cert)!r}, CLV_{server}_KEY_FILE={str(key)!r}: "
                    f"{why}; give both in PEM form, the key not encrypted"
                ]
            ) from None
    return context


def _refuse() -> NoReturn:
    """Instead of the question for a password, which OpenSSL would put to the terminal."""
    raise ValueError(_CIPHERED)
