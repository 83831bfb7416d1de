"""One message after the other to one receiver, until it has taken each.

| the receiver               | what is done                                                   |
| -------------------------- | -------------------------------------------------------------- |
| answers 2xx                | the next message                                               |
| anything else, or nothing  | the same again, after 1 s, 2 s, 4 s ... 5 min                  |

A redirect is no 2xx and is not followed, so nothing ever goes to another host than the one that was
set; nor through a proxy of the environment. What an answer says beside its status is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from streamer import log
from streamer.clock import Clock
from streamer.standard_webhooks import signed

_log = log.get(__name__)

ANSWER_WITHIN_S: Final = 10.0
FIRST_WAIT_S: Final = 1.0
MAX_WAIT_S: Final = 300.0
# So that a receiver that is down is said once, and then now and then.
_SAY_EVERY: Final = 10

Sleep = Callable[[float], Awaitable[None]]


class Receiver(Protocol):
    """Takes a message, or does not."""

    async def post(self, body: bytes, headers: dict[str, str]) -> int | None:
        """The status; None where there is no answer."""
        ...

    async def close(self) -> None: ...


class HttpReceiver:
    """The configured URL, and no other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: ClientSession | None = None

    async def post(self, body: bytes, headers: dict[str, str]) -> int | None:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=16),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=ANSWER_WITHIN_S),
                trust_env=False,
            )
        try:
            answer = await self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            )
        except (ClientError, OSError, TimeoutError):
            return None
        status = answer.status
        answer.close()  # what it says beside that may have no end
        return status

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class Deliverer:
    """Signs messages and sees them taken. `tell`: hears of each attempt's outcome."""

    def __init__(
        self,
        receiver: Receiver,
        key: bytes,
        clock: Clock,
        tell: Callable[[str], None] = lambda outcome: None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._receiver = receiver
        self._key = key
        self._clock = clock
        self._tell = tell
        self._sleep = sleep

    async def close(self) -> None:
        await self._receiver.close()

    async def deliver(self, message_id: str, body: bytes) -> None:
        """Returns once the receiver has taken it."""
        tries, wait_s = 0, FIRST_WAIT_S
        while True:
            headers = signed(self._key, message_id, self._clock.now_ms() // 1000, body)
            headers["Content-Type"] = "application/json"
            status = await self._receiver.post(body, headers)
            taken = status is not None and 200 <= status < 300
            self._tell("taken" if taken else "refused")
            if taken:
                return
            if tries % _SAY_EVERY == 0:
                _log.warning("webhook.refused", status=status, tries=tries + 1, again_in_s=wait_s)
            tries += 1
            await self._sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_WAIT_S)
