"""Workers and commands on a broker with TLS and logins, by the rights of docs/security.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import CreateAclsRequest

from model.data.synthetic import write_csv
from streamer.kafka.clients import ensure_topics
from streamer.kafka.topics import TopicsError
from streamer.orders import order_message
from streamer.records import Message
from streamer.settings import Settings
from tests.conftest import required
from tests.kafka.conftest import Deploy
from tests.support import modelling
from tests.support.servers.certificates import Authority
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment
from tests.support.servers.verifier import verify

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.kafka

USER = "streamer"
PASSWORD = "a-hidden-password-of-kafka"
# https://kafka.apache.org/protocol: what stands for what in an ACL.
_RESOURCES = {"topic": 2, "group": 3}
_OPERATIONS = {"Read": 3, "Write": 4, "Describe": 8}
_LITERAL, _ALLOW = 3, 3
_LOGIN = "org.apache.kafka.common.security"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def kafka(authority: Authority) -> Iterator[ApacheKafka]:
    """SECURE wants TLS and a login, MUTUAL a certificate; only those without either (PLAIN, which
    the tests look in by) may do everything."""
    server = authority.signs("127.0.0.1")
    keystore = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.ca),
    }
    properties = {
        "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": (
            f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        ),
        **{
            f"listener.name.secure.scram-sha-{bits}.sasl.jaas.config": (
                f"{_LOGIN}.scram.ScramLoginModule required;"
            )
            for bits in (256, 512)
        },
        **{f"listener.name.secure.{name}": value for name, value in keystore.items()},
        **{f"listener.name.mutual.{name}": value for name, value in keystore.items()},
        "listener.name.mutual.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    users = [
        option
        for bits in (256, 512)
        for option in ("--add-scram", f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]")
    ]
    cluster = ApacheKafka(
        listeners={"SECURE": "SASL_SSL", "MUTUAL": "SSL"},
        properties=properties,
        format_options=users,
    )
    with required(cluster) as running:
        yield running


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "orders.csv"
    write_csv(modelling.orders(), path)
    return path


def secured(kafka: ApacheKafka, authority: Authority, mechanism: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_of("SECURE"),
        "CLV_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "CLV_KAFKA_SASL_MECHANISM": mechanism,
        "CLV_KAFKA_USERNAME": USER,
        "CLV_KAFKA_PASSWORD": PASSWORD,
        "CLV_KAFKA_CA_FILE": str(authority.ca),
        "CLV_LOG_LEVEL": "DEBUG",
    }


async def grant(
    kafka: ApacheKafka, resource: str, name: str, *operations: str, user: str = USER
) -> None:
    """Allows a user these operations."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        for operation in operations:
            # aiokafka knows the request, and has no method for it.
            answer = await admin._send_to_controller(
                CreateAclsRequest(
                    _RESOURCES[resource],
                    name,
                    _LITERAL,
                    f"User:{user}",
                    "*",
                    _OPERATIONS[operation],
                    _ALLOW,
                )
            )
            assert [code for code, _ in answer.creation_responses] == [0]
    finally:
        await admin.close()


async def allow(
    kafka: ApacheKafka, deployment: Deployment, user: str = USER, but: str | None = None
) -> None:
    """The rights of docs/security.md; none on the topic `but`."""
    settings = deployment.settings
    for topic in (settings.orders_topic, settings.erasures_topic):
        await grant(kafka, "topic", topic, "Read", "Describe", user=user)
    await grant(kafka, "group", settings.group, "Read", "Describe", user=user)
    for topic in (settings.warnings_topic, settings.scores_topic, settings.dead_letter_topic):
        operations = ("Describe",) if topic == but else ("Write", "Describe")
        await grant(kafka, "topic", topic, *operations, user=user)


def orders_of(deployment: Deployment) -> list[Message]:
    topic = deployment.settings.orders_topic
    return [order_message(order, topic, "USD") for order in modelling.orders()]


def assert_secret(text: str) -> None:
    assert PASSWORD not in text
    assert "user-0" not in text


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_a_worker_with_a_login_over_tls_needs_no_more_rights_than_the_page_says(
    kafka: ApacheKafka, authority: Authority, deploy: Deploy, log: Path, mechanism: str
) -> None:
    name = f"login-{mechanism.lower()}"
    deployment = deploy(name, kafka, **secured(kafka, authority, mechanism))
    await deployment.make_topics()
    await allow(kafka, deployment)
    worker = deployment.worker()
    await deployment.logged(worker, "partition.opened", deployment.settings.partitions)
    # What the page says of `produce`.
    await grant(kafka, "topic", deployment.settings.orders_topic, "Write")
    produced = await deployment.run("produce", str(log))
    assert produced.code == 0, produced.err
    await deployment.settled(len(modelling.orders()))
    assert (await verify(deployment)).faults == []
    shown = await deployment.run("show", modelling.orders()[0].user_id)
    assert (shown.code, shown.err) == (0, "")
    assert await worker.terminate() == 0
    assert_secret("\n".join(worker.log))


async def test_a_certificate_of_our_own_is_a_login(
    kafka: ApacheKafka, authority: Authority, deploy: Deploy
) -> None:
    ours = authority.signs("worker.test")
    deployment = deploy(
        "mutual",
        kafka,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_of("MUTUAL"),
        CLV_KAFKA_SECURITY_PROTOCOL="SSL",
        CLV_KAFKA_CA_FILE=str(authority.ca),
        CLV_KAFKA_CERT_FILE=str(ours.cert),
        CLV_KAFKA_KEY_FILE=str(ours.key),
    )
    await deployment.make_topics()
    # Its name there is the certificate's, which this authority fills with words of its own.
    await allow(kafka, deployment, user="*")
    worker = deployment.worker()
    await deployment.publish(orders_of(deployment))
    await deployment.settled()
    assert (await verify(deployment)).faults == []
    assert await worker.terminate() == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"CLV_KAFKA_PASSWORD": "not-" + PASSWORD}, "refuses the login (SaslAuthenticationFailed"),
        ({"CLV_KAFKA_USERNAME": "nobody"}, "refuses the login (SaslAuthenticationFailed"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "localhost"}, "Hostname mismatch"),
        ({"CLV_KAFKA_CA_FILE": "stranger"}, "CERTIFICATE_VERIFY_FAILED"),
    ],
    ids=["password", "user", "name", "authority"],
)
async def test_who_cannot_be_trusted_is_not_talked_to_and_the_log_says_why(
    kafka: ApacheKafka,
    authority: Authority,
    deploy: Deploy,
    tmp_path: Path,
    change: dict[str, str],
    why: str,
) -> None:
    if "CLV_KAFKA_CA_FILE" in change:
        change = {"CLV_KAFKA_CA_FILE": str(Authority(tmp_path / "stranger").ca)}
    if "KAFKA_BOOTSTRAP_SERVERS" in change:
        # The broker's certificate is for its address.
        port = kafka.bootstrap_of("SECURE").rpartition(":")[2]
        change = {"KAFKA_BOOTSTRAP_SERVERS": f"localhost:{port}"}
    variables = secured(kafka, authority, "SCRAM-SHA-512") | change
    deployment = deploy("refused", kafka, **variables, CLV_WATCHDOG="4s")
    worker = deployment.worker()
    assert await worker.ended(60.0) == 70
    said = "\n".join(worker.log)
    assert "worker.stopped reason=" in worker.log[-1]
    assert why in worker.log[-1]
    assert_secret(said)


async def test_a_missing_right_ends_the_worker_with_what_to_do_and_nothing_is_lost(
    kafka: ApacheKafka, authority: Authority, deploy: Deploy
) -> None:
    deployment = deploy("barred", kafka, **secured(kafka, authority, "SCRAM-SHA-512"))
    settings = deployment.settings
    await deployment.make_topics()
    await allow(kafka, deployment, but=settings.warnings_topic)
    worker = deployment.worker()
    await deployment.publish(orders_of(deployment))
    assert await worker.ended(60.0) == 70
    assert "may not write there; allow it" in worker.log[-1]
    assert settings.warnings_topic in worker.log[-1]
    await grant(kafka, "topic", settings.warnings_topic, "Write")
    deployment.worker()
    await deployment.settled(len(modelling.orders()))
    assert (await verify(deployment)).faults == []


async def test_a_dead_letter_too_large_for_its_topic_is_cut_and_the_next_order_counts(
    kafka: ApacheKafka, deploy: Deploy
) -> None:
    deployment = deploy("large", kafka)
    await deployment.make_topics()
    orders, letters = deployment.settings.orders_topic, deployment.settings.dead_letter_topic
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        limit = ConfigResource(ConfigResourceType.TOPIC, letters, {"max.message.bytes": "1000"})
        await admin.alter_configs([limit])
    finally:
        await admin.close()
    good = (
        b'{"order_id": "1", "user_id": "k", "ts": "2024-01-10T10:00:00Z", "amount": 12.5,'
        b' "currency": "USD"}'
    )
    deployment.worker()
    await deployment.publish([Message(orders, b"k", b"x" * 5_000)])
    await deployment.publish([Message(orders, b"k", good)])
    await deployment.settled()
    (letter,) = await deployment.read(letters)
    assert dict(letter.headers)["value_size"] == b"5000"
    assert len(letter.value or b"") < 1_000
    scores = await deployment.read(deployment.settings.scores_topic)
    assert {score.key for score in scores} == {b"k"}


async def test_the_largest_bad_record_that_kafka_takes_becomes_a_dead_letter(
    kafka: ApacheKafka, deploy: Deploy
) -> None:
    deployment = deploy("largest", kafka)
    await deployment.make_topics()
    value = b"x" * 1_048_500  # some bytes of a batch are its own
    await deployment.publish([Message(deployment.settings.orders_topic, b"k", value)])
    worker = deployment.worker()
    await deployment.settled(1)
    letters = await deployment.read(deployment.settings.dead_letter_topic)
    assert [letter.value for letter in letters] == [value]
    assert await worker.terminate() == 0


async def test_the_broker_of_the_compose_file_takes_who_has_its_password_alone() -> None:
    """Its listeners and logins as the image makes properties of its variables, on other ports."""
    text = (ROOT / "docker-compose.yml").read_text()
    services = yaml.safe_load(re.sub(r"\$\{KAFKA_PASSWORD(:\?[^}]*)?\}", PASSWORD, text))[
        "services"
    ]
    variables = services["kafka"]["environment"]
    properties = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in variables.items()
        if "SASL" in name or name == "KAFKA_INTER_BROKER_LISTENER_NAME"
    }
    protocols = variables["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    listeners = dict(one.split(":") for one in protocols if not one.startswith("CONTROLLER:"))
    given = {
        name: value
        for name, value in services["worker"]["environment"].items()
        if name.startswith("CLV_KAFKA_")
    }
    with required(ApacheKafka(listeners=listeners, properties=properties)) as kafka:
        for listener in ("INSIDE", "HOST"):
            given["KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_of(listener)
            assert (await ensure_topics(Settings.load(given, needs=())))["orders"] == 4
            stranger = given | {"CLV_KAFKA_PASSWORD": "guessed"}
            with pytest.raises(TopicsError, match="login"):
                await ensure_topics(Settings.load(stranger, needs=()))
            (client,) = re.findall(r'username="(\w+)" password="', variables["CLIENT_CONFIG"])
            assert client == given["CLV_KAFKA_USERNAME"]
