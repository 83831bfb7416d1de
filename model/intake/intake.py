"""Files of a shop as they are, understood: how each is written, the mapping that reads it, and the
rows that come of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from features.events.money import NO_CURRENCY
from features.events.orders import Order, Reason, Rejected, from_fields
from features.mapping.mapping import (
    OF_UNKNOWN_ORDER,
    Canonical,
    MappingError,
    OrderMapping,
    Skipped,
    Unfit,
)
from features.mapping.presets import PRESETS, preset, text_of
from features.mapping.unwrap import Nothing, unwrapped
from features.proposal.draft import NO_CURRENCY_NAMED, Answers, Guess, Proposal
from model.files.order_log import FileRules, RejectedRow, Row
from model.files.rows import RowsAre
from model.files.text_files import OrderLogError
from model.intake.containers import parts_of
from model.intake.table import HEADER_AGAIN, ROW_NUMBER, Record, Table
from model.intake.tables import tables_of

# Rows that are looked at to propose a mapping: of a large file, every so many of its first rows.
_FIRST, _EVERY, _MOST_SCANNED, _MOST_SAMPLED = 2_000, 40, 400_000, 8_000
_TRIED: Final = 1_000
_SHOWN_CHARS: Final = 300
# Presets whose shape any table may have are taken only when they are named.
_ONLY_NAMED: Final = frozenset({"cdnow", "rudderstack"})
_MOST_HELD: Final = 1_000_000
_THERE_ALREADY: Final = "lines that an earlier file or sheet has, too"


class Unanswered(OrderLogError):
    """Something about money or time that only a person knows: say it with the options named."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a person said of their files: a preset or the file of a mapping, or answers for one that
    is proposed."""

    preset: str | None = None
    mapping: Path | None = None
    encoding: str | None = None
    answers: Answers = field(default_factory=Answers)


@dataclass(slots=True)
class Understood:
    """Files that were understood. `guesses` and `notes` are for people; `named` are the currencies
    that orders have. While rows are read, `records` counts them, `skipped` those that are no
    orders, and `further` the events of a record beyond its first."""

    tables: Sequence[Table]
    mapping: OrderMapping
    currency: str
    source: str
    toml: str = ""
    guesses: Sequence[Guess] = ()
    notes: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    records: int = 0
    further: int = 0
    named: frozenset[str] = frozenset()
    lines: bool = False
    """Rows are lines of orders; those that an earlier file has, too, as of exports that overlap,
    are skipped then: added up, they would count twice."""

    @property
    def rows_are(self) -> RowsAre | None:
        """What several rows of one id are, where the mapping says so."""
        return None if self.mapping.rows is None else RowsAre(self.mapping.rows)

    def rows(self, rules: FileRules) -> Iterator[Row]:
        """The events of all records, and those records that are set aside; what is skipped is
        counted. Refunds that name no customer come last, as their orders say whose they are."""
        rules = replace(rules, orders=replace(rules.orders, currency=self.currency))
        self.skipped.clear()
        self.records = self.further = 0
        held: list[tuple[Table, int, Record]] = []
        before, there = set[int](), set[int]()
        told_apart = self.lines and len(self.tables) > 1
        for table in self.tables:
            before |= there
            there.clear()
            for line, record in table.records():
                self.records += 1
                if record is HEADER_AGAIN:
                    self.skipped[HEADER_AGAIN] += 1
                    continue
                if isinstance(record, str):
                    yield _aside(table, line, Reason.MISSING_FIELD, record)
                    continue
                if told_apart:
                    row = hash(str([record[name] for name in record if name != ROW_NUMBER]))
                    there.add(row)
                    if row in before:
                        self.skipped[_THERE_ALREADY] += 1
                        continue
                found = self.mapping.orders(record)
                if found is OF_UNKNOWN_ORDER and len(held) < _MOST_HELD:
                    held.append((table, line, record))
                else:
                    yield from self._events(found, table, line, rules)
        if held:
            users = self._users(self.mapping.order_ids(record) for _, _, record in held)
            for table, line, record in held:
                found = self.mapping.orders(record, users.get)
                yield from self._events(found, table, line, rules)

    def _events(
        self, found: list[Canonical] | Skipped | Unfit, table: Table, line: int, rules: FileRules
    ) -> Iterator[Row]:
        if isinstance(found, Skipped):
            self.skipped[found.reason] += 1
        elif isinstance(found, Unfit):
            yield _aside(table, line, found.reason, found.detail)
        else:
            self.further += len(found) - 1
            for event in found:
                order = from_fields(event, rules.orders, rules.now_ms)
                if isinstance(order, Order):
                    yield order
                else:
                    yield RejectedRow(Path(str(table.part)), line, order)

    def _users(self, wanted: Iterable[frozenset[str]]) -> dict[str, str]:
        """The customers of some orders."""
        ids = frozenset().union(*wanted)
        users = {}
        for table in self.tables:
            for _, record in table.records():
                found = self.mapping.orders(record) if isinstance(record, dict) else None
                for event in found if isinstance(found, list) else ():
                    if event["order_id"] in ids:
                        users[event["order_id"]] = event["user_id"]
        return users


def _aside(table: Table, line: int, reason: Reason, detail: str) -> RejectedRow:
    return RejectedRow(Path(str(table.part)), line, Rejected(reason, detail))


def understood(paths: Sequence[Path], asked: Told) -> Understood:
    """The files with the mapping that reads them. Raises OrderLogError for what cannot be read,
    MappingError for a mapping at fault, and Unanswered where a question has to be answered."""
    tables = [
        table
        for path in paths
        for part in parts_of(path)
        for table in tables_of(part, asked.encoding)
    ]
    sample = _sample(tables)
    if not sample:
        raise OrderLogError(
            f"{', '.join(map(str, paths))}: there is no row below the header; export it again"
        )
    found = _with_mapping(tables, sample, asked)
    _check(found, sample, asked)
    notes = [f"{table.part}: {note}" for table in tables for note in table.notes]
    found.notes[:0] = notes
    found.currency = _currency(found, sample, asked)
    found.lines = RowsAre.LINE_ITEMS in (asked.answers.rows, found.rows_are)
    return found


def _sample(tables: Sequence[Table]) -> list[Record]:
    """Records from all over the tables, as far as they are looked at."""
    found: list[Record] = []
    scanned = 0
    for table in tables:
        of_table = 0
        for _, record in islice(table.records(), max(_MOST_SCANNED - scanned, _FIRST)):
            scanned += 1
            if isinstance(record, str):
                continue
            of_table += 1
            if of_table <= _FIRST or of_table % _EVERY == 0:
                found.append(record)
            if len(found) >= _MOST_SAMPLED:
                return found
    return found


def _with_mapping(tables: Sequence[Table], sample: Sequence[Record], asked: Told) -> Understood:
    timezone = asked.answers.timezone
    if (asked.mapping or asked.preset) and (idle := _idle(asked.answers)):
        source = "the mapping" if asked.mapping else f"--preset {asked.preset}"
        raise OrderLogError(
            f"{idle} answers a question that {source} does not ask; leave one of them out"
        )
    if asked.mapping is not None:
        try:
            text = asked.mapping.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MappingError(f"mapping {asked.mapping} cannot be read: {error}") from None
        mapping = OrderMapping.from_toml(text, name=str(asked.mapping), timezone=timezone)
        return Understood(tables, mapping, "", f"mapping {asked.mapping}", text)
    name = asked.preset or _recognised(sample, asked.answers)
    if name is not None:
        mapping = preset(name, timezone)
        shapes = {
            document.name
            for record in sample[:_TRIED]
            if (document := _document(mapping, record)) is not None
        }
        said = "" if asked.preset else ", recognised by its fields"
        toml = "\n".join(text_of(shape) for shape in sorted(shapes))
        if timezone is not None and "\nzone = " not in toml:
            # What was answered is part of the mapping, or it would be asked again.
            toml = f'zone = "{timezone}"\n{toml}'
        return Understood(
            tables, mapping, "", f"preset {' and '.join(sorted(shapes)) or name}{said}", toml
        )
    # It knows the words of many exports: read by those who have to guess, and not by every command.
    from features.proposal.propose import propose

    proposal = propose([inner for record in sample if (inner := _inner(record))], asked.answers)
    if proposal.questions:
        raise Unanswered(_questions(proposal))
    mapping = OrderMapping.from_toml(proposal.toml, name="proposed", timezone=timezone)
    return Understood(
        tables, mapping, "", "proposed", proposal.toml, proposal.guesses, list(proposal.notes)
    )


def _inner(record: Record) -> Record | None:
    try:
        return unwrapped(record)
    except Nothing:
        return None


def _document(mapping: OrderMapping, record: Record) -> Any:
    inner = _inner(record)
    return None if inner is None else mapping.document_of(inner)


def _idle(answers: Answers) -> str:
    """The option that answers what only a mapping that is proposed leaves open; or nothing."""
    said = {
        "--column": answers.columns,
        "--time-format": answers.time_format,
        "--decimal": answers.decimal,
        "--unit": answers.unit,
        "--left-out": answers.left_out is not None,
    }
    return next((option for option, given in said.items() if given), "")


def _recognised(sample: Sequence[Record], answers: Answers) -> str | None:
    """The preset whose shapes all records have, and that reads one of them: an export that was
    saved again with other times is left to a proposal."""
    if _idle(answers):
        return None
    tried = sample[:200]
    for name in PRESETS:
        if name in _ONLY_NAMED:
            continue
        mapping = preset(name, answers.timezone)
        if not all(_document(mapping, record) is not None for record in tried):
            continue
        events = [mapping.orders(record) for record in tried]
        unfit = [found for found in events if isinstance(found, Unfit)]
        naive = any(found.reason is Reason.NAIVE_TS for found in unfit)
        if naive or not unfit or any(isinstance(found, list) for found in events):
            return name
    return None


def _questions(proposal: Proposal) -> str:
    asked = "; ".join(f"{one.text} [{one.option}]" for one in proposal.questions)
    count = len(proposal.questions)
    return (
        f"{count} {'question' if count == 1 else 'questions'}, for it changes what counts: {asked}"
    )


def _check(found: Understood, sample: Sequence[Record], asked: Told) -> None:
    """Raises OrderLogError where the mapping makes no order of any record of the sample, and
    Unanswered where it lacks a zone."""
    unfit: Unfit | None = None
    example: Record = {}
    skipped: Counter[str] = Counter()
    for record in sample[:_TRIED]:
        events = found.mapping.orders(record)
        if isinstance(events, list):
            return
        if isinstance(events, Skipped):
            skipped[events.reason] += 1
        elif unfit is None:
            unfit, example = events, record
    if unfit is not None and unfit.reason is Reason.NAIVE_TS:
        raise Unanswered(
            f"times have no zone: name that of the shop, such as --timezone Europe/Berlin or"
            f" --timezone UTC ({unfit.detail})"
        )
    if unfit is None:
        why = ", ".join(f"{count:,} x {reason}" for reason, count in skipped.most_common(3))
        raise OrderLogError(f"{found.source} finds no order in the first rows: all are {why}")
    hint = ""
    if asked.preset and (other := _recognised(sample, Answers())):
        hint = f"; the file looks like --preset {other}"
    raise OrderLogError(
        f"{found.source} fits no record: {unfit.detail}{hint}. The first is {_shown(example)}"
    )


def _shown(record: Mapping[str, Any]) -> str:
    filled = {key: value for key, value in record.items() if value not in ("", None, [], {})}
    text = json.dumps(filled, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _currency(found: Understood, sample: Sequence[Record], asked: Told) -> str:
    """That of most orders of the sample; else what was said; else none."""
    codes: Counter[str] = Counter()
    for record in sample[:_TRIED]:
        events = found.mapping.orders(record)
        if isinstance(events, list):
            codes.update(event["currency"] for event in events if "currency" in event)
    found.named = frozenset(codes)
    said = asked.answers.currency
    if said:
        return said
    if not codes:
        if found.source != "proposed":
            found.notes.append(NO_CURRENCY_NAMED)
        return NO_CURRENCY
    return codes.most_common(1)[0][0]
