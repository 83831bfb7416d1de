"""What records are that hold an order and are none themselves: named, with what unwraps them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_OPTIONAL: Final = ("type", "currency", "refund_id", "updated_at")
_LETTERS: Final = {name.replace("_", ""): name for name in _OPTIONAL}
# A quick look at the bytes, as nearly no record has such a name.
_OTHERWISE: Final = re.compile(rb'(?:[A-Z -][A-Za-z_ -]*|refundid|updatedat)"\s*:')


def around(document: Mapping[str, Any]) -> str:
    """What a document that lacks an order's fields is, with the remedy; nothing if it is unknown.

    >>> around({"before": None, "after": {"order_id": "1"}, "op": "c"})
    'a Debezium envelope; unwrap it with the ExtractNewRecordState transform'
    """
    if "payload" in document and "schema" in document:
        inner = document["payload"]
        more = around(inner) if isinstance(inner, Mapping) else ""
        return "a Kafka Connect envelope; set value.converter.schemas.enable=false" + (
            f"; within it is {more}" if more else ""
        )
    if "after" in document and ("op" in document or "before" in document):
        return "a Debezium envelope; unwrap it with the ExtractNewRecordState transform"
    if "specversion" in document:
        return "a CloudEvents envelope; send its data alone (binary content mode)"
    for name, inner in document.items():
        if isinstance(inner, Mapping) and "order_id" in inner:
            return f"an envelope; send what {_short(name)} holds as the whole value"
        if isinstance(inner, list) and any(
            isinstance(x, Mapping) and "order_id" in x for x in inner
        ):
            return f"a list; send each one in {_short(name)} as a record of its own"
    return ""


def header_of(value: bytes) -> str:
    """What bytes that are no JSON begin with, with the remedy; nothing if it is unknown."""
    if value[:1] == b"\x00" and len(value) > 5:
        return (
            "it begins with the header of a schema registry (a zero byte and the schema's id);"
            " produce JSON without a schema registry, or read the topic with `streamer ingest`"
        )
    if value[:2] == b"\x1f\x8b":
        return "it is gzip; leave compression to the producer's compression.type"
    if value[:3] == b"\xef\xbb\xbf" or value[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "it begins with a byte order mark; send UTF-8 without one"
    return ""


def key_fault(key: bytes, user_id: str) -> str:
    """How a record's key that is not the customer's id was written, as far as can be seen."""
    if key[:1] == b"\x00" and len(key) > 5:
        return (
            "; the key begins with the header of a schema registry: write it with StringSerializer"
        )
    if key[:1] in (b'"', b"{", b"["):
        return "; the key is JSON: write it as plain text, with StringSerializer"
    return "" if key.strip() != user_id.encode() else "; the key has blanks around it"


def field_otherwise(value: bytes) -> tuple[str, str] | None:
    """The optional field that a record names in other letters (`Type`), and the name as it was
    written; None if it does not. Passed over, it would turn a refund into an order."""
    if _OTHERWISE.search(value) is None:
        return None
    document: dict[str, Any] = msgspec.json.decode(value)
    for name in document:
        plain = _LETTERS.get(re.sub(r"[\W_]+", "", name.lower()))
        if plain is not None and plain != name and plain not in document:
            return plain, _short(name)
    return None


def _short(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "…")
