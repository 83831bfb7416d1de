"""`python -m model monitor`: the report, the page, the exit code, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from features.events.orders import Order
from features.times import MS_PER_DAY, day_of, iso_day
from model.artifact.artifact import save
from model.commands.cli import cli
from model.commands.monitor import ALARM
from model.data.synthetic import Shop, generate, write_csv
from model.decide.scoring import Scorer
from model.monitor.result import Monitored, age_at
from model.monitor.weekly import reference
from model.report.monitor_text import text
from tests.support import modelling

ORDERS = generate(Shop(customers=900, days=460, arrival_days=460, seed=9)).orders
CUTOFF = day_of(ORDERS[0].ts_ms) + 360


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "shop"
    model = modelling.model()
    scorer = Scorer.of(model, "", (0.0,) * 101)
    fields = msgspec.structs.replace(
        modelling.fields(), cutoff=iso_day(CUTOFF), reference=reference(ORDERS, scorer, CUTOFF)
    )
    save(path, model, fields)
    return path


def log_of(orders: list[Order], directory: Path) -> Path:
    path = directory / "orders.csv"
    write_csv(orders, path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["monitor", *map(str, arguments)])


def dearer(factor: int) -> list[Order]:
    return [
        Order(o.order_id, o.user_id, o.ts_ms, o.amount_minor * factor, o.type)
        if day_of(o.ts_ms) >= CUTOFF
        else o
        for o in ORDERS
    ]


def test_a_model_that_fits_ends_well(model: Path, tmp_path: Path) -> None:
    found = run(log_of(ORDERS, tmp_path), "--model", model)
    assert found.exit_code == 0
    assert f"trained on what was known on {iso_day(CUTOFF)}" in found.stdout
    assert found.stdout.rstrip().endswith("The newest week raises no alarm.")
    assert max(map(len, found.stdout.splitlines())) < 80


def test_a_drift_ends_with_a_code_of_its_own_and_is_named(model: Path, tmp_path: Path) -> None:
    page = tmp_path / "drift.html"
    log = log_of(dearer(4), tmp_path)
    found = run(log, "--model", model, "--html", page)
    assert found.exit_code == ALARM == 3
    newest = found.stdout.split("The newest week raises ")[1].splitlines()
    assert newest[0] == f"{len(newest) - 3} alarms:"
    assert "last_purchase_gross_minor: PSI" in found.stdout
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert "http" not in html
    report = json.loads(run(log, "--model", model, "--json").stdout)
    newest = report["weeks"][-1]
    assert {bias["days"] for bias in newest["biases"]} == {14, 28, 60}
    assert any(d["name"] == "clv" and d["psi"] > d["threshold"] for d in newest["drifts"])
    assert next(d for d in newest["drifts"] if d["name"] == "T_days")["threshold"] is None


def test_a_link_where_the_page_goes_is_replaced_and_not_followed(
    model: Path, tmp_path: Path
) -> None:
    log, victim, page = log_of(ORDERS, tmp_path), tmp_path / "victim", tmp_path / "page.html"
    victim.write_text("mine")
    page.symlink_to(victim)
    assert run(log, "--model", model, "--html", page).exit_code == 0
    assert (victim.read_text(), page.is_symlink()) == ("mine", False)
    assert page.read_text().startswith("<!doctype html>")
    for other in (tmp_path, Path("/dev/null")):
        found = run(log, "--model", model, "--html", other)
        assert (found.exit_code, "is not a file" in found.stderr) == (2, True)
    assert Path("/dev/null").is_char_device()


def test_what_cannot_be_monitored_is_refused_with_the_remedy(model: Path, tmp_path: Path) -> None:
    log = log_of(ORDERS, tmp_path)
    short = run(log, "--model", model, "--from", iso_day(day_of(ORDERS[-1].ts_ms)))
    assert (short.exit_code, short.stdout) == (1, "")
    assert "give the orders since" in short.stderr
    old = tmp_path / "old"
    save(old, modelling.model(), modelling.fields())
    without = run(log, "--model", old)
    assert without.exit_code == 1
    assert without.stderr.startswith("Error: ")
    assert "no reference to compare with" in without.stderr
    empty = tmp_path / "empty.csv"
    empty.write_text("order_id,user_id,ts,amount\n")
    assert run(empty, "--model", model).exit_code == 1


def test_a_week_with_few_customers_has_no_drift_and_no_level(model: Path, tmp_path: Path) -> None:
    few = [o for o in ORDERS if o.user_id < "user-00030"]
    found = run(log_of(few, tmp_path), "--model", model, "--html", tmp_path / "page.html")
    assert found.exit_code == 0, found.stdout
    row = found.stdout.splitlines()[4].split()
    # The week, who bought, the PSI of the CLV.
    assert row[1:3] == ["2", "-"]
    assert "-: fewer than 50 customers to tell by" in found.stdout
    assert ORDERS[0].ts_ms < CUTOFF * MS_PER_DAY


def test_how_old_the_model_is_stands_above_and_what_to_do_below() -> None:
    day = day_of(ORDERS[-1].ts_ms)
    young, old = (
        text(Monitored("v1", cutoff, [], age_at(cutoff, 60, day)))
        for cutoff in (iso_day(day - 150), iso_day(day - 1_151))
    )
    assert "150 days before the log's end" in young
    assert "old" not in young
    assert "1,151 days before the log's end" in old
    assert old.endswith(
        "The model is old: more than 150 days. Train a new one (python -m model retrain)."
    )
