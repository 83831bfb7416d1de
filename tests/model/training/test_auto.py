"""`--kind auto`: another kind than the default only where surely better at days of the past."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner

from features.arrays import Floats
from model.artifact.artifact import load
from model.artifact.parameters import written
from model.commands.cli import cli
from model.data.synthetic import Shop, generate, write_csv
from model.data.training_rows import TooLittleData, TrainingSet, part, training_set
from model.estimators.base import Examples
from model.estimators.blend import Blend
from model.estimators.kinds import DEFAULT, KINDS, Kind, fit, options_of
from model.training.auto import auto, told
from tests.support import modelling


@cache
def _rows() -> TrainingSet:
    return training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())


class _Times:
    """The default, with its values multiplied."""

    def __init__(self, factor: float) -> None:
        self.factor, self.by = factor, Blend()

    def fit(self, examples: Examples) -> Self:
        self.by.fit(examples)
        return self

    def predict(self, X: Floats) -> Floats:
        return self.by.predict(X) * self.factor


def _only(monkeypatch: pytest.MonkeyPatch, **factors: float) -> None:
    for name in list(KINDS):
        monkeypatch.delitem(KINDS, name)  # type: ignore[arg-type]
    for name, factor in factors.items():
        monkeypatch.setitem(KINDS, name, Kind("", partial(_Times, factor)))  # type: ignore[arg-type]


def test_a_kind_that_is_not_surely_better_leaves_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _only(monkeypatch, **{DEFAULT: 1.0}, alike=0.999, worse=0.2)
    found = auto(_rows(), modelling.CONFIG)
    assert found.best.kind == DEFAULT
    assert {one.kind for one in found.trials} == {DEFAULT, "alike", "worse"}
    assert "worse      " in told(found)
    assert "not surely better" in told(found)


def test_of_those_surely_better_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, **{DEFAULT: 9.0}, better=4.0, best=1.0)
    found = auto(_rows(), modelling.CONFIG)
    assert [one.kind for one in found.trials] == ["best", "better", DEFAULT]
    assert (found.trials[0].high or 2.0) < 1.0
    assert auto(_rows(), modelling.CONFIG) == found


def test_the_kinds_that_are_saved_as_parameters_are_told() -> None:
    for name, kind in KINDS.items():
        config = replace(modelling.CONFIG, kind=name, options=options_of(name, {}))
        model = fit(_rows(), config, modelling.known())
        assert (written(model) is not None) == kind.plain


def test_a_log_too_short_for_a_fold_says_so() -> None:
    last = part(_rows(), _rows().day == _rows().day.max())
    with pytest.raises(TooLittleData, match="give a longer history"):
        auto(last, modelling.CONFIG)


def test_the_command_trains_what_it_has_chosen_and_keeps_why(tmp_path: Path) -> None:
    orders, out = tmp_path / "orders.csv", tmp_path / "shop"
    write_csv(generate(Shop(customers=150, days=400, arrival_days=200, seed=3)).orders, orders)
    command = ["train", str(orders), "--out", str(out), "--horizon", "40", "--kind", "auto"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    manifest = load(out).manifest
    assert manifest.search["trials"][0]["kind"] == manifest.kind
    assert f"Kind {manifest.kind}, of 5 judged at" in result.output
    for wrong in (["--search"], ["--pca", "4"]):
        refused = CliRunner().invoke(cli, [*command, *wrong])
        assert refused.exit_code == 2
        assert "auto" in refused.output
