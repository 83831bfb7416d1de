"""One `train` makes a model that `evaluate` and `backtest` work on, with no further training."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from features.times import day_of_date
from model.artifact import artifact
from model.artifact.files import JUDGED
from model.commands.cli import cli
from model.data.synthetic import Shop, generate, write_csv


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("twin")
    log, out = directory / "orders.csv", directory / "model"
    write_csv(generate(Shop(customers=200, days=360, arrival_days=240, seed=1)).orders, log)
    for _ in range(2):  # the second one replaces the first, twin and all
        done = CliRunner().invoke(cli, ["train", str(log), "--out", str(out), "--horizon", "60"])
        assert done.exit_code == 0, done.output
    return log, out


def test_the_twin_was_trained_a_horizon_earlier(trained: tuple[Path, Path]) -> None:
    _, out = trained
    model, twin = artifact.load(out).manifest, artifact.load(out / JUDGED).manifest
    assert day_of_date(model.cutoff) - day_of_date(twin.cutoff) == 60
    assert (twin.kind, twin.options) == (model.kind, model.options)


@pytest.mark.parametrize("command", ["evaluate", "backtest"])
def test_what_judges_works_on_the_directory_that_train_made(
    command: str, trained: tuple[Path, Path]
) -> None:
    log, out = trained
    done = CliRunner().invoke(cli, [command, str(log), "--model", str(out), "--json"])
    assert done.exit_code == 0, done.output


def test_a_cutoff_of_ones_own_needs_no_twin(trained: tuple[Path, Path], tmp_path: Path) -> None:
    log, _ = trained
    words = ["train", str(log), "--out", str(tmp_path / "m"), "--cutoff", "2023-09-01"]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert not (tmp_path / "m" / JUDGED).exists()
