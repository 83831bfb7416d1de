from __future__ import annotations

from pathlib import Path

import pytest

from model.files.merged_accounts import read_accounts
from model.files.text_files import OrderLogError


def accounts(folder: Path, *rows: str, head: str = "user_id,same_as") -> Path:
    path = folder / "merged.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_an_account_counts_under_the_last_id_that_it_was_merged_into(tmp_path: Path) -> None:
    path = accounts(tmp_path, "a,b", "b,c", "x,x", "a,b")
    assert read_accounts(path) == {"a": "c", "b": "c", "x": "x"}


def test_ids_are_compared_as_those_of_orders(tmp_path: Path) -> None:
    path = accounts(tmp_path, "Kim@Shop.test , 17.0")
    assert read_accounts(path) == {"Kim@Shop.test ": " 17.0"}
    assert read_accounts(path, merge_ids=True) == {"kim@shop.test": "17"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["a,b", "a,c"], "line 3: 'a' is 'b' and 'c'; leave out one"),
        (["a,b", "b,a"], "'a' is 'b' is 'a'; say under which of these ids they count"),
        (["a,"], "line 2: write an id in both columns"),
        (["a"], "line 2: write an id in both columns"),
    ],
)
def test_what_names_no_one_id_is_refused(tmp_path: Path, rows: list[str], told: str) -> None:
    with pytest.raises(OrderLogError) as refused:
        read_accounts(accounts(tmp_path, *rows))
    assert told in str(refused.value)


def test_a_file_that_is_another_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OrderLogError, match="has no column same_as"):
        read_accounts(accounts(tmp_path, "a,b", head="user_id,other"))
    with pytest.raises(OrderLogError, match="do not exist; check the path"):
        read_accounts(tmp_path / "nowhere.csv")
