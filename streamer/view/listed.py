"""The warnings of all partitions, as any worker has them: the lists merged, filtered, by page.

Each partition's list is read again when it has changed, and each feed read on from where it was
read last; so what is asked for often costs little, and nothing is held up by who asks.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from features.times import Calendar, instant_ms, rfc3339
from model.decide.outcome import Ending
from model.decide.policy import SEGMENTS, SEVERITIES
from model.decide.rule_state import Trigger
from model.report.escape import cell
from streamer.clock import Clock
from streamer.listing.tally import week_key
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import (
    RECOVERED_KIND,
    WARNING_KIND,
    ChurnWarning,
    horizon_end_ms,
    unpack,
)
from streamer.records import Partition
from streamer.store.base import FEED_SIZE, Standing, StateStore

MAX_LIMIT: Final = 500
# Older than this, what was read is read again before it is shown.
_FRESH_S: Final = 1.0
_CHUNK: Final = 1_000

_decode = msgspec.json.Decoder(ChurnWarning).decode


class ListedWarning(ChurnWarning, frozen=True, kw_only=True):
    """A warning of the topic, and what became of it. `segment`: that of its reference CLV, so of
    what the customer was worth before; `outcome`: open, kept, recovered or lost."""

    segment: str
    outcome: str


class Wanted(msgspec.Struct, frozen=True):
    """What warnings are wanted: `state` is open or all; None: any. `user`: a part of the id."""

    state: str = "open"
    severity: frozenset[str] | None = None
    trigger: frozenset[str] | None = None
    segment: frozenset[str] | None = None
    holdout: bool | None = None
    user: str = ""


class WarningsPage(msgspec.Struct, frozen=True):
    """A page of warnings: those open by expected loss, the largest first; all of them by time, the
    newest first. Totals are of all that were asked for; money in major units of `currency`.

    `next`: the cursor of the next page, null after the last. `complete`: false while the list of
    a partition is being made again. `as_of`: event time, the newest of all partitions. `timezone`:
    whose days the shop has.
    """

    warnings: list[ListedWarning]
    next: str | None
    total: int
    expected_loss: float
    value_at_risk: float
    currency: str
    timezone: str
    as_of: str | None
    complete: bool


class CursorRefused(Exception):
    """Send the `next` of a page as it came, with the same filters."""


@dataclass(slots=True)
class _Kept:
    """What was read of a partition, and when that was."""

    standing: Standing | None = None
    open: list[ChurnWarning] = field(default_factory=list)
    said: deque[ChurnWarning | None] = field(default_factory=lambda: deque(maxlen=FEED_SIZE))
    said_until: int = 0


class Board:
    """The warnings of a topic's partitions, read when they are asked for."""

    def __init__(self, store: StateStore, topic: str, clock: Clock) -> None:
        self._store = store
        self._topic = topic
        self._clock = clock
        self._kept: list[_Kept] = []
        # Event time: the newest of all partitions, and of what was said by the clock.
        self.now_ms = 0
        self._read_s = float("-inf")
        self._read_feeds = False
        self._reading = asyncio.Lock()

    @property
    def standings(self) -> list[Standing]:
        """Where the partitions stood when they were last looked at; those ever claimed."""
        return [kept.standing for kept in self._kept if kept.standing is not None]

    @property
    def numbered(self) -> list[tuple[int, Standing]]:
        """The same, by number."""
        kept = enumerate(self._kept)
        return [(number, one.standing) for number, one in kept if one.standing is not None]

    @property
    def complete(self) -> bool:
        """Whether every list is whole."""
        return all(one.open is not None for one in self.standings)

    async def refresh(self, partitions: int, *, feeds: bool = False) -> None:
        """Looks again, unless that was just done. Raises what the store does."""
        async with self._reading:
            now_s = self._clock.monotonic_s()
            known = len(self._kept) == partitions and (self._read_feeds or not feeds)
            if known and now_s - self._read_s < _FRESH_S:
                return
            if len(self._kept) != partitions:
                self._kept = [_Kept() for _ in range(partitions)]
            named = [Partition(self._topic, number) for number in range(partitions)]
            standings = await self._store.standings(named)
            for partition, kept, standing in zip(named, self._kept, standings, strict=True):
                await self._read(partition, kept, standing, feeds)
            orders = [one.high_ts_ms or 0 for one in self.standings]
            raised = [one.as_of for kept in self._kept for one in kept.open]
            self.now_ms = max([*orders, *([instant_ms(max(raised))] if raised else [])], default=0)
            self._read_s, self._read_feeds = now_s, feeds

    async def _read(
        self, partition: Partition, kept: _Kept, standing: Standing | None, feeds: bool
    ) -> None:
        before, kept.standing = kept.standing, standing
        if standing is None:
            kept.open, kept.said_until = [], 0
            kept.said.clear()
            return
        if before is None or _changed(before) != _changed(standing):
            entries = await self._store.open_warnings(partition)
            kept.open = await asyncio.to_thread(_decoded, entries)
        if before is not None and before.erased != standing.erased:
            kept.said_until = 0
        if standing.said < kept.said_until or not kept.said_until:
            kept.said_until = 0
            kept.said.clear()
        while feeds and kept.said_until < standing.said:
            feed = await self._store.feed(partition, kept.said_until, _CHUNK)
            if not feed.entries:
                break
            kept.said += [
                _decode(unpack(one).value or b"") if one else None for one in feed.entries
            ]
            kept.said_until = feed.first + len(feed.entries)

    def open_by_week(self, calendar: Calendar) -> tuple[Counter[int], defaultdict[int, float]]:
        """Open warnings by week and arm (`streamer.listing.tally`), and their reference CLVs in
        major units."""
        counts, worth = Counter[int](), defaultdict[int, float](float)
        for kept in self._kept:
            for one in kept.open:
                if horizon_end_ms(one) > self.now_ms:
                    day = calendar.day_of(instant_ms(one.as_of))
                    key = week_key(day, one.holdout)
                    counts[key] += 1
                    worth[key] += one.reference_clv
        return counts, worth

    def of_user(self, user_id: str) -> ChurnWarning | None:
        """The open warning of a customer."""
        found = (one for kept in self._kept for one in kept.open if one.user_id == user_id)
        return next((one for one in found if horizon_end_ms(one) > self.now_ms), None)

    def rows(self, asked: Wanted, pipeline: Pipeline) -> list[Row]:
        """The warnings asked for, in their order."""
        now_ms, segment = self.now_ms, _segments(pipeline)
        found: dict[str, tuple[ChurnWarning, str]] = {}
        if asked.state == "all":
            said = [one for kept in self._kept for one in kept.said if one is not None]
            ends = {one.closes: one.outcome for one in said if one.kind == RECOVERED_KIND}
            for one in said:
                if one.kind == WARNING_KIND and _wanted(one, asked):
                    late = Ending.LOST if horizon_end_ms(one) <= now_ms else Ending.OPEN
                    found[one.warning_id] = one, ends.get(one.warning_id) or late.value
        for kept in self._kept:
            for one in kept.open:
                if _wanted(one, asked) and horizon_end_ms(one) > now_ms:
                    found[one.warning_id] = one, Ending.OPEN.value
        newest_first = asked.state == "all"
        rows = []
        for one, outcome in found.values():
            tier = segment(one)
            if asked.segment is None or tier in asked.segment:
                by = float(instant_ms(one.as_of)) if newest_first else one.expected_loss
                rows.append(Row((-by, one.warning_id), one, tier, outcome))
        rows.sort(key=lambda row: row.key)
        return rows

    def page(
        self, asked: Wanted, pipeline: Pipeline, limit: int, cursor: str | None
    ) -> WarningsPage:
        """The rows after the cursor. Raises CursorRefused."""
        rows = self.rows(asked, pipeline)
        after = None if cursor is None else _read_cursor(cursor)
        start = 0 if after is None else bisect_right(rows, after, key=lambda row: row.key)
        shown = rows[start : start + limit]
        return WarningsPage(
            warnings=[row.listed() for row in shown],
            next=_cursor(shown[-1].key) if start + limit < len(rows) else None,
            total=len(rows),
            expected_loss=round(sum(row.warning.expected_loss for row in rows), 4),
            value_at_risk=round(sum(row.warning.value_at_risk for row in rows), 4),
            currency=pipeline.judge.scorer.currency,
            timezone=pipeline.judge.scorer.calendar.name,
            as_of=rfc3339(self.now_ms) if self.now_ms else None,
            complete=self.complete,
        )


class Row(NamedTuple):
    """A warning, where it stands in the order, its segment, and what became of it."""

    key: tuple[float, str]
    warning: ChurnWarning
    segment: str
    outcome: str

    def listed(self) -> ListedWarning:
        """The row as it is answered."""
        fields = {name: getattr(self.warning, name) for name in _FIELDS if name != "outcome"}
        return ListedWarning(**fields, segment=self.segment, outcome=self.outcome)


_FIELDS: Final = ChurnWarning.__struct_fields__


def _changed(standing: Standing) -> tuple[str, int | None]:
    return standing.changed, standing.open


def _decoded(entries: Iterable[bytes]) -> list[ChurnWarning]:
    return [_decode(unpack(entry).value or b"") for entry in entries]


def _wanted(one: ChurnWarning, asked: Wanted) -> bool:
    return (
        (asked.severity is None or one.severity in asked.severity)
        and (asked.trigger is None or one.trigger in asked.trigger)
        and (asked.holdout is None or one.holdout is asked.holdout)
        and asked.user.casefold() in one.user_id.casefold()
    )


def _segments(pipeline: Pipeline) -> Callable[[ChurnWarning], str]:
    per_unit = 1 / pipeline.writer.major(1)
    return lambda one: pipeline.judge.rules.segment(round(one.reference_clv * per_unit))


def _cursor(key: tuple[float, str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[float, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=tuple[float, str])
    except ValueError:
        raise CursorRefused from None


# --- as a table ---------------------------------------------------------------------------------

_COLUMNS: Final = (
    *("user_id", "severity", "expected_loss", "value_at_risk", "clv", "reference_clv", "currency"),
    *("churn_probability", "days_since_last_order", "last_order_at", "as_of", "trigger"),
    *("segment", "standing", "holdout", "outcome", "summary", "warning_id"),
)


def as_csv(rows: Sequence[Row]) -> bytes:
    """The warnings for a spreadsheet: RFC 4180 in UTF-8 with its mark. A text that a spreadsheet
    would run as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    listed = (row.listed() for row in rows)
    writer.writerows([_cell(getattr(one, name)) for name in _COLUMNS] for one in listed)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return cell(value) if isinstance(value, str) else value


# --- what is asked for --------------------------------------------------------------------------

CHOICES: Final[Mapping[str, frozenset[str]]] = {
    "state": frozenset({"open", "all"}),
    "severity": frozenset(SEVERITIES),
    "trigger": frozenset(one.value for one in Trigger),
    "segment": frozenset(SEGMENTS),
    "holdout": frozenset({"true", "false"}),
}


class QueryRefused(Exception):
    """Correct the parameter that the message names."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name


def read_query(
    query: Sequence[tuple[str, str]], extra: frozenset[str]
) -> tuple[Wanted, int, str | None]:
    """What a query asks for, how many, and after which cursor. `extra`: parameters beside the
    filters. Raises QueryRefused."""
    given: dict[str, str] = {}
    for name, value in query:
        if name not in CHOICES and name != "user" and name not in extra:
            known = ", ".join(sorted({*CHOICES, "user", *extra}))
            raise QueryRefused(name[:40], f"there is no such parameter; there are {known}")
        if name in given:
            raise QueryRefused(name, "send it once; several values of a filter joined by commas")
        given[name] = value
    several = {name: _several(name, given[name]) for name in CHOICES if name in given}
    for name in ("state", "holdout"):
        if len(several.get(name, ("",))) != 1:
            raise QueryRefused(name, "send one value")
    asked = Wanted(
        state=next(iter(several.get("state", ("open",)))),
        severity=several.get("severity"),
        trigger=several.get("trigger"),
        segment=several.get("segment"),
        holdout=None if "holdout" not in given else given["holdout"] == "true",
        user=given.get("user", ""),
    )
    limit = given.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        raise QueryRefused("limit", f"send a whole number from 1 to {MAX_LIMIT}")
    return asked, int(limit), given.get("cursor")


def _several(name: str, text: str) -> frozenset[str]:
    values = frozenset(text.split(","))
    if not values <= CHOICES[name]:
        raise QueryRefused(name, f"send of {', '.join(sorted(CHOICES[name]))}")
    return values
