"""Who is who: ids that name nobody, and ids that differ only in how they are written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

# What exports, databases and shops write where there is no customer, compared without case and
# blanks at the ends.
PLACEHOLDERS: Final = frozenset(
    {
        *("", "0", "0.0", "-1", "-", "--", "?", "nan", "nat", "<na>", "na", "n/a", "#n/a", "\\n"),
        *("null", "(null)", "<null>", "none", "(none)", "nil", "undefined", "unknown"),
        *("(not set)", "guest", "anonymous", "walk-in"),
    }
)
_DECIMAL: Final = re.compile(r"(-?\d+)\.0+")


def placeholders_of(words: Iterable[str]) -> frozenset[str]:
    """A list of placeholders as `is_placeholder` compares with it. An empty id is always one."""
    return frozenset(map(_folded, words)) | {""}


def is_placeholder(user_id: str, placeholders: Collection[str] = PLACEHOLDERS) -> bool:
    """Whether an id stands for no customer.

    >>> is_placeholder(" NaN"), is_placeholder("nancy")
    (True, False)
    """
    return _folded(user_id) in placeholders


def plain_id(user_id: str) -> str:
    """The id without what does not tell people apart: case, blanks at the ends, a trailing `.0`.

    >>> plain_id(" Kim@Shop.test "), plain_id("17850.0")
    ('kim@shop.test', '17850')
    """
    folded = _folded(user_id)
    decimal = _DECIMAL.fullmatch(folded)
    return decimal[1] if decimal else folded


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: a file read leniently may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folded(text: str) -> str:
    return text.strip().casefold()
