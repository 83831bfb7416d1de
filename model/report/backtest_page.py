"""A backtest as one HTML page, for whoever decides about warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from model.backtest.panel import Quality
from model.backtest.result import Backtest, Point
from model.report.backtest_text import held_against, named, sent, settings_rows, suggestions
from model.report.format import ratio, share
from model.report.html import render
from model.report.plots import Axis, bars, plot

_SORTED_BY: Final = {
    "expected loss": "expected loss: churn probability × CLV before",
    "P(churn) x spend": "churn probability × spend",
    "P(churn)": "churn probability",
    "lowest P(alive)": "lowest P(alive) of BG/NBD",
}
_SHARES: Final = ((0.0, 0.0), (1.0, 1.0))


def page(report: Backtest) -> str:
    """The report as one page that needs no network."""
    return render(
        "backtest.html",
        report=report,
        sent=sent(report),
        precision_recall=_precision_recall(report),
        leads=_leads(report),
        calibration=_calibration(report),
        over_time=_over_time(report),
        level=_level(report),
        rules=_rules(report),
        gains=_gains(report),
        rankings=_rankings(report),
        settings=[(False, list(row)) for row in settings_rows(report)],
        moneys=[
            (False, [f"{m.money:g}", share(m.list.precision), share(m.list.value_captured)])
            for m in report.moneys
        ],
        suggestions=suggestions(report),
    )


def _precision_recall(report: Backtest) -> Markup:
    def line(points: Sequence[Point]) -> list[tuple[float, float]]:
        found = [
            (p.quality.recall, p.quality.strict_precision)
            for p in points
            if p.quality.recall is not None and p.quality.strict_precision is not None
        ]
        return sorted(found)

    rule, rate = report.panel_rule, report.base_rate
    dots = []
    for baseline in report.baselines:
        quality = baseline.quality
        # One that finds next to nobody is in the table, not a dot on the axis.
        if (quality.recall or 0.0) >= 0.01 and quality.strict_precision is not None:
            dots.append((quality.recall or 0.0, quality.strict_precision, named(baseline)))
    if rule.recall is not None and rule.strict_precision is not None:
        # Last, so that it lies on top of a simpler one at the same place.
        dots.append((rule.recall, rule.strict_precision, "this rule"))
    return plot(
        Axis("recall", 0, 1, percent=True),
        Axis("strict precision", 0, 1, percent=True),
        title="Strict precision by recall: "
        + "; ".join(f"{name} recall {found:.0%}, precision {p:.0%}" for found, p, name in dots),
        lines=[(line(report.points), "other thresholds")],
        dots=dots,
        reference=None if rate is None else (((0.0, rate), (1.0, rate)), "random day"),
    )


def _leads(report: Backtest) -> Markup:
    leads = report.rule.lead_days or ()
    names = ("10 %", "25 %", "median", "75 %", "90 %")
    return bars(
        [(name, [lead]) for name, lead in zip(names, leads, strict=False)],
        x="percentile of the churners warned about",
        y="lead, days",
        series=["lead"],
        title="Lead in days: "
        + ", ".join(f"{name} {lead:.0f}" for name, lead in zip(names, leads, strict=False)),
    )


def _calibration(report: Backtest) -> Markup:
    points = [(each.predicted, each.observed) for each in report.calibration]
    return plot(
        Axis("predicted churn", 0, 1, percent=True),
        Axis("observed churn", 0, 1, percent=True),
        title="Calibration of the churn probability: "
        + "; ".join(f"predicted {p:.0%}, observed {o:.0%}" for p, o in points),
        lines=[(points, "this model")],
        reference=(_SHARES, "predicted = observed"),
        dotted=True,
    )


def _over_time(report: Backtest) -> Markup | None:
    if not report.months:
        return None
    return bars(
        [(each.month, [each.lost, each.recovered, each.kept]) for each in report.months],
        x="month of the warning",
        y="warnings",
        series=["lost", "recovered", "kept"],
        title=f"How the warnings of {len(report.months)} months ended: "
        + "; ".join(f"{each.month} {each.lost} lost of {each.ended}" for each in report.months),
    )


def _level(report: Backtest) -> tuple[float, float] | None:
    """Mean predicted and observed churn."""
    rows = sum(each.rows for each in report.calibration)
    if not rows:
        return None
    return (
        sum(each.rows * each.predicted for each in report.calibration) / rows,
        sum(each.rows * each.observed for each in report.calibration) / rows,
    )


def _rules(report: Backtest) -> list[tuple[bool, list[str]]]:
    def cells(name: str, found: Quality) -> list[str]:
        return [
            name,
            f"{found.warnings:,}",
            share(found.strict_precision),
            share(found.episode_precision),
            share(found.recall),
            ratio(found.median_lead_days, 0),
            ratio(found.mean_lead_days, 0),
        ]

    rows = [(True, cells("this rule, silence", report.panel_rule))]
    rows += [(False, cells(named(each), each.quality)) for each in report.simpler]
    return rows


def _gains(report: Backtest) -> list[tuple[bool, list[str]]]:
    return [
        (
            False,
            [
                f"{named(each)}, {held_against(each)}",
                f"{100 * each.gain:+.1f}",
                f"{100 * each.low:+.1f} to {100 * each.high:+.1f}",
                "may be chance" if each.may_be_chance else "better" if each.gain > 0 else "worse",
            ],
        )
        for each in report.simpler
    ]


def _rankings(report: Backtest) -> list[tuple[bool, list[str]]]:
    return [
        (
            name == report.ranked_by,
            [_sorted_by(name, report), share(r.precision), share(r.value_captured)],
        )
        for name, r in report.rankings.items()
    ]


def _sorted_by(name: str, report: Backtest) -> str:
    if name == report.ranked_by:
        return f"the budget: the surest and the largest ({name.removeprefix('budget: ')})"
    return _SORTED_BY.get(name.partition(":")[0], name)
