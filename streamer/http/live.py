"""The page, and what it and everybody else may ask of a running shop: who is at risk, how warnings
ended, how the stream stands, one customer over time; and to forget a customer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from typing import Final

import msgspec
from aiohttp.web import Request, Response, StreamResponse

from features.times import rfc3339
from model.decide import codec as customer_bytes
from streamer.clock import Clock, SystemClock
from streamer.http.answers import newest_ms
from streamer.http.customer_view import UnknownCustomer, find_customer
from streamer.http.lookups import STORE_WITHIN_S, NotReady
from streamer.http.predict import CUSTOMERS_PATH, RETRY_STORE_S, Api
from streamer.http.requests import BodyRefused, Fault
from streamer.http.stream import Feeds, PositionRefused, stream
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.erasures import ErasureKeyMissing
from streamer.records import LogUnavailable, PublishFailed
from streamer.view.customer_history import history
from streamer.view.listed import (
    Board,
    CursorRefused,
    QueryRefused,
    Wanted,
    as_csv,
    read_query,
)
from streamer.view.outcomes import Forgotten, outcomes, status
from streamer.web.lobby import SAFE_HEADERS
from streamer.web.problems import problem
from streamer.web.server import STREAM_PATH, GuardedWeb

_json = msgspec.json.Encoder()
_PAGING: Final = frozenset({"limit", "cursor"})
# What the page may do: run its own script and style, and ask the worker that it came from.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KINDS: Final = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
}

# Has the log, in so many partitions, say that a customer is to be forgotten as of an instant.
Forget = Callable[[str, int, int], Awaitable[None]]
Lags = Callable[[], Mapping[int, int | None]]


@dataclass(slots=True)
class Live:
    """The pages; `api`: what they share with the prediction API. `forget` None: DELETE answers 501;
    `lags`: records that wait in the partitions of this worker."""

    api: Api
    forget: Forget | None = None
    lags: Lags = dict
    clock: Clock = field(default_factory=SystemClock)
    board: Board = field(init=False)
    feeds: Feeds = field(init=False)
    closing: asyncio.Event = field(init=False)

    def __post_init__(self) -> None:
        self.board = Board(self.api.store, self.api.topic, self.clock)
        self.feeds = Feeds(self.api.store, self.api.topic, self.clock.monotonic_s)

    def add_to(self, web: GuardedWeb) -> None:
        """Adds the pages to the server, before it starts."""
        page = self.api.page
        self.closing = web.closing
        web.add_page("/warnings", page("warnings", self.warnings))
        web.add_page("/warnings.csv", page("csv", self.csv))
        web.add_page(STREAM_PATH, page("stream", self.stream))
        web.add_page("/outcomes", page("outcomes", self.outcomes))
        web.add_page("/status", page("status", self.status))
        web.add_page(CUSTOMERS_PATH + "{user_id:[^/]+}/history", page("history", self.history))
        web.add_removal(CUSTOMERS_PATH + "{user_id:[^/]+}", page("forget", self.remove))
        web.add_page("/", _static("index.html"))
        for name in STATIC:
            web.add_page(f"/page/{name}", _static(name))

    # --- pages ------------------------------------------------------------------------------

    async def warnings(self, request: Request) -> StreamResponse:
        """A page of warnings."""
        asked, limit, cursor = _asked(request, _PAGING)
        pipeline = await self._read(feeds=asked.state == "all")
        try:
            return await self.api.worked(
                lambda: _json.encode(self.board.page(asked, pipeline, limit, cursor))
            )
        except CursorRefused:
            raise _fault("cursor", "send the next of a page as it came") from None

    async def csv(self, request: Request) -> StreamResponse:
        """All warnings that are asked for, as a file."""
        asked, _, _ = _asked(request, frozenset())
        pipeline = await self._read(feeds=asked.state == "all")
        answer = await self.api.worked(lambda: as_csv(self.board.rows(asked, pipeline)))
        answer.content_type, answer.charset = "text/csv", "utf-8"
        answer.headers["Content-Disposition"] = 'attachment; filename="warnings.csv"'
        return answer

    async def stream(self, request: Request) -> StreamResponse:
        """What the warnings topic gets, as it gets it."""
        try:
            return await stream(request, self.feeds, self.api.partitions, self.closing)
        except PositionRefused:
            raise _fault("Last-Event-ID", "send the id of an event as it came, or none") from None

    async def outcomes(self, request: Request) -> StreamResponse:
        """How warnings ended, by week."""
        pipeline = await self._read()
        return await self.api.worked(lambda: _json.encode(outcomes(self.board, pipeline)))

    async def status(self, request: Request) -> StreamResponse:
        """How the stream stands."""
        pipeline = await self._read()
        told = partial(status, self.board, pipeline, self.clock.now_ms(), self.lags())
        return await self.api.worked(lambda: _json.encode(told()))

    async def history(self, request: Request) -> StreamResponse:
        """One customer over time."""
        user_id = self.api.asked_of(request, "/history")
        pipeline = await self._read()
        with self.api.place():
            async with asyncio.timeout(STORE_WITHIN_S):
                count = await self.api.partitions()
                store, topic = self.api.store, self.api.topic
                partition, state, _ = await find_customer(user_id, store, topic, count)
                claim = await store.peek(partition)
            now_ms = (claim.high_ts_ms if claim else None) or 0
            earliest_ms = newest_ms(customer_bytes.decode(state))
            as_of_ms = max(now_ms, earliest_ms, self.board.now_ms)
            notice = self.board.of_user(user_id)
            told = partial(history, user_id, state, pipeline, as_of_ms, notice)
            return await self.api.worked(lambda: _json.encode(told()))

    async def remove(self, request: Request) -> StreamResponse:
        """Has a customer forgotten, by way of the log."""
        user_id = self.api.asked_of(request)
        # A page of another site may send what a browser has the password for.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            return problem(403, "ask from the worker's own page, or from no page")
        if self.forget is None:
            return problem(501, "the worker has no CLV_ERASURE_KEY, which forgetting needs: set it")
        now_ms = self.clock.now_ms()
        with self.api.place():
            async with asyncio.timeout(STORE_WITHIN_S):
                count = await self.api.partitions()
                try:
                    await find_customer(user_id, self.api.store, self.api.topic, count)
                    known = True
                except UnknownCustomer:
                    known = False
            try:
                await self.forget(user_id, now_ms, count)
            except (PublishFailed, LogUnavailable, ErasureKeyMissing):
                raise NotReady("the log does not take it; ask again", RETRY_STORE_S) from None
        answer = Response(body=_json.encode(Forgotten(user_id, known, rfc3339(now_ms))), status=202)
        answer.content_type = "application/json"
        return answer

    # --- inside -----------------------------------------------------------------------------

    async def _read(self, *, feeds: bool = False) -> Pipeline:
        """The pipeline in use; the board is up to date."""
        pipeline = self.api.current()
        async with asyncio.timeout(STORE_WITHIN_S):
            await self.board.refresh(await self.api.partitions(), feeds=feeds)
        return pipeline


def _asked(request: Request, extra: frozenset[str]) -> tuple[Wanted, int, str | None]:
    try:
        return read_query(list(request.query.items()), extra)
    except QueryRefused as error:
        raise _fault(error.name, str(error)) from None


def _fault(name: str, detail: str) -> BodyRefused:
    return BodyRefused(422, [Fault(detail, f"?{name}", field=name)])


def _static(name: str) -> Callable[[Request], Awaitable[StreamResponse]]:
    """A file of the page, which is read once."""
    body = resources.files("streamer.http").joinpath(f"page/{name}").read_bytes()
    kind = _KINDS[name.rpartition(".")[2]]

    async def answer(request: Request) -> StreamResponse:
        headers = {**SAFE_HEADERS, "Content-Security-Policy": _PAGE_POLICY}
        return Response(body=body, headers=headers, content_type=kind, charset="utf-8")

    return answer


STATIC: Final = tuple(
    sorted(
        one.name
        for one in resources.files("streamer.http").joinpath("page").iterdir()
        if one.name != "index.html" and one.name.rpartition(".")[2] in _KINDS
    )
)
