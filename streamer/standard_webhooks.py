"""What proves to a receiver that a POST is ours: the headers of Standard Webhooks
(https://www.standardwebhooks.com), version 1."""

from __future__ import annotations

import base64
import hmac
from typing import Final

PREFIX: Final = "whsec_"
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64


def key_of(secret: str) -> bytes:
    """The key in a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`. Raises ValueError with
    the remedy, which does not repeat the secret."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(
            f"write {PREFIX} and {MIN_KEY_BYTES} to {MAX_KEY_BYTES} random bytes in base64:"
            f' echo "{PREFIX}$(openssl rand -base64 32)"'
        )
    return key


def signed(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a message, by HMAC-SHA256 of its id, its time and its body.

    >>> key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> body = b'{"test": 2432232314}'
    >>> signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    content = b"%s.%d.%s" % (message_id.encode(), timestamp_s, body)
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{signature}",
    }
