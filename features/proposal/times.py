"""Which column is the time of an order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Final

from features.proposal.draft import LEAST, Draft, SampleColumn, toml_text
from features.proposal.formats import MOSTLY, TimesFound, times_of
from features.proposal.names import plain, score

_MOSTLY_NAMED: Final = 0.9


def find_time(draft: Draft) -> None:
    """Takes the column of times, and asks for what its texts leave open."""
    named = draft.named("ts")
    candidates: dict[str, TimesFound] = {}
    for column in [named] if named else draft.columns.values():
        values = column.values
        speaks = named is not None or score(column.name, "ts") >= LEAST
        # Rows without one are set aside, and told.
        if column.filled < (_MOSTLY_NAMED if speaks else MOSTLY) or not values:
            continue
        if found := times_of(values, named=speaks):
            candidates[column.path] = found
    if not candidates:
        said = named.name if named else "no column"
        if draft.answers.time_format and named:
            candidates[named.path] = TimesFound((draft.answers.time_format,), True)
        else:
            draft.ask("--column ts=NAME", f"{said} holds times in a form that is known")
            return
    scores = {path: 0.5 + 0.5 * score(draft.columns[path].name, "ts") for path in candidates}
    ranked = draft.best(scores)
    sure, column = ranked[0]
    only = len(candidates) == 1
    if not only and len(ranked) > 1 and sure - ranked[1][0] < 0.02 and sure <= 0.5:
        others = ", ".join(one.name for _, one in ranked[:4])
        draft.ask("--column ts=NAME", f"several columns hold times: {others}")
        return
    why = "named so" if named else "its name" if sure > 0.5 else "the only column of times"
    found = candidates[column.path]
    draft.take("ts", column, 1.0 if named else max(sure, 0.7 * only), f"{why}; {_forms(found)}")
    _write_time(draft, column, found)


def _write_time(draft: Draft, column: SampleColumn, found: TimesFound) -> None:
    formats, naive = list(found.formats), found.naive
    if draft.answers.time_format:
        formats, naive = [draft.answers.time_format], "%z" not in draft.answers.time_format
    elif found.ambiguous:
        one, other = formats
        draft.ask(
            f"--time-format '{one}'",
            f"day and month of {column.name} cannot be told apart ({column.texts[0]!r}): it is"
            f" --time-format '{one}' or --time-format '{other}'",
        )
    path, clock = column.path, _clock(draft, column)
    if clock is not None:
        path = f"join(' ', [{column.path}, {clock.path}])"
        if formats != ["iso"]:
            formats = [f"{form} {_clock_form(clock.texts[0])}" for form in formats]
        draft.take("ts", clock, 0.9, "the time of day beside the date")
    zone = draft.answers.timezone
    if naive and zone is None and re.search(r"\b(utc|gmt)\b", plain(column.name)):
        zone = "UTC"
        draft.notes.append(f"times of {column.name} are taken for UTC, as its name says")
    if naive and zone is None and clock is None and not _has_clock(column, formats):
        zone = "UTC"
        draft.notes.append(f"{column.name} has days without times: they are days of UTC")
    if naive and zone is None:
        draft.ask(
            "--timezone Europe/Berlin",
            f"times of {column.name} have no zone ({column.texts[0]!r}): name that of the shop,"
            " such as --timezone Europe/Berlin or --timezone UTC",
        )
    parts = [f"path = {toml_text(path)}"]
    if formats != ["iso"]:
        listed = ", ".join(map(toml_text, formats))
        parts.append(f"format = {listed}" if len(formats) == 1 else f"format = [{listed}]")
    if naive and zone:
        parts.append(f"zone = {toml_text(zone)}")
    draft.lines["ts"] = f"{{ {', '.join(parts)} }}" if len(parts) > 1 else toml_text(path)


def _clock(draft: Draft, date_column: SampleColumn) -> SampleColumn | None:
    """The column that has the time of day, where the date has none."""
    if any(":" in text for text in date_column.texts[:50]):
        return None
    for column in draft.columns.values():
        if column.path != date_column.path and score(column.name, "clock") >= LEAST:
            texts = column.texts
            if texts and all(
                re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?( ?[AaPp][Mm])?", one) for one in texts
            ):
                return column
    return None


def _has_clock(column: SampleColumn, formats: Sequence[str]) -> bool:
    """Whether any of its times is of another time of day than midnight."""
    midnight = time()
    if formats == ["excel-days"]:
        return any(float(text) % 1 for text in column.texts)
    for value in column.values:
        if isinstance(value, datetime):
            if value.time() != midnight:
                return True
        elif (isinstance(value, str) and ":" in value) or not isinstance(value, date | str):
            return True
    return False


def _forms(found: TimesFound) -> str:
    said = " and ".join("ISO 8601" if form == "iso" else form for form in found.formats)
    return f"{said}, without a zone" if found.naive else said


def _clock_form(text: str) -> str:
    form = "%H:%M:%S" if text.count(":") == 2 else "%H:%M"
    if text[-1] not in "mM":
        return form
    return f"{form.replace('%H', '%I')}{' ' * (' ' in text)}%p"
