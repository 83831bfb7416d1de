"""The exports and topics of which the mapping is known."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Final

from features.mapping.document import read
from features.mapping.mapping import MappingError, OrderMapping

# Each with the documents that it is made of; the first whose needs a record has is taken.
PRESETS: Final = {
    "shopify": ("shopify-order", "shopify-refund", "shopify-export"),
    "woocommerce": ("woocommerce-order", "woocommerce-export", "woocommerce-analytics"),
    "stripe": ("stripe-event", "stripe-charge", "stripe-refund", "stripe-export"),
    "magento": ("magento-order", "magento-export"),
    "segment": ("segment",),
    "rudderstack": ("segment",),
    "ga4": ("ga4-export", "ga4-event"),
    "braze": ("braze-event", "braze-request"),
    "online-retail": ("online-retail", "online-retail-ii"),
    "cdnow": ("cdnow-sample", "cdnow"),
}


def preset(name: str, timezone: str | None = None) -> OrderMapping:
    """The mapping of a known export; `timezone` as in `OrderMapping.from_toml`. Raises
    MappingError."""
    if name not in PRESETS:
        raise MappingError(f"preset {name!r} is none of {', '.join(PRESETS)}")
    documents = [read(text_of(one), one, timezone) for one in PRESETS[name]]
    return OrderMapping(documents, name)


@lru_cache
def text_of(document: str) -> str:
    """The TOML of one document of a preset."""
    folder = resources.files("features.mapping").joinpath("toml")
    return folder.joinpath(f"{document}.toml").read_text("utf-8")
