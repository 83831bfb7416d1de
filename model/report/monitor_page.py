"""What monitoring saw, as a page with plots."""

from __future__ import annotations

import math
from typing import Final

from markupsafe import Markup

from model.monitor.result import SCORE, Bias, Monitored, MonitoredWeek
from model.report.format import ratio
from model.report.html import render
from model.report.monitor_text import OLD, days_of
from model.report.plots import Axis, plot

_SHOWN: Final = 3


def page(report: Monitored) -> str:
    """The report as a page that needs no network."""
    newest = report.weeks[-1]
    return render(
        "monitor.html",
        report=report,
        newest=newest,
        old=OLD.format(days=report.age.old_after) if report.age.old else "",
        alarming=sum(bool(week.alarms) for week in report.weeks),
        levels=[_level_plot(report, days) for days in days_of(report)],
        drift=_drift_plot(report),
        drifts=_drift_rows(newest),
    )


def _level_plot(report: Monitored, days: int) -> tuple[int, Bias, Markup]:
    found = [
        (float(number), bias)
        for number, week in enumerate(report.weeks)
        for bias in week.biases
        if bias.days == days
    ]
    typical = [(at, bias.typical) for at, bias in found]
    top = max(1.2, *(max(bias.typical, bias.bias, bias.high) for _, bias in found))
    drawn = plot(
        _weeks_axis(report),
        Axis("predicted over observed", 0.0, top * 1.05),
        title=f"Predicted over observed revenue after {days} days: "
        + "; ".join(f"{report.weeks[int(at)].end} {value:.2f}" for at, value in typical),
        lines=[
            (typical, f"after {days} days"),
            ([(at, bias.bias) for at, bias in found], "largest customers in full"),
        ],
        dots=[(at, bias.typical, "alarm") for at, bias in found if bias.alarm],
        reference=(((0.0, 1.0), (len(report.weeks) - 1.0, 1.0)), "as predicted"),
        band=([(at, bias.low, bias.high) for at, bias in found], "no alarm"),
    )
    return days, found[-1][1], drawn


def _drift_plot(report: Monitored) -> Markup:
    newest = sorted(report.weeks[-1].drifts, key=lambda drift: -drift.psi)
    names = [SCORE, *(d.name for d in newest if d.threshold is not None and d.name != SCORE)]
    lines = []
    for name in names[: 1 + _SHOWN]:
        points = [
            (float(number), drift.psi)
            for number, week in enumerate(report.weeks)
            for drift in week.drifts
            if drift.name == name and math.isfinite(drift.psi)
        ]
        lines.append((points, name))
    last = len(report.weeks) - 1.0
    return plot(
        _weeks_axis(report),
        Axis("PSI", 0.0, max([0.3, *(psi for points, _ in lines for _, psi in points)]) * 1.1),
        title="Population stability index by week; in the newest "
        + ", ".join(f"{name} {points[-1][1]:.2f}" for points, name in lines if points),
        lines=lines,
        reference=(((0.0, 0.25), (last, 0.25)), "alarm"),
    )


def _drift_rows(week: MonitoredWeek) -> list[tuple[bool, list[str]]]:
    return [
        (
            drift.alarm,
            [
                drift.name,
                ratio(drift.psi),
                "ages with the shop" if drift.threshold is None else f"{drift.threshold:.2f}",
            ],
        )
        for drift in sorted(week.drifts, key=lambda drift: -drift.psi)
    ]


def _weeks_axis(report: Monitored) -> Axis:
    return Axis("week to", -0.3, len(report.weeks) - 0.7, names=[w.end for w in report.weeks])
