"""What shops call their columns, and what they write into a status."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from importlib import resources
from typing import Final

_BREAKS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|[^0-9A-Za-z]+")
_EXACT: Final = 1.0
_WITHIN: Final = 0.7
WORDS: Final[dict[str, list[str]]] = tomllib.loads(
    resources.files("features.proposal").joinpath("words.toml").read_text("utf-8")
)
# Words in a name that speak against a field, and by how much.
_AGAINST: Final = {
    "amount": ((frozenset(WORDS["parts"]), 0.6), (frozenset(WORDS["lesser"]), 0.3)),
    "ts": ((frozenset(WORDS["not_ts"]), 0.5),),
    "user_id": ((frozenset(WORDS["not_user_id"]), 0.4),),
    "order_id": ((frozenset(WORDS["not_order_id"]), 0.5),),
}
LINES: Final = frozenset(WORDS["lines"])
BESIDE: Final = frozenset(WORDS["beside"])
ADJUSTED: Final = frozenset(WORDS["adjusted"])
TOTALS: Final = frozenset(WORDS["totals"])
PARTLY: Final = frozenset(WORDS["partly"])
_TAXES: Final = frozenset(WORDS["taxes"])
_TAXED: Final = frozenset(WORDS["taxed"])
TRUE_WORDS: Final = frozenset(WORDS["true_words"])
MEANINGS: Final = ("unpaid", "cancelled", "refunded", "ordered", "counted")


def plain(text: str) -> str:
    """A name or value without what does not tell them apart: accents, case, marks, camel case.

    >>> plain("Numéro-de_Commande"), plain("orderId"), plain("Order #")
    ('numero de commande', 'order id', 'order')
    """
    bare = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ł", "l"))
    bare = "".join(mark for mark in bare if not unicodedata.combining(mark))
    return " ".join(part.lower() for part in _BREAKS.split(bare) if part)


def score(name: str, field: str) -> float:
    """How much a column's name speaks for a field, 0 to 1: 1 for a word of the list, less for one
    that stands further down, or within the name."""
    bare = plain(name)
    words = WORDS[field]
    if bare in words:
        found = _EXACT - 0.2 * words.index(bare) / len(words)
    else:
        padded = f" {bare} "
        within = [n for n, word in enumerate(words) if f" {word} " in padded]
        found = _WITHIN - 0.2 * min(within) / len(words) if within else 0.0
    tokens = set(bare.split())
    if tokens & _TAXED:  # a total with tax or without it, and not the tax
        tokens -= _TAXES
    for against, less in _AGAINST.get(field, ()):
        if tokens & against and bare not in words:
            found -= less
    return max(found, 0.0)


def meaning(value: str) -> str:
    """What a value of a status or type says of its row: one of MEANINGS, or nothing known.

    >>> meaning("Storniert"), meaning("versendet")
    ('cancelled', '')
    """
    bare = plain(value)
    return next((one for one in MEANINGS if bare in WORDS[one]), "")
