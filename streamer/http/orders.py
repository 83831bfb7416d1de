"""`POST /orders`: orders into the orders topic over HTTP, for shops without a Kafka client.

Who has the token sends orders as the contract has them, or records of a preset (`?preset=shopify`);
each fault is told by its place, and either all of a body goes out or nothing. Webhooks of Shopify
and Stripe show no token but a signature. Nobody reads what is answered to those, and who is
answered with an error too often sends no more, so that a genuine webhook with an order that breaks
a rule becomes a dead letter, as it would on a topic.

An answer of 2xx comes after the broker's acknowledgement. What is sent twice has the same ids and
changes nothing; in which order it comes does not matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp.web import Request, Response, StreamResponse

from features.events.orders import Order, OrderRules, Reason, Rejected
from features.mapping.presets import PRESETS, preset
from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.http.orders_signed import SIGNED_BY, is_signed, sender_of
from streamer.http.requests import MAX_FAULTS, Fault, field_of
from streamer.orders import order_message
from streamer.pipeline import outbox
from streamer.pipeline.messages import dead_letter
from streamer.reading import CanonicalReading, MappedReading, OrderReading, Outcome
from streamer.records import Message, Publisher, PublishFailed
from streamer.web.guards import ORDERS_PATH
from streamer.web.problems import problem
from streamer.web.server import Bodies, BodyUnread, GuardedWeb

_log = log.get(__name__)

MAX_BODY_BYTES: Final = 1 << 20
MAX_ORDERS: Final = 1_000
MAX_WAITING: Final = 16
# The server cuts a connection off after 20 s, and a body may have taken 5 of them.
ACKED_WITHIN_S: Final = 10.0
RETRY_S: Final = 5
_pieces: Final = msgspec.json.Decoder(list[msgspec.Raw])
_json: Final = msgspec.json.Encoder()


class Taken(msgspec.Struct, frozen=True):
    """What became of a body: orders that the broker has, records that are no orders (a test order,
    an unpaid one), and webhooks that were set aside as dead letters."""

    accepted: int
    skipped: int = 0
    set_aside: int = 0


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """How orders are read, where they go, and the secrets that senders sign with."""

    rules: OrderRules
    topic: str
    dead_letter_topic: str
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class OrdersPage:
    """The page. `publisher` is its own, so that what goes wrong here disturbs no stream; `answered`
    hears of each status."""

    web: GuardedWeb
    publisher: Publisher
    terms: OrderTerms
    answered: Callable[[str, int], None] = lambda page, status: None
    clock: Clock = field(default_factory=SystemClock)
    bodies: Bodies = field(
        default_factory=lambda: Bodies(MAX_BODY_BYTES, MAX_WAITING * MAX_BODY_BYTES)
    )
    _mapped: dict[str, MappedReading] = field(default_factory=dict, init=False)

    def add(self) -> None:
        """Adds the page to the server, before it starts."""
        self.web.add_form(ORDERS_PATH, self.page, MAX_BODY_BYTES, signed=True)

    async def page(self, request: Request) -> StreamResponse:
        try:
            response = await self._answer(request)
        except BodyUnread as error:
            response = error.problem()
        self.answered("orders", response.status)
        return response

    async def _answer(self, request: Request) -> Response:
        sender = sender_of(request.headers)
        if sender is None and not self.web.shows_token(request):
            return _unknown(
                "send the header Authorization: Bearer, with CLV_WEB_TOKEN; or a webhook signed for"
                " CLV_SHOPIFY_SECRET or CLV_STRIPE_SECRET"
            )
        if request.content_type != "application/json":
            return problem(415, "send the body as Content-Type: application/json")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return problem(415, "send the body as it is, without Content-Encoding")
        known = request.query.get("preset", sender or "")
        if known not in ("", *PRESETS) or (sender is not None and known != sender):
            wanted = sender or ", ".join(PRESETS)
            fault = Fault(f"preset is none of: {wanted}", "?preset", field="preset")
            return problem(422, fault.detail, errors=[fault])
        async with self.bodies.of(request) as body:
            if sender is not None and not self._is_genuine(request, sender, body):
                return _unknown(
                    f"{SIGNED_BY[sender]} is not the signature of this body, of now, with"
                    f" CLV_{sender.upper()}_SECRET"
                )
            reading = self._reading(known)
            if sender is not None:
                return await self._of_webhook(body, reading, sender)
            return await self._of_client(body, reading)

    def _is_genuine(self, request: Request, sender: str, body: bytes) -> bool:
        secret = self.terms.secrets.get(sender)
        header = request.headers[SIGNED_BY[sender]]
        # Without a secret there is nobody whose signature it could be.
        now_s = self.clock.now_ms() / 1000
        return secret is not None and is_signed(sender, header, body, secret, now_s)

    def _reading(self, known: str) -> OrderReading:
        if not known:
            return CanonicalReading(self.terms.rules)
        if known not in self._mapped:
            self._mapped[known] = MappedReading(preset(known), self.terms.rules)
        return self._mapped[known]

    async def _of_client(self, body: bytes, reading: OrderReading) -> Response:
        """All orders of the body, or every fault of it."""
        whole = body.lstrip()
        pieces: Sequence[bytes] = [body]
        if whole[:1] == b"[":
            try:
                pieces = [bytes(piece) for piece in _pieces.decode(body)]
            except (ValueError, RecursionError):
                return problem(400, "the body is not valid JSON in UTF-8; send an order, or a list")
            if not 1 <= len(pieces) <= MAX_ORDERS:
                return problem(422, f"send 1 to {MAX_ORDERS:,} orders at a time")
        now_ms, as_sent = self.clock.now_ms(), isinstance(reading, CanonicalReading)
        found: list[Outcome] = []
        faults: list[Fault] = []
        for number, piece in enumerate(pieces):
            outcomes = reading.of_json(piece, 0, now_ms)
            found += outcomes
            at = number if whole[:1] == b"[" else None
            bad = [one for one in outcomes if isinstance(one, Rejected)]
            faults += [_fault(one, at, as_sent=as_sent) for one in bad]
            if len(faults) >= MAX_FAULTS:
                break
            await asyncio.sleep(0)  # the stream has its turn
        if faults:
            reasons = {one.reason for one in found if isinstance(one, Rejected)}
            shown = faults[:MAX_FAULTS]
            detail = shown[0].detail if len(shown) == 1 else f"{len(shown)} faults"
            status = 400 if reasons <= {Reason.NOT_JSON, Reason.EMPTY} else 422
            return problem(status, detail, errors=shown)
        return await self._published(found, [])

    async def _of_webhook(self, body: bytes, reading: OrderReading, sender: str) -> Response:
        """Whatever a genuine webhook has, as orders or as a dead letter."""
        found = reading.of_json(body, 0, self.clock.now_ms())
        bad = next((one for one in found if isinstance(one, Rejected)), None)
        letters = []
        if bad is not None:
            _log.warning("webhook.set_aside", sender=sender, reason=bad.reason.value)
            letter = dead_letter(
                bad,
                key=None,
                value=body,
                # A path is no name that a topic can have; for an offset, when it came.
                source=(ORDERS_PATH, 0, self.clock.now_ms()),
                topic=self.terms.dead_letter_topic,
            )
            sent_by = ("sender", sender.encode())
            letters = [msgspec.structs.replace(letter, headers=(sent_by, *letter.headers))]
        return await self._published(found, letters)

    async def _published(self, found: Sequence[Outcome], letters: Sequence[Message]) -> Response:
        topic, currency = self.terms.topic, self.terms.rules.currency
        orders = [order_message(one, topic, currency) for one in found if isinstance(one, Order)]
        if orders or letters:
            try:
                async with asyncio.timeout(ACKED_WITHIN_S):
                    await outbox.publish(letters, orders, self.publisher)
            except (PublishFailed, TimeoutError) as error:
                reason = str(error) or "no answer in time"
                _log.warning("orders.unacknowledged", reason=reason)
                return problem(
                    503,
                    "the broker has not acknowledged the orders: send them again, ids make repeats"
                    " harmless",
                    retry_after_s=RETRY_S,
                )
        skipped = sum(not isinstance(one, Order | Rejected) for one in found)
        taken = Taken(len(orders), skipped, len(letters))
        return Response(body=_json.encode(taken), content_type="application/json")


def _unknown(detail: str) -> Response:
    refused = problem(401, detail)
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused


def _fault(rejected: Rejected, number: int | None, *, as_sent: bool) -> Fault:
    """A fault with its place; `number` counts the orders of a list, and `as_sent`: the fields have
    the names that the body has them under."""
    name = field_of(rejected) if as_sent else None
    place = "#" if number is None else f"#/{number}"
    pointer = place if name is None else f"{place}/{name}"
    return Fault(rejected.detail, pointer, order=number, field=name)


# --- what the OpenAPI document says of it ---------------------------------------------------------

EXAMPLE_ORDER: Final = {
    "order_id": "1001",
    "user_id": "ada",
    "ts": "2026-03-01T12:00:00Z",
    "amount": 12.5,
}
SIGNATURES: Final[dict[str, Any]] = {
    sender: {
        "type": "apiKey",
        "in": "header",
        "name": header,
        "description": f"A webhook, signed with CLV_{sender.upper()}_SECRET.",
    }
    for sender, header in SIGNED_BY.items()
}


def sending(refusals: dict[str, Any]) -> dict[str, Any]:
    """The operation, with the responses that refuse."""
    order = {"$ref": "#/components/schemas/Order"}
    taken = {"$ref": "#/components/schemas/Taken"}
    return {
        "operationId": "sendOrders",
        "summary": "Send orders into the orders topic",
        "description": f"An order, or a list of up to {MAX_ORDERS:,}; all of them or none. With"
        " `preset`, records as that system has them. Answered once the broker has acknowledged all;"
        " sent again, ids make them harmless. A signed webhook that breaks a rule is set aside, and"
        " answered with 200.",
        "security": [{"token": []}, *({sender: []} for sender in SIGNED_BY)],
        "parameters": [
            {
                "name": "preset",
                "in": "query",
                "description": "Whose records they are; a webhook's are those of who signs.",
                "schema": {"enum": list(PRESETS)},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            order,
                            {
                                "type": "array",
                                "items": order,
                                "minItems": 1,
                                "maxItems": MAX_ORDERS,
                            },
                        ]
                    },
                    "examples": {
                        "order": {"value": EXAMPLE_ORDER},
                        "list": {"value": [EXAMPLE_ORDER]},
                    },
                }
            },
        },
        "responses": {
            "200": {
                "description": "What became of them.",
                "content": {"application/json": {"schema": taken}},
            },
            **refusals,
        },
    }
