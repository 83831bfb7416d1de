"""A headless Chromium, and the page of a shop to look at in it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from streamer.demo.embedded import EmbeddedRedis
from tests.support.servers.shown import Shop, shop

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")


@pytest.fixture(scope="session")
def chromium() -> str:
    if os.environ.get("BROWSER") != "1":
        pytest.skip("what is to be seen in a browser: make test-browser")
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = (shutil.which(name) for name in names)
    found = os.environ.get("CLV_CHROMIUM") or next(filter(None, installed), None)
    if found is None:
        reason = "no Chromium: install the package chromium, or name one in CLV_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        found = playwright.chromium.launch(executable_path=chromium, args=options)
        yield found
        found.close()


@pytest.fixture(scope="session")
def big_shop(chromium: str, embedded_redis: EmbeddedRedis) -> Iterator[Shop]:
    """10,000 open warnings, 50,000 customers."""
    with shop(embedded_redis, uuid.uuid4().hex, 10_000, 50_000) as found:
        yield found


@pytest.fixture(scope="session")
def small_shop(chromium: str, embedded_redis: EmbeddedRedis) -> Iterator[Shop]:
    with shop(embedded_redis, uuid.uuid4().hex, 120) as found:
        yield found


@dataclass
class Watched:
    """Pages that say nothing on the console and ask nobody else."""

    browser: sync_api.Browser
    shop: Shop
    wrong: list[str] = field(default_factory=list)
    open: list[sync_api.BrowserContext] = field(default_factory=list)

    def page(self, view: str = "", **options: object) -> sync_api.Page:
        """A view, loaded."""
        context = self.browser.new_context(**options)
        self.open.append(context)
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._asked)
        page.goto(f"{self.shop.url}{view}")
        page.wait_for_selector("main:not([aria-busy]) h1")
        return page

    def _heard(self, one: sync_api.ConsoleMessage) -> None:
        if one.type in ("error", "warning"):
            self.wrong.append(one.text)

    def _asked(self, one: sync_api.Request) -> None:
        if not one.url.startswith(self.shop.url):
            self.wrong.append(one.url)


@pytest.fixture
def watch(browser: sync_api.Browser) -> Iterator[Callable[[Shop], Watched]]:
    made: list[Watched] = []

    def of(shown: Shop) -> Watched:
        made.append(Watched(browser, shown))
        return made[-1]

    yield of
    for one in made:
        for context in one.open:
            context.close()
        assert one.wrong == []
