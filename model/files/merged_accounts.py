"""Accounts that a shop has merged: which id is which other one now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from features.events.ids import plain_id
from model.files.csv_rows import CsvRows, Misshapen
from model.files.text_files import OrderLogError, opened, text_blocks

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
        rows = CsvRows(path, text_blocks(binary, path), COLUMNS, ())
        rows.read_header()
        for page in rows.pages():
            lines, columns = ([page.line], {}) if isinstance(page, Misshapen) else page
            ids = zip(*(columns.get(name, [""]) for name in COLUMNS), strict=True)
            for line, pair in zip(lines, ids, strict=True):
                if not all(map(str.strip, pair)):
                    raise OrderLogError(f"{path}, line {line}: write an id in both columns")
                user, other = map(plain_id, pair) if merge_ids else pair
                if found.setdefault(user, other) != other:
                    raise OrderLogError(
                        f"{path}, line {line}: {user!r} is {found[user]!r} and {other!r}; leave out"
                        " one"
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
