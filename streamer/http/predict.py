"""The prediction API: `POST /predict` and `GET /customers/{id}`, on the worker's web server.

It must not hold the stream up. Records are scored in one thread, a request at a time, and that
thread rests every few milliseconds, so that the event loop, which the stream runs on, gets its
turn. No more than `MAX_WAITING` requests are taken at a time, each when its body is there; further
ones, and those whose turn does not come soon, are told to come back. Bodies of all requests
together are bounded, so that they cannot fill the memory.

The model is asked for once for each request: it may be another one the next time, and every answer
names the one that was used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp.typedefs import Handler
from aiohttp.web import Request, Response, StreamResponse

from features.events.orders import MAX_ID_CHARS
from features.facts.state import StateError, StateNewer
from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.http.answers import predictions
from streamer.http.customer_view import UnknownCustomer
from streamer.http.lookups import Lookups, NotReady, busy
from streamer.http.openapi import document
from streamer.http.requests import MAX_BODY_BYTES, BodyRefused, Fault, Terms, read
from streamer.pipeline.batch import Pipeline
from streamer.store.base import StateStore, StoreRefused, StoreUnavailable
from streamer.web.problems import problem
from streamer.web.server import Bodies, BodyUnread, GuardedWeb

_CLOCK: Final = SystemClock()
_log = log.get(__name__)
_json = msgspec.json.Encoder()
T = TypeVar("T")

PREDICT_PATH: Final = "/predict"
CUSTOMERS_PATH: Final = "/customers/"
OPENAPI_PATH: Final = "/openapi.json"
MAX_WAITING: Final = 8
RETRY_STORE_S: Final = 5
RETRY_MODEL_S: Final = 5
# A topic that has grown is read by workers that are started anew.
COUNTED_S: Final = 1.0
# For so long a request waits for those before it: it has to be answered before the server cuts its
# connection off.
TURN_WITHIN_S: Final = 5.0
# The thread works for so long, and then rests for so long.
_WORK_S: Final = 0.002
_REST_S: Final = 0.001


class CountedStore(StateStore, Protocol):
    """A store that knows how many partitions a topic had."""

    async def partition_count(self, topic: str) -> int | None:
        """None where no partition of the topic was ever claimed."""
        ...


@dataclass(slots=True)
class Api:
    """The pages. `pipeline` gives the one in use now, None while the model is being read;
    `waiting` requests are being answered; `answered` hears of each page and status."""

    pipeline: Callable[[], Pipeline | None]
    store: CountedStore
    topic: str
    clock: Clock = field(default_factory=SystemClock)
    answered: Callable[[str, int], None] = lambda page, status: None
    waiting: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    bodies: Bodies = field(
        default_factory=lambda: Bodies(MAX_BODY_BYTES, MAX_WAITING * MAX_BODY_BYTES)
    )
    _lookups: Lookups = field(init=False)
    _counted: tuple[int | None, float] = (None, 0.0)
    # A thread for records, and one for lists, which need not wait for a thousand records.
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="api")
    )

    def __post_init__(self) -> None:
        self._lookups = Lookups(self)

    def add_to(self, web: GuardedWeb) -> None:
        """Adds the pages to the server, before it starts."""
        web.add_form(PREDICT_PATH, self.page("predict", self.predict), MAX_BODY_BYTES)
        web.add_page(CUSTOMERS_PATH + "{user_id:[^/]+}", self.page("customers", self.customer))
        web.add_page(OPENAPI_PATH, self.page("openapi", self.openapi))

    def close(self) -> None:
        """Takes no further requests; what is under way is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- pages ------------------------------------------------------------------------------

    async def predict(self, request: Request) -> Response:
        """CLVs of the records in the body."""
        if request.content_type != "application/json":
            answer = problem(415, "send the body as Content-Type: application/json")
            answer.headers["Accept-Post"] = "application/json"
            return answer
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            answer = problem(415, "send the body as it is, without Content-Encoding")
            answer.headers["Accept-Encoding"] = "identity"
            return answer
        pipeline = self.current()
        # A place is taken when the body is there: whoever sends it slowly takes none.
        async with self.bodies.of(request) as body:
            with self.place():
                judge, scorer = pipeline.judge, pipeline.judge.scorer
                rules, now_ms, days = pipeline.order_rules, self.clock.now_ms(), scorer.calendar
                terms = Terms(rules, judge.memory, now_ms, scorer.attributes, days)
                try:
                    async with asyncio.timeout(TURN_WITHIN_S):
                        await self._turn.acquire()
                except TimeoutError:
                    raise busy() from None
                try:
                    return await self.worked(partial(_predicted, body, terms, pipeline))
                finally:
                    self._turn.release()

    async def customer(self, request: Request) -> Response:
        """A customer of the live state."""
        user_id, wanted = self.asked_of(request), request.query.get("as_of", "now")
        body = await self._lookups.answer(user_id, wanted)
        return Response(body=body, content_type="application/json")

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(body=document(), content_type="application/json")

    def asked_of(self, request: Request, below: str = "") -> str:
        """The id that the customer in the path counts under. Raises BodyRefused, and NotReady."""
        user_id = user_id_in(request, below)
        return self.current().order_rules.customer(user_id)

    # --- inside -----------------------------------------------------------------------------

    async def partitions(self) -> int:
        """How many partitions the states lie in, as of the last second. Raises NotReady."""
        count, asked_s = self._counted
        now_s = self.clock.monotonic_s()
        if count is None or now_s - asked_s > COUNTED_S:
            count = await self.store.partition_count(self.topic)
            self._counted = count, now_s
        if count is None:
            raise NotReady("no partition of the orders topic was claimed yet", RETRY_STORE_S)
        return count

    def current(self) -> Pipeline:
        """The pipeline in use. Raises NotReady."""
        pipeline = self.pipeline()
        if pipeline is None:
            raise NotReady("the model is being read", RETRY_MODEL_S)
        return pipeline

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for requests that are being answered. Raises NotReady."""
        if self.waiting >= MAX_WAITING:
            raise busy()
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def worked(self, work: Callable[[], bytes]) -> Response:
        """The answer that a thread works out."""
        return Response(body=await self._in_thread(work), content_type="application/json")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def page(self, name: str, answer: Callable[[Request], Awaitable[StreamResponse]]) -> Handler:
        """A page of that name for what counts answers; what it raises is told as a problem."""

        async def page(request: Request) -> StreamResponse:
            response = await _told(request, answer)
            self.answered(name, response.status)
            return response

        return page


async def _told(
    request: Request, answer: Callable[[Request], Awaitable[StreamResponse]]
) -> StreamResponse:
    """The answer, or a problem for whatever a client or an operator can do something about."""
    try:
        return await answer(request)
    except BodyUnread as error:
        return error.problem()
    except BodyRefused as error:
        return problem(error.status, str(error), errors=error.faults)
    except UnknownCustomer:
        return problem(404, "no such customer: no order of this id was applied")
    except NotReady as error:
        return problem(503, str(error), retry_after_s=error.retry_s)
    except (StoreUnavailable, StoreRefused, TimeoutError) as error:
        _log.warning("api.store_away", error=type(error).__name__)
        detail = "the store of customers does not answer; ask again"
        return problem(503, detail, retry_after_s=RETRY_STORE_S)
    except StateNewer:
        return problem(503, "a newer version wrote this customer; ask a worker of that version")
    except StateError:
        return problem(500, "what is stored of this customer is damaged; its next order repairs it")


def _predicted(body: bytes, terms: Terms, pipeline: Pipeline) -> bytes:
    """The answer to a body of `POST /predict`. Raises BodyRefused."""
    rest = _Rests()
    asked = read(body, terms, rest)
    found = predictions(pipeline, asked.rows, contributions=asked.contributions, between=rest)
    return _json.encode(found)


def user_id_in(request: Request, below: str = "") -> str:
    """The customer's id in the path, percent-encoded there, before what is `below` it. Raises
    BodyRefused."""
    raw = request.rel_url.raw_path.removeprefix(CUSTOMERS_PATH).removesuffix(below)
    try:
        user_id = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        user_id = ""
    if not 1 <= len(user_id) <= MAX_ID_CHARS:
        detail = f"the id is not 1 to {MAX_ID_CHARS} characters of UTF-8, percent-encoded"
        raise BodyRefused(422, [Fault(detail, CUSTOMERS_PATH, field="user_id")])
    return user_id


class _Rests:
    """Called often by a thread, lets the event loop have its turn now and then."""

    def __init__(self) -> None:
        self._since_s = _CLOCK.monotonic_s()

    def __call__(self) -> None:
        if _CLOCK.monotonic_s() - self._since_s > _WORK_S:
            time.sleep(_REST_S)
            self._since_s = _CLOCK.monotonic_s()
