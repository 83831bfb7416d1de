"""Connections before they are requests: nobody keeps others out by being slow.

A connection waits here until the head of its request is whole, for `HEAD_S` at most. Where too many
wait, the one that has waited longest goes. Only then is it given to the web server, which has so
many places for requests, and others for liveness alone: whoever asks whether the worker lives
shares them with nobody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

PROBLEM_CONTENT_TYPE: Final = "application/problem+json"
SERVER: Final = "clv-streamer"
# Of every answer. What is no page of ours runs nothing, is shown in no frame, and is what it says.
SAFE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Of one packet, nearly always; over the slowest of networks, two or three round trips.
HEAD_S: Final = 3.0
MAX_HEAD_BYTES: Final = 1 << 15
# Each is a file descriptor and what it has sent of a head.
MAX_UNREAD: Final = 256
_END: Final = b"\r\n\r\n"
# A body in chunks of a byte each costs the event loop a second for 4 MB, in turns of 50 ms.
_CHUNKED: Final = re.compile(rb"[\r\n]transfer-encoding[ \t]*:", re.IGNORECASE)

Take = Callable[[bytes], asyncio.Protocol | None]


class Lobby:
    """The connections that have not sent the head of a request yet.

    `take` is given a whole head (and what came with it), and returns who goes on with the
    connection; None where there is no place.
    """

    def __init__(self, take: Take) -> None:
        self.take = take
        # By age, the oldest first.
        self._waiting: dict[_Guest, None] = {}

    def guest(self) -> asyncio.Protocol:
        """What a new connection begins with."""
        return _Guest(self)

    def enter(self, guest: _Guest) -> None:
        self._waiting[guest] = None
        if len(self._waiting) > MAX_UNREAD:
            next(iter(self._waiting)).cut_off()

    def leave(self, guest: _Guest) -> None:
        self._waiting.pop(guest, None)

    def close(self) -> None:
        """Cuts off everybody."""
        for guest in list(self._waiting):
            guest.cut_off()


class _Guest(asyncio.Protocol):
    """One connection, until the head of its request is whole."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(HEAD_S, self.cut_off)
        self._lobby.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._head += data
        # What a parser of HTTP skips is no head.
        del self._head[: len(self._head) - len(self._head.lstrip(b"\r\n"))]
        if _END not in self._head:
            if len(self._head) > MAX_HEAD_BYTES:
                self._refuse(431, "the head of the request is too large")
            return
        head = bytes(self._head)
        if _CHUNKED.search(head.partition(_END)[0]):
            self._refuse(411, "send the body with Content-Length, and not in chunks")
            return
        follower = self._lobby.take(head)
        if follower is None:
            self._refuse(503, "busy; ask again in a second", retry_after_s=1)
            return
        self._leave()
        self._transport.set_protocol(follower)
        follower.connection_made(self._transport)
        follower.data_received(head)

    def cut_off(self) -> None:
        self._leave()
        self._transport.abort()  # close() would wait for who does not read

    def _refuse(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        self._leave()
        self._transport.write(answer(status, detail, retry_after_s))
        self._transport.close()

    def _leave(self) -> None:
        self._timer.cancel()
        self._lobby.leave(self)


def told(status: int, detail: str) -> dict[str, object]:
    """What is wrong, as RFC 9457 has it."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def answer(status: int, detail: str, retry_after_s: int | None = None) -> bytes:
    """A whole answer, for who gets no further than this."""
    body = msgspec.json.encode(told(status, detail))
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {PROBLEM_CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        *([] if retry_after_s is None else [f"Retry-After: {retry_after_s}"]),
        f"Server: {SERVER}",
        "Cache-Control: no-store",
        *(f"{name}: {value}" for name, value in SAFE_HEADERS.items()),
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
