"""Accounts that a shop has merged: which id is which other one now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from features.events.ids import plain_id
from model.files.csv_rows import CsvRows
from model.files.text_files import OrderLogError, opened, text_lines

COLUMNS: Final = ("user_id", "same_as")


def read_accounts(path: Path, *, merge_ids: bool = False) -> dict[str, str]:
    """The id under which each merged one counts, from a CSV of `user_id` and `same_as`; an account
    may be merged again. `merge_ids`: as that of orders.

    Raises OrderLogError for a file that cannot be read, for an id that is two others, and where
    accounts are merged in a circle.
    """
    found: dict[str, str] = {}
    if not path.exists():
        raise OrderLogError(f"merged accounts {path} do not exist; check the path")
    with opened(path) as binary:
        rows = CsvRows(path, text_lines(binary, path), COLUMNS, ())
        rows.read_header()
        at = [rows.header.index(name) for name in COLUMNS]
        for line, fields in rows:
            if len(fields) != len(rows.header) or not all(fields[n].strip() for n in at):
                raise OrderLogError(f"{path}, line {line}: write an id in both columns")
            user, other = (plain_id(fields[n]) if merge_ids else fields[n] for n in at)
            if found.setdefault(user, other) != other:
                raise OrderLogError(
                    f"{path}, line {line}: {user!r} is {found[user]!r} and {other!r}; leave out one"
                )
    return {user: _last(path, user, found) for user in found}


def _last(path: Path, user: str, found: Mapping[str, str]) -> str:
    seen = [user]
    while (other := found.get(seen[-1], seen[-1])) != seen[-1]:
        if other in seen:
            circle = " is ".join(map(repr, [*seen, other]))
            raise OrderLogError(f"{path}: {circle}; say under which of these ids they count")
        seen.append(other)
    return seen[-1]
