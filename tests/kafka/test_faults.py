"""Brokers that end, stand still or answer wrongly, and logs that are cut: what workers make of it.

How long it took is printed (`-s` shows it), and asserted only as far as a worker must not hang.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from features.events.orders import Order
from streamer.kafka.publisher import KafkaPublisher
from streamer.orders import order_message
from streamer.records import Message, PublishFailed
from tests.conftest import required
from tests.kafka.conftest import Deploy
from tests.support import modelling
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment
from tests.support.servers.kafka_kit import administrating, delete_topic
from tests.support.servers.proxy import Api, behind_proxy
from tests.support.servers.verifier import Verdict, verify

pytestmark = pytest.mark.kafka

# No worker may need longer than this to go on by itself.
ALONE_S = 90.0


def messages_of(deployment: Deployment, orders: Sequence[Order]) -> list[Message]:
    return [order_message(order, deployment.settings.orders_topic, "USD") for order in orders]


def assert_as_replayed(verdict: Verdict) -> None:
    assert verdict.faults == []
    assert verdict.warnings > 500


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"\n{what}: {time.monotonic() - began:.1f} s", end="")


class Traffic:
    """Orders on their way in, fifty at a time, whatever becomes of the brokers; a list that was not
    acknowledged is sent again, so the topic may have some twice. The last third waits for `rest`.
    """

    def __init__(self, deployment: Deployment, orders: Sequence[Order]) -> None:
        self.rest = asyncio.Event()
        self._messages = messages_of(deployment, orders)
        self._publisher = KafkaPublisher(deployment.servers.kafka.bootstrap)
        self.sent = 0

    async def run(self) -> None:
        await self._publisher.start()
        try:
            while self.sent < len(self._messages):
                if self.sent > 2 * len(self._messages) // 3:
                    await self.rest.wait()
                part = self._messages[self.sent : self.sent + 50]
                try:
                    await self._publisher.publish(part)
                except PublishFailed:
                    await asyncio.sleep(0.5)
                    continue
                self.sent += len(part)
                await asyncio.sleep(0.05)
        finally:
            await self._publisher.close()


async def under_traffic(deployment: Deployment, fault: Callable[[], Awaitable[None]]) -> Verdict:
    """What is left once all orders are through, with the fault after a third of them."""
    orders = list(modelling.orders())
    await deployment.make_topics()
    traffic = Traffic(deployment, orders)
    running = asyncio.create_task(traffic.run())
    await deployment.applied(len(orders) // 3)
    with timed("fault to the next order applied"):
        await fault()
        sent = traffic.sent
        traffic.rest.set()
        await deployment.applied(sent + 100, within_s=ALONE_S)
    async with asyncio.timeout(ALONE_S):
        await running
    await deployment.settled(within_s=ALONE_S)
    return await verify(deployment)


# --- one broker ----------------------------------------------------------------------------------


async def test_the_first_order_is_scored_soon_after_a_worker_starts(
    apache_kafka: ApacheKafka, deploy: Deploy
) -> None:
    deployment = deploy("first", apache_kafka)
    await deployment.make_topics()
    await deployment.publish(messages_of(deployment, modelling.orders()[:1]))
    with timed("worker started to the first order scored"):
        deployment.worker()
        await deployment.applied(1)
    assert len(await deployment.read(deployment.settings.scores_topic)) == 1


async def test_orders_of_transactions_count_once_they_are_committed_and_only_then(
    apache_kafka: ApacheKafka, deploy: Deploy
) -> None:
    deployment, orders = deploy("transactions", apache_kafka), list(modelling.orders())
    messages = messages_of(deployment, orders)
    await deployment.make_topics()
    deployment.worker()
    producer = AIOKafkaProducer(
        bootstrap_servers=apache_kafka.bootstrap, transactional_id="shop", compression_type="lz4"
    )
    await producer.start()
    try:
        for start in range(0, len(messages), 250):
            part = messages[start : start + 250]
            for kept in (False, True):  # taken back at first, then done
                await producer.begin_transaction()
                acks = [await producer.send(m.topic, m.value, m.key) for m in part]
                await asyncio.gather(*acks)
                await (producer.commit_transaction() if kept else producer.abort_transaction())
    finally:
        await producer.stop()
    # Offsets count what was taken back, and markers, but for a marker that comes last.
    records = await deployment.read(deployment.settings.orders_topic)
    ends = {record.partition: record.offset + 1 for record in records}
    await deployment.settled(sum(ends.values()))
    assert_as_replayed(await verify(deployment, orders))


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_broker_that_restarts_is_waited_for(deploy: Deploy, how: str) -> None:
    with required(ApacheKafka()) as kafka:
        deployment = deploy(f"restart-{how}", kafka)
        worker = deployment.worker()

        async def restart() -> None:
            await asyncio.to_thread(kafka.kill if how == "kill" else kafka.stop)
            await asyncio.sleep(3)
            with timed(f"broker started again after {how}"):
                await asyncio.to_thread(kafka.start)

        assert_as_replayed(await under_traffic(deployment, restart))
        assert worker.alive


async def test_a_broker_that_stands_still_for_a_while_is_waited_for(deploy: Deploy) -> None:
    with required(ApacheKafka()) as kafka:
        deployment = deploy("still", kafka)
        worker = deployment.worker()

        async def stand_still() -> None:
            kafka.brokers[0].pause()
            await asyncio.sleep(10)  # five times the workers' session
            kafka.brokers[0].resume()

        assert_as_replayed(await under_traffic(deployment, stand_still))
        assert worker.alive


# --- three brokers -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["leader", "coordinator"])
async def test_one_broker_of_three_may_be_lost(deploy: Deploy, role: str) -> None:
    with required(ApacheKafka(3)) as kafka:
        deployment = deploy(f"lost-{role}", kafka)
        worker = deployment.worker()

        async def lose() -> None:
            number = await (_leader if role == "leader" else _coordinator)(deployment)
            await asyncio.to_thread(kafka.broker(number).kill)

        assert_as_replayed(await under_traffic(deployment, lose))
        assert worker.alive


async def _leader(deployment: Deployment) -> int:
    async with administrating(deployment.servers.kafka.bootstrap) as admin:
        (topic,) = await admin.describe_topics([deployment.settings.orders_topic])
        return int(topic["partitions"][0]["leader"])


async def _coordinator(deployment: Deployment) -> int:
    async with administrating(deployment.servers.kafka.bootstrap) as admin:
        return int(await admin.find_coordinator(deployment.settings.group))


# --- logs that do not fit ------------------------------------------------------------------------


async def _half_applied(deployment: Deployment) -> list[Message]:
    """Messages still to come, of a deployment whose worker has ended after half of them."""
    messages = messages_of(deployment, modelling.orders()[:2000])
    await deployment.make_topics()
    await deployment.publish(messages[:1000])
    worker = deployment.worker()
    await deployment.settled(1000)
    assert await worker.terminate() == 0
    return messages[1000:]


async def test_orders_that_retention_took_before_they_were_applied_stop_the_worker(
    apache_kafka: ApacheKafka, deploy: Deploy
) -> None:
    deployment = deploy("gap", apache_kafka)
    await deployment.publish(await _half_applied(deployment))
    ends: dict[int, int] = {}
    for record in await deployment.read(deployment.settings.orders_topic):
        ends[record.partition] = record.offset + 1
    topic = deployment.settings.orders_topic
    lost = {TopicPartition(topic, 0): RecordsToDelete(before_offset=ends[0])}
    async with administrating(apache_kafka.bootstrap) as admin:
        await admin.delete_records(lost)
    worker = deployment.worker()
    assert await worker.ended(60) == 70
    assert "worker.stopped reason=" in worker.log[-1]
    assert f"{topic}-0" in worker.log[-1]
    assert "orders are missing" in worker.log[-1]


async def test_a_topic_deleted_and_made_anew_stops_the_worker(
    apache_kafka: ApacheKafka, deploy: Deploy
) -> None:
    deployment = deploy("anew", apache_kafka)
    left = await _half_applied(deployment)
    await delete_topic(apache_kafka.bootstrap, deployment.settings.orders_topic)
    await deployment.make_topics()
    # Fewer than were applied, then more: the log's length alone must not decide it.
    for part in (left[:100], left):
        await deployment.publish(part)
        worker = deployment.worker()
        assert await worker.ended(60) == 70
        assert "worker.stopped reason=" in worker.log[-1]
        assert "recreated" in worker.log[-1]


# --- wrong answers (F7) --------------------------------------------------------------------------

_WRONG = [
    (Api.JOIN_GROUP, -1),  # unknown server error
    (Api.JOIN_GROUP, 23),  # inconsistent group protocol
    (Api.JOIN_GROUP, 26),  # invalid session timeout
    (Api.JOIN_GROUP, 30),  # group authorization failed
    (Api.SYNC_GROUP, -1),
    (Api.SYNC_GROUP, 30),
    (Api.SYNC_GROUP, 42),  # invalid request
    (Api.HEARTBEAT, -1),
    (Api.HEARTBEAT, 30),
]


async def test_no_error_of_the_coordinator_leaves_a_worker_idle(deploy: Deploy) -> None:
    """One worker, every error once: each at a rebalance that another member of the group causes."""
    kafka, proxy = behind_proxy()
    with required(kafka):
        async with proxy.running():
            deployment = deploy(
                "wrong",
                kafka,
                KAFKA_BOOTSTRAP_SERVERS=proxy.bootstrap,
                # No heartbeat is missed while another member comes and goes.
                CLV_SESSION_TIMEOUT="6s",
            )
            messages = iter(messages_of(deployment, list(modelling.orders())))
            await deployment.make_topics()
            worker, sent = deployment.worker(), 0
            for api, code in _WRONG:
                part = [next(messages) for _ in range(100)]
                await deployment.publish(part)
                sent += len(part)
                await deployment.applied(sent)
                proxy.spoil(api, code)
                with timed(f"{api.name} {code} to consuming again"):
                    await _come_and_go(deployment)
                    part = [next(messages) for _ in range(100)]
                    await deployment.publish(part)
                    sent += len(part)
                    await deployment.applied(sent, within_s=30)
                assert proxy.spoilt[-1:] == [(api, code)]
            assert worker.alive
            await deployment.settled()
            assert (await verify(deployment)).faults == []


async def _come_and_go(deployment: Deployment) -> None:
    """A member of the group that joins and leaves at once: two rebalances for the others."""
    settings = deployment.settings
    other = AIOKafkaConsumer(
        bootstrap_servers=deployment.servers.kafka.bootstrap,
        group_id=settings.group,
        partition_assignment_strategy=[RoundRobinPartitionAssignor],
        enable_auto_commit=False,
    )
    await other.start()
    other.subscribe([settings.orders_topic])
    await asyncio.sleep(2.0)
    await other.stop()
