"""The page of an evaluation: whole, without network, readable for who cannot see its plots."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from model.data.training_rows import TrainingConfig
from model.evaluate.holdout import evaluation_of
from model.evaluate.rolling import Rolled, as_it_is, cutoff_days, rolled
from model.report.evaluation_page import page
from tests.support import modelling

_VOID = {"meta", "br"}


@cache
def _rolled() -> Rolled:
    config = TrainingConfig(horizon_days=60)
    days = cutoff_days(modelling.orders(), config, 2, 60)
    return rolled(modelling.orders(), config, days, resamples=20)


@cache
def _html() -> str:
    return page(_rolled(), "<b>&\"'")


class _Balance(HTMLParser):
    """Whether every element that is opened is closed, in the right order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nothing_of_a_network() -> None:
    html = _html()
    balance = _Balance()
    balance.feed(html)
    assert balance.open == []
    assert "<script" not in html
    assert "<link" not in html
    assert "http" not in html
    assert "url(" not in re.sub(r"url\(#\w+\)", "", html)
    assert "nan" not in html.replace("finance", "").lower()


def test_every_plot_says_in_words_what_it_shows_and_has_a_caption() -> None:
    html = _html()
    plots = re.findall(r"<svg[^>]*>", html)
    assert len(plots) >= 8
    assert all(re.search(r'role="img" aria-label="[^"]{20,}"', each) for each in plots)
    assert html.count("<figcaption>") == len(plots)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_page_has_every_baseline_and_metric() -> None:
    html = _html()
    for word in ("BG/NBD + GG", "same again", "MAE", "RMSE", "R²", "Spearman", "Brier", "95 %"):
        assert word in html
    for one in _rolled().report.cutoffs:
        assert one.cutoff in html


def test_the_churn_probability_has_its_metrics_and_calibration_at_every_cutoff() -> None:
    churn = _html().partition("Churn within")[2].partition("<h2>")[0]
    for word in ("ROC AUC", "PR AUC", "Brier", "F1", "calibration error", "observed"):
        assert word in churn
    for one in _rolled().report.cutoffs:
        assert f"<td>{one.churn.brier:.3f}</td>" in churn
        assert f"<td>{one.churn.calibration_error:.3f}</td>" in churn
        assert f">{one.cutoff}</text>" in churn
    for tenth in _rolled().report.cutoffs[-1].churn.calibration:
        assert f"<td>{tenth.predicted:.1%}</td>" in churn
        assert f"<td>{tenth.actual:.1%}</td>" in churn


def test_a_model_as_it_is_is_told_how_to_see_drift() -> None:
    found = as_it_is(modelling.orders(), modelling.model(), modelling.cutoff_day(), resamples=10)
    html = page(found, "abc123")
    assert "--cutoffs 3" in html
    assert "Each cutoff" not in html


def test_names_of_others_cannot_break_the_page() -> None:
    html = _html()
    assert "<b>&\"'" not in html
    assert "&lt;b&gt;&amp;" in html


@pytest.mark.parametrize("customers", [1, 5])
def test_a_holdout_without_revenue_still_has_a_page(customers: int) -> None:
    found = _rolled()
    whole = found.holdouts[-1]
    none = replace(
        whole,
        users=whole.users[:customers],
        X=whole.X[:customers],
        actual=np.zeros(customers),
        churned=np.ones(customers, bool),
        predictions={name: p[:customers] for name, p in whole.predictions.items()},
        chance=whole.chance[:customers],
    )
    report = msgspec.structs.replace(
        found.report,
        cutoffs=[evaluation_of(none)],
        mean={name: dict.fromkeys(m, None) for name, m in found.report.mean.items()},
        churn_mean=dict.fromkeys(found.report.churn_mean),
        differences={},
        by_cutoff=[],
    )
    html = page(replace(found, report=report, holdouts=[none]), "abc123")
    assert "nothing to rank" in html
