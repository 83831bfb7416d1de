"""Which column is what a customer paid, and how it is written."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from features.events.money import NO_CURRENCY
from features.proposal.draft import (
    LEAST,
    NO_CURRENCY_NAMED,
    Draft,
    SampleColumn,
    raw,
    toml_text,
)
from features.proposal.formats import AmountsFound, amounts_of, code_in, signs_of
from features.proposal.names import ADJUSTED, BESIDE, LINES, plain, score

_CLOSE: Final = 0.12
_MOST_WHOLE: Final = 100
_CODE: Final = re.compile(r"[A-Za-z]{3}")


def find_amount(draft: Draft) -> AmountsFound | None:
    """Takes what a customer paid, and asks for what is open; how it is written, if it was found."""
    named = draft.named("amount")
    found: dict[str, AmountsFound] = {}
    for column in [named] if named else draft.columns.values():
        if column.path in draft.taken or column.filled < 0.2 or not column.values:
            continue
        if amounts := amounts_of(column.values):
            found[column.path] = amounts
    scores = {path: score(draft.columns[path].name, "amount") for path in found}
    ranked = draft.best(scores) or [
        (0.0, draft.columns[path]) for path in found if not found[path].whole
    ]
    by_line = _by_line(draft, found) if not named else None
    if by_line and (not ranked or ranked[0][0] < 0.75 or ranked[0][1].path == by_line[1].path):
        _ask_for_rest(draft, by_line[1], found, of_line=True)
        return _write_by_line(draft, *by_line, found)
    if not ranked:
        draft.ask("--column amount=NAME", "no column is known as the amount of an order")
        return None
    sure, column = ranked[0]
    rivals = [
        one for other, one in ranked[1:]
        if sure - other < _CLOSE and one.values != column.values
    ]  # fmt: skip
    if named is None and (rivals or (sure == 0.0 and len(ranked) > 1)):
        names = ", ".join(one.name for one in [column, *rivals][:5])
        draft.ask("--column amount=NAME", f"what a customer paid may be any of {names}")
        return None
    if named is None:
        _ask_for_rest(draft, column, found, of_line=bool(LINES & set(plain(column.name).split())))
    why = "named so" if named else "its name" if sure else "the only column of amounts"
    draft.take("amount", column, 1.0 if named else sure or 0.6, why)
    amounts = found[column.path]
    _write_amount(draft, column, amounts, "")
    if LINES & set(plain(column.name).split()):
        draft.lines["rows"] = '"line-items"'
        draft.notes.append(f"{column.name} is of a line: the lines of an order are added up")
    return amounts


def _ask_for_rest(
    draft: Draft, column: SampleColumn, found: Mapping[str, AmountsFound], *, of_line: bool
) -> None:
    """Asks where an amount may not be all, or no longer be right: of a line that has taxes and
    shipping beside it, or of an order whose total was corrected in another column."""
    for path in found:
        other = draft.columns[path]
        words = set(plain(other.name).split())
        if path == column.path or not any(re.search("[1-9]", text) for text in other.texts):
            continue
        option = f"--column amount={json.dumps(column.name)}"
        if words & ADJUSTED and score(other.name, "amount") >= LEAST:
            draft.ask(
                option,
                f"{other.name} has other sums than {column.name}: {option} or --column"
                f" amount={json.dumps(other.name)} says which counts; a --mapping may subtract one"
                " from the other",
            )
        elif of_line and words & BESIDE:
            draft.ask(
                option,
                f"{column.name} is of a line, and has {other.name} beside it: {option} counts it"
                " alone, a --mapping with a list of paths adds them up",
            )
        else:
            continue
        return


def _by_line(
    draft: Draft, found: Mapping[str, AmountsFound]
) -> tuple[SampleColumn, SampleColumn] | None:
    """Quantity and unit price, where rows are lines."""
    best: dict[str, tuple[float, SampleColumn]] = {}
    for path in found:
        for which in ("quantity", "price"):
            mark = score(draft.columns[path].name, which)
            if mark >= 0.6 and mark > best.get(which, (0.0, None))[0]:
                best[which] = mark, draft.columns[path]
    if len(best) < 2 or best["quantity"][1].path == best["price"][1].path:
        return None
    return best["quantity"][1], best["price"][1]


def _write_by_line(
    draft: Draft, quantity: SampleColumn, price: SampleColumn, found: Mapping[str, AmountsFound]
) -> AmountsFound:
    why = f"{quantity.name} x {price.name}: rows are lines of orders"
    draft.take("amount", price, 0.8, why)
    draft.taken.add(quantity.path)
    amounts = found[price.path]
    _write_amount(draft, price, amounts, quantity.path)
    draft.lines["rows"] = '"line-items"'
    draft.notes.append(f"an order's amount is the sum of {quantity.name} x {price.name}")
    return amounts


def _write_amount(draft: Draft, column: SampleColumn, amounts: AmountsFound, times: str) -> None:
    decimal = draft.answers.decimal or amounts.decimal
    if decimal is None:
        draft.ask(
            "--decimal ,",
            f"{amounts.example!r} of {column.name} may be thousands or decimals: say"
            " --decimal . or --decimal ,",
        )
    unit = draft.answers.unit
    cents = bool({"cents", "cent", "minor", "pence", "centimes", "centavos"} & set(
        plain(column.name).split()
    ))  # fmt: skip
    if unit is None and cents:
        unit = "minor"
        draft.notes.append(f"{column.name} is in minor units, as its name says")
    if unit is None and amounts.whole and not times and _may_be_cents(draft, column):
        draft.ask(
            "--unit minor",
            f"all of {column.name} are whole numbers ({column.texts[0]}): say --unit minor where"
            " they are cents, else --unit major",
        )
    parts = [f"path = {toml_text(column.path)}"]
    parts += [f"times = {toml_text(times)}"] * bool(times)
    parts += ['decimal = ","'] * (decimal == ",") + ['unit = "minor"'] * (unit == "minor")
    parts.append('negative = "refund"')
    draft.lines["amount"] = f"{{ {', '.join(parts)} }}"


def _may_be_cents(draft: Draft, column: SampleColumn) -> bool:
    numbers = sorted(abs(int(re.sub(r"\D", "", text) or 0)) for text in column.texts)
    code = draft.answers.currency or code_in(column.name)
    whole = code in ("JPY", "KRW", "VND", "CLP", "ISK", "IDR", "HUF")
    return not whole and bool(numbers) and numbers[len(numbers) // 2] >= _MOST_WHOLE


def note_other_money(draft: Draft) -> None:
    """Says which columns of money count for nothing, so that nobody has to guess."""
    money = draft.guessed("amount")
    others = [
        column.name
        for column in draft.columns.values()
        if column.path not in draft.taken
        and (found := amounts_of(column.values)) is not None
        and (not found.whole or score(column.name, "amount") >= LEAST)
    ]
    if money is not None and others:
        listed = ", ".join(others[:6]) + (", ..." if len(others) > 6 else "")
        draft.notes.append(f"of money, and not counted: {listed}")


def find_currency(draft: Draft, amounts: AmountsFound | None) -> None:
    """Takes the currency from a column, beside the amounts, from a name, or an answer."""
    named = draft.named("currency")
    for path, column in draft.columns.items():
        if named is not None and column is not named:
            continue
        speaks = named is not None or score(column.name, "currency") >= 0.6
        codes = Counter(text.strip().upper() for text in column.texts)
        if speaks and codes and all(_CODE.fullmatch(code.strip()) for code in codes):
            draft.take("currency", column, 0.95, "its name and its codes")
            draft.lines["currency"] = toml_text(path)
            if len(codes) > 1:
                most = codes.most_common(1)[0][0]
                draft.notes.append(
                    f"there are {len(codes)} currencies: orders in {most} count, the others are"
                    " set aside"
                )
            return
    money = draft.guessed("amount")
    if amounts and amounts.currencies and money and draft.answers.currency is None:
        _currency_by_sign(draft, money.path, amounts.currencies)
        return
    header = code_in(draft.columns[money.path].name) if money else None
    code = draft.answers.currency or (amounts.currency if amounts else None) or header
    if code is None:
        code = NO_CURRENCY
        draft.notes.append(NO_CURRENCY_NAMED)
    draft.lines["currency"] = toml_text(code)


def _currency_by_sign(draft: Draft, path: str, codes: Sequence[str]) -> None:
    """The currency of each row, by what stands beside its amount."""
    column = draft.columns[path]
    if "$" in codes:
        draft.ask(
            "--column currency=NAME",
            f"{column.name} has amounts in {' and in '.join(codes)}, and which dollars $ are is not"
            " said: name a column that has the currency, or split the file",
        )
        return
    most, *others = codes
    chosen = " || ".join(
        f"(contains(to_string({path}), {raw(sign)}) && {raw(code)})"
        for code in others
        for sign in signs_of(code)
    )
    draft.lines["currency"] = toml_text(f"{chosen} || {raw(most)}")
    draft.notes.append(
        f"{column.name} has amounts in {', '.join(codes)}: orders in {most} count, the others are"
        " set aside"
    )
