"""Which columns are the customer and the order, and which version of it."""

from __future__ import annotations

import re
from typing import Final

from features.events.ids import is_placeholder
from features.proposal.draft import LEAST, Draft, SampleColumn, raw, toml_text
from features.proposal.formats import MOSTLY, times_of
from features.proposal.names import plain, score

_CLOSE: Final = 0.12
# Customers a row, below which a column of them is none: nobody orders two hundred times on average.
_FEWEST: Final = 0.005
# A number of more digits than a cell shows, as a spreadsheet saves it.
_CUT: Final = re.compile(r"\d(?:[.,]\d+)?E\+\d{1,2}", re.IGNORECASE)


def find_ids(draft: Draft) -> None:
    """Takes the customer and the order; rows without an order id are numbered."""
    user = draft.named("user_id")
    order = draft.named("order_id")
    if user is None:
        user = _user(draft)
    if order is None:
        order = _order(draft, user)
    if user is None:
        draft.ask("--column user_id=NAME", "no column is known as the customer")
    else:
        draft.lines["user_id"] = toml_text(_user_path(draft, user))
        if draft.guessed("user_id") is None:
            draft.take("user_id", user, 1.0, "named so")
    if order is not None:
        draft.lines["order_id"] = toml_text(order.path)
        if draft.guessed("order_id") is None:
            draft.take("order_id", order, 1.0, "named so")
    elif user is not None:
        # Numbers of rows tell rows apart, and nothing else: no repeat is found by them.
        draft.lines["order_id"] = toml_text(f"join('-', [to_string({user.path}), \"#\"])")
        draft.notes.append("rows have no order id: each row is an order, numbered")


def _user_path(draft: Draft, user: SampleColumn) -> str:
    """The customer; where that names nobody, as of guests, the address that rows have instead."""
    nobody = sorted({text for text in user.texts if is_placeholder(text)})
    named = draft.answers.columns.get("user_id") is not None
    if named or (user.filled == 1 and not nobody):
        return user.path
    for column in draft.columns.values():
        mails = sum("@" in text for text in column.texts)
        if column.path in draft.taken or mails < 0.9 * max(len(column.values), 1):
            continue
        if column.filled < user.filled - len(nobody) / draft.rows or column.path == user.path:
            continue
        draft.taken.add(column.path)
        blank = " or ".join(["blank"] * (user.filled < 1) + [repr(text) for text in nobody])
        draft.notes.append(f"where {user.name} is {blank}, customers are told by {column.name}")
        if not nobody:
            return f"{user.path} || {column.path}"
        none_of = " && ".join(["@", *(f"to_string(@) != {raw(text)}" for text in nobody)])
        return f"([{user.path}][?{none_of}] | [0]) || {column.path}"
    return user.path


def _user(draft: Draft) -> SampleColumn | None:
    scores: dict[str, float] = {}
    for path, column in draft.columns.items():
        if path in draft.taken or column.filled < 0.3:
            continue
        mark = score(column.name, "user_id")
        mails = sum("@" in text for text in column.texts)
        mark = max(mark, 0.6 * (mails > 0.9 * len(column.values)))
        scores[path] = mark * (0.7 + 0.3 * column.filled)
        if len(set(column.texts)) < _FEWEST * len(column.values):
            scores[path] *= 0.5  # such as who stood at the till
    ranked = draft.best(scores)
    if not ranked:
        return None
    sure, column = ranked[0]
    distinct = len(set(column.texts))
    why = f"its name; {distinct:,} different in {len(column.values):,} rows"
    draft.take("user_id", column, sure, why)
    if _is_cut(column):
        draft.ask(
            "--column user_id=NAME",
            f"{column.name} was cut by a spreadsheet ({_cut_example(column)}), so that customers"
            " cannot be told apart: export it as text, or name another column",
        )
    others = [one.name for found, one in ranked[1:4] if sure - found < _CLOSE]
    if others:
        told = f"customers are told apart by {column.name}, not by {' or '.join(others)}"
        draft.notes.append(f"{told}; --column user_id=NAME says otherwise")
    return column


def _is_cut(column: SampleColumn) -> bool:
    return any(_CUT.fullmatch(text.strip()) for text in column.texts)


def _cut_example(column: SampleColumn) -> str:
    return next(text for text in column.texts if _CUT.fullmatch(text.strip()))


def _order(draft: Draft, user: SampleColumn | None) -> SampleColumn | None:
    scores: dict[str, float] = {}
    for path, column in draft.columns.items():
        if path in draft.taken or column.filled < MOSTLY:
            continue
        distinct = len(set(column.texts)) / len(column.values)
        mark = score(column.name, "order_id")
        if plain(column.name) in ("id", "number", "nr", "no", "name", "n") and distinct > 0.99:
            mark = max(mark, 0.6)
        if mark >= LEAST and _is_cut(column):
            draft.notes.append(
                f"{column.name} was cut by a spreadsheet ({_cut_example(column)}): export it as"
                " text if rows have to be told apart by it"
            )
            mark = 0.0
        scores[path] = mark * min(1.0, 0.5 + distinct) if distinct > 0.05 else 0.0
    ranked = draft.best(scores)
    if not ranked:
        return None
    sure, column = ranked[0]
    distinct = len(set(column.texts))
    why = f"its name; {distinct:,} different in {len(column.values):,} rows"
    draft.take("order_id", column, sure, why)
    return column


def find_versions(draft: Draft) -> None:
    """Takes what tells versions and refunds of an order apart."""
    for which in ("updated_at", "refund_id"):
        for path, column in draft.columns.items():
            if path in draft.taken or not column.values or score(column.name, which) < 0.75:
                continue
            if which == "refund_id":
                draft.take(which, column, 0.9, "its name")
                draft.lines[which] = toml_text(path)
            elif (found := times_of(column.values, named=True)) and not found.naive:
                draft.take(which, column, 0.9, "its name")
                forms = found.formats
                draft.lines[which] = (
                    toml_text(path)
                    if forms == ("iso",)
                    else f"{{ path = {toml_text(path)}, format = {toml_text(forms[0])} }}"
                )
    if draft.answers.rows:
        draft.lines["rows"] = toml_text(draft.answers.rows)
