"""The server behind a store: the client, its scripts, whether it can be trusted, and its errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any, Final

from redis import exceptions as errors
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from streamer.store.base import EvictionPolicyUnsafe, StoreRefused, StoreUnavailable
from streamer.store.redis_url import Connection

MIN_SERVER: Final = (6, 2)
"""SMISMEMBER came with 6.2."""

_SCRIPTS: Final = (
    "claim",
    "due",
    "write",
    "trim",
    "remove",
    "move",
    "seize",
    "reset",
    "feed",
    "listed",
)

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


class RedisServer:
    """One server, or the masters of a cluster, and the part of the keys that is ours."""

    def __init__(self, connection: Connection, root: str) -> None:
        """`root` begins every key of ours."""
        self.address = connection.address
        self.root = root
        self._as_cluster = connection.as_cluster
        self._use(connection.client)

    def _use(self, client: Redis | RedisCluster) -> None:
        self.client = client
        self._scripts = {name: client.register_script(_source(name)) for name in _SCRIPTS}

    async def run(self, script: str, keys: list[bytes], args: list[Any]) -> Any:
        """What a script of `scripts/` answers."""
        async with self.errors():
            return await self._scripts[script](keys=keys, args=args)

    async def ping(self) -> None:
        """Returns when the server answers; every master of a cluster."""
        async with self.errors():
            if isinstance(self.client, RedisCluster):
                await self.client.ping(target_nodes=RedisCluster.PRIMARIES)
            else:
                await self.client.ping()

    async def check(self) -> None:
        """Returns when the server can be trusted with the states; every master of a cluster.

        A server that turns out to be one of a cluster is used as such from then on.
        Raises EvictionPolicyUnsafe, ServerTooOld, StoreAccessDenied, ClusterExpected. Reads INFO
        only: hosted servers forbid CONFIG.
        """
        async with self.errors():
            found = await self._infos()
            if not isinstance(self.client, RedisCluster) and any(
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
        if not isinstance(self.client, RedisCluster):
            return [await self.client.info("server") | await self.client.info("memory")]
        everyone = RedisCluster.PRIMARIES
        server: Any = await self.client.info("server", target_nodes=everyone)
        memory: Any = await self.client.info("memory", target_nodes=everyone)
        if "redis_version" in server:  # of one node, the client gives its answer and no dictionary
            return [server | memory]
        return [told | memory[node] for node, told in server.items()]

    async def _switch_to_cluster(self) -> None:
        if self._as_cluster is None:
            raise ClusterExpected(
                f"the server at {self.address} is one of a cluster; write "
                "redis+cluster://host:port (rediss+cluster:// for TLS) instead"
            )
        alone = self.client
        self._use(self._as_cluster())
        await alone.aclose()

    async def close(self) -> None:
        with contextlib.suppress(errors.RedisError, OSError):
            await self.client.aclose()

    @contextlib.asynccontextmanager
    async def errors(self) -> AsyncIterator[None]:
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
            if moving and not isinstance(self.client, RedisCluster):
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
                    f"a key under {self.root}* at {self.address} is of another type than this "
                    "program writes; remove it, or choose another namespace"
                ) from error
            raise StoreRefused(f"the server at {self.address} refuses: {text}") from error
        except AttributeError as error:
            # redis-py takes the writer from a connection whose node another task found gone, with a
            # command under way on it: as much of it may have arrived as with any lost connection.
            if not _is_of_client(error):
                raise
            reason = "its connection was lost with a command under way"
            raise StoreUnavailable(f"the server at {self.address}: {reason}") from error

    async def _look_again_for_master(self) -> None:
        """After a failover the old connections may lead to what is a replica now, for as long as
        they live; new ones go where the name points."""
        if isinstance(self.client, Redis):
            with contextlib.suppress(errors.RedisError, OSError):
                await self.client.connection_pool.disconnect(inuse_connections=False)


def _concerns_user(error: BaseException | None) -> bool:
    """Also where connecting failed for it: the client then raises a ConnectionError, chained."""
    while error is not None:
        if isinstance(error, _ACCESS_ERRORS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of_client(error: BaseException) -> bool:
    """Whether it was raised by the client's own code."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and str(at.tb_frame.f_globals.get("__name__")).startswith("redis.")


def _source(name: str) -> str:
    return (
        resources.files("streamer.store")
        .joinpath(f"scripts/{name}.lua")
        .read_text(encoding="utf-8")
    )
