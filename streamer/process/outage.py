"""Waiting for a store, a log, a broker or a registry that is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from streamer import log
from streamer.kafka.flow import being_cancelled
from streamer.metrics import OUTAGE_TRIES, OUTAGES, Metric, Metrics
from streamer.records import LogUnavailable, PublishFailed, RegistryUnavailable
from streamer.store.base import StoreUnavailable

_log = log.get(__name__)
_SERVERS: Final[dict[type[Exception], str]] = {
    StoreUnavailable: "store",
    PublishFailed: "publisher",
    LogUnavailable: "log",
    RegistryUnavailable: "registry",
}
_OUTAGES: Final = tuple(_SERVERS)
_T = TypeVar("_T")

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 5.0
# Failures in a row, within a second or so, that repeating is said not to cure. More than one: the
# publisher reconnects after the first, which cures some.
HOPELESS_TRIES: Final = 4


class OutageTally(Protocol):
    """Who is told of outages."""

    def count(self, metric: Metric, by: float = 1, **labels: str) -> None: ...


class Outage:
    """Retries in place, with backoff, what fails because a store or a broker is down.

    `attempts` moves with each try, so the watchdog can tell waiting from hanging. What repeating
    does not cure (a message too large, no right to write) is raised after a few tries: it would
    hold the partition up for ever, and nobody would be told.
    """

    def __init__(self, metrics: OutageTally | None = None) -> None:
        self.attempts = 0
        self._metrics: OutageTally = metrics or Metrics()
        self._open: dict[object, str] = {}

    @property
    def reasons(self) -> list[str]:
        """What is being waited for now, each cause once."""
        return sorted(set(self._open.values()))

    async def outlast(self, action: Callable[[], Awaitable[_T]]) -> _T:
        """The action's result, however often it takes. Other errors than outages pass through."""
        wait_s, token, hopeless = FIRST_RETRY_S, object(), 0
        try:
            while True:
                try:
                    return await action()
                except _OUTAGES as error:
                    what = next(name for kind, name in _SERVERS.items() if isinstance(error, kind))
                    cured = not isinstance(error, PublishFailed) or error.retriable
                    hopeless = 0 if cured else hopeless + 1
                    if hopeless == HOPELESS_TRIES:
                        raise
                    reason = f"{what}: {error}"
                    if token not in self._open:
                        self._metrics.count(OUTAGES, server=what)
                        if reason not in self._open.values():  # one line, whoever waits as well
                            _log.warning("outage.waiting", what=what, reason=str(error))
                    self._open[token] = reason
                self._metrics.count(OUTAGE_TRIES, server=what)
                self.attempts += 1
                if being_cancelled():  # or it would go on for a partition that is another's
                    raise asyncio.CancelledError
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LAST_RETRY_S)
        finally:
            ended = self._open.pop(token, None)
            if ended is not None and ended not in self._open.values():
                _log.info("outage.over")
