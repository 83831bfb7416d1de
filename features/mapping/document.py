"""The TOML of a mapping, checked key by key: every fault with the line that it stands on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from features.errors import FactsError
from features.events.orders import OrderType
from features.mapping.instants import NAMED, TimeFormat, zone_of
from features.mapping.paths import Get, PathError, compiled
from features.times import CalendarError

_FIELDS: Final = ("order_id", "user_id", "ts", "amount", "currency", "refund_id", "updated_at")
_EVENT: Final = (*_FIELDS, "when", "each", "type", "user_of_order")
_TOP: Final = ("name", "about", "needs", "zone", "rows", "skip", "event", *_EVENT)
ROWS: Final = ("orders", "line-items", "corrections")
TYPES: Final = {
    "order": OrderType.ORDER,
    "refund": OrderType.REFUND,
    "cancellation": OrderType.CANCELLATION,
}
_KEYS: Final = {
    "ts": ("path", "format", "zone"),
    "amount": ("path", "times", "minus", "unit", "decimal", "negative", "decimals"),
    "type": ("path", "otherwise", "skip", *TYPES),
    "id": ("path", "drop_suffix"),
}
_CHOICES: Final = {
    "unit": ("major", "minor"),
    "decimal": (".", ","),
    "negative": ("error", "refund", "skip"),
}
_CODE: Final = re.compile("[A-Z]{3}")
_HEADER: Final = re.compile(r"\s*\[(\[?)\s*([A-Za-z_]+)\s*\]?\]")


class MappingError(FactsError):
    """The mapping cannot be used: mend the line that the message names."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the mapping, for messages: its line, and the text of the path."""

    line: int
    path: str


@dataclass(frozen=True, slots=True)
class Text:
    """Where an id or a currency comes from."""

    get: Get
    place: Place
    drop_suffix: str = ""


@dataclass(frozen=True, slots=True)
class Time:
    """Where a time comes from, and how it is written."""

    get: Get
    place: Place
    format: TimeFormat = field(default_factory=TimeFormat)


@dataclass(frozen=True, slots=True)
class Money:
    """Where an amount comes from: `times` and `minus` are further paths; `minor`: it is in minor
    units, of which `decimals` says how many digits they are where ISO 4217 is not followed;
    `negative` says what a number below 0 is."""

    get: Get
    place: Place
    times: tuple[Get, ...] = ()
    minus: tuple[Get, ...] = ()
    minor: bool = False
    decimal: str = "."
    negative: str = "error"
    decimals: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether the digits of a text with a decimal point are the amount."""
        return not (self.times or self.minus or self.minor or self.decimal != ".")


@dataclass(frozen=True, slots=True)
class TypeOf:
    """What an event is: always the same (`get` is None), or by a value. Values in `skipped` are no
    order at all."""

    constant: OrderType = OrderType.ORDER
    get: Get | None = None
    place: Place = field(default_factory=lambda: Place(0, ""))
    values: Mapping[str, OrderType] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()
    otherwise: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """Records that are left out, and why."""

    when: Get
    reason: str
    place: Place


@dataclass(frozen=True, slots=True)
class Template:
    """One event that a record gives, or one for each thing in a list of it."""

    line: int
    kind: TypeOf
    order_id: Text
    user_id: Text
    ts: Time
    amount: Money | None
    currency: Text | None
    refund_id: Text | None
    updated_at: Time | None
    when: Get | None
    each: Get | None
    user_of_order: bool


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping as its file has it."""

    name: str
    about: str
    needs: tuple[tuple[Get, str], ...]
    rows: str | None
    skips: tuple[Skip, ...]
    templates: tuple[Template, ...]


def read(text: str, name: str, timezone: str | None) -> Document:
    """The document of a TOML text. Raises MappingError."""
    return _Reader(text, name, timezone).document()


class _Reader:
    """Reads one text; keeps it, to find lines again, which tomllib forgets."""

    def __init__(self, text: str, name: str, timezone: str | None) -> None:
        self.name, self.lines = name, text.splitlines()
        try:
            self.top = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise MappingError(f"mapping {name} is no TOML: {error}") from None
        except RecursionError:
            raise MappingError(f"mapping {name} is nested too deeply") from None
        self.timezone = timezone

    def document(self) -> Document:
        self._known(self.top, _TOP, "", 0)
        zone = self.top.get("zone", self.timezone)
        templates = self._tables("event")
        shared: dict[str, Any] = {key: self.top[key] for key in _EVENT if key in self.top}
        if templates and (alone := {"when", "each", "type"} & shared.keys()):
            self._fault("", 0, min(alone), "stands above [[event]]; put it into each of them")
        rows = self.top.get("rows")
        if rows is not None and rows not in ROWS:
            self._fault("", 0, "rows", f"{rows!r} is none of {', '.join(ROWS)}")
        return Document(
            name=str(self.top.get("name", self.name)),
            about=str(self.top.get("about", "")),
            needs=tuple(
                (self._path(path, "", 0, "needs"), path) for path in self._texts("needs", self.top)
            ),
            rows=rows,
            skips=tuple(self._skip(table, at) for at, table in enumerate(self._tables("skip"))),
            templates=tuple(
                self._template({**shared, **table}, "event", at, zone, table)
                for at, table in enumerate(templates)
            )
            or (self._template(shared, "", 0, zone, shared),),
        )

    def _tables(self, key: str) -> list[dict[str, Any]]:
        found = self.top.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            self._fault("", 0, key, f"is written [[{key}]], once for each")
        return list(found)

    def _skip(self, table: dict[str, Any], at: int) -> Skip:
        self._known(table, ("when", "reason"), "skip", at)
        when = table.get("when")
        if not isinstance(when, str):
            self._fault("skip", at, "when", "is missing; give a JMESPath condition")
        reason = table.get("reason")
        if not isinstance(reason, str) or not reason:
            self._fault("skip", at, "reason", "is missing; say in a few words why")
        line = self._line("skip", at, "when")
        return Skip(self._path(when, "skip", at, "when"), reason, Place(line, when))

    def _template(
        self, table: dict[str, Any], section: str, at: int, zone: Any, own: dict[str, Any]
    ) -> Template:
        self._known(own, _EVENT if section else _TOP, section, at)
        where = (section, at)
        kind = self._kind(table.get("type", "order"), *where)
        for name in ("order_id", "user_id", "ts", "amount"):
            free = name == "amount" and kind.constant is OrderType.CANCELLATION
            if name not in table and not free:
                self._fault(section, at, name, "is missing")
        return Template(
            line=self._line(section, at, "order_id"),
            kind=kind,
            order_id=self._text(table["order_id"], *where, "order_id"),
            user_id=self._text(table["user_id"], *where, "user_id"),
            ts=self._time(table["ts"], *where, "ts", zone),
            amount=self._money(table["amount"], *where) if "amount" in table else None,
            currency=self._currency(table, *where),
            refund_id=self._text(table["refund_id"], *where, "refund_id")
            if "refund_id" in table
            else None,
            updated_at=self._time(table["updated_at"], *where, "updated_at", zone)
            if "updated_at" in table
            else None,
            when=self._path(table["when"], *where, "when") if "when" in table else None,
            each=self._path(table["each"], *where, "each") if "each" in table else None,
            user_of_order=table.get("user_of_order", False) is True,
        )

    def _parts(self, value: Any, section: str, at: int, key: str, keys: str) -> dict[str, Any]:
        """A field as a table, of which a text alone is the path."""
        if isinstance(value, str):
            return {"path": value}
        if not isinstance(value, dict):
            self._fault(section, at, key, "is neither a path nor a table with one")
        self._known(value, _KEYS[keys], section, at, key)
        if not isinstance(value.get("path"), str):
            self._fault(section, at, key, "has no path")
        return value

    def _text(self, value: Any, section: str, at: int, key: str) -> Text:
        parts = self._parts(value, section, at, key, "id")
        place = Place(self._line(section, at, key), parts["path"])
        drop = parts.get("drop_suffix", "")
        if not isinstance(drop, str):
            self._fault(section, at, key, 'drop_suffix is a text, such as ".0"')
        return Text(self._path(parts["path"], section, at, key), place, drop)

    def _currency(self, table: dict[str, Any], section: str, at: int) -> Text | None:
        value = table.get("currency")
        if value is None:
            return None
        if isinstance(value, str) and _CODE.fullmatch(value):
            value = f"'{value}'"
        return self._text(value, section, at, "currency")

    def _time(self, value: Any, section: str, at: int, key: str, zone: Any) -> Time:
        parts = self._parts(value, section, at, key, "ts")
        formats = parts.get("format", "iso")
        formats = tuple(formats) if isinstance(formats, list) else (formats,)
        for form in formats:
            if not isinstance(form, str) or not (form in NAMED or "%" in form):
                self._fault(
                    section, at, key, f"format {form!r} is none of {', '.join(NAMED)}, nor one as"
                    " of strptime, such as %d/%m/%Y %H:%M",
                )  # fmt: skip
        zone = parts.get("zone", zone)
        place = Place(self._line(section, at, key), parts["path"])
        try:
            found = None if zone is None else zone_of(str(zone))
        except CalendarError as error:
            self._fault(section, at, key if "zone" in parts else "zone", f"zone {error}")
        return Time(self._path(parts["path"], section, at, key), place, TimeFormat(formats, found))

    def _money(self, value: Any, section: str, at: int) -> Money:
        parts = self._parts(value, section, at, "amount", "amount")
        for key, allowed in _CHOICES.items():
            if parts.get(key, allowed[0]) not in allowed:
                says = f"{key} {parts[key]!r} is none of {', '.join(map(repr, allowed))}"
                self._fault(section, at, "amount", says)
        decimals = parts.get("decimals", {})
        if not isinstance(decimals, dict) or not all(
            isinstance(digits, int) and 0 <= digits <= 4 for digits in decimals.values()
        ):
            self._fault(section, at, "amount", "decimals are 0 to 4 by currency: { ISK = 2 }")
        return Money(
            get=self._path(parts["path"], section, at, "amount"),
            place=Place(self._line(section, at, "amount"), parts["path"]),
            times=self._more(parts, "times", section, at),
            minus=self._more(parts, "minus", section, at),
            minor=parts.get("unit") == "minor",
            decimal=parts.get("decimal", "."),
            negative=parts.get("negative", "error"),
            decimals=decimals,
        )

    def _more(self, parts: dict[str, Any], key: str, section: str, at: int) -> tuple[Get, ...]:
        return tuple(self._path(path, section, at, "amount") for path in self._texts(key, parts))

    def _texts(self, key: str, table: dict[str, Any]) -> list[str]:
        found = table.get(key, [])
        listed = [found] if isinstance(found, str) else found
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            self._fault("", 0, key, "is a path, or a list of them")
        return listed

    def _kind(self, value: Any, section: str, at: int) -> TypeOf:
        if isinstance(value, str):
            if value not in TYPES:
                self._fault(section, at, "type", f"{value!r} is none of {', '.join(TYPES)}")
            return TypeOf(TYPES[value])
        parts = self._parts(value, section, at, "type", "type")
        values = {
            said.strip().casefold(): kind
            for name, kind in TYPES.items()
            for said in self._texts(name, parts)
        }
        otherwise = parts.get("otherwise", "")
        if otherwise not in ("", "skip", *TYPES):
            says = f"otherwise {otherwise!r} is none of skip, {', '.join(TYPES)}"
            self._fault(section, at, "type", says)
        return TypeOf(
            get=self._path(parts["path"], section, at, "type"),
            place=Place(self._line(section, at, "type"), parts["path"]),
            values=values,
            skipped=frozenset(said.strip().casefold() for said in self._texts("skip", parts)),
            otherwise=otherwise,
        )

    def _path(self, path: Any, section: str, at: int, key: str) -> Get:
        if not isinstance(path, str):
            self._fault(section, at, key, "is no path")
        try:
            return compiled(path, f"line {self._line(section, at, key)}: {path}: ")
        except PathError as error:
            blanks = f"; a name with blanks is written '\"{path.strip()}\"'" * (" " in path)
            self._fault(section, at, key, f"{path!r} is no JMESPath expression: {error}{blanks}")

    def _known(
        self, table: dict[str, Any], known: Sequence[str], section: str, at: int, within: str = ""
    ) -> None:
        for key in table:
            if key not in known:
                there = f" of {within}" if within else ""
                self._fault(
                    section, at, within or key,
                    f"{key!r} is no key{there}; there are {', '.join(known)}",
                )  # fmt: skip

    def _line(self, section: str, at: int, key: str) -> int:
        """The line of a key in the at-th table of a section, of those above all tables otherwise;
        that of the table where the key is not in it."""
        found, count, current = 0, -1, ""
        for number, line in enumerate(self.lines, start=1):
            if header := _HEADER.match(line):
                current = header[2]
                count += current == section
                if current == section and count == at:
                    found = number
                continue
            here = current == section and (not section or count == at)
            if here and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return number
        if found or not section:
            return found or self._header_line(key)
        return self._line("", 0, key)

    def _header_line(self, key: str) -> int:
        """The line of a table's header; the first where there is none."""
        numbered = enumerate(self.lines, start=1)
        heads = ((number, _HEADER.match(line)) for number, line in numbered)
        return next((number for number, head in heads if head and head[2] == key), 1)

    def _fault(self, section: str, at: int, key: str, says: str) -> NoReturn:
        line = self._line(section, at, key)
        raise MappingError(f"mapping {self.name}, line {line}: {key} {says}")
