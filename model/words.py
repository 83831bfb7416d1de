"""Words of what is said to people, in one place."""

from __future__ import annotations


def counted(count: int, noun: str, nouns: str = "") -> str:
    """A count with its noun; `nouns` is the plural where an s alone does not make it.

    >>> counted(1, "order"), counted(1_200, "order"), counted(2, "is odd", "are odd")
    ('1 order', '1,200 orders', '2 are odd')
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def inflected(text: str, count: int) -> str:
    """A text as it stands beside a count, with an s where it has {}.

    >>> inflected("repeat{}, counted once", 1), inflected("repeat{}, counted once", 2)
    ('repeat, counted once', 'repeats, counted once')
    """
    return text.replace("{}", "" if count == 1 else "s")
