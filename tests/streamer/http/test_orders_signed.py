"""Signatures of webhooks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.http.orders_signed import SHOPIFY, STRIPE, is_signed, sender_of
from tests.support.webhooks import SECRET, shopify_headers, stripe_headers

NOW_S = 1_750_000_000
BODY = b'{"id": 1}'


def shopifys(body: bytes = BODY, secret: str = SECRET) -> str:
    return shopify_headers(body, secret)["X-Shopify-Hmac-Sha256"]


def stripe_header(body: bytes = BODY, at: int = NOW_S, secret: str = SECRET) -> str:
    return stripe_headers(body, at, secret)["Stripe-Signature"]


def stripes(body: bytes = BODY, at: int = NOW_S, secret: str = SECRET) -> str:
    return stripe_header(body, at, secret).split("v1=")[1].split(",")[0]


def test_what_openssl_signs_is_taken() -> None:
    # printf '{"id": 1}' | openssl dgst -sha256 -hmac key -binary | base64
    signature = "UyiqmWOFQAUEx8xOe0Nv6ayHM5Qzz7DBObQ/hQ6GLNc="
    assert is_signed(SHOPIFY, signature, b'{"id": 1}', "key", NOW_S)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_only_the_body_that_was_signed_is_taken(signed: bytes, sent: bytes) -> None:
    same = signed == sent
    assert is_signed(SHOPIFY, shopifys(signed), sent, SECRET, NOW_S) is same
    assert is_signed(STRIPE, stripe_header(signed), sent, SECRET, NOW_S) is same


@pytest.mark.parametrize("late_s", [-301, -300, 0, 300, 301])
def test_stripes_signature_is_of_now(late_s: int) -> None:
    header = stripe_header(at=NOW_S)
    assert is_signed(STRIPE, header, BODY, SECRET, NOW_S + late_s) is (abs(late_s) <= 300)


def test_of_several_signatures_one_is_enough() -> None:
    header = f"t={NOW_S},v1={stripes(secret='the one before')},v1={stripes()}"
    assert is_signed(STRIPE, header, BODY, SECRET, NOW_S)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=",
        f"t={NOW_S}",
        f"v1={stripes()}",
        f"t={NOW_S},t={NOW_S},v1={stripes()}",
        f"t=-{NOW_S},v1={stripes()}",
        f"t={NOW_S}.0,v1={stripes()}",
        f"t={NOW_S},v0={stripes()}",
        f"t={NOW_S},v1={stripes()[:-1]}",
        f"t={NOW_S},v1=\u00e4",
        f"t={10**30},v1={stripes()}",
        f"t=\u0661,v1={stripes()}",
        "v1=" + "x" * 10_000,
    ],
)
def test_a_header_that_is_none_is_no_signature(header: str) -> None:
    assert not is_signed(STRIPE, header, BODY, SECRET, NOW_S)
    assert not is_signed(SHOPIFY, header, BODY, SECRET, NOW_S)


def test_another_secret_signs_nothing() -> None:
    assert not is_signed(SHOPIFY, shopifys(secret="another"), BODY, SECRET, NOW_S)
    assert not is_signed(STRIPE, stripe_header(secret="another"), BODY, SECRET, NOW_S)


def test_the_sender_is_known_by_its_header() -> None:
    assert sender_of({"X-Shopify-Hmac-Sha256": ""}) == SHOPIFY
    assert sender_of({"Stripe-Signature": ""}) == STRIPE
    assert sender_of({"Authorization": ""}) is None
