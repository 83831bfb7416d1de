"""Servers of Redis for the tests of recovery: clusters, replicas, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from streamer.demo.embedded import EmbeddedRedis, free_port
from tests.conftest import required

SLOTS = 16_384


@dataclass(frozen=True)
class Node:
    """A server that listens on a port, too."""

    server: EmbeddedRedis
    port: int

    def client(self) -> Redis:
        return Redis(port=self.port, socket_timeout=5)


@contextmanager
def listening(options: Sequence[str] = ()) -> Iterator[Node]:
    port = free_port()
    more = ("--port", str(port), "--bind", "127.0.0.1", *options)
    with required(EmbeddedRedis(options=more)) as server:
        yield Node(server, port)


def cluster_url(nodes: Sequence[Node]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


@contextmanager
def cluster_nodes(count: int) -> Iterator[list[Node]]:
    """Servers that can become a cluster."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(count):
            bus = ("--cluster-port", str(free_port()))
            nodes.append(stack.enter_context(listening((*options, *bus))))
        yield nodes


@contextmanager
def cluster(masters: int, replicas: int = 0) -> Iterator[list[Node]]:
    """A cluster that takes commands: masters, then replicas, the n-th of the n-th master."""
    with cluster_nodes(masters + replicas) as nodes, ThreadPoolExecutor(1) as thread:
        # In a thread of its own, because the fixture may be asked for from within a loop.
        thread.submit(asyncio.run, join(nodes[:masters], nodes[masters:])).result()
        yield nodes


async def join(masters: Sequence[Node], replicas: Sequence[Node] = ()) -> None:
    """Makes a cluster of them: slots in equal parts, the n-th replica following the n-th master."""
    everyone = [*masters, *replicas]
    async with clients(everyone) as found:
        first = found[0]
        buses = [await _bus_port(client) for client in found]
        for node, bus in zip(everyone[1:], buses[1:], strict=True):
            await first.execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        for number, client in enumerate(found[: len(masters)]):
            start, end = (SLOTS * (number + step) // len(masters) for step in (0, 1))
            await client.execute_command("CLUSTER ADDSLOTSRANGE", start, end - 1)
        await until_every(found, lambda info: info["cluster_known_nodes"] == str(len(everyone)))
        ids = [_text(await client.execute_command("CLUSTER MYID")) for client in found]
        for number, client in enumerate(found[len(masters) :]):
            await client.execute_command("CLUSTER REPLICATE", ids[number])
        await until_every(found, lambda info: info["cluster_state"] == "ok")


async def until_every(found: Sequence[Redis], holds: Any, within_s: float = 20.0) -> None:
    """Returns once `holds` is true of every server's CLUSTER INFO."""
    async with asyncio.timeout(within_s):
        for client in found:
            while not holds(await cluster_info(client)):
                await asyncio.sleep(0.05)


async def cluster_info(client: Redis) -> dict[str, str]:
    info: Any = await client.execute_command("CLUSTER INFO")
    if isinstance(info, dict):
        return {_text(name): _text(value) for name, value in info.items()}
    lines = _text(info).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@asynccontextmanager
async def clients(nodes: Sequence[Node]) -> AsyncIterator[list[Redis]]:
    found = [node.client() for node in nodes]
    try:
        yield found
    finally:
        for client in found:
            await client.aclose()


async def in_step(replica: Redis, master: Redis, within_s: float = 10.0) -> None:
    """Returns once the replica has all that the master has."""
    async with asyncio.timeout(within_s):
        while True:
            there, here = await replica.info("replication"), await master.info("replication")
            linked = there.get("master_link_status") == "up"
            if linked and there["slave_repl_offset"] == here["master_repl_offset"]:
                return
            await asyncio.sleep(0.02)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def _bus_port(client: Redis) -> int:
    found: Any = await client.config_get("cluster-port")
    return int(found["cluster-port"])
