"""`python -m model clean`: what it tells of ids that are more than ids to a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

from click.testing import CliRunner

from model.commands.cli import cli


def _cleaned(tmp_path: Path, *ids: str) -> tuple[str, list[str]]:
    log, out = tmp_path / "orders.csv", tmp_path / "cleaned"
    with log.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("order_id", "user_id", "ts", "amount"))
        rows.writerows((name, name, "2026-03-01T12:00:00Z", "5") for name in ids)
    result = CliRunner().invoke(cli, ["clean", str(log), "--out", str(out)])
    assert result.exit_code == 0, result.output
    with (out / "orders.csv").open(newline="") as file:
        return result.output, [row["user_id"] for row in csv.DictReader(file)]


def test_ids_stay_ids_and_those_that_are_formulas_are_told(tmp_path: Path) -> None:
    ids = ("=cmd|' /C calc'!A0", "@SUM(A1)", "ada")
    told, kept = _cleaned(tmp_path, *ids)
    assert sorted(kept) == sorted(ids)
    assert "2 rows have an id that a spreadsheet runs as a formula" in told


def test_usual_ids_are_not_worth_a_word(tmp_path: Path) -> None:
    assert "spreadsheet" not in _cleaned(tmp_path, "ada", "1001")[0]
