"""A Redis URL, read: which servers, how to connect to them, and how to name them in messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis import exceptions as errors
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamer.store.base import StoreRefused

_NOT_OF_A_CLUSTER: Final = ("connection_class", "db", "host", "path", "port")
_CLUSTER_SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


class StoreUrlInvalid(StoreRefused):
    """Give `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS,
    `unix:///path/to/socket`, or `redis+cluster://[user:password@]host:port[,host:port…]`
    (`rediss+cluster://…` for TLS); special characters of a password percent-encoded."""


class Connection(NamedTuple):
    """A client that does not decode responses, its server's name for messages, and how to make a
    client of the cluster that the server turns out to be one of; None where it cannot be."""

    client: Redis | RedisCluster
    address: str
    as_cluster: Callable[[], RedisCluster] | None = None


def connect(url: str, timeout_s: float, security: Mapping[str, Any] | None = None) -> Connection:
    """The connection that a URL names, made when first used. `timeout_s` bounds every answer;
    `security` goes to connections with TLS as it is (ssl_ca_certs, ...). Raises StoreUrlInvalid."""
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
        return Connection(_cluster(options, nodes), address)
    client = Redis(connection_pool=ConnectionPool(**options))
    client.auto_close_connection_pool = True
    alone = "path" in options or options.get("db")
    return Connection(client, address, None if alone else partial(_cluster, options, nodes))


def redacted(url: str) -> str:
    """The server that a Redis URL names, without user, password and options."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    _, nodes, _ = _nodes_of(url)
    hosts = [f"[{host}]" if ":" in host else host for host, _ in nodes]
    servers = ",".join(f"{host}:{port}" for host, (_, port) in zip(hosts, nodes, strict=True))
    return f"{parts.scheme}://{servers}{parts.path}"


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
