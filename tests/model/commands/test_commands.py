"""`python -m model`: what a person sees of training and evaluation, and of every mistake."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from features.events.orders import FreeOrders
from model.artifact.artifact import load
from model.commands.cli import cli
from model.data.synthetic import write_csv
from model.estimators.kinds import KINDS
from tests.support import modelling


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an order log and a model trained on it."""
    folder = tmp_path_factory.mktemp("shop")
    write_csv(modelling.orders(), folder / "orders.csv")
    result = _run("train", folder / "orders.csv", "--out", folder / "model", "--horizon", 60)
    assert result.exit_code == 0, result.output
    (folder / "train.txt").write_text(result.output)
    return folder


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def _error(result: Result) -> str:
    """The one line on stderr of a command that failed without a traceback."""
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def test_train_says_where_the_model_is_and_how_good(shop: Path) -> None:
    text = (shop / "train.txt").read_text()
    manifest = load(shop / "model").manifest
    assert text.startswith(f"Model {manifest.model_version}: ")
    assert f"Written to {shop / 'model'}" in text
    assert "BG/NBD + GG" in text
    assert "%|" not in text
    assert (shop / "model" / "report.txt").read_text() in text
    assert manifest.metrics["clv"]["model"]["customers"] > 0


def test_training_again_gives_the_same_version(shop: Path, tmp_path: Path) -> None:
    _run("train", shop / "orders.csv", "--out", tmp_path / "again", "--horizon", 60)
    again, first = load(tmp_path / "again").manifest, load(shop / "model").manifest
    assert again == first


def test_evaluate_as_json_has_the_metrics_that_training_reported(shop: Path) -> None:
    result = _run("evaluate", shop / "orders.csv", "--model", shop / "model", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    manifest = load(shop / "model").manifest
    assert document.pop("model_version") == manifest.model_version
    assert set(document.pop("differences")) == {"BG/NBD + GG", "same again"}
    assert document.pop("resamples") > 0
    document.pop("seed")
    assert document == manifest.metrics


def test_evaluate_prints_the_table(shop: Path) -> None:
    result = _run("evaluate", shop / "orders.csv", "--model", shop / "model")
    holdout, warnings = (shop / "model" / "report.txt").read_text().split("\n\nWarnings. ")
    assert holdout in result.stdout
    assert "silences" in warnings


def test_evaluate_at_cutoffs_trains_the_kind_anew_at_each(shop: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    arguments = ("evaluate", shop / "orders.csv", "--model", shop / "model", "--cutoffs", 2)
    result = _run(*arguments, "--json", "--html", page)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["refitted"]
    assert document["kind"] == "blend"
    assert [one["until"] for one in document["cutoffs"]][:1] == [document["cutoffs"][1]["cutoff"]]
    assert document["cutoffs"][1]["clv"] == load(shop / "model").manifest.metrics["clv"]
    assert page.read_text().startswith("<!doctype html>")
    lines = _run(*arguments).stdout.splitlines()
    assert "Mean of 2 cutoffs" in lines
    assert max(map(len, lines)) <= 80


def test_more_cutoffs_than_the_log_has_room_for_say_how_many_there_are(shop: Path) -> None:
    arguments = ("evaluate", shop / "orders.csv", "--model", shop / "model", "--cutoffs")
    line = _error(_run(*arguments, 50, "--every", 30))
    assert "50 cutoffs every 30 days with a horizon of 60 days need a log of 1610 days" in line
    possible = int(line.rpartition("--cutoffs ")[2])
    assert _error(_run(*arguments, possible + 1, "--every", 30)).endswith(f"--cutoffs {possible}")
    assert "goes with --cutoffs" in _error(
        _run("evaluate", shop / "orders.csv", "--model", shop / "model", "--every", 30)
    )


def test_evaluating_before_the_models_own_cutoff_is_refused_as_leakage(shop: Path) -> None:
    result = _run(
        "evaluate", shop / "orders.csv", "--model", shop / "model", "--cutoff", "2023-06-01"
    )
    line = _error(result)
    assert "answers that it has seen" in line
    assert load(shop / "model").manifest.cutoff in line


def test_a_log_that_ends_too_soon_after_the_model_is_told_how_it_can_be_judged(
    shop: Path, tmp_path: Path
) -> None:
    lines = (shop / "orders.csv").read_text().splitlines()
    early = [line for line in lines[1:] if line.split(",")[2] < "2023-10"]
    (tmp_path / "early.csv").write_text("\n".join([lines[0], *early]) + "\n")
    line = _error(_run("evaluate", tmp_path / "early.csv", "--model", shop / "model"))
    cutoff = load(shop / "model").manifest.cutoff
    assert f"less than 60 days after the model's cutoff, {cutoff}" in line
    assert "give the orders since, or --cutoffs 1" in line


def test_training_up_to_the_end_of_the_log_says_that_it_is_not_evaluated(
    shop: Path, tmp_path: Path
) -> None:
    result = _run(
        "train", shop / "orders.csv", "--out", tmp_path / "m", "--horizon", 60,
        "--cutoff", "2024-02-20",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "Not evaluated: the log ends less than 60 days after the cutoff" in result.stdout
    assert load(tmp_path / "m").manifest.metrics == {}


def test_how_good_it_was_at_earlier_cutoffs_is_in_the_manifest_and_on_the_card(
    shop: Path, tmp_path: Path
) -> None:
    asked = ("train", shop / "orders.csv", "--out", tmp_path / "m", "--horizon", 60)
    assert _run(*asked, "--cutoffs", 1).exit_code == 0
    (report,) = load(tmp_path / "m").manifest.cutoffs
    assert f"| {report['cutoff']} | model |" in (tmp_path / "m" / "MODEL_CARD.md").read_text()
    assert report["until"] == load(shop / "model").manifest.cutoff
    assert "9 cutoffs every 60 days" in _error(_run(*asked, "--cutoffs", 9))


def test_rows_set_aside_are_counted_on_stderr(shop: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    shutil.copy(shop / "orders.csv", bad)
    with bad.open("a") as file:
        file.write("x,y,yesterday,1,\nx,y,2024-01-01T00:00:00Z,lots,\n")
    result = _run("evaluate", bad, "--model", shop / "model", "--json")
    assert result.exit_code == 0
    assert "1 row set aside (bad_ts), the first: " in result.stderr
    assert "1 row set aside (bad_amount), the first: " in result.stderr
    json.loads(result.stdout)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.csv", None, "does not exist"),
        ("empty.csv", "", "is empty"),
        ("columns.csv", "id,when\n", "no columns order_id, user_id, ts, amount"),
        ("header.csv", "order_id,user_id,ts,amount\n", "no rows below its header"),
        ("one.csv", "order_id,user_id,ts,amount\no,u,2026-01-01T00:00:00Z,1\n", "needs at least"),
        ("what.xlsx", "x", "must end in one of"),
    ],
)
def test_a_log_that_cannot_be_trained_on_ends_in_one_line(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    result = _run("train", tmp_path / name, "--out", tmp_path / "m")
    assert message in _error(result)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--horizon", "0"), "horizon 0 days must lie between"),
        (("--horizon", "soon"), "not a valid integer"),
        (("--currency", "dollars"), "ISO 4217"),
        (("--cutoff", "May"), "does not match the format"),
    ],
)
def test_a_bad_option_is_named(
    shop: Path, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    result = _run("train", shop / "orders.csv", "--out", tmp_path / "m", *arguments)
    assert message in _error(result)


def test_no_files_and_no_model_are_usage_errors(shop: Path) -> None:
    assert "Missing argument" in _error(_run("train", "--out", "x"))
    assert "Missing option '--model'" in _error(_run("evaluate", shop / "orders.csv"))


def test_a_refused_model_says_why(shop: Path, tmp_path: Path) -> None:
    line = _error(_run("evaluate", shop / "orders.csv", "--model", tmp_path))
    assert "is refused: manifest.json is not there" in line


def test_a_directory_with_other_files_is_not_overwritten(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    result = _run("train", shop / "orders.csv", "--out", tmp_path, "--horizon", 60)
    assert "mine.txt, which is not part of a model" in _error(result)


def test_another_kind_is_trained_with_its_options(shop: Path, tmp_path: Path) -> None:
    result = _run(
        "train", shop / "orders.csv", "--out", tmp_path / "m", "--horizon", 60, "--kind", "poisson",
        "--select", 9, "--select-by", "importance", "--pca", 4, "--option", "alpha=0.1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    manifest = load(tmp_path / "m").manifest
    assert manifest.kind == "poisson"
    assert manifest.options == {"alpha": 0.1, "select": 9, "select_by": "importance", "pca": 4}
    assert _run("evaluate", shop / "orders.csv", "--model", tmp_path / "m").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "oracle"), "no kind of model 'oracle'; there are blend"),
        (("--kind", "bgnbd", "--select", "3"), "has no option 'select'"),
        (("--option", "alpha"), "write NAME=VALUE"),
        (("--option", "alpha=x"), "must be a number"),
    ],
)
def test_a_bad_kind_or_option_is_named(
    shop: Path, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    result = _run("train", shop / "orders.csv", "--out", tmp_path / "m", *arguments)
    assert message in _error(result)


def test_kinds_are_listed_with_their_options() -> None:
    text = _run("train", "--list-kinds").stdout
    for kind in KINDS:
        assert f"\n{kind}: " in f"\n{text}"
    assert "learning_rate" in text
    assert max(map(len, text.splitlines())) <= 80


def _rows(*rows: str) -> str:
    return "order_id,user_id,ts,amount\n" + "".join(f"{row}\n" for row in rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_rows("a,ann,2024-01-01T00:00:00Z,5"), "the log has 1 day before the cutoff"),
        (
            _rows(*(f"o{i},u{i % 60},2024-01-01T0{i % 10}:00:00Z,5" for i in range(90))),
            "needs at least",
        ),
        (
            _rows(*(f"o{i},ann,2024-0{1 + i % 9}-01T00:00:00Z,5" for i in range(90))),
            "customers with an order 60 days or more before the cutoff: 1; at least 20 are needed",
        ),
    ],
)
def test_a_single_order_one_day_and_one_customer_say_what_is_needed(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "log.csv").write_text(content)
    for kind in ("blend", "boosting", "bgnbd"):
        arguments = ("--out", tmp_path / "m", "--horizon", 60, "--kind", kind)
        cutoff = () if "2024-02" in content else ("--cutoff", "2024-01-02")
        assert message in _error(_run("train", tmp_path / "log.csv", *arguments, *cutoff))


def test_customers_who_are_all_alike_can_be_trained_on_or_are_refused_in_one_line(
    tmp_path: Path,
) -> None:
    """Every ten days an order of the same amount, from everybody; every other one stops."""
    days = [date.fromordinal(date(2024, 1, 1).toordinal() + day) for day in range(0, 300, 10)]
    rows = [
        f"o{user}-{n},u{user},{day}T00:00:00Z,10"
        for user in range(40)
        for n, day in enumerate(days[: 30 if user % 2 else 12])
    ]
    (tmp_path / "log.csv").write_text(_rows(*rows))
    arguments = ("train", tmp_path / "log.csv", "--horizon", 60, "--out")
    for kind in ("blend", "linear"):
        result = _run(*arguments, tmp_path / kind, "--kind", kind)
        assert result.exit_code == 0, result.output
        report = json.loads(
            _run("evaluate", tmp_path / "log.csv", "--model", tmp_path / kind, "--json").stdout
        )
        # Whoever goes on brings 60.00 in 60 days, whoever stopped nothing.
        assert report["clv"]["model"]["gini"] == pytest.approx(1.0)
        assert report["churn"]["roc_auc"] == 1.0
    line = _error(_run(*arguments, tmp_path / "bgnbd", "--kind", "bgnbd"))
    assert "kind bgnbd cannot be fitted: customers are so alike" in line


def test_a_cutoff_after_the_logs_end_is_refused(shop: Path, tmp_path: Path) -> None:
    arguments = ("train", shop / "orders.csv", "--out", tmp_path / "m", "--horizon", 60)
    line = _error(_run(*arguments, "--cutoff", "2030-01-01"))
    assert "cutoff 2030-01-01 lies after the log's end" in line
    assert "--cutoff 2024-" in line


def test_a_customer_id_of_each_order_says_that_nobody_ordered_twice(tmp_path: Path) -> None:
    rows = (f"o{n},c{n},2024-{1 + n % 12:02}-0{1 + n % 9}T00:00:00Z,5" for n in range(300))
    (tmp_path / "orders.csv").write_text(_rows(*rows))
    said = _error(_run("train", tmp_path / "orders.csv", "--out", tmp_path / "model"))
    assert "300 orders of 300 customers: nobody ordered twice" in said


def test_amounts_that_are_all_0_say_so(shop: Path, tmp_path: Path) -> None:
    lines = (shop / "orders.csv").read_text().splitlines()
    at = lines[0].split(",").index("amount")
    free = [line.split(",") for line in lines[1:]]
    for fields in free:
        fields[at] = "0"
    (tmp_path / "free.csv").write_text("\n".join([lines[0], *(",".join(f) for f in free)]))
    line = _error(_run("train", tmp_path / "free.csv", "--out", tmp_path / "m", "--horizon", 60))
    assert "every amount is 0" in line


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_has_an_example(command: str) -> None:
    result = _run(command, "--help")
    assert result.exit_code == 0
    assert f"python -m model {command} orders.csv.gz" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_model_has_its_zone_and_free_orders_and_is_judged_by_the_same(
    shop: Path, tmp_path: Path
) -> None:
    naive = tmp_path / "naive.csv"
    with (shop / "orders.csv").open() as file, naive.open("w") as out:
        out.write("order_id,user_id,ts,amount,type\n")
        for row in csv.DictReader(file):
            when = datetime.fromisoformat(row["ts"]) if "T" in row["ts"] else None
            when = when or datetime.fromtimestamp(int(row["ts"]) / 1000, UTC)
            local = when.astimezone(ZoneInfo("America/New_York"))
            cells = row["order_id"], row["user_id"], f"{local:%Y-%m-%d %H:%M:%S}", row["amount"]
            out.write(",".join([*cells, row.get("type") or "order"]) + "\n")
    refused = _run("train", naive, "--out", tmp_path / "no", "--horizon", 60)
    assert "name the zone of such times (--timezone)" in _error(refused)
    trained = _run(
        *("train", naive, "--out", tmp_path / "model", "--horizon", 60),
        *("--timezone", "America/New_York", "--free-orders", "ignore"),
    )
    assert trained.exit_code == 0, trained.output
    manifest = load(tmp_path / "model").manifest
    assert (manifest.timezone, manifest.free_orders) == ("America/New_York", FreeOrders.IGNORE)
    judged = ("evaluate", naive, "--model", tmp_path / "model", "--timezone", "America/New_York")
    assert _run(*judged).exit_code == 0
    other = _error(_run(*judged, "--free-orders", "count"))
    assert "--free-orders count: the model was trained with ignore" in other
