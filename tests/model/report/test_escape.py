"""What others wrote is shown to people, and is never a command, markup or a formula."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from model.report.escape import is_formula, line, markdown, terminal

ANY = st.text(st.characters(), max_size=30)


@given(ANY)
def test_no_text_commands_a_terminal(text: str) -> None:
    shown = terminal(text)
    shown.encode()
    for character in shown:
        if character not in "\t\n":
            assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
            assert unicodedata.bidirectional(character) not in ("RLO", "LRO", "RLE", "LRI", "PDF")


@given(ANY)
def test_a_text_stays_on_its_line(text: str) -> None:
    assert len(line(text).splitlines()) <= 1


@given(ANY)
def test_no_text_is_markup_of_a_page(text: str) -> None:
    shown = markdown(text)
    assert not set("<>") & set(shown)
    for mark in "`*[]|":
        assert shown.count(mark) == shown.count(f"\\{mark}")


def test_usual_texts_stay_as_they_are() -> None:
    for text in ("net_minor_7d", "BG/NBD + GG", "böb, 東京", "2026-03-01 to 2026-04-01", "a\tb\nc"):
        assert terminal(text) == text
    assert markdown("net_minor_7d of 10 % #1 - R²") == "net_minor_7d of 10 % #1 - R²"


def test_formulas_are_known_by_how_they_begin() -> None:
    assert all(is_formula(text) for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"))
    assert not any(is_formula(text) for text in ("", "1-1", "user-1", "a=b"))
