"""How many records may become dead letters before it is the topic that is broken, and not its
records.

A policy (`Limits`), what it has to know of the past (`DeadLetterWindow`) and one pure function of
both. The window is stored with the partition's next offset, so a worker that stopped at a limit and
starts again stands where it stood: there are no more dead letters until the limit is raised or a
good record comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec

from streamer.errors import StreamerError
from streamer.records import Partition


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be set aside of one partition; None: no limit.

    `max_run`: bad records in a row. `max_ratio`: share of the last `window` records of the log;
    before there are as many, those missing count as good.
    """

    max_run: int | None = 500
    max_ratio: float | None = 0.2
    window: int = 5_000

    @property
    def max_in_window(self) -> int | None:
        return None if self.max_ratio is None else int(self.max_ratio * self.window)


NO_LIMITS: Final = Limits(max_run=None, max_ratio=None)


@dataclass(frozen=True, slots=True)
class DeadLetterWindow:
    """The bad records that limits still have to know of.

    `run` has the reasons of the current run, counted, and `run_start` its first offset; `recent`
    the bad records of the window, by offset.
    """

    run_start: int = 0
    run: Mapping[str, int] | None = None
    recent: tuple[tuple[int, str], ...] = ()


CLEAN: Final = DeadLetterWindow()


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The record at `offset` is bad, and one more than the limit allows.

    `count` bad records, it included, since the offset `first`, most of them (`reason_count`) for
    `reason`.
    """

    offset: int
    limit: str
    count: int
    first: int
    reason: str
    reason_count: int


class DeadLettersExceeded(StreamerError):
    """Correct what is sent or how it is read, or raise the limit that the message names, and start
    the worker again. Nothing was skipped: it goes on with the record that it stopped at."""

    def __init__(self, partition: Partition, exceeded: Exceeded) -> None:
        super().__init__(
            f"{partition.tag}: offset {exceeded.offset} would be the {_ordinal(exceeded.count)}"
            f" bad record {exceeded.limit}, the first at {exceeded.first},"
            f" {exceeded.reason_count} of them"
            f" {exceeded.reason}; the worker stops instead of emptying the topic into the dead"
            " letters. Correct what is sent or how it is read, or raise the limit (off: none),"
            " and start again; `python -m streamer redrive` brings dead letters back"
        )
        self.exceeded = exceeded


def follow(
    window: DeadLetterWindow, offsets: Sequence[int], bad: Mapping[int, str], limits: Limits
) -> tuple[DeadLetterWindow, Exceeded | None]:
    """The window after the records at `offsets`, of which `bad` has those set aside and why; and
    the first of them that goes beyond a limit, in which case the window is that before it."""
    if limits.max_run is None and limits.max_ratio is None:
        return CLEAN, None
    if not bad:
        return (window if window.run is None else DeadLetterWindow(recent=window.recent)), None
    run, start = Counter(window.run or {}), window.run_start
    recent = list(window.recent) if limits.max_ratio is not None else []
    for offset in offsets:
        reason = bad.get(offset)
        if reason is None:
            run.clear()
            continue
        if recent and recent[0][0] <= offset - limits.window:
            recent = [one for one in recent if one[0] > offset - limits.window]
        exceeded = _exceeded(offset, reason, run, start, recent, limits)
        if exceeded is not None:
            return DeadLetterWindow(start, dict(run) or None, tuple(recent)), exceeded
        start = start if run else offset
        run[reason] += 1
        if limits.max_ratio is not None:
            recent.append((offset, reason))
    return DeadLetterWindow(start if run else 0, dict(run) or None, tuple(recent)), None


def _exceeded(
    offset: int,
    reason: str,
    run: Counter[str],
    start: int,
    recent: Sequence[tuple[int, str]],
    limits: Limits,
) -> Exceeded | None:
    in_window = limits.max_in_window
    if limits.max_run is not None and run.total() >= limits.max_run:
        limit = f"in a row (CLV_DEAD_LETTER_MAX_RUN={limits.max_run})"
        reasons, first = run + Counter([reason]), start if run else offset
    elif in_window is not None and len(recent) >= in_window:
        limit = (
            f"among the last {limits.window} records"
            f" (CLV_DEAD_LETTER_MAX_RATIO={limits.max_ratio:g})"
        )
        reasons = Counter([why for _, why in recent] + [reason])
        first = recent[0][0] if recent else offset
    else:
        return None
    [(most, times)] = reasons.most_common(1)
    return Exceeded(offset, limit, reasons.total(), first, most, times)


def _ordinal(number: int) -> str:
    """
    >>> _ordinal(1), _ordinal(12), _ordinal(503)
    ('1st', '12th', '503rd')
    """
    teen = 10 <= number % 100 <= 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


class _Stored(msgspec.Struct, array_like=True):
    """A window as bytes: offsets as distances, reasons as places in a table."""

    run_start: int
    run: dict[str, int]
    names: list[str]
    reasons: list[int]
    first: int
    distances: list[int]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(window: DeadLetterWindow) -> bytes:
    """The window as bytes, about two for each bad record."""
    offsets = [offset for offset, _ in window.recent]
    names = sorted({reason for _, reason in window.recent})
    place = {name: number for number, name in enumerate(names)}
    return _encoder.encode(
        _Stored(
            run_start=window.run_start,
            run=dict(window.run or {}),
            names=names,
            reasons=[place[reason] for _, reason in window.recent],
            first=offsets[0] if offsets else 0,
            distances=[later - earlier for earlier, later in pairwise(offsets)],
        )
    )


def decode(data: bytes | None) -> DeadLetterWindow:
    """The window in bytes; a clean one for None, and for bytes that are no window: to have lost
    count is no reason to stop."""
    if data is None:
        return CLEAN
    try:
        stored = _decoder.decode(data)
        reasons = [stored.names[number] for number in stored.reasons]
    except (ValueError, IndexError):
        return CLEAN
    offsets = [stored.first] if reasons else []
    for distance in stored.distances:
        offsets.append(offsets[-1] + distance)
    return DeadLetterWindow(
        stored.run_start, stored.run or None, tuple(zip(offsets, reasons, strict=False))
    )
