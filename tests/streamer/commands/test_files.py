"""`try` and `mapping`, as typed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from features.mapping.presets import PRESETS
from model.data.synthetic import Shop, generate, write_csv
from streamer.commands.cli import cli
from tests.support.exports import records
from tests.support.exports.files import shop, shopify


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "orders.csv"
    write_csv(generate(Shop(customers=150, days=260, arrival_days=180, seed=1)).orders, path)
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_reads_a_file_of_its_records(name: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(RECORDS[name]) + "\n")
    code, told, said = run("mapping", path, "--preset", name, "--timezone", ZONES.get(name, "UTC"))
    assert code == 0, said
    assert f"preset {name.replace('rudderstack', 'segment')}" in said
    assert "order_id = " in told


RECORDS = {
    "shopify": records.shopify_order(),
    "woocommerce": records.woo_order(),
    "stripe": records.stripe_charge(),
    "magento": records.magento_order(),
    **dict.fromkeys(("segment", "rudderstack"), records.track("Order Completed", total=5)),
    "ga4": records.ga4_row("purchase"),
    "braze": records.braze("order_placed", 5),
    "online-retail": {
        **{"Invoice": "489434", "Quantity": "12", "InvoiceDate": "2009-12-01 07:45:00"},
        **{"Price": "6.95", "Customer ID": "13085"},
    },
    "cdnow": {"c1": "00001", "c2": "19970101", "c3": "1", "c4": "11.77", "#": "1"},
}
ZONES = {"online-retail": "Europe/London"}


def test_try_writes_the_page_and_both_lists_and_says_how_it_understood(
    log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, told, _ = run("try", log, "--out", out, "--currency", "EUR", "--why-not", "nobody")
    assert code == 0
    first = [line.split()[0] for line in told.splitlines()[:5]]
    assert first == ["Files", "Mapping", "Time", "Money", "Left"]
    assert "customers are slipping away as of" in told
    assert "there is no such customer" in told
    page = (out / "slipping.html").read_text()
    assert "Who is slipping away" in page
    assert "EUR" in page
    for name in ("slipping.csv", "warnings.csv"):
        with (out / name).open(encoding="utf-8-sig", newline="") as file:
            assert len(list(csv.DictReader(file))) > 0
    assert run("mapping", log, "--mapping", out / "mapping.toml")[0] == 0


def test_try_says_what_is_missing_where_a_log_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    shopify(path, shop())
    code, _, err = run("try", path, "--out", tmp_path / "out")
    assert code == 1
    assert "the orders are of 43 days" in err
    assert "less than 56" in err


def test_mapping_prints_toml_and_tells_why_beside_it(log: Path) -> None:
    code, toml, why = run("mapping", log)
    assert code == 0
    assert toml.startswith('order_id = "order_id"')
    assert "user_id: user_id, 100% sure: its name" in why


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--column", "amounts=x"], "write FIELD=NAME with a FIELD of order_id"),
        (["--timezone", "Berlin"], "is not a time zone"),
        (["--currency", "euro"], "write three capitals"),
        (["--mapping", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--preset", "cdnow"], "does not know such a record"),
        (["--column", "ts=no such"], "there is no column 'no such'"),
    ],
)
def test_options_at_fault_are_one_clear_line(log: Path, options: list[str], says: str) -> None:
    code, _, err = run("mapping", log, *options)
    assert code in (1, 2)
    assert says in err
    assert "Traceback" not in err
