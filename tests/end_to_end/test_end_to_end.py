"""The whole path as people run it: worker processes, a broker, a Redis, and the commands."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result
from yarl import URL

from features.events.orders import Order, Reason
from features.times import MS_PER_DAY
from model.data.synthetic import write_csv
from streamer.admin.outcomes import by_week, endings
from streamer.admin.outcomes_page import Outcomes
from streamer.commands.cli import cli
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from streamer.orders import order_message
from streamer.records import Message
from tests.conftest import required
from tests.support import modelling
from tests.support.fakes import an_order, by_time, every, warned
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import ROOT, Deployment, Servers
from tests.support.servers.verifier import Verdict, verify

# A year's orders in some two seconds: long enough to be interrupted.
PACE = "18000000"
Deploy = Callable[..., Deployment]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "orders.csv"
    write_csv(modelling.orders(), path)
    return path


@pytest.fixture(scope="module")
def deploy(
    model: Path, kafka: EmbeddedKafka | ApacheKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deploy]:
    """Makes deployments, each with a Redis to itself."""
    with ExitStack() as stack:

        def make(name: str, **variables: str) -> Deployment:
            servers = Servers(kafka, stack.enter_context(required(EmbeddedRedis())))
            directory = tmp_path_factory.mktemp(name)
            return stack.enter_context(Deployment(name, servers, model, directory, **variables))

        yield make


def assert_as_replayed(verdict: Verdict) -> None:
    assert verdict.faults == []
    # The log has refunds, silences and drops: a run without warnings would prove little.
    assert verdict.warnings > 500
    assert verdict.customers == modelling.SHOP.customers


# --- interruptions -------------------------------------------------------------------------------


async def test_a_restart_in_the_middle_leaves_what_a_replay_gives(deploy: Deploy) -> None:
    deployment, orders = deploy("restarted"), list(modelling.orders())
    messages = [order_message(o, deployment.settings.orders_topic, "USD") for o in orders]
    half = len(messages) // 2
    await deployment.make_topics()
    await deployment.publish(messages[:half])
    worker = deployment.worker()
    await deployment.applied(half // 2)
    assert await worker.terminate() == 0
    await deployment.publish(messages[half:])
    deployment.worker()
    await deployment.settled(len(messages))
    verdict = await verify(deployment, orders)
    assert_as_replayed(verdict)
    # Who is told to end ends what it has begun: nothing is said twice.
    assert verdict.warning_copies == verdict.warnings
    assert verdict.score_copies == verdict.scores


async def test_a_worker_killed_halfway_through_produce_leaves_what_a_replay_gives(
    deploy: Deploy, log: Path
) -> None:
    deployment, orders = deploy("killed"), list(modelling.orders())
    worker = deployment.worker()
    await deployment.logged(worker, "worker.ready")
    producing = asyncio.create_task(deployment.run("produce", str(log), "--speed", PACE))
    await deployment.applied(len(orders) // 2)
    worker.kill()
    deployment.worker()
    produced = await producing
    assert produced.code == 0, produced.err
    await deployment.settled(len(orders))
    assert_as_replayed(await verify(deployment, orders))


async def test_a_worker_takes_over_the_partitions_of_one_that_was_killed(
    deploy: Deploy, log: Path
) -> None:
    deployment, orders = deploy("shared"), list(modelling.orders())
    ports = [free_port() for _ in range(2)]
    workers = [deployment.worker(CLV_WEB_PORT=str(port)) for port in ports]
    for worker in workers:
        await deployment.logged(worker, "partition.claimed", 2)
    producing = asyncio.create_task(deployment.run("produce", str(log), "--speed", PACE))
    await deployment.applied(len(orders) // 2)
    # Either answers for customers of either's partitions.
    for user_id in {order.user_id for order in orders[:40]}:
        path = f"/customers/{user_id}?as_of={orders[-1].ts_ms}"
        one, other = await asyncio.gather(*(asked_of(port, path) for port in ports))
        assert (one["user_id"], one["partition"]) == (user_id, other["partition"])
    workers[0].kill()
    assert (await producing).code == 0
    await deployment.settled(len(orders))
    assert_as_replayed(await verify(deployment, orders))


# --- one worker that lives on --------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(deploy: Deploy) -> Deployment:
    """A deployment with a worker that serves its health; its tests add orders of their own."""
    deployment = deploy("live", CLV_WEB_PORT=str(free_port()))
    deployment.worker()
    return deployment


def some_orders(user: str, count: int = 8) -> list[Order]:
    first_ms = modelling.orders()[0].ts_ms
    return [Order(f"{user}-{n}", user, first_ms + n * 9 * MS_PER_DAY, 2_500) for n in range(count)]


def as_messages(deployment: Deployment, orders: list[Order]) -> list[Message]:
    return [order_message(order, deployment.settings.orders_topic, "USD") for order in orders]


def _bad_records() -> dict[Reason, tuple[bytes | None, bytes | None]]:
    good = {"order_id": "1", "user_id": "ada", "ts": "2023-05-01T10:00:00Z", "amount": 12.5}

    def bad(**changes: object) -> bytes:
        return json.dumps({**good, **changes}).encode()

    return {
        Reason.EMPTY: (b"ada", b""),
        Reason.NOT_JSON: (b"\xff\x00", b'{"order_id": "\xfe"'),
        Reason.NOT_AN_OBJECT: (None, b"[1, 2]"),
        Reason.MISSING_FIELD: (b"ada", b'{"order_id": "1", "user_id": "ada"}'),
        Reason.BAD_USER_ID: (None, bad(user_id="")),
        Reason.KEY_MISMATCH: (b"eve", bad()),
        Reason.NAIVE_TS: (b"ada", bad(ts="2023-05-01T10:00:00")),
        Reason.FUTURE_TS: (b"ada", bad(ts="2999-01-01T00:00:00Z")),
        Reason.BAD_AMOUNT: (b"ada", bad(amount=-1)),
        Reason.BAD_TYPE: (b"ada", bad(type="gift")),
        Reason.WRONG_CURRENCY: (b"ada", bad(currency="EUR")),
    }


async def test_bad_records_become_dead_letters_with_their_origin_and_the_stream_goes_on(
    live: Deployment,
) -> None:
    topic, bad = live.settings.orders_topic, _bad_records()
    await live.make_topics()
    for (key, value), order in zip(bad.values(), some_orders("bo", len(bad)), strict=True):
        await live.publish([Message(topic, key, value), *as_messages(live, [order])])
    await live.settled()
    records = {(r.partition, r.offset): r for r in await live.read(topic)}
    letters = await live.read(live.settings.dead_letter_topic)
    found = {}
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers}
        record = records[int(headers["source_partition"]), int(headers["source_offset"])]
        assert headers["source_topic"] == topic
        assert headers["detail"]
        assert (letter.key, letter.value) == (record.key, record.value)
        found[Reason(headers["reason"])] = (letter.key, letter.value)
    assert found == bad
    assert (await verify(live)).faults == []


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_are_read(live: Deployment, codec: str) -> None:
    orders = some_orders(f"packed-{codec}", 30)
    await live.make_topics()
    producer = AIOKafkaProducer(
        bootstrap_servers=live.settings.kafka_bootstrap_servers,
        compression_type=codec,
        enable_idempotence=False,
        linger_ms=20,
    )
    await producer.start()
    try:
        sent = [
            await producer.send(m.topic, key=m.key, value=m.value)
            for m in as_messages(live, orders)
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    await live.settled()
    assert (await verify(live)).faults == []


async def test_a_ready_worker_answers_on_the_loopback_address_alone(live: Deployment) -> None:
    await live.logged(live.workers[0], "partition.opened", live.settings.partitions)
    port = live.settings.web_port

    def get(path: str, host: str = "127.0.0.1") -> tuple[int, object]:
        connection = HTTPConnection(host, port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    # Alive before its pages are there; then ready.
    assert await asyncio.to_thread(get, "/healthz") == (200, b'{"ok":true,"reasons":[]}')
    while (await asyncio.to_thread(get, "/readyz"))[0] == 503:
        await asyncio.sleep(0.05)
    assert await asyncio.to_thread(get, "/readyz") == (200, b'{"ok":true,"reasons":[]}')
    for path in ("/table/", "/router/", "/stats/", "/graph/", "/metrics/"):
        assert (await asyncio.to_thread(get, path))[0] == 404
    # A server on every address would answer here as well.
    with pytest.raises(OSError, match=r"refused|assign|unreachable"):
        await asyncio.to_thread(get, "/healthz", "127.0.0.2")


async def test_a_worker_says_that_it_is_ready_once_the_model_is_there(live: Deployment) -> None:
    worker = live.workers[0]
    await live.logged(worker, "worker.ready")
    said = [line.split()[2] for line in worker.log]
    assert said.index("model.read") < said.index("worker.ready")


async def test_show_prints_a_customer_that_the_worker_has(live: Deployment) -> None:
    orders = some_orders("cleo")
    await live.make_topics()
    await live.publish(as_messages(live, orders))
    await live.settled()
    text = await live.run("show", "cleo")
    assert (text.code, text.err) == (0, "")
    assert text.out.startswith("cleo  as of ")
    assert "200.00" in text.out
    # The same command without another process: scikit-learn is here already.
    as_json, unknown = [
        await asyncio.to_thread(CliRunner().invoke, cli, ["show", *arguments], env=live.environ)
        for arguments in (["cleo", "--json"], ["nobody"])
    ]
    shown = msgspec.json.decode(as_json.stdout)
    assert (shown["user_id"], shown["orders"], shown["net_revenue"]) == ("cleo", 8, 200.0)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("Error: no customer 'nobody' in ")
    assert len(unknown.stderr.splitlines()) == 1


async def test_the_api_answers_with_what_the_stream_has(live: Deployment) -> None:
    orders = some_orders("flo/ü")
    await live.make_topics()
    await live.publish(as_messages(live, orders))
    await live.settled()
    fields = [msgspec.json.decode(order_message(o, "orders", "USD").value or b"") for o in orders]
    port = live.settings.web_port
    asked = msgspec.json.encode({"records": [{"orders": fields}], "as_of": orders[-1].ts_ms})
    customer, prediction = await asyncio.gather(
        asked_of(port, f"/customers/flo%2F%C3%BC?as_of={orders[-1].ts_ms}"),
        asked_of(port, "/predict", asked),
    )
    assert (customer["user_id"], customer["orders"]) == ("flo/ü", 8)
    for name, value in prediction[0].items():
        assert customer[name] == value
    shown = await asyncio.to_thread(
        CliRunner().invoke,
        cli,
        ["show", "flo/ü", "--json", "--as-of", customer["as_of"]],
        env=live.environ,
    )
    said = msgspec.json.decode(shown.stdout)
    assert {name: customer[name] for name in said if name in customer} == {
        name: value for name, value in said.items() if name in customer
    }


async def asked_of(port: int, path: str, data: bytes | None = None, method: str = "GET") -> Any:
    """What a worker's API answers, once it has read the model."""
    url = URL(f"http://127.0.0.1:{port}{path}", encoded=True)
    headers = {"Content-Type": "application/json"}
    method = "POST" if data else method
    async with asyncio.timeout(60), ClientSession(timeout=ClientTimeout(20)) as session:
        while True:
            async with session.request(method, url, data=data, headers=headers) as answer:
                if answer.status != 503:
                    assert answer.status in (200, 202), await answer.text()
                    return await answer.json()
            await asyncio.sleep(0.1)


async def test_who_is_deleted_over_http_is_forgotten(deploy: Deploy) -> None:
    port = free_port()
    deployment = deploy("deleted", CLV_WEB_PORT=str(port))
    orders = [one for user in ("ann", "bob") for one in some_orders(user)]
    await deployment.make_topics()
    await deployment.publish(as_messages(deployment, orders))
    deployment.worker()
    await deployment.settled(len(orders))
    known = await asked_of(port, "/customers/ann?as_of=event-time")
    assert known["orders"] == 8
    told = await asked_of(port, "/customers/ann", method="DELETE")
    assert (told["user_id"], told["known"]) == ("ann", True)
    async with asyncio.timeout(60):
        with suppress(AssertionError):  # until it is answered with 404
            while True:
                await asked_of(port, "/customers/ann?as_of=event-time")
    # What they ordered before does not come back; what others did is still there.
    again = some_orders("ann")[:3]
    records = len(await deployment.read(deployment.settings.orders_topic))
    await deployment.publish(as_messages(deployment, again))
    await deployment.applied(records + len(again))
    with pytest.raises(AssertionError, match="no such customer"):
        await asked_of(port, "/customers/ann?as_of=event-time")
    assert (await asked_of(port, "/customers/bob?as_of=event-time"))["orders"] == 8
    markers = await deployment.read(deployment.settings.erasures_topic)
    assert markers
    assert b"ann" not in b"".join((one.key or b"") + (one.value or b"") for one in markers)


async def test_outcomes_are_read_from_the_topic(deploy: Deploy) -> None:
    deployment = deploy("outcomes")
    environ, topic = deployment.environ, deployment.settings.warnings_topic

    async def outcomes(*arguments: str) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, cli, ["outcomes", *arguments], env=environ
        )

    assert (await outcomes()).stdout == "No warnings yet.\n"
    histories = [every(f"user-{n}", 7, 3) for n in range(30)]
    records = warned(by_time(*histories, [an_order("user-3", 40.5)]), until_day=80)
    messages = [
        Message(topic, record.user_id.encode(), msgspec.json.encode(record)) for record in records
    ]
    # As after a restart: some are there twice.
    await deployment.publish([*messages, *messages[:10]])
    told = await outcomes("--json")
    assert (told.exit_code, told.stderr) == (0, "")
    weeks = msgspec.json.decode(told.stdout, type=Outcomes).weeks
    assert weeks == by_week(endings(records))
    assert sum(week.warnings for week in weeks) == 31
    await deployment.publish([Message(topic, b"x", b"no warning")])
    refused = await outcomes()
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"Error: {topic}-")
    assert len(refused.stderr.splitlines()) == 1


async def test_produce_leaves_out_bad_rows_and_says_which(live: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(
        "order_id,user_id,ts,amount\n"
        "1,dan,2023-05-01T10:00:00Z,12.50\n"
        "2,dan,yesterday,12.50\n"
        "3,dan,2023-05-02T10:00:00,12.50\n"
        "4,dan,2023-05-03T10:00:00,12.50\n"
        "5,dan,2023-05-04T10:00:00Z,-3.00\n"
    )
    produced = await live.run("produce", str(path))
    assert produced.code == 0
    assert produced.out == f"2 orders acknowledged by {live.settings.orders_topic}\n"
    assert "2 rows set aside (naive_ts), the first: " in produced.err
    assert f" set aside (bad_ts), the first: {path}, line 3: " in produced.err
    await live.settled()
    assert (await verify(live)).faults == []


# --- starting, or refusing to --------------------------------------------------------------------


async def test_commands_start_without_scikit_learn() -> None:
    """It takes seconds to import: a worker does so while the group assigns its partitions."""
    program = (
        "import streamer.commands.cli, sys; "
        "print([m for m in ('sklearn', 'scipy') if m in sys.modules])"
    )
    python = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert (await python.communicate())[0] == b"[]\n"


async def test_missing_settings_are_all_named_at_once(deploy: Deploy) -> None:
    names = ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "CLV_MODEL")
    refused = await deploy("unset").run("worker", without=names)
    assert (refused.code, refused.out) == (1, "")
    assert [name for name in names if f"{name} is not set" in refused.err] == list(names)
    assert "Traceback" not in refused.err


async def test_a_worker_refuses_a_model_that_does_not_fit_and_says_why(
    deploy: Deploy, model: Path, tmp_path: Path
) -> None:
    tampered = tmp_path / "tampered"
    shutil.copytree(model, tampered)
    file = tampered / "model.json"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    deployment = deploy("refused")
    refusals = {
        "SHA-256 of model.json": deployment.worker(CLV_MODEL=str(tampered)),
        "was trained on USD": deployment.worker(CLV_CURRENCY="EUR"),
    }
    for why, worker in refusals.items():
        assert await worker.ended(60) == 70
        assert "worker.stopped reason=" in worker.log[-1]
        assert why in worker.log[-1]
        assert not any("Traceback" in line for line in worker.log)
