"""A schema registry on loopback that speaks the two calls `ingest` needs, and fails when told to.

`tests/kafka/test_ingest_registry.py` holds the same against Apicurio, a real one.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import fastavro
from aiohttp import web

ORDER_AVRO = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "user_id", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
        },
        {"name": "type", "type": "string", "default": "order"},
    ],
}
ORDER_PROTO = """
syntax = "proto3";
package shop;
message Envelope { string trace = 1; message Order {
  string order_id = 1; string user_id = 2; int64 ts = 3; double amount = 4; } }
"""


def prefixed(number: int, body: bytes) -> bytes:
    """A record with the prefix of a registry."""
    return struct.pack(">bI", 0, number) + body


def avro(number: int, record: dict[str, Any], schema: Any = None) -> bytes:
    """A record in Avro, prefixed."""
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema or ORDER_AVRO), record)
    return prefixed(number, buffer.getvalue())


@dataclass
class FakeRegistry:
    """`schemas` by id, `subjects` by (subject, version); `status` other than 200 is its answer to
    everything, `asked` counts requests."""

    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    status: int = 200
    asked: int = 0
    logins: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def by_id(self, request: web.Request) -> web.Response:
        return self._answer(request, self.schemas.get(int(request.match_info["number"])))

    async def by_subject(self, request: web.Request) -> web.Response:
        key = (request.match_info["subject"], int(request.match_info["version"]))
        return self._answer(request, self.subjects.get(key))

    def _answer(self, request: web.Request, found: dict[str, Any] | None) -> web.Response:
        self.asked += 1
        self.logins.append(request.headers.get("Authorization", ""))
        if self.status != 200:
            return web.Response(status=self.status, text="no")
        if found is None:
            return web.json_response({"error_code": 40403, "message": "not found"}, status=404)
        return web.json_response(found)


@asynccontextmanager
async def serving_schemas(port: int = 0) -> AsyncIterator[FakeRegistry]:
    registry = FakeRegistry()
    app = web.Application()
    app.router.add_get("/schemas/ids/{number}", registry.by_id)
    app.router.add_get("/subjects/{subject}/versions/{version}", registry.by_subject)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    registry.port = runner.addresses[0][1]
    try:
        yield registry
    finally:
        await runner.cleanup()
