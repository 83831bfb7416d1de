"""What the mapping of files says and what options say, made one: a contradiction is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from features.times import UTC, Calendar, CalendarError, calendar_of
from model.files.rows import RowsAre
from model.files.summary import Summary
from model.files.text_files import OrderLogError
from model.intake.intake import Told, Understood, understood

_EITHER: Final = "leave one of them out, or change the mapping"


class Contradicted(OrderLogError):
    """An option says otherwise than the mapping: leave the option out, or change the mapping."""


def understood_in(paths: Sequence[Path], asked: Told, zone: Calendar | None) -> Understood:
    """The files with the mapping that reads them; times without any zone are of `zone`. Raises as
    `understood` does."""
    if zone is not None:
        asked = replace(asked, answers=replace(asked.answers, timezone=zone.name))
    found = understood(paths, asked)
    own = asked.mapping is not None
    if own and zone is not None and zone != UTC and UTC.name in found.mapping.zones:
        found.notes.append(
            f"{found.source} says that times without an offset are of UTC, and so they are read;"
            f" the shop's days are those of {zone.name}"
        )
    return found


def agreed_rows(found: Understood, said: RowsAre | None) -> RowsAre | None:
    """What several rows of one id are. Raises Contradicted."""
    if None not in (said, found.rows_are) and said != found.rows_are:
        raise Contradicted(f"--rows {said}: {found.source} says {found.rows_are}; {_EITHER}")
    found.lines = RowsAre.LINE_ITEMS in (said, found.rows_are)
    return said or found.rows_are


def agreed_zone(found: Understood, said: Calendar | None) -> Calendar | None:
    """The shop's zone. UTC in a mapping is how its times are written, and no contradiction to the
    shop's own. Raises Contradicted."""
    others = sorted(found.mapping.zones - {UTC.name} - {"" if said is None else said.name})
    if said is not None and others:
        raise Contradicted(
            f"--timezone (CLV_TIMEZONE) {said.name}: {found.source} says {others[0]}; {_EITHER}"
        )
    if said is not None or len(others) != 1:
        return said
    try:
        return calendar_of(others[0])
    except CalendarError:
        # An offset: times are read by it, and no shop's days are of one.
        return None


def agreed_currency(found: Understood, said: str | None) -> str | None:
    """That of the orders: as was said, else that of most; None: nobody names one. Raises
    Contradicted."""
    if said is None:
        return found.currency if found.named else None
    if found.named and said not in found.named:
        raise Contradicted(
            f"{said} is the currency asked for (--currency, CLV_CURRENCY or the model's), and"
            f" {found.source} says {', '.join(sorted(found.named))}; leave it out, or give the"
            " files, a mapping or a model of the other"
        )
    return said


def accounted(found: Understood, summary: Summary) -> Summary:
    """The summary with the records that are no orders. Raises OrderLogError where a record is
    missing from it."""
    skipped = dict(found.skipped.most_common())
    rows = summary.rows + sum(skipped.values())
    if rows != found.records + found.further:
        raise OrderLogError(
            f"{found.source}: {found.records:,} rows were read, and {rows - found.further:,} are"
            " accounted for; report this with the file's first lines"
        )
    return msgspec.structs.replace(summary, rows=rows, records=found.records, skipped=skipped)
