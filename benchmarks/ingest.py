"""Records a second and core that `ingest` brings in: its pure part, and the process as a whole.

    python -m benchmarks.ingest [RECORDS]

Method: CPU time, of one process with one thread of BLAS. "plan" is bytes in, messages out, in
batches of 1,000, in this process. "whole" is `python -m streamer ingest` on the embedded broker,
from its first record to the last acknowledged and committed: fetching, plan, publishing, group;
the broker's CPU is not in it. Records: orders of the contract keyed by order (JSON and Avro),
Segment's Order Completed, Shopify's orders. Each number is the best of three passes for "plan", and
one pass for "whole"; an idle machine is assumed, and its load printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro

from features.events.orders import OrderRules
from features.mapping.presets import preset
from streamer.demo.embedded import EmbeddedKafka, free_port
from streamer.ingest.plan import Decoders, IngestTerms, ingest_plan
from streamer.ingest.schemas import AVRO, Schema, decoder
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.topics import Topic, ensure_topics
from streamer.reading import CanonicalReading, MappedReading
from streamer.records import Message, Partition

BATCH = 1_000
CUSTOMERS = 5_000
RULES = OrderRules(currency="EUR")
AT = datetime(2025, 3, 1, 10, tzinfo=UTC)
SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [
        *({"name": name, "type": "string"} for name in ("order_id", "user_id", "currency")),
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
        },
    ],
}


@dataclass(frozen=True)
class Raw:
    """A record that was fetched."""

    offset: int
    value: bytes
    key: bytes = b"order"
    timestamp: int = 1_750_000_000_000
    headers: tuple[()] = ()


def at(number: int) -> str:
    """A time that no other record has, so that nothing is known of it already."""
    return (AT + timedelta(seconds=number, milliseconds=7)).isoformat(timespec="milliseconds")


def contract(number: int) -> dict[str, Any]:
    user, ts = f"user-{number % CUSTOMERS}", at(number)
    return {"order_id": str(number), "user_id": user, "ts": ts, "amount": 25.5, "currency": "EUR"}


def segment(number: int) -> dict[str, Any]:
    products = [{"product_id": "a", "price": 12.5, "quantity": 2}]
    total = {"order_id": str(number), "total": 25.5, "currency": "EUR", "products": products}
    event = {"type": "track", "event": "Order Completed", "userId": f"user-{number % CUSTOMERS}"}
    return {**event, "timestamp": at(number), "messageId": f"m-{number}", "properties": total}


def shopify(number: int) -> dict[str, Any]:
    line = {"id": 1, "price": "25.50", "title": "a thing", "quantity": 1}
    return {
        "id": number + 1,
        "customer": {"id": 1 + number % CUSTOMERS, "email": "kim@shop.test"},
        **dict.fromkeys(("created_at", "processed_at", "updated_at"), at(number)),
        "cancelled_at": None,
        "financial_status": "paid",
        "test": False,
        "total_price": "25.50",
        "currency": "EUR",
        "refunds": [],
        "line_items": [line] * 3,
    }


def avro(number: int) -> bytes:
    buffer = BytesIO(b"\0\0\0\0\1")
    buffer.seek(5)
    record = {**contract(number), "ts": AT + timedelta(seconds=number, milliseconds=7)}
    fastavro.schemaless_writer(buffer, SCHEMA, {**record, "amount": Decimal("25.50")})
    return buffer.getvalue()


def values(count: int) -> Mapping[str, Sequence[bytes]]:
    numbers = range(count)
    return {
        "JSON of the contract": [json.dumps(contract(n)).encode() for n in numbers],
        "JSON of Segment": [json.dumps(segment(n)).encode() for n in numbers],
        "JSON of Shopify": [json.dumps(shopify(n)).encode() for n in numbers],
        "Avro of the contract": [avro(n) for n in numbers],
    }


OPTIONS = {"JSON of Segment": ["--preset=segment"], "JSON of Shopify": ["--preset=shopify"]}


def plan_s(name: str, records: Sequence[Raw]) -> float:
    """CPU seconds to plan the records."""
    known = {"JSON of Segment": "segment", "JSON of Shopify": "shopify"}.get(name)
    reading = MappedReading(preset(known), RULES) if known else CanonicalReading(RULES)
    decoders: Decoders = {1: decoder(Schema(AVRO, json.dumps(SCHEMA)))}
    terms, source = IngestTerms(reading, "orders", "dead", "EUR"), Partition("raw", 0)
    now_ms, orders = 1_750_000_000_000, 0
    began = time.process_time()
    for at in range(0, len(records), BATCH):
        orders += len(ingest_plan(records[at : at + BATCH], source, decoders, terms, now_ms).orders)
    took = time.process_time() - began
    assert orders == len(records)
    return took


def metrics(port: int) -> dict[str, float]:
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        text = urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:
        return {}
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


async def whole_s(name: str, given: Sequence[bytes], registry: str) -> float:
    """CPU seconds of a process that brings the values in."""
    with EmbeddedKafka() as kafka:
        await ensure_topics(kafka.bootstrap, [Topic("raw", 4)])
        publisher = KafkaPublisher(kafka.bootstrap)
        await publisher.start()
        port = free_port()
        environ = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "CLV_CURRENCY": "EUR",
            "CLV_SESSION_TIMEOUT": "2s",
            "CLV_WEB_PORT": str(port),
            "CLV_LOG_LEVEL": "WARNING",
            "CLV_SCHEMA_REGISTRY_URL": registry,
        }
        command = [sys.executable, "-m", "streamer", "ingest", "raw", *OPTIONS.get(name, [])]
        process = subprocess.Popen(command, env=environ)
        try:
            # Started and in its group before there is anything to do.
            await publisher.publish([Message("raw", b"first", given[0])])
            while (found := metrics(port)).get("clv_ingest_records_total", 0) < 1:
                await asyncio.sleep(0.2)
            before = found["process_cpu_seconds_total"]
            for at in range(0, len(given), 5_000):
                part = given[at : at + 5_000]
                await publisher.publish([Message("raw", b"%d" % n, v) for n, v in enumerate(part)])
            while (found := metrics(port))["clv_ingest_records_total"] < len(given) + 1:
                await asyncio.sleep(1.0)
            assert found["clv_ingest_orders_total"] == len(given) + 1
            return found["process_cpu_seconds_total"] - before
        finally:
            process.kill()
            process.wait()
            await publisher.close()


async def schemas() -> tuple[asyncio.Server, str]:
    """A registry of the one schema."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"schema": json.dumps(SCHEMA)}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body))
        writer.write(b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    model = platform.processor() or platform.machine()
    print(
        f"{count:,} records; {model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},"
        f" Python {platform.python_version()}, fastavro {fastavro.__version__}\n"
    )
    print("| records | bytes | plan, us | plan, a second | whole, us | whole, a second |")
    print("| --- | --- | --- | --- | --- | --- |")
    server, registry = await schemas()
    async with server:
        for name, given in values(count).items():
            records = [Raw(offset, value) for offset, value in enumerate(given)]
            plan = min(plan_s(name, records) for _ in range(3))
            whole = await whole_s(name, given, registry)
            size = sum(map(len, given)) // count
            cells = [f"{1e6 * s / count:.1f} | {count / s:,.0f}" for s in (plan, whole)]
            print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
