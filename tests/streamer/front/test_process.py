"""The pages by what the worker tells: its model; and what was answered, told back."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from aiohttp import ClientSession

from streamer.front import process
from streamer.front.process import Front
from streamer.front.talk import News, Task
from streamer.settings import Settings
from streamer.web.server import listening
from tests.support.fakes import at, every
from tests.support.served import of_features, request


def front_of(model: Path, **variables: str) -> Front:
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "REDIS_URL": "redis://127.0.0.1:1",
        "CLV_MODEL": str(model),
        **variables,
    }
    return Front(Settings.load(environ), Task(0, 1, "a-cluster"))


async def predicted(url: str) -> int:
    body = request(of_features(every("ada", 5, 7, 4_000), at(60)))
    headers = {"Content-Type": "application/json"}
    async with (
        ClientSession() as session,
        session.post(f"{url}/predict", data=body, headers=headers) as answer,
    ):
        return answer.status


async def test_it_scores_by_the_model_that_the_worker_names(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "RETRY_S", 0.0)
    front = front_of(model)
    listener = listening("127.0.0.1", 0)
    await front.web.start_server(listener)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        front.hear(News(None, 0, {}))
        assert await predicted(url) == 503
        # One that is not there, as a mount may show it for a moment, and then is.
        there = tmp_path / "shop"
        async with asyncio.timeout(20):
            while await predicted(url) == 503:
                front.hear(News(str(there), 1, {}))
                if not there.exists():
                    await asyncio.sleep(0.05)
                    shutil.copytree(model, there)
        assert await predicted(url) == 200
        answered = {(page, status): times for page, status, times in front.report().answered}
        assert answered["predict", 200] == 2
        assert answered["predict", 503] >= 2
        assert front.report().answered == []
    finally:
        await front.web.stop_server()


async def test_without_the_api_it_takes_orders_and_no_more(model: Path) -> None:
    front = front_of(model, CLV_API="off")
    listener = listening("127.0.0.1", 0)
    await front.web.start_server(listener)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        assert await predicted(url) == 404
        async with ClientSession() as session, session.post(f"{url}/orders", data=b"{}") as answer:
            assert answer.status == 401
    finally:
        await front.web.stop_server()
