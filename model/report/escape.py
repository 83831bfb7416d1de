"""Texts of others (manifests, files, names) made safe for where they are shown.

A model is copied from machine to machine, and an order log comes from a shop: what they say is told
to people, and is never a command to a terminal, markup of a page, or a formula of a spreadsheet.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters of ASCII and Latin-1, what turns the direction of a line, what ends a line in
# some editors, and halves of characters. Tabs and line ends are no commands.
_COMMANDS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Where a cell begins, ahead of what begins a formula, also as Asian keyboards write it.
_FORMULA: Final = re.compile("((?:^|[;,])[\\s\"']*)(?=[-=+@\uff0b\uff0d\uff1d\uff20])")
_MARKDOWN: Final = re.compile(r"[\\`*\[\]|]")
_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def terminal(text: str) -> str:
    r"""The text with every character that commands a terminal written as \x1b or \u202e.

    >>> terminal("\x1b[2Jall well")
    '\\x1b[2Jall well'
    """
    return _COMMANDS.sub(lambda found: _written(found[0]), text)


def line(text: str) -> str:
    r"""The same on one line: a text in a table or a sentence cannot begin a line of its own.

    >>> line("shop\nError: none")
    'shop\\x0aError: none'
    """
    return re.sub(r"[\t\n]", lambda found: _written(found[0]), terminal(text))


def markdown(text: str) -> str:
    r"""The text as a cell or a word of a Markdown page, without markup of its own.

    >>> markdown("<script>|a*")
    '&lt;script&gt;\\|a\\*'
    """
    plain = _MARKDOWN.sub(lambda found: f"\\{found[0]}", line(text))
    return plain.translate(_ENTITIES)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet takes the text for a formula."""
    return text.startswith(("=", "+", "-", "@", "\t", "\r"))


def cell(text: str) -> str:
    """The text as a cell of a CSV file: one line, and no formula of a spreadsheet, not even of one
    that takes a semicolon for what parts cells.

    >>> cell("=1+1"), cell("a;=1+1"), cell("ada-1")
    ("'=1+1", "a;'=1+1", 'ada-1')
    """
    return _FORMULA.sub(r"\1'", line(text))


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
