"""One message after the other, until a receiver has taken each; and to nobody else."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from streamer.clock import ManualClock
from streamer.standard_webhooks import key_of
from streamer.webhook import deliver
from streamer.webhook.deliver import Deliverer, HttpReceiver

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
NOW_MS = 1_767_225_600_123


class Told:
    """A receiver that answers what it is told to, then 204; and keeps what it was sent."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)
        self.got: list[tuple[bytes, dict[str, str]]] = []

    async def post(self, body: bytes, headers: dict[str, str]) -> int | None:
        self.got.append((body, headers))
        return self.answers.pop(0) if self.answers else 204

    async def close(self) -> None: ...


def deliverer(receiver: Told, waits: list[float]) -> Deliverer:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    return Deliverer(receiver, key_of(SECRET), ManualClock(NOW_MS), sleep=sleep)


async def test_what_is_not_taken_is_sent_again_as_it_was_ever_later() -> None:
    receiver, waits = Told(500, None, 302, 429, 200), list[float]()
    await deliverer(receiver, waits).deliver("id-1", b'{"user_id":"ada"}')
    assert len({body for body, _ in receiver.got}) == 1
    assert {headers["webhook-id"] for _, headers in receiver.got} == {"id-1"}
    assert waits == [1, 2, 4, 8]


async def test_the_wait_has_a_limit() -> None:
    receiver, waits = Told(*[503] * 20), list[float]()
    await deliverer(receiver, waits).deliver("id-1", b"{}")
    assert max(waits) == deliver.MAX_WAIT_S


async def test_a_receiver_can_check_who_sent_it() -> None:
    receiver = Told()
    await deliverer(receiver, []).deliver("id-1", b"body")
    ((body, headers),) = receiver.got
    content = f"id-1.{NOW_MS // 1000}.".encode() + body
    digest = base64.b64encode(hmac.digest(b"k" * 32, content, "sha256")).decode()
    assert headers["webhook-timestamp"] == str(NOW_MS // 1000)
    assert headers["webhook-signature"] == f"v1,{digest}"


@pytest.mark.parametrize("secret", ["", "whsec_short", "plain text", "whsec_" + "A" * 500])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl") as caught:
        key_of(secret)
    assert not secret or secret not in str(caught.value).split()


@asynccontextmanager
async def served(answer: object) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)  # type: ignore[arg-type]
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def other(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    async with served(other) as elsewhere:

        async def redirects(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{elsewhere}/taken")

        async with served(redirects) as port:
            receiver = HttpReceiver(f"http://127.0.0.1:{port}/hook")
            assert await receiver.post(b"{}", {}) == 307
            await receiver.close()
    assert asked == []


async def test_who_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "ANSWER_WITHIN_S", 0.05)
    waiting = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        await waiting.wait()
        return web.Response()

    async with served(never) as port:
        receiver = HttpReceiver(f"http://127.0.0.1:{port}/hook")
        assert await receiver.post(b"{}", {}) is None
        await receiver.close()
        waiting.set()


async def test_an_answer_without_an_end_is_not_read() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except ConnectionError:
            return response

    async with served(endless) as port, asyncio.timeout(5):
        receiver = HttpReceiver(f"http://127.0.0.1:{port}/hook")
        assert await receiver.post(b"{}", {}) == 200
        await receiver.close()


async def test_a_proxy_of_the_environment_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def well(request: web.Request) -> web.Response:
        return web.Response(status=204)

    async with served(well) as port:
        receiver = HttpReceiver(f"http://127.0.0.1:{port}/hook")
        assert await receiver.post(b"{}", {}) == 204
        await receiver.close()
