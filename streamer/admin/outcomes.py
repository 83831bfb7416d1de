"""How warnings ended, by the week in which they were sent, from the records of churn-warnings.

Endings are those of `model.decide.outcome`. A warning without an answer is lost once event time has
passed its horizon; until then it is open. Event time is as far as the newest record says, unless a
later instant is named: a topic in which nobody was warned of for a while knows no better.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from aiokafka import ConsumerRecord
from tabulate import tabulate

from features.times import UTC, Calendar, instant_ms, iso_day, monday_of
from model.decide.outcome import Ending
from model.report.format import share
from streamer.errors import StreamerError
from streamer.kafka import clients as servers
from streamer.kafka.reader import TopicReader
from streamer.pipeline.messages import (
    RECOVERED_KIND,
    VALUE_DROP_KIND,
    WARNING_KIND,
    ChurnWarning,
    horizon_end_ms,
)
from streamer.records import Partition
from streamer.settings import Settings

_warning = msgspec.json.Decoder(ChurnWarning)


class OutcomesRefused(StreamerError):
    """Name a file that `replay` wrote as warnings.jsonl, or the topic that the worker writes to;
    the message has the line or the offset."""


class WeekOutcomes(msgspec.Struct, frozen=True):
    """Warnings sent in the week that begins on an ISO date (a Monday), by how they ended, apart
    for the customers held out. Shares are of those that have ended; None before the first has.

    `strict_precision` is lost / ended, `episode_precision` is (lost + recovered) / ended.
    """

    week: str
    holdout: bool
    warnings: int
    kept: int
    recovered: int
    lost: int
    open: int
    strict_precision: float | None
    episode_precision: float | None
    value_lost: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A warning and how it ended; `over`: whether the horizon after it is."""

    warning: ChurnWarning
    ending: Ending
    over: bool


def endings(records: Sequence[ChurnWarning], as_of_ms: int | None = None) -> list[Sent]:
    """Every warning, each id once, with its ending as of an instant (None: the newest record's)."""
    warnings: dict[str, ChurnWarning] = {}
    answers: dict[str, ChurnWarning] = {}
    for record in records:
        if record.kind == WARNING_KIND:
            warnings.setdefault(record.warning_id, record)
        elif record.kind == RECOVERED_KIND and record.closes:
            answers.setdefault(record.closes, record)
    now_ms = newest_ms(records) if as_of_ms is None else as_of_ms
    return [
        Sent(
            warning,
            _ending(warning, answers.get(warning_id), now_ms),
            horizon_end_ms(warning) <= now_ms,
        )
        for warning_id, warning in warnings.items()
        if instant_ms(warning.as_of) <= now_ms
    ]


def value_drops(records: Iterable[ChurnWarning], as_of_ms: int | None = None) -> dict[str, int]:
    """How many orders and refunds lowered a CLV by themselves, each id once, by trigger."""
    drops = {
        record.warning_id: record.trigger
        for record in records
        if record.kind == VALUE_DROP_KIND
        and (as_of_ms is None or instant_ms(record.as_of) <= as_of_ms)
    }
    return dict(sorted(Counter(drops.values()).items()))


def newest_ms(records: Iterable[ChurnWarning]) -> int:
    """The instant of the newest record; 0 without one."""
    return max((instant_ms(record.as_of) for record in records), default=0)


def _ending(warning: ChurnWarning, answer: ChurnWarning | None, now_ms: int) -> Ending:
    if answer and answer.outcome and instant_ms(answer.as_of) <= now_ms:
        return Ending(answer.outcome)
    return Ending.LOST if now_ms >= horizon_end_ms(warning) else Ending.OPEN


def by_week(sent: Iterable[Sent], calendar: Calendar = UTC) -> list[WeekOutcomes]:
    """The endings by week of a calendar and holdout, in order of time."""
    groups: defaultdict[tuple[str, bool], list[Sent]] = defaultdict(list)
    for one in sent:
        groups[_monday(one.warning.as_of, calendar), one.warning.holdout].append(one)
    return [_week(week, holdout, groups[week, holdout]) for week, holdout in sorted(groups)]


def _week(week: str, holdout: bool, sent: Sequence[Sent]) -> WeekOutcomes:
    count = Counter(one.ending for one in sent)
    lost, recovered = count[Ending.LOST], count[Ending.RECOVERED]
    ended = len(sent) - count[Ending.OPEN]
    return WeekOutcomes(
        week=week,
        holdout=holdout,
        warnings=len(sent),
        kept=count[Ending.KEPT],
        recovered=recovered,
        lost=lost,
        open=count[Ending.OPEN],
        strict_precision=lost / ended if ended else None,
        episode_precision=(lost + recovered) / ended if ended else None,
        value_lost=round(
            sum(one.warning.reference_clv for one in sent if one.ending is Ending.LOST), 2
        ),
    )


def text(weeks: Sequence[WeekOutcomes]) -> str:
    """The table for a terminal, under 80 columns."""
    if not weeks:
        return "No warnings yet."
    heads = ("week of", "", "warned", "kept", "recov.", "lost", "open", "strict", "episode")
    rows = [
        (
            one.week,
            "held out" if one.holdout else "",
            *(f"{n:,}" for n in (one.warnings, one.kept, one.recovered, one.lost, one.open)),
            share(one.strict_precision),
            share(one.episode_precision),
        )
        for one in weeks
    ]
    aligned = ("left", "left", *("right",) * 7)
    # As a row: heads of their own are padded.
    lines = [tabulate([heads, *rows], (), "plain", disable_numparse=True, colalign=aligned)]
    lines += [
        "",
        "kept: ordered before the silence was longer than the horizon; recovered: after",
        "that, within a horizon of the warning; lost: not. strict: lost / ended;",
        "episode: (lost + recovered) / ended.",
    ]
    return "\n".join(lines)


def read_file(path: Path) -> Iterator[ChurnWarning]:
    """The records of a `warnings.jsonl`. Raises OutcomesRefused with the line, and OSError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _warning.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise OutcomesRefused(f"{path}:{number}: no record of a warning: {error}") from None


async def read_topic(settings: Settings, partitions: int) -> list[ChurnWarning]:
    """Everything in the warnings topic up to its present end.

    Raises OutcomesRefused, naming the record that is not a warning, and LogUnavailable.
    """
    reader = TopicReader(partial(servers.kafka_consumer, settings))
    return [
        _decoded(record, partition)
        async for partition, records in reader.read_all(settings.warnings_topic, partitions)
        for record in records
        if record.value
    ]


def _decoded(record: ConsumerRecord, partition: Partition) -> ChurnWarning:
    try:
        return _warning.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutcomesRefused(
            f"{partition.tag}, offset {record.offset}: no record of a warning:"
            f" {error}; check CLV_WARNINGS_TOPIC"
        ) from None


def _monday(instant: str, calendar: Calendar) -> str:
    return iso_day(monday_of(calendar.day_of(instant_ms(instant))))
