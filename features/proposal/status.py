"""What a status or type says of a row: not paid, cancelled, refunded, a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from features.proposal.draft import LEAST, Draft, SampleColumn, raw, toml_text
from features.proposal.formats import amounts_of
from features.proposal.names import PARTLY, TRUE_WORDS, meaning, plain, score

_MOST_KINDS: Final = 40
_NAMED: Final = 0.75
_OF_COUNTRIES: Final = ("state", "estado", "etat", "stato", "stav")
_TYPE_OF: Final = {"ordered": "order", "refunded": "refund", "cancelled": "cancellation"}


def find_statuses(draft: Draft) -> None:
    """Takes what says of a row that it is no order, or none any more. Values that the sample has
    not are set aside, not guessed."""
    said = draft.named("type")
    statuses: list[tuple[SampleColumn, Mapping[str, str]]] = []
    for path, column in draft.columns.items():
        if path in draft.taken or not column.values:
            continue
        if score(column.name, "test") >= 0.75 and _flags(draft, column):
            continue
        values = Counter(column.texts)
        if len(values) > _MOST_KINDS:
            continue
        known: Mapping[str, str] = {value: meaning(value) for value in values}
        means = {found for found in known.values() if found}
        if said is column or (score(column.name, "type") >= 0.75 and means & _TYPE_OF.keys()):
            _type(draft, column, known)
        elif _is_status(column, means):
            statuses.append((column, known))
    for column, known in statuses:
        _status(draft, column, known)
    _refunded(draft)


def _is_status(column: SampleColumn, means: set[str]) -> bool:
    """Whether its values say whether a row counts: known ones, or all of a column that is named so
    and not as states of a country are."""
    mark = score(column.name, "status")
    if mark >= _NAMED and (means or plain(column.name) not in _OF_COUNTRIES):
        return True
    return mark >= 0.6 and bool(means & {"unpaid", "cancelled", "refunded"})


def _flags(draft: Draft, column: SampleColumn) -> bool:
    """Whether a column marks tests, which are left out."""
    if not {plain(text) for text in column.texts} <= {*TRUE_WORDS, "false", "no", "0", "nein"}:
        return False
    told = sorted({text for text in column.texts if plain(text) in TRUE_WORDS})
    if told:
        boolean = any(value is True for value in column.values)
        values = ["`true`"] if boolean else [raw(text) for text in told]
        draft.skip(" || ".join(f"{column.path} == {value}" for value in values), "test order")
    return True


def _type(draft: Draft, column: SampleColumn, known: Mapping[str, str]) -> None:
    groups: dict[str, list[str]] = {kind: [] for kind in _TYPE_OF.values()}
    for value, means in known.items():
        if means in _TYPE_OF:
            groups[_TYPE_OF[means]].append(value)
    draft.take("type", column, 0.9, "its name and its values")
    _write_type(draft, column, groups)
    unknown = [value for value, means in known.items() if means not in _TYPE_OF]
    if unknown:
        draft.notes.append(
            f"{column.name} {', '.join(map(repr, unknown[:5]))} is not known: such rows are set"
            " aside; a --mapping says what they are"
        )


def _write_type(draft: Draft, column: SampleColumn, groups: Mapping[str, list[str]]) -> None:
    parts = [f"path = {toml_text(column.path)}"]
    for kind, values in groups.items():
        if values:
            parts.append(f"{kind} = [{', '.join(map(toml_text, sorted(values)))}]")
    draft.lines["type"] = f"{{ {', '.join(parts)} }}"


def _status(draft: Draft, column: SampleColumn, known: Mapping[str, str]) -> None:
    draft.taken.add(column.path)
    said = draft.answers.left_out
    named = {plain(value) for value in said or ()}
    left_out = sorted(
        value
        for value, means in known.items()
        if means in ("unpaid", "cancelled") or plain(value) in named
    )
    unknown = [value for value, means in known.items() if not means]
    if unknown and said is None:
        times = Counter(column.texts)
        listed = ", ".join(f"{value!r} ({times[value]:,} rows)" for value in unknown[:8])
        draft.ask(
            f"--left-out {unknown[0]!r}",
            f"{column.name} says {listed}, and which of these are orders is not known: say"
            " --left-out VALUE of each that is none, or --left-out nothing",
        )
    counting = sorted(known.keys() - set(left_out))
    back = sorted(value for value, means in known.items() if means == "refunded")
    if "type" in draft.lines:
        if left_out:
            when = " || ".join(f"{column.path} == {raw(value)}" for value in left_out)
            draft.skip(when, f"{column.name} {', '.join(left_out)}")
        return
    blank = [""] * (column.filled < 1)
    _write_type(draft, column, {"order": [*counting, *blank], "skip": left_out})
    draft.notes.append(
        f"{column.name}: {', '.join(counting) or 'nothing'} count;"
        f" {', '.join(left_out) or 'nothing'} left out"
    )
    partly = [value for value in known if plain(value) in PARTLY]
    if partly and _refunded_column(draft) is None:
        draft.notes.append(
            f"{column.name} {', '.join(partly)}: how much went back is in no column, so they count"
            " whole"
        )
    if back and _refunded_column(draft) is None:
        when = " || ".join(f"{column.path} == {raw(value)}" for value in back)
        draft.events.append(f'[[event]]\nwhen = {toml_text(when)}\ntype = "refund"\n')
        draft.notes.append(f"{column.name} {', '.join(back)}: refunded in full at the order's time")


def _refunded_column(draft: Draft) -> SampleColumn | None:
    scores = {
        path: score(column.name, "refunded_amount")
        for path, column in draft.columns.items()
        if path not in draft.taken and score(column.name, "quantity") < LEAST
    }
    ranked = [column for _, column in draft.best(scores)]
    return next((column for column in ranked if amounts_of(column.values)), None)


def _refunded(draft: Draft) -> None:
    """An event for what was refunded of an order, where a column has it."""
    column, money = _refunded_column(draft), draft.guessed("amount")
    amount = draft.lines.get("amount")
    if column is None or money is None or amount is None or "times = " in amount:
        return
    draft.take("refunded", column, 0.9, "its name; it counts at the order's time")
    line = amount.replace(toml_text(money.path), toml_text(column.path), 1)
    draft.events.append(
        f'[[event]]\nwhen = {toml_text(column.path)}\ntype = "refund"\namount = {line}\n'
    )
