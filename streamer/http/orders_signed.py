"""Signatures of webhooks: who sent a body, and when. Pure; compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

SHOPIFY, STRIPE = "shopify", "stripe"
SIGNED_BY: Final = {SHOPIFY: "X-Shopify-Hmac-Sha256", STRIPE: "Stripe-Signature"}
"""The header with each sender's signature."""
# As Stripe's own libraries have it: what is older may have been overheard and sent again.
TOLERANCE_S: Final = 300
_MAX_HEADER_CHARS: Final = 4_096


def sender_of(headers: Mapping[str, str]) -> str | None:
    """Whose signature a request has; None where it has none."""
    return next((sender for sender, name in SIGNED_BY.items() if name in headers), None)


def is_signed(sender: str, header: str, body: bytes, secret: str, now_s: float) -> bool:
    """Whether who knows the secret signed the body, and lately where the sender says when.

    Shopify: base64 of HMAC-SHA256 of the body. Stripe: `t=EPOCH,v1=HEX`, HMAC-SHA256 of
    `EPOCH.body`; of several v1, one while a secret is being replaced, any may be right.
    Source: shopify.dev "Verify webhook deliveries", docs.stripe.com "Verify webhook signatures".
    """
    if len(header) > _MAX_HEADER_CHARS:
        return False
    return _stripes(header, body, secret, now_s) if sender == STRIPE else _is(header, body, secret)


def _is(header: str, body: bytes, secret: str) -> bool:
    try:
        given = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(given, _signature(body, secret))


def _stripes(header: str, body: bytes, secret: str, now_s: float) -> bool:
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) < 16):
        return False
    expected = _signature(times[0].encode() + b"." + body, secret).hex().encode()
    given = [value.encode(errors="replace") for name, _, value in parts if name == "v1"]
    # All of them, so that the time tells nothing of which one was right.
    right = sum([hmac.compare_digest(one, expected) for one in given])
    return bool(right) and abs(now_s - int(times[0])) <= TOLERANCE_S


def _signature(signed: bytes, secret: str) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).digest()
