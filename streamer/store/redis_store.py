"""A StateStore on Redis or Valkey (6.2 or later), one server or a cluster.

With the hiredis extension beside redis-py, which finds it by itself, reading a customer takes a
quarter of the time (4 µs instead of 15).

Keys, all of one partition under one hash tag and so in one slot of a cluster:

    <namespace>:<kafka cluster id>:{<topic>-<partition>}:meta      hash: epoch, sequence, next,
                                                                   high_ts, partitions, schema,
                                                                   outbox_first, first,
                                                                   topic_id, trail
                                                        :c:<user>  the customer's state
                                                        :due       sorted set: user, instant in ms
                                                        :outbox    list
                                                        :quarantine  hash: user, damaged bytes
    <namespace>:<kafka cluster id>:{<topic>}:partitions            how many the topic had
    <namespace>:<kafka cluster id>:{<dead letters>-<partition>}:redriven:<offset // 65,536>
                                                                   a bit for each dead letter

`partitions` is the topic's own: when a topic grows, its new partitions have no meta that would say
so, and a worker that owns only new ones would score old customers as new. It lies in a slot of its
own, and is only ever read and set by itself, so no write needs two slots.

The Kafka cluster's id is part of the name because offsets mean something in one cluster only.

No key expires. The server's user needs `~<namespace>:*` and +@read +@write +@scripting +info +ping.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from redis import exceptions as errors
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamer.records import Partition
from streamer.store.base import (
    QUARANTINE_SIZE,
    Claim,
    EvictionPolicyUnsafe,
    NewerSchema,
    Outbox,
    Outcome,
    PartitionCountChanged,
    Stored,
    StoreRefused,
    StoreUnavailable,
    TopicRecreated,
    Write,
)

SCHEMA: Final = 1
"""Layout of the keys above. A store with a higher one is refused, never overwritten."""

MIN_SERVER: Final = (6, 2)
"""ZMSCORE came with 6.2."""

# Customers per round trip of load. It holds the server for 1 µs each, so for 5 ms at most.
_LOAD_CHUNK: Final = 5_000

# Bits of one key of marks: 8 kB at most, however far the offsets of a topic have come.
_MARKS: Final = 65_536

# Keys deleted in one command.
_RESET_CHUNK: Final = 500

# Error codes after which the same command may succeed. They stand at the start of the text, or
# inside it where a script ran into them.
_PASSING: Final = re.compile(
    r"\b(OOM|READONLY|LOADING|MISCONF|BUSY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|TRYAGAIN|NOSCRIPT)\b"
)
_PASSING_ERRORS: Final = (
    errors.ConnectionError,
    errors.TimeoutError,
    errors.ReadOnlyError,
    errors.OutOfMemoryError,
    errors.ClusterError,
    errors.SlotNotCoveredError,
    errors.TryAgainError,
    errors.NoScriptError,
    OSError,
)
_ACCESS_ERRORS: Final = (
    errors.AuthenticationError,
    errors.AuthorizationError,
    errors.NoPermissionError,
    errors.AuthenticationWrongNumberOfArgsError,
)


_NOT_OF_A_CLUSTER: Final = ("connection_class", "db", "host", "path", "port")
_CLUSTER_SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


class StoreUrlInvalid(StoreRefused):
    """Give `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS,
    `unix:///path/to/socket`, or `redis+cluster://[user:password@]host:port[,host:port…]`
    (`rediss+cluster://…` for TLS); special characters of a password percent-encoded."""


class ClusterExpected(StoreRefused):
    """Say what the server is: `redis+cluster://host:port` for a cluster, `redis://…` for one
    server by itself."""


class StoreAccessDenied(StoreRefused):
    """Correct the user or password in the URL, or the server's rules for that user."""


class ForeignData(StoreRefused):
    """Choose another namespace, or remove the keys that are in the way: they were not written by
    this program, or only part of what it wrote is left."""


class ServerTooOld(StoreRefused):
    """Use Redis 6.2 or later, or any Valkey."""


class RedisStore:
    """Safe for one task per partition at a time, and any number of partitions at once."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        cluster_id: str,
        namespace: str = "clv",
        address: str = "redis",
    ) -> None:
        """`client` must not decode responses. `address` stands for the server in messages."""
        for name, value in (("namespace", namespace), ("cluster id", cluster_id)):
            if not value or "{" in value or "}" in value:
                raise StoreRefused(
                    f"{name} {value!r} cannot be part of a key: it must not be empty, nor have "
                    "braces in it, which would change the slot that a partition is kept in"
                )
        self.address = address
        self._root = f"{namespace}:{cluster_id}:"
        self._as_cluster: Callable[[], RedisCluster] | None = None
        self._use(client)

    def _use(self, client: Redis | RedisCluster) -> None:
        self._client = client
        self._claim, self._write, self._trim, self._remove, self._seize, self._reset = (
            client.register_script(_source(name))
            for name in ("claim", "write", "trim", "remove", "seize", "reset")
        )

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        cluster_id: str,
        namespace: str = "clv",
        timeout_s: float = 5.0,
        security: Mapping[str, Any] | None = None,
    ) -> RedisStore:
        """A store that connects when first used. `timeout_s` bounds every answer; `security` goes
        to connections with TLS as it is (ssl_ca_certs, ...)."""
        try:
            in_cluster, nodes, plain = _nodes_of(url)
            # What the URL may change, what it says, and below what it must not change.
            options: dict[str, Any] = {
                "socket_connect_timeout": timeout_s,
                "socket_timeout": timeout_s,
            }
            options |= dict(parse_url(plain))
            address = redacted(url)
            if in_cluster and options.get("db"):
                raise ValueError("a cluster has no databases")
        except ValueError:
            # Without the cause: it may quote the URL, and the URL may hold a password.
            raise StoreUrlInvalid(
                f"not a Redis URL; {' '.join((StoreUrlInvalid.__doc__ or '').split())}"
            ) from None
        if options.get("connection_class") is SSLConnection:
            options |= security or {}
            # Whatever the URL says: who shows no certificate of that name gets no password.
            options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        # A newer protocol, asked for by name, changes the shape of redis-py's answers.
        options.pop("protocol", None)
        options |= {
            "decode_responses": False,
            # One more try is for a connection that the server closed while it was idle; every
            # script here may run twice. Longer outages are the caller's to wait out and to show.
            "retry": Retry(NoBackoff(), 1, supported_errors=(errors.ConnectionError,)),
        }
        if in_cluster:
            cluster = _cluster(options, nodes)
            return cls(cluster, cluster_id=cluster_id, namespace=namespace, address=address)
        client = Redis(connection_pool=ConnectionPool(**options))
        client.auto_close_connection_pool = True
        store = cls(client, cluster_id=cluster_id, namespace=namespace, address=address)
        if "path" not in options and not options.get("db"):
            store._as_cluster = partial(_cluster, options, nodes)
        return store

    def __repr__(self) -> str:
        return f"RedisStore({self.address}, {self._root}*)"

    async def claim(
        self,
        partition: Partition,
        partition_count: int,
        *,
        log_start: int = 0,
        topic_id: str = "",
    ) -> Claim:
        """Also raises ForeignData."""
        count_key = self._count_key(partition.topic)
        prefix = self._prefix(partition)
        async with self._errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.set(count_key, partition_count, nx=True)
                pipeline.get(count_key)
                stored_count = (await pipeline.execute())[1]
            if int(stored_count) != partition_count:
                raise PartitionCountChanged(partition.topic, int(stored_count), partition_count)
            reply = await self._claim(
                keys=[prefix + b"meta", prefix + b"due", prefix + b"outbox"],
                args=[partition_count, SCHEMA, log_start, topic_id],
            )
        match reply:
            case [b"TOPIC", stored]:
                raise TopicRecreated(partition.topic, stored.decode(), topic_id)
            case _:
                return self._claimed(reply, partition, partition_count)

    def _claimed(self, reply: Any, partition: Partition, partition_count: int) -> Claim:
        prefix = self._prefix(partition)
        match reply:
            case [b"OK", epoch, sequence, next_offset, high_ts, first, trail]:
                return Claim(
                    int(epoch),
                    int(sequence),
                    _maybe(next_offset),
                    _maybe(high_ts),
                    int(first),
                    trail,
                )
            case [b"PARTITIONS", stored]:
                raise PartitionCountChanged(partition.topic, int(stored), partition_count)
            case [b"SCHEMA", stored]:
                raise NewerSchema(f"{prefix.decode()}meta", int(stored), SCHEMA)
            case _:
                raise ForeignData(
                    f"the keys {prefix.decode()}* at {self.address} are not, or no longer, what "
                    "this program wrote: meta is missing or has no schema; remove them, or choose "
                    "another namespace"
                )

    async def load(self, partition: Partition, user_ids: Sequence[str]) -> list[Stored]:
        prefix = self._prefix(partition)
        due, of_state = prefix + b"due", prefix + b"c:"
        found: list[Stored] = []
        for start in range(0, len(user_ids), _LOAD_CHUNK):
            users: list[Any] = [user.encode() for user in user_ids[start : start + _LOAD_CHUNK]]
            keys = [of_state + user for user in users]
            async with self._errors():
                async with self._client.pipeline(transaction=False) as pipeline:
                    # Not `mget`: a cluster's pipeline refuses it by name, for keys of many slots.
                    pipeline.execute_command("MGET", *keys)
                    pipeline.zmscore(due, users)
                    states, instants = await pipeline.execute()
                if None in states:
                    await self._add_foreign(keys, states)
            found += [
                Stored(state, None if instant is None else int(instant))
                for state, instant in zip(states, instants, strict=True)
            ]
        return found

    async def _add_foreign(self, keys: list[bytes], states: list[bytes | None]) -> None:
        """MGET answers a key of another type as it answers none: such a customer would be scored
        as new, and its key be written over."""
        missing = [at for at, state in enumerate(states) if state is None]
        if not await self._client.exists(*(keys[at] for at in missing)):
            return
        for at in missing:
            dump = await self._client.dump(keys[at])
            if dump is not None:
                states[at] = b"\0" + dump

    async def due(self, partition: Partition, until_ms: int, limit: int) -> list[tuple[str, int]]:
        if limit <= 0:
            return []
        key = self._prefix(partition) + b"due"
        async with self._errors():
            found: Any = await self._client.zrangebyscore(
                key, "-inf", until_ms, start=0, num=limit, withscores=True
            )
        return [(user.decode(), int(score)) for user, score in found]

    async def sample(self, partition: Partition, count: int) -> list[str]:
        key = self._prefix(partition) + b"due"
        async with self._errors():
            found: Any = await self._client.zrandmember(key, count)
        return [user.decode() for user in found or ()]

    async def write(self, partition: Partition, epoch: int, sequence: int, write: Write) -> Outcome:
        """Also raises ForeignData, before anything is written."""
        prefix = self._prefix(partition)
        of_state = prefix + b"c:"
        keys = [prefix + b"meta", prefix + b"due", prefix + b"outbox", prefix + b"quarantine"]
        keys += [of_state + user.encode() for user in write.states]
        args: list[Any] = [
            epoch,
            sequence,
            "" if write.next_offset is None else write.next_offset,
            "" if write.high_ts_ms is None else write.high_ts_ms,
            *_packed(write),
            "" if write.trail is None else write.trail,
        ]
        if write.quarantine:
            args.append(QUARANTINE_SIZE)
            for user, damaged in write.quarantine.items():
                args += (user.encode(), damaged)
        async with self._errors():
            return Outcome((await self._write(keys=keys, args=args)).decode())

    async def remove(
        self,
        partition: Partition,
        epoch: int,
        sequence: int,
        user_ids: Sequence[str],
        next_offset: int | None,
    ) -> Outcome:
        """Also raises ForeignData, before anything is removed."""
        prefix = self._prefix(partition)
        users = [user.encode() for user in user_ids]
        keys = [prefix + b"meta", prefix + b"due", prefix + b"quarantine"]
        keys += [prefix + b"c:" + user for user in users]
        args = [epoch, sequence, "" if next_offset is None else next_offset, *users]
        async with self._errors():
            return Outcome((await self._remove(keys=keys, args=args)).decode())

    async def outbox(self, partition: Partition, limit: int) -> Outbox:
        prefix = self._prefix(partition)
        async with self._errors(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hget(prefix + b"meta", "outbox_first")
            pipeline.lrange(prefix + b"outbox", 0, max(limit, 1) - 1)
            first, entries = await pipeline.execute()
        return Outbox(int(first or 0), entries[: max(limit, 0)])

    async def trim(self, partition: Partition, epoch: int, first: int, count: int) -> Outcome:
        prefix = self._prefix(partition)
        async with self._errors():
            reply = await self._trim(
                keys=[prefix + b"meta", prefix + b"outbox"], args=[epoch, first, count]
            )
        return Outcome(reply.decode())

    async def quarantined(self, partition: Partition) -> dict[str, bytes]:
        async with self._errors():
            found: Any = await self._client.hgetall(
                (self._prefix(partition) + b"quarantine").decode()
            )
        return {user.decode(): damaged for user, damaged in found.items()}

    async def peek(self, partition: Partition) -> Claim | None:
        key = self._prefix(partition) + b"meta"
        fields = ["schema", "epoch", "sequence", "next", "high_ts", "first", "trail"]
        async with self._errors():
            found: Any = await self._client.hmget(key, fields)
        schema, epoch, sequence, next_offset, high_ts, first, trail = found
        if epoch is None:
            return None
        if int(schema or 0) > SCHEMA:
            raise NewerSchema(key.decode(), int(schema), SCHEMA)
        return Claim(
            int(epoch),
            int(sequence or 0),
            _maybe(next_offset),
            _maybe(high_ts),
            int(first or 0),
            trail,
        )

    async def redriven(self, partition: Partition, offsets: Sequence[int]) -> set[int]:
        """Those of the dead letters, `partition` being one of their topic, marked as redriven."""
        if not offsets:
            return set()
        async with self._errors(), self._client.pipeline(transaction=False) as pipeline:
            for offset in offsets:
                pipeline.getbit(self._mark_key(partition, offset), offset % _MARKS)
            bits = await pipeline.execute()
        return {offset for offset, bit in zip(offsets, bits, strict=True) if bit}

    async def mark_redriven(self, partition: Partition, offsets: Sequence[int]) -> None:
        """Marks dead letters as redriven."""
        async with self._errors(), self._client.pipeline(transaction=False) as pipeline:
            for offset in offsets:
                pipeline.setbit(self._mark_key(partition, offset), offset % _MARKS, 1)
            await pipeline.execute()

    def _mark_key(self, partition: Partition, offset: int) -> str:
        return f"{self._prefix(partition).decode()}redriven:{offset // _MARKS}"

    async def partition_count(self, topic: str) -> int | None:
        async with self._errors():
            found: Any = await self._client.get(self._count_key(topic))
        return _maybe(found)

    async def set_partition_count(self, topic: str, count: int) -> None:
        async with self._errors():
            await self._client.set(self._count_key(topic), count)

    async def seize(self, partition: Partition, old_count: int, new_count: int) -> Claim:
        """Also raises ForeignData."""
        prefix = self._prefix(partition)
        async with self._errors():
            reply = await self._seize(
                keys=[prefix + b"meta", prefix + b"due", prefix + b"outbox"],
                args=[old_count, new_count, SCHEMA],
            )
        return self._claimed(reply, partition, new_count)

    async def reset(self, partition: Partition) -> int:
        """Deletes all that is kept of a partition, and returns of how many customers.

        Broken off, it is to be run again; until then nobody can claim the partition. Its owner is
        fenced. Raises NewerSchema.
        """
        prefix = self._prefix(partition)
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix) + b"*"
        customers = 0
        async with self._errors():
            reply = await self._reset(keys=[prefix + b"meta"], args=[SCHEMA])
            if reply[0] == b"SCHEMA":
                raise NewerSchema(f"{prefix.decode()}meta", int(reply[1]), SCHEMA)
            found: list[bytes] = []
            async for key in self._client.scan_iter(match=pattern, count=1_000):
                if key != prefix + b"meta":
                    customers += key.startswith(prefix + b"c:")
                    found.append(key)
                if len(found) >= _RESET_CHUNK:
                    await self._client.unlink(*found)
                    found = []
            await self._client.unlink(*found, prefix + b"meta")
        return customers

    async def scan(
        self, topic: str, chunk: int = 1_000
    ) -> AsyncIterator[list[tuple[Partition, str]]]:
        """Reads the names of all keys of the server, ours and others', without blocking it."""
        head = f"{self._root}{{{topic}-"
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", head) + "*:c:*"
        found: list[tuple[Partition, str]] = []
        async with self._errors():
            async for key in self._client.scan_iter(match=pattern, count=chunk):
                number, _, user = key[len(head.encode()) :].partition(b"}:c:")
                if number.isdigit():  # else it is of a topic whose name begins with this one's
                    found.append((Partition(topic, int(number)), user.decode()))
                if len(found) >= chunk:
                    yield found
                    found = []
        if found:
            yield found

    def _count_key(self, topic: str) -> str:
        return f"{self._root}{{{topic}}}:partitions"

    async def ping(self) -> None:
        """Returns when the server answers; every master of a cluster."""
        async with self._errors():
            if isinstance(self._client, RedisCluster):
                await self._client.ping(target_nodes=RedisCluster.PRIMARIES)
            else:
                await self._client.ping()

    async def check_server(self) -> None:
        """Returns when the server can be trusted with the states; every master of a cluster.

        A server that turns out to be one of a cluster is used as such from then on.
        Raises EvictionPolicyUnsafe, ServerTooOld, StoreAccessDenied, ClusterExpected. Reads INFO
        only: hosted servers forbid CONFIG.
        """
        async with self._errors():
            found = await self._infos()
            if not isinstance(self._client, RedisCluster) and any(
                "cluster" in (info.get("redis_mode"), info.get("server_mode")) for info in found
            ):
                await self._switch_to_cluster()
                found = await self._infos()
        for info in found:
            version = str(info.get("redis_version", "0"))
            if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < MIN_SERVER:
                raise ServerTooOld(
                    f"the server at {self.address} is version {version}; "
                    f"{'.'.join(map(str, MIN_SERVER))} or later is needed"
                )
            policy = str(info.get("maxmemory_policy", "unknown"))
            if policy != "noeviction":
                raise EvictionPolicyUnsafe(self.address, policy)

    async def _infos(self) -> list[dict[str, Any]]:
        """What each server says of itself and its memory."""
        if not isinstance(self._client, RedisCluster):
            return [await self._client.info("server") | await self._client.info("memory")]
        everyone = RedisCluster.PRIMARIES
        server: Any = await self._client.info("server", target_nodes=everyone)
        memory: Any = await self._client.info("memory", target_nodes=everyone)
        return [told | memory[node] for node, told in server.items()]

    async def _switch_to_cluster(self) -> None:
        if self._as_cluster is None:
            raise ClusterExpected(
                f"the server at {self.address} is one of a cluster; write "
                "redis+cluster://host:port (rediss+cluster:// for TLS) instead"
            )
        alone = self._client
        self._use(self._as_cluster())
        await alone.aclose()

    async def close(self) -> None:
        with contextlib.suppress(errors.RedisError, OSError):
            await self._client.aclose()

    def _prefix(self, partition: Partition) -> bytes:
        return f"{self._root}{{{partition.tag}}}:".encode()

    @contextlib.asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Turns what the client raises into what the caller does next."""
        try:
            yield
        except (errors.RedisError, errors.RedisClusterException, OSError) as error:
            # Without the class name of the client's error, its text may say nothing ("Timeout").
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            if _concerns_user(error):
                raise StoreAccessDenied(
                    f"the server at {self.address} refuses the user: {text}"
                ) from error
            moving = isinstance(error, errors.AskError)
            if moving and not isinstance(self._client, RedisCluster):
                raise ClusterExpected(
                    f"the server at {self.address} is one of a cluster ({text}); write "
                    "redis+cluster://host:port (rediss+cluster:// for TLS) instead"
                ) from error
            if "Cluster mode is not enabled" in text:
                raise ClusterExpected(
                    f"the server at {self.address} is not one of a cluster; write redis://host:port"
                    " (rediss:// for TLS) instead"
                ) from error
            if moving or isinstance(error, _PASSING_ERRORS) or _PASSING.search(text):
                if isinstance(error, errors.ReadOnlyError) or "READONLY" in text:
                    await self._look_again_for_master()
                raise StoreUnavailable(
                    f"the server at {self.address} cannot serve now: {text}"
                ) from error
            if "cannot be connected" in text:  # what a cluster's client says of all its nodes
                raise StoreUnavailable(
                    f"the cluster at {self.address} is out of reach: {text}"
                ) from error
            if "WRONGTYPE" in text:
                raise ForeignData(
                    f"a key under {self._root}* at {self.address} is of another type than this "
                    "program writes; remove it, or choose another namespace"
                ) from error
            raise StoreRefused(f"the server at {self.address} refuses: {text}") from error

    async def _look_again_for_master(self) -> None:
        """After a failover the old connections may lead to what is a replica now, for as long as
        they live; new ones go where the name points."""
        if isinstance(self._client, Redis):
            with contextlib.suppress(errors.RedisError, OSError):
                await self._client.connection_pool.disconnect(inuse_connections=False)


def _nodes_of(url: str) -> tuple[bool, list[tuple[str, int]], str]:
    """Whether the URL says cluster, the servers that it names, and it as one server's URL.

    Raises ValueError.
    """
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    in_cluster = parts.scheme in _CLUSTER_SCHEMES
    if not in_cluster and "," in hosts:
        raise ValueError("several servers, and no cluster")
    nodes = []
    for host in hosts.split(","):
        one = urlsplit(f"//{host}")
        nodes.append((one.hostname or "localhost", one.port or 6379))
    scheme = _CLUSTER_SCHEMES.get(parts.scheme, parts.scheme)
    plain = parts._replace(scheme=scheme, netloc=f"{login}{at}{hosts.split(',')[0]}")
    return in_cluster, nodes, plain.geturl() if in_cluster else url


def _cluster(options: dict[str, Any], nodes: Sequence[tuple[str, int]]) -> RedisCluster:
    """A cluster's client by the options of a pool of connections."""
    kept = {name: value for name, value in options.items() if name not in _NOT_OF_A_CLUSTER}
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in nodes],
        ssl=options.get("connection_class") is SSLConnection,
        **kept,
    )


def _concerns_user(error: BaseException | None) -> bool:
    """Also where connecting failed for it: the client then raises a ConnectionError, chained."""
    while error is not None:
        if isinstance(error, _ACCESS_ERRORS):
            return True
        error = error.__cause__ or error.__context__
    return False


def redacted(url: str) -> str:
    """The server that a Redis URL names, without user, password and options."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    _, nodes, _ = _nodes_of(url)
    hosts = [f"[{host}]" if ":" in host else host for host, _ in nodes]
    servers = ",".join(f"{host}:{port}" for host, (_, port) in zip(hosts, nodes, strict=True))
    return f"{parts.scheme}://{servers}{parts.path}"


def _source(name: str) -> str:
    return (
        resources.files("streamer.store")
        .joinpath(f"scripts/{name}.lua")
        .read_text(encoding="utf-8")
    )


def _packed(write: Write) -> tuple[bytes, bytes, bytes]:
    """The last three arguments of write.lua."""
    values = [*write.states.values(), *write.outbox]
    instants: list[int | str] = []
    silent: list[str] = []
    for user, instant_ms in write.due.items():
        if instant_ms is None:
            silent.append(user)
        else:
            instants += (instant_ms, user)
    return (
        struct.pack(f">{len(values)}i", *map(len, values)),
        b"".join(values),
        msgspec.msgpack.encode((instants, silent)),
    )


def _maybe(number: bytes | None) -> int | None:
    return None if number is None else int(number)
