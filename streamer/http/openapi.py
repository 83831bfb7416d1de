"""The OpenAPI document of the prediction API, made of the types that answer and the schema of an
order: `python -m streamer reference openapi > docs/openapi.json`."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from features.columns.vector import FEATURE_NAMES, FEATURE_VERSION
from features.events.orders import MAX_ID_CHARS
from streamer.http.answers import Prediction
from streamer.http.customer_view import CustomerView
from streamer.http.orders import EXAMPLE_ORDER, SIGNATURES, Taken, sending
from streamer.http.requests import MAX_BODY_BYTES, MAX_FAULTS, Fault
from streamer.http.schema import INSTANT, MAX_RECORDS, PredictRequest
from streamer.store.base import FEED_SIZE
from streamer.view.customer_history import CustomerHistory
from streamer.view.listed import CHOICES, MAX_LIMIT, WarningsPage
from streamer.view.outcomes import Forgotten, OutcomesView, Status
from streamer.web.lobby import PROBLEM_CONTENT_TYPE

API_VERSION: Final = "1.2.0"

_JSON: Final = "application/json"


@cache
def document() -> bytes:
    """The document as JSON, indented."""
    return json.dumps(_document(), indent=2, ensure_ascii=False).encode() + b"\n"


def _document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "clv-streamer",
            "version": API_VERSION,
            "description": "Customer lifetime value and churn probability, by the model and the"
            " state of a running worker. Money is in major units of `currency`; fields may be"
            " added to answers within version 1: ignore those you do not know.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:6066", "description": "A worker, by default."}],
        # Without CLV_WEB_TOKEN nobody is asked.
        "security": [{"token": []}, {}],
        "paths": {
            "/orders": {
                "post": sending(
                    _refused(
                        "BadRequest",
                        "TooSlow",
                        "TooLarge",
                        "UnsupportedMediaType",
                        "Unprocessable",
                    )
                )
            },
            "/predict": {"post": _predict()},
            "/customers/{user_id}": {"get": _customer(), "delete": _removal()},
            "/customers/{user_id}/history": {"get": _history()},
            "/warnings": {"get": _warnings()},
            "/warnings.csv": {"get": _table()},
            "/warnings/stream": {"get": _stream()},
            "/outcomes": {
                "get": _told("getOutcomes", "How warnings ended, by week", "OutcomesView")
            },
            "/status": {"get": _told("getStatus", "How the stream stands", "Status")},
            "/openapi.json": {"get": _openapi()},
        },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "CLV_WEB_TOKEN, where the worker has one.",
                },
                **SIGNATURES,
            },
            "responses": _problems(),
            "schemas": _schemas(),
        },
    }


_USER: Final[dict[str, Any]] = {
    "name": "user_id",
    "in": "path",
    "required": True,
    "description": "The user_id of the orders, percent-encoded (a slash as %2F).",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS},
}


def _predict() -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Score customers from their orders, or from ready features",
        "description": f"Answers a list in the order of the records. At most {MAX_RECORDS:,}"
        f" records and {MAX_BODY_BYTES:,} bytes. Nothing is stored.",
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {
                    "schema": _ref("PredictRequest"),
                    "examples": {
                        "orders": {"value": {"records": [{"orders": [EXAMPLE_ORDER]}]}},
                        "as_of": {
                            "value": {
                                "as_of": "2026-04-01T00:00:00Z",
                                "contributions": False,
                                "records": [{"orders": [EXAMPLE_ORDER]}],
                            }
                        },
                        "features": {
                            "value": {
                                "records": [
                                    {
                                        "feature_version": FEATURE_VERSION,
                                        "features": dict.fromkeys(FEATURE_NAMES, 0.0),
                                    }
                                ]
                            }
                        },
                    },
                }
            },
        },
        "responses": {
            "200": _answer(
                "The predictions.", {"type": "array", "items": _ref("Prediction"), "minItems": 1}
            ),
            **_refused(
                "BadRequest",
                "TooSlow",
                "NoLength",
                "TooLarge",
                "UnsupportedMediaType",
                "Unprocessable",
            ),
        },
    }


def _customer() -> dict[str, Any]:
    return {
        "operationId": "getCustomer",
        "summary": "A customer of the live state, rescored",
        "description": "Any worker answers for any customer, whichever partition it is in.",
        "parameters": [
            _USER,
            {
                "name": "as_of",
                "in": "query",
                "description": "The instant to score as of: `now`; `event-time`, which is that of"
                " the newest order of the customer's partition; or a time that is not before the"
                " newest of the customer's orders.",
                "schema": {
                    "default": "now",
                    "anyOf": [
                        {"enum": ["now", "event-time"]},
                        {"type": "string", "format": "date-time"},
                        {"type": "integer", "minimum": 100_000_000_000},
                    ],
                },
            },
        ],
        "responses": {
            "200": _answer("The customer.", _ref("CustomerView")),
            **_refused("NotFound", "Unprocessable", "Failed"),
        },
    }


def _removal() -> dict[str, Any]:
    return {
        "operationId": "forgetCustomer",
        "summary": "Forget a customer, by way of the log",
        "description": "As `python -m streamer forget`: the erasure is written to every partition"
        " and applied when workers read it; orders from before it are ignored from then on.",
        "parameters": [_USER],
        "responses": {
            "202": _answer("It stands in the log.", _ref("Forgotten")),
            **_refused("Forbidden", "Unprocessable", "Failed", "NotSet"),
        },
    }


def _history() -> dict[str, Any]:
    return {
        "operationId": "getCustomerHistory",
        "summary": "A customer over time, up to event time",
        "parameters": [_USER],
        "responses": {
            "200": _answer("The customer.", _ref("CustomerHistory")),
            **_refused("NotFound", "Unprocessable", "Failed"),
        },
    }


def _filters() -> list[dict[str, Any]]:
    said = {
        "state": "`open`, or `all` that are kept: of each partition those among its last"
        f" {FEED_SIZE:,} messages, and those open",
        "severity": "One or several, joined by commas.",
        "trigger": "One or several, joined by commas.",
        "segment": "One or several, joined by commas: what the customer was worth before.",
        "holdout": "Only the customers held out, or only the others.",
    }
    found = []
    for name, description in said.items():
        one: dict[str, Any] = {"type": "string", "enum": sorted(CHOICES[name])}
        several = name not in ("state", "holdout")
        schema = {"type": "array", "items": one, "minItems": 1} if several else one
        parameter = {"name": name, "in": "query", "description": description, "schema": schema}
        found.append({**parameter, "explode": False} if several else parameter)
    user = {"type": "string", "maxLength": MAX_ID_CHARS}
    part = "A part of the id, in whatever case."
    return [*found, {"name": "user", "in": "query", "description": part, "schema": user}]


def _warnings() -> dict[str, Any]:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}
    cursor = "The `next` of the page before, with the same filters."
    return {
        "operationId": "getWarnings",
        "summary": "Warnings, of all partitions, by page",
        "parameters": [
            *_filters(),
            {"name": "limit", "in": "query", "schema": limit},
            {
                "name": "cursor",
                "in": "query",
                "description": cursor,
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
            },
        ],
        "responses": {
            "200": _answer("The page.", _ref("WarningsPage")),
            **_refused("Unprocessable", "Failed"),
        },
    }


def _table() -> dict[str, Any]:
    return {
        "operationId": "getWarningsTable",
        "summary": "The same warnings as a file for a spreadsheet",
        "description": "Texts that a spreadsheet would run as a formula begin with an apostrophe.",
        "parameters": _filters(),
        "responses": {
            "200": {
                "description": "All warnings that are asked for.",
                "content": {"text/csv": {"schema": {"type": "string"}}},
            },
            **_refused("Unprocessable", "Failed"),
        },
    }


def _stream() -> dict[str, Any]:
    return {
        "operationId": "streamWarnings",
        "summary": "What the warnings topic gets, as server-sent events",
        "description": "Events `warning`, `recovered` and `value_drop` with a record of the topic;"
        " `begin` first; `gap` where messages since the last id are no longer kept, with how many;"
        " `dropped` where the client reads too slowly. Any worker goes on after the id of any event"
        " of any other. Only after Redis has lost data may an event come again, under its"
        " `warning_id`.",
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The id of the last event that was read.",
                "schema": {"type": "string", "pattern": "^[0-9]{1,15}([.][0-9]{1,15})*$"},
            },
            {
                "name": "from",
                "in": "query",
                "description": "`start`: without an id, begin with all that is kept.",
                "schema": {"type": "string", "enum": ["start"]},
            },
        ],
        "responses": {
            "200": {
                "description": "The events.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **_refused("Unprocessable", "Failed"),
        },
    }


def _told(operation: str, summary: str, schema: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _answer("As of now.", _ref(schema)), **_refused("Failed")},
    }


def _openapi() -> dict[str, Any]:
    return {
        "operationId": "getOpenApi",
        "summary": "This document",
        "responses": {"200": _answer("The document.", {"type": "object"}), **_refused()},
    }


_STATUSES: Final = {
    "BadRequest": ("400", "The body is not valid JSON."),
    "Unauthorized": ("401", "The worker has a token, and this was not it."),
    "Forbidden": ("403", "A page of another site asked."),
    "NotFound": ("404", "No order of this customer was applied."),
    "TooSlow": ("408", "The body did not arrive within 5 seconds."),
    "NoLength": ("411", "The body came in chunks: send it with Content-Length."),
    "TooLarge": ("413", "The body is too large: send fewer records at a time."),
    "UnsupportedMediaType": ("415", "The body is not application/json."),
    "Misdirected": ("421", "A worker without a token answers for 127.0.0.1 and localhost only."),
    "Unprocessable": ("422", "What is wrong, each fault with its place and a remedy."),
    "Failed": ("500", "A fault of ours, or damage in the store."),
    "NotSet": ("501", "The worker has no CLV_ERASURE_KEY."),
    "Unavailable": ("503", "No model yet, no store, or too many requests: see Retry-After."),
}


def _problems() -> dict[str, Any]:
    found: dict[str, Any] = {
        name: {
            "description": description,
            "content": {PROBLEM_CONTENT_TYPE: {"schema": _ref("Problem")}},
        }
        for name, (_, description) in _STATUSES.items()
    }
    found["Unavailable"]["headers"] = {
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
    }
    return found


def _refused(*names: str) -> dict[str, Any]:
    """The problems of a page: those named, and those of every page."""
    every = {*names, "Unauthorized", "Misdirected", "Unavailable"}
    return {
        status: {"$ref": f"#/components/responses/{name}"}
        for name, (status, _) in _STATUSES.items()
        if name in every
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


class _Plain(GenerateJsonSchema):
    """Without a title for each field, which says no more than its name."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def _schemas() -> dict[str, Any]:
    template = "#/components/schemas/{}"
    _, asked = models_json_schema(
        [(PredictRequest, "validation")],
        ref_template=template.format("{model}"),
        schema_generator=_Plain,
    )
    _, answers = msgspec.json.schema_components(
        [
            Prediction,
            CustomerView,
            CustomerHistory,
            WarningsPage,
            OutcomesView,
            Status,
            Forgotten,
            Fault,
            Taken,
        ],
        ref_template=template.format("{name}"),
    )
    found = asked["$defs"] | answers
    for schema in found.values():
        # A docstring's lines are of our making.
        schema["description"] = " ".join(schema.get("description", "").split())
    return {**found, "Order": _order_schema(), "Problem": _problem_schema()}


def _order_schema() -> dict[str, Any]:
    text = resources.files("streamer.pipeline").joinpath("schemas/order-1.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    # Within this document it goes by its place in it.
    schema = {name: value for name, value in schema.items() if name not in ("$schema", "$id")}
    # Narrower than what is taken: generated clients are not to write 0000-00-00.
    schema["properties"]["ts"] = {**schema["properties"]["ts"], **INSTANT}
    return schema


def _problem_schema() -> dict[str, Any]:
    return {
        "description": "What is wrong, as RFC 9457 has it.",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {
                "description": f"Every fault of the request, up to {MAX_FAULTS}.",
                "type": "array",
                "items": _ref("Fault"),
            },
        },
    }
