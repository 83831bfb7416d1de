"""The search: folds know nothing of their future, a broken-off search goes on, the best wins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from click.testing import CliRunner

from features.arrays import Floats
from model.artifact.artifact import load
from model.data.synthetic import write_csv
from model.data.training_rows import (
    TooLittleData,
    TrainingConfig,
    TrainingSet,
    part,
    population,
    training_set,
)
from model.estimators import kinds as zoo
from model.estimators.base import Examples
from model.estimators.kinds import DEFAULT, KINDS, Kind, options_of
from model.training import search as search_module
from model.training.search import (
    FoldScore,
    RankedTrial,
    SearchError,
    Trial,
    TrialOutcome,
    _ranked,
    folds,
    journal_of,
    plan,
    search,
)
from tests.support import modelling

_HORIZON = modelling.CONFIG.horizon_days
_POISSON = Trial("poisson", options_of("poisson", {}))
_LINEAR = Trial("linear", options_of("linear", {}))
_DEFAULT = Trial(DEFAULT, options_of(DEFAULT, {}))


@cache
def _rows() -> TrainingSet:
    return training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())


class _Spy:
    """A value model that writes down what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Examples | Floats]] = []

    def fit(self, examples: Examples) -> Self:
        self.seen.append(("fit", examples))
        return self

    def predict(self, X: Floats) -> Floats:
        self.seen.append(("predict", X))
        return np.ones(len(X))


def test_no_fold_trains_on_its_own_future(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spy = _Spy()
    monkeypatch.setitem(zoo.KINDS, "spy", Kind("", lambda: spy))  # type: ignore[arg-type]
    search(_rows(), modelling.CONFIG, [Trial("spy", {})], tmp_path / "j")
    split = folds(_rows(), modelling.CONFIG, 3)
    assert len(spy.seen) == 2 * len(split) == 6
    for fold, (_, shown), (_, judged) in zip(split, spy.seen[::2], spy.seen[1::2], strict=True):
        assert isinstance(shown, Examples)
        # Every label window is over when the customers judged are looked at ...
        assert shown.day.max() + _HORIZON <= fold.day
        # ... who are all customers of that day, exactly as they were known then.
        assert judged.tobytes() == population(modelling.orders(), fold.day).tobytes()  # type: ignore[union-attr]
        assert shown.population.tobytes() == population(modelling.orders(), fold.day).tobytes()


def test_a_fold_has_the_rows_that_training_on_its_day_would_have() -> None:
    for fold in folds(_rows(), modelling.CONFIG, 3):
        then = training_set(modelling.orders(), modelling.CONFIG, fold.day)
        assert np.sort(fold.training.X, axis=0).tobytes() == np.sort(then.X, axis=0).tobytes()


def test_folds_grow_and_their_label_windows_lie_apart_and_before_the_cutoff() -> None:
    split = folds(_rows(), modelling.CONFIG, 3)
    days = [fold.day for fold in split]
    assert days == sorted(days)
    assert (np.diff(days) >= _HORIZON).all()
    assert days[-1] + _HORIZON == modelling.cutoff_day()
    sizes = [len(fold.training.X) for fold in split]
    assert sizes == sorted(sizes)
    assert len(folds(_rows(), modelling.CONFIG, 1)) == 1


def test_too_short_a_history_for_a_fold_says_so() -> None:
    late = part(_rows(), _rows().day > _rows().day.max() - _HORIZON)
    with pytest.raises(TooLittleData, match=r"60 days or more .* has 30 days of snapshots"):
        folds(late, modelling.CONFIG, 3)


def test_a_plan_begins_with_the_default_and_every_kind_and_repeats_nothing() -> None:
    trials = plan(40, seed=1)
    assert len(trials) == 40
    assert trials[0] == _DEFAULT
    assert {trial.kind for trial in trials[: len(KINDS)]} == set(KINDS)
    assert all(trials.count(trial) == 1 for trial in trials)
    assert plan(60, seed=1)[:40] == trials
    assert plan(40, seed=2) != trials
    for trial in trials:
        assert options_of(trial.kind, trial.options) == trial.options


def test_a_plan_of_one_kind_ends_where_its_options_do() -> None:
    assert [trial.kind for trial in plan(9, 0, "bgnbd")] == [DEFAULT, "bgnbd"]
    assert {trial.kind for trial in plan(9, 0, "linear")[1:]} == {"linear"}


def test_predicting_nothing_wins_on_mae_and_loses_the_search() -> None:
    nothing = TrialOutcome("linear", {}, [FoldScore("2024-01-01", 9.0, 60.0, 0.0)])
    fair = TrialOutcome("blend", {}, [FoldScore("2024-01-01", 11.0, 55.0, 0.75)])
    ranked = _ranked([fair, nothing])
    assert [one.kind for one in ranked] == ["blend", "linear"]
    assert ranked[0].criterion == 1


def test_equals_stay_in_the_order_of_the_plan_and_failures_come_last() -> None:
    scores = [FoldScore("2024-01-01", 1.0, 2.0, 0.5)]
    outcomes = [
        TrialOutcome("blend", {}, scores),
        TrialOutcome("linear", {}, failed="no repeats"),
        TrialOutcome("poisson", {}, scores),
        TrialOutcome("forest", {}, [FoldScore("2024-01-01", 0.9, 1.9, 0.6)]),
    ]
    ranked = _ranked(outcomes)
    assert [one.kind for one in ranked] == ["forest", "blend", "poisson", "linear"]
    assert ranked[-1] == RankedTrial("linear", {}, None, None, None, None, "no repeats")


def _count(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """The kinds trained from here on; interrupted as by Ctrl-C in the middle of one of them."""
    trained: list[str] = []
    real = search_module.fit

    def fit(rows: TrainingSet, config: TrainingConfig, known: Floats) -> Any:
        trained.append(config.kind)
        if len(trained) == stop_at:
            raise KeyboardInterrupt
        return real(rows, config, known)

    monkeypatch.setattr(search_module, "fit", fit)
    return trained


def _search(journal: Path, trials: Sequence[Trial] = (_POISSON, _LINEAR)) -> Any:
    return search(_rows(), modelling.CONFIG, trials, journal, fold_count=2)


def test_an_interrupted_search_goes_on_and_does_only_the_interrupted_trial_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _count(patched, stop_at=4)  # in the second fold of the second trial
        with pytest.raises(KeyboardInterrupt):
            _search(tmp_path / "j")
    trained = _count(monkeypatch)
    resumed = _search(tmp_path / "j")
    assert trained == ["poisson"] * 2 + ["linear"] * 2
    assert resumed == _search(tmp_path / "other")


def test_a_line_cut_off_in_the_middle_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "j"
    whole = _search(journal)
    journal.write_bytes(journal.read_bytes()[:-20])
    trained = _count(monkeypatch)
    assert _search(journal) == whole
    assert trained == ["linear"] * 2
    for line in journal.read_text().splitlines():
        json.loads(line)


def test_more_trials_go_on_from_those_that_were_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _search(tmp_path / "j", [_POISSON])
    trained = _count(monkeypatch)
    _search(tmp_path / "j")
    assert trained == ["linear"] * 2


def test_a_journal_of_other_orders_or_of_no_search_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    _search(journal, [])
    fewer = part(_rows(), np.arange(len(_rows().X)) % 10 != 0)
    with pytest.raises(SearchError, match="of another search"):
        search(fewer, modelling.CONFIG, [], journal, fold_count=2)
    with pytest.raises(SearchError, match="of another search"):
        search(_rows(), replace(modelling.CONFIG, half_life_days=90), [], journal, fold_count=2)
    journal.write_text("order_id,user_id\n")
    with pytest.raises(SearchError, match="is not a search journal"):
        _search(journal)


# --- the command ---


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "orders.csv"
    write_csv(modelling.orders(), path)
    return path


def _train(shop: Path, out: Path, *arguments: object) -> Any:
    words = ["train", shop, "--out", out, "--horizon", 60, "--search", *arguments]
    from model.commands.cli import cli

    return CliRunner().invoke(cli, [str(word) for word in words])


def test_the_command_trains_the_best_and_keeps_the_history(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "best"
    result = _train(shop, out, "--kind", "linear", "--trials", 4, "--folds", 2)
    assert result.exit_code == 0, result.output
    manifest = load(out).manifest
    assert "Search: 4 trials, judged at" in result.output
    assert len(manifest.search["trials"]) == 4
    best = manifest.search["trials"][0]
    assert (manifest.kind, manifest.options) == (best["kind"], best["options"])
    assert best["criterion"] <= 1
    assert not journal_of(out).exists()


def test_the_command_says_how_to_go_on_when_it_is_interrupted(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "best"
    arguments = ("--kind", "linear", "--trials", 3, "--folds", 2)
    with monkeypatch.context() as patched:
        _count(patched, stop_at=3)
        result = _train(shop, out, *arguments)
    assert result.exit_code != 0
    assert "interrupted after 1 of 3 trials; the same command goes on" in result.output
    trained = _count(monkeypatch)
    assert _train(shop, out, *arguments).exit_code == 0
    assert len(trained) == 4


def test_what_a_search_chooses_is_not_given(shop: Path, tmp_path: Path) -> None:
    result = _train(shop, tmp_path / "m", "--select", 3)
    assert "--search chooses select itself" in result.output
