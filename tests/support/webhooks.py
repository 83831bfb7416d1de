"""Webhooks as Shopify and Stripe send and sign them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Final

SECRET: Final = "whsec_a-secret-of-webhooks"


def shopify_headers(body: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {"Content-Type": "application/json", "X-Shopify-Hmac-Sha256": signature}


def stripe_headers(body: bytes, at_s: int, secret: str = SECRET) -> dict[str, str]:
    signed = f"{at_s}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    header = f"t={at_s},v1={digest},v0=older"
    return {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": header}


def shopify_order(number: int, **fields: Any) -> dict[str, Any]:
    """An order of Shopify's webhook orders/paid, as far as it matters."""
    at = "2025-01-01T10:00:00+01:00"
    return {
        "id": number,
        "customer": {"id": 1 + number % 5},
        **dict.fromkeys(("created_at", "processed_at", "updated_at"), at),
        "cancelled_at": None,
        "financial_status": "paid",
        "test": False,
        "total_price": "12.50",
        "currency": "USD",
        "refunds": [],
        **fields,
    }
