from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from streamer.demo.embedded import EmbeddedRedis
from streamer.kafka.clients import kafka_arguments, redis_arguments, redis_store
from streamer.kafka.faust_app import faust_app, faust_credentials
from streamer.settings import Settings, SettingsRefused
from streamer.settings.fields import is_loopback
from streamer.store.base import StoreUnavailable
from streamer.store.redis_server import StoreAccessDenied
from streamer.store.redis_store import RedisStore
from tests.support.servers.certificates import Authority

LOGIN = {
    "CLV_KAFKA_SASL_MECHANISM": "scram-sha-512",
    "CLV_KAFKA_USERNAME": "streamer",
    "CLV_KAFKA_PASSWORD": "hunter2hunter2",
}


def settings_of(**variables: str) -> Settings:
    return Settings.load(variables, needs=())


def faults_of(variables: Mapping[str, str]) -> list[str]:
    try:
        Settings.load(variables, needs=())
    except SettingsRefused as refused:
        return refused.faults
    return []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# --- Kafka ---------------------------------------------------------------------------------------


def test_without_security_clients_are_told_nothing() -> None:
    assert kafka_arguments(Settings()) == {}
    assert faust_credentials(Settings()) is None
    assert redis_arguments(Settings()) == {}


def test_a_login_over_tls_reaches_every_client(authority: Authority) -> None:
    settings = settings_of(
        CLV_KAFKA_SECURITY_PROTOCOL="sasl_ssl", CLV_KAFKA_CA_FILE=str(authority.ca), **LOGIN
    )
    arguments = kafka_arguments(settings)
    context = arguments.pop("ssl_context")
    assert arguments == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "streamer",
        "sasl_plain_password": "hunter2hunter2",
    }
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    # No others than the one named.
    assert len(context.get_ca_certs()) == 1


def test_fausts_consumer_is_told_the_same(authority: Authority) -> None:
    settings = settings_of(
        KAFKA_BOOTSTRAP_SERVERS="kafka:9093",
        CLV_KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        CLV_KAFKA_CA_FILE=str(authority.ca),
        **LOGIN,
    )
    credentials = faust_app(settings).conf.broker_credentials
    assert isinstance(credentials, SASLCredentials)
    theirs = dict(credentials_to_aiokafka_auth(credentials))
    ours = kafka_arguments(settings)
    assert theirs.pop("ssl_context").check_hostname
    del ours["ssl_context"]
    assert theirs == ours
    assert "hunter2" not in repr(credentials)


def test_a_certificate_of_our_own_goes_without_a_login(authority: Authority) -> None:
    ours = authority.signs("worker")
    settings = settings_of(
        CLV_KAFKA_SECURITY_PROTOCOL="SSL",
        CLV_KAFKA_CA_FILE=str(authority.ca),
        CLV_KAFKA_CERT_FILE=str(ours.cert),
        CLV_KAFKA_KEY_FILE=str(ours.key),
    )
    assert set(kafka_arguments(settings)) == {"security_protocol", "ssl_context"}
    assert isinstance(faust_credentials(settings), SSLCredentials)


@pytest.mark.parametrize(
    ("variables", "faults"),
    [
        (
            {"CLV_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "CLV_KAFKA_USERNAME": "u"},
            [
                "CLV_KAFKA_SASL_MECHANISM is not set: CLV_KAFKA_SECURITY_PROTOCOL=SASL_SSL needs "
                "it",
                "CLV_KAFKA_PASSWORD is not set: CLV_KAFKA_SECURITY_PROTOCOL=SASL_SSL needs it",
            ],
        ),
        (
            {"CLV_KAFKA_PASSWORD": "hunter2"},
            ["CLV_KAFKA_PASSWORD is set: set CLV_KAFKA_SECURITY_PROTOCOL=SASL_SSL with it"],
        ),
        (
            {"CLV_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", **LOGIN},
            [
                "CLV_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT sends the login without TLS: use "
                "SASL_SSL, or say CLV_KAFKA_ALLOW_PLAINTEXT_SASL=on"
            ],
        ),
        (
            {"CLV_KAFKA_CA_FILE": __file__},
            ["CLV_KAFKA_CA_FILE is set: set CLV_KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL with it"],
        ),
        (
            {"CLV_KAFKA_SECURITY_PROTOCOL": "SSL", "CLV_KAFKA_CERT_FILE": __file__},
            ["CLV_KAFKA_KEY_FILE is not set: CLV_KAFKA_CERT_FILE needs it"],
        ),
        (
            {"CLV_KAFKA_SECURITY_PROTOCOL": "TLS"},
            [
                "CLV_KAFKA_SECURITY_PROTOCOL='TLS': use one of PLAINTEXT, SSL, SASL_SSL, "
                "SASL_PLAINTEXT"
            ],
        ),
        (
            {"CLV_KAFKA_SECURITY_PROTOCOL": "SSL", "CLV_KAFKA_CA_FILE": "/nowhere/ca.pem"},
            ["CLV_KAFKA_CA_FILE='/nowhere/ca.pem': cannot be read: No such file or directory"],
        ),
        (
            {"REDIS_URL": "redis://h", "CLV_REDIS_CA_FILE": __file__},
            ["CLV_REDIS_CA_FILE is set: write REDIS_URL=rediss://... with it"],
        ),
        (
            {"REDIS_URL": "rediss://h", "CLV_REDIS_KEY_FILE": __file__},
            ["CLV_REDIS_CERT_FILE is not set: CLV_REDIS_KEY_FILE needs it"],
        ),
        (
            {"CLV_WEB_BIND": "0.0.0.0"},
            [
                "CLV_WEB_BIND='0.0.0.0' is not a loopback address: set CLV_WEB_TOKEN, bind "
                "127.0.0.1, or switch the pages off with CLV_WEB_PORT=0"
            ],
        ),
        (
            {"CLV_WEB_TOKEN": "hunter2"},
            ["CLV_WEB_TOKEN: write 16 to 1024 printable characters without spaces"],
        ),
    ],
)
def test_what_is_half_configured_is_a_fault_that_names_the_variable(
    variables: dict[str, str], faults: list[str]
) -> None:
    assert faults_of(variables) == faults


@pytest.mark.parametrize(
    "variables",
    [
        {
            "CLV_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "CLV_KAFKA_ALLOW_PLAINTEXT_SASL": "on",
            **LOGIN,
        },
        {"CLV_KAFKA_SECURITY_PROTOCOL": "SSL"},
        {"CLV_WEB_BIND": "0.0.0.0", "CLV_WEB_TOKEN": "0123456789abcdef"},
        {"CLV_WEB_BIND": "0.0.0.0", "CLV_WEB_PORT": "0"},
        {"CLV_WEB_BIND": "::1"},
        {"CLV_WEB_BIND": "localhost"},
    ],
)
def test_what_is_whole_is_none(variables: dict[str, str]) -> None:
    assert faults_of(variables) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "kafka", "127.0.0.1.evil", ""])
def test_only_loopback_is_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_files_that_are_not_what_they_should_be_are_named(
    authority: Authority, tmp_path: Path
) -> None:
    one, other = authority.signs("one"), authority.signs("other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        load_pem_private_key(one.key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")
        )
    )
    ca = {"CLV_KAFKA_SECURITY_PROTOCOL": "SSL", "CLV_KAFKA_CA_FILE": str(empty)}
    with pytest.raises(SettingsRefused, match=r"^CLV_KAFKA_CA_FILE=.*has no certificates"):
        kafka_arguments(settings_of(**ca))
    for key, why in ((other.key, "is not the key of that"), (locked, "the key is encrypted")):
        files = {"CLV_REDIS_CERT_FILE": str(one.cert), "CLV_REDIS_KEY_FILE": str(key)}
        with pytest.raises(SettingsRefused, match=rf"^CLV_REDIS_CERT_FILE=.*{why}"):
            redis_arguments(settings_of(REDIS_URL="rediss://h", **files))


def test_secrets_are_known_in_every_form_and_shown_in_none() -> None:
    settings = settings_of(
        REDIS_URL="rediss://user:p%40ss%2Fword@store",
        CLV_KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        CLV_WEB_TOKEN="a-token-of-the-web",
        **LOGIN,
    )
    assert set(settings.secrets) >= {
        "p%40ss%2Fword",
        "p@ss/word",
        "hunter2hunter2",
        "a-token-of-the-web",
    }
    for text in (repr(settings), str(settings), f"{settings.model_dump()}"):
        assert not [secret for secret in settings.secrets if secret in text]


# --- Redis: the embedded server speaks no TLS, so a proxy ends it before it -----------------------


@asynccontextmanager
async def behind_tls(redis: EmbeddedRedis, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port at which the Redis is reached over TLS."""
    socket_path = unquote(urlsplit(redis.url).path)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(socket_path)
        both = [asyncio.create_task(pump(reader, ours)), asyncio.create_task(pump(theirs, writer))]
        tasks.update(both)
        await asyncio.wait(both)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def server_context(authority: Authority, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.signs(*names).both)
    return context


def store_at(url: str, **variables: str) -> RedisStore:
    return redis_store(settings_of(REDIS_URL=url, **variables), uuid.uuid4().hex)


async def test_a_redis_is_reached_over_tls(
    embedded_redis: EmbeddedRedis, authority: Authority
) -> None:
    async with behind_tls(embedded_redis, server_context(authority, "127.0.0.1")) as port:
        store = store_at(f"rediss://127.0.0.1:{port}", CLV_REDIS_CA_FILE=str(authority.ca))
        await store.check_server()
        await store.close()


async def test_a_redis_of_an_unknown_authority_is_not_talked_to(
    embedded_redis: EmbeddedRedis, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    async with behind_tls(embedded_redis, server_context(stranger, "127.0.0.1")) as port:
        for options in ("", "?ssl_cert_reqs=none", "?ssl_check_hostname=false&ssl_cert_reqs=none"):
            store = store_at(
                f"rediss://127.0.0.1:{port}{options}", CLV_REDIS_CA_FILE=str(authority.ca)
            )
            with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await store.ping()
            await store.close()


async def test_a_redis_with_another_name_in_its_certificate_is_not_talked_to(
    embedded_redis: EmbeddedRedis, authority: Authority
) -> None:
    async with behind_tls(embedded_redis, server_context(authority, "elsewhere.test")) as port:
        store = store_at(
            f"rediss://127.0.0.1:{port}?ssl_check_hostname=false",
            CLV_REDIS_CA_FILE=str(authority.ca),
        )
        with pytest.raises(StoreUnavailable, match="mismatch"):
            await store.ping()
        await store.close()


async def test_a_redis_that_wants_a_certificate_gets_ours(
    embedded_redis: EmbeddedRedis, authority: Authority
) -> None:
    context = server_context(authority, "127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca)
    ours = authority.signs("worker")
    async with behind_tls(embedded_redis, context) as port:
        url = f"rediss://127.0.0.1:{port}"
        with_it = store_at(
            url,
            CLV_REDIS_CA_FILE=str(authority.ca),
            CLV_REDIS_CERT_FILE=str(ours.cert),
            CLV_REDIS_KEY_FILE=str(ours.key),
        )
        await with_it.ping()
        await with_it.close()
        without = store_at(url, CLV_REDIS_CA_FILE=str(authority.ca))
        with pytest.raises(StoreUnavailable):
            await without.ping()
        await without.close()


async def test_a_wrong_password_is_not_repeated_in_the_refusal(
    embedded_redis: EmbeddedRedis,
) -> None:
    path = urlsplit(embedded_redis.url).path
    store = store_at(f"unix://nobody:hunter2hunter2@{path}")
    with pytest.raises(StoreAccessDenied) as denied:
        await store.ping()
    assert "hunter2" not in str(denied.value)
    assert "hunter2" not in repr(store)
    await store.close()
