"""What the OpenAPI document says of `POST /orders`."""

from __future__ import annotations

from typing import Any, Final

from features.mapping.presets import PRESETS
from streamer.http.orders import MAX_ORDERS
from streamer.http.orders_signed import SIGNED_BY

_EXAMPLE: Final = {
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
                    "examples": {"order": {"value": _EXAMPLE}, "list": {"value": [_EXAMPLE]}},
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
