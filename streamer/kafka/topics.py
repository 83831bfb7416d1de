"""The five topics, and a way to make those that are missing.

In production, operators make the topics; `ensure_topics` is for the demo, the tests and the first
start. It asks for the list of all topics and never for one by name, because asking a broker for a
topic that is missing makes it, with partitions and settings of the broker's choosing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
    for_code,
)

from features.times import MS_PER_DAY
from streamer.errors import StreamerError
from streamer.settings import Settings

_POLL_S: Final = 0.05
_BROKER_DEFAULT: Final = -1
_ASK_WITHIN_MS: Final = 5_000
_LOGIN_ERRORS: Final = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)


class TopicsError(StreamerError):
    """The topics are not as they must be; the subclass says what to do."""


class KafkaUnreachable(TopicsError):
    """Start Kafka, or correct KAFKA_BOOTSTRAP_SERVERS and what secures the connection."""


class LoginRefused(KafkaUnreachable):
    """Correct CLV_KAFKA_USERNAME, CLV_KAFKA_PASSWORD and CLV_KAFKA_SASL_MECHANISM, or add the user
    to the brokers. Those that are just starting may not know their users yet."""


class CertificateRefused(KafkaUnreachable):
    """Set CLV_KAFKA_CA_FILE to the authority that signs the brokers, and name the brokers in
    KAFKA_BOOTSTRAP_SERVERS as their certificates do."""


class TopicRefused(TopicsError):
    """Make the topic yourself, or allow this user to make it."""


class TopicMissing(TopicsError):
    """Name the topic as it is called, or create it."""


class PartitionsDiffer(TopicsError):
    """Set the partitions in the configuration to what the topic has, or recreate the topic.

    Adding partitions to `orders` sends customers to partitions that do not hold their state.
    """


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be made. `replication` -1 leaves it to the broker.

    `exact`: an existing topic must have just as many partitions.
    """

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict, hash=False)
    replication: int = _BROKER_DEFAULT
    exact: bool = False


# 28 days everywhere: longer than any outage that is caught up, shorter than the month within which
# an erased customer has to be gone from topics that cannot delete a single record.
_FOUR_WEEKS: Final = {"cleanup.policy": "delete", "retention.ms": str(28 * MS_PER_DAY)}

ORDERS: Final = Topic("orders", 4, _FOUR_WEEKS, exact=True)
CHURN_WARNINGS: Final = Topic("churn-warnings", 4, _FOUR_WEEKS)
CLV_SCORES: Final = Topic("clv-scores", 4, {"cleanup.policy": "compact"})
# A dead letter is the record as it came, and headers: twice what a broker takes by default, so that
# none which fits `orders` stops a worker.
ORDERS_DEAD_LETTER: Final = Topic(
    "orders-dead-letter", 1, {**_FOUR_WEEKS, "max.message.bytes": str(2 * 2**20)}
)
CLV_ERASURES: Final = Topic("clv-erasures", 1, {"cleanup.policy": "compact"})
TOPICS: Final = (ORDERS, CHURN_WARNINGS, CLV_SCORES, ORDERS_DEAD_LETTER, CLV_ERASURES)


async def ensure_topics(
    bootstrap: str,
    topics: Sequence[Topic] = TOPICS,
    *,
    security: Mapping[str, Any] | None = None,
    timeout_s: float = 30.0,
) -> dict[str, int]:
    """How many partitions each topic has, once all of them exist and the broker says so.

    `security` goes to the Kafka client as it is. Raises KafkaUnreachable, TopicRefused,
    PartitionsDiffer (before anything is made).
    """
    async with admin_client(bootstrap, security, timeout_s) as admin:
        found = await _partitions(admin)
        _check(topics, found)
        while missing := [topic for topic in topics if topic.name not in found]:
            # Asked again until all brokers know the topic and its leaders; bounded by the timeout.
            await _create(admin, missing, timeout_s)
            found = await _partitions(admin)
            # Somebody else may have made it at the same time, with other partitions.
            _check(topics, found)
            await asyncio.sleep(_POLL_S)
        return {topic.name: found[topic.name] for topic in topics}


async def partitions_of(
    bootstrap: str,
    topic: str,
    *,
    security: Mapping[str, Any] | None = None,
    timeout_s: float = 30.0,
) -> int:
    """How many partitions a topic has that others make. Raises TopicMissing, KafkaUnreachable."""
    async with admin_client(bootstrap, security, timeout_s) as admin:
        found = await _partitions(admin)
    if topic not in found:
        raise TopicMissing(f"there is no topic {topic!r}, or it has no leader: create it first")
    return found[topic]


async def cluster_id(
    bootstrap: str, *, security: Mapping[str, Any] | None = None, timeout_s: float = 30.0
) -> str:
    """The id that the Kafka cluster gave itself. Offsets mean something within it only.

    Raises KafkaUnreachable.
    """
    async with admin_client(bootstrap, security, timeout_s) as admin:
        found = (await admin.describe_cluster()).get("cluster_id")
    if not found:
        raise KafkaUnreachable(f"the Kafka at {bootstrap} has no cluster id: older than 0.10.1?")
    return str(found)


@contextlib.asynccontextmanager
async def admin_client(
    bootstrap: str, security: Mapping[str, Any] | None, timeout_s: float
) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is connected. Raises KafkaUnreachable, also for what it is used for."""
    try:
        async with asyncio.timeout(timeout_s):
            admin = AIOKafkaAdminClient(
                bootstrap_servers=bootstrap,
                request_timeout_ms=int(timeout_s * 1000),
                **(security or {}),
            )
            try:
                await admin.start()
                yield admin
            finally:
                await admin.close()
    except TimeoutError:
        raise KafkaUnreachable(
            f"the Kafka at {bootstrap} did not do what was asked within {timeout_s:g} s"
        ) from None
    except (KafkaError, OSError) as error:
        # The client has told the log what happened, and raises that it did not connect.
        cause = await _cause(bootstrap, security or {})
        known = None if cause is None else refusal(bootstrap, cause)
        raise known or KafkaUnreachable(
            f"the Kafka at {bootstrap} cannot be used: {type(error).__name__}: {error}"
        ) from error


async def _cause(bootstrap: str, security: Mapping[str, Any]) -> Exception | None:
    """Why the first broker that says why lets nobody in; None where none does."""
    for server in bootstrap.split(",") if security else ():
        host, _, port = server.strip().rpartition(":")
        try:
            connection = await create_conn(
                host.strip("[]"), int(port), request_timeout_ms=_ASK_WITHIN_MS, **security
            )
        except (KafkaError, OSError, TimeoutError) as error:
            if refusal(server, error) is not None:
                return error
        else:
            connection.close()
    return None


def refusal(server: str, error: Exception) -> KafkaUnreachable | None:
    """The error in our words where a broker answers and refuses; None where it does not answer."""
    if isinstance(error, _LOGIN_ERRORS):
        said = f"{type(error).__name__}: {error}"
        return LoginRefused(
            f"the Kafka at {server} refuses the login ({said}); check CLV_KAFKA_USERNAME,"
            " CLV_KAFKA_PASSWORD and CLV_KAFKA_SASL_MECHANISM"
        )
    cause = error.__cause__ or error.__context__ or error
    for one in (error, cause):
        if isinstance(one, ssl.SSLError):
            return CertificateRefused(
                f"the Kafka at {server} is not talked to: {one}; check CLV_KAFKA_CA_FILE, the"
                " names in KAFKA_BOOTSTRAP_SERVERS and CLV_KAFKA_SECURITY_PROTOCOL"
            )
    return None


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Of each topic whose partitions all have a leader."""
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics()
        if topic["error_code"] == 0
        and topic["partitions"]
        and all(partition["leader"] >= 0 for partition in topic["partitions"])
    }


def _check(topics: Sequence[Topic], found: Mapping[str, int]) -> None:
    for topic in topics:
        partitions = found.get(topic.name, topic.partitions)
        if topic.exact and partitions != topic.partitions:
            raise PartitionsDiffer(
                f"topic {topic.name!r} has {partitions} partitions, and the configuration says "
                f"{topic.partitions}; set the configuration to {partitions}, or recreate the topic"
            )


async def _create(admin: AIOKafkaAdminClient, missing: Sequence[Topic], timeout_s: float) -> None:
    answer = await admin.create_topics(
        [
            NewTopic(
                name=topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                # aiokafka wants to be told, where it is not told how many, that it is told none.
                replica_assignments={} if topic.replication == _BROKER_DEFAULT else None,
                topic_configs=dict(topic.config),
            )
            for topic in missing
        ],
        timeout_ms=int(timeout_s * 1000),
    )
    for name, code, *details in answer.topic_errors:
        error = for_code(code)
        if code == 0 or error is TopicAlreadyExistsError or error.retriable:
            continue
        why = next((detail for detail in details if detail), None) or error.__name__
        remedy = (
            "allow this user to create topics, or create it yourself"
            if error in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)
            else "create it yourself, or correct its settings"
        )
        raise TopicRefused(f"Kafka does not make the topic {name!r}: {why}; {remedy}")


def topics_to_make(settings: Settings) -> list[Topic]:
    """The topics under their configured names; existing ones are taken as they are."""
    return [
        Topic(settings.orders_topic, settings.partitions, ORDERS.config),
        Topic(settings.warnings_topic, settings.partitions, CHURN_WARNINGS.config),
        Topic(settings.scores_topic, settings.partitions, CLV_SCORES.config),
        Topic(settings.dead_letter_topic, 1, ORDERS_DEAD_LETTER.config),
        Topic(settings.erasures_topic, 1, CLV_ERASURES.config),
    ]
