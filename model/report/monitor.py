"""What monitoring saw, for people: a table for a terminal, and a page with plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from model.monitor.drift import MIN_CUSTOMERS
from model.monitor.result import SCORE, Bias, Drift, Monitored, MonitoredWeek
from model.report import html as pages
from model.report import svg

_SHOWN: Final = 3
_OLD: Final = "The model is old: more than {days} days. Train a new one (python -m model retrain)."


def text(report: Monitored) -> str:
    """The report in a terminal, under 80 columns."""
    days = _days(report)
    head = f"{'week to':<10}{'bought':>8}{'CLV PSI':>9}"
    head += "".join(f"{f'lev. {n}d':>10}" for n in days) + "  drifted most"
    lines = [
        f"Model {report.model_version}, trained on what was known on {report.cutoff},",
        f"{report.age.days:,} days before the log's end",
        "",
        head,
    ]
    lines += [_line(week, days) for week in report.weeks]
    lines += [
        "",
        "lev.: what customers were expected to bring within so many days over what they",
        "brought; below 1 the model says too little. !: an alarm (docs/monitoring.md).",
        f"-: fewer than {MIN_CUSTOMERS} customers to tell by, or nobody brought anything.",
    ]
    rung = report.weeks[-1].alarms if report.weeks else []
    if rung:
        counted = f"{len(rung)} alarm{'s' if len(rung) > 1 else ''}"
        lines += ["", f"The newest week rings {counted}:", *(f"  {alarm}" for alarm in rung)]
    else:
        lines += ["", "The newest week rings no alarm."]
    if report.age.old:
        lines += ["", _OLD.format(days=report.age.old_after)]
    return "\n".join(lines)


def page(report: Monitored) -> str:
    """The report as a page that needs no network."""
    newest = report.weeks[-1]
    parts = [
        f"<h1>Does model {escape(report.model_version)} still fit?</h1>",
        f'<p class="small">Trained on what was known on {report.cutoff},'
        f" {report.age.days:,} days before the log's end; weeks to {newest.end}."
        f"{' ' + _OLD.format(days=report.age.old_after) if report.age.old else ''}</p>",
        pages.cards(
            [
                (str(len(newest.alarms)), f"alarms in the week to {newest.end}"),
                (f"{sum(bool(week.alarms) for week in report.weeks)} of {len(report.weeks)}",
                 "weeks with an alarm"),
                (f"{newest.customers:,}", "customers bought in the newest week"),
            ]
        ),
    ]  # fmt: skip
    if newest.alarms:
        inner = "".join(f"<li>{escape(alarm)}</li>" for alarm in newest.alarms)
        parts.append(f"<ul>{inner}</ul>")
    parts += ["<h2>Level</h2>", *(_level_plot(report, days) for days in _days(report))]
    parts += ["<h2>Drift</h2>", _drift_plot(report), _drift_table(newest)]
    return pages.document(f"Monitoring of {report.model_version}", parts)


def _line(week: MonitoredWeek, days: Sequence[int]) -> str:
    score = next((drift for drift in week.drifts if drift.name == SCORE), None)
    psi = "-" if score is None else f"{score.psi:.2f}{'!' if score.alarm else ' '}"
    levels = {bias.days: bias for bias in week.biases}
    cells = "".join(f"{_level(levels.get(n)):>10}" for n in days)
    most = ", ".join(f"{drift.name} {drift.psi:.2f}!" for drift in _rung(week)[:1])
    more = len(_rung(week)) - 1
    most += f" +{more}" if more > 0 else ""
    return f"{week.end:<10}{week.customers:>8,}{psi:>9}{cells}  {most}".rstrip()


def _level(bias: Bias | None) -> str:
    return "-" if bias is None else f"{bias.typical:.2f}{'!' if bias.alarm else ' '}"


def _rung(week: MonitoredWeek) -> list[Drift]:
    """The features that ring, those that drifted most first."""
    found = [drift for drift in week.drifts if drift.alarm and drift.name != SCORE]
    return sorted(found, key=lambda drift: -drift.psi)


def _days(report: Monitored) -> list[int]:
    return sorted({bias.days for week in report.weeks for bias in week.biases})


def _level_plot(report: Monitored, days: int) -> str:
    found = [
        (number, bias)
        for number, week in enumerate(report.weeks)
        for bias in week.biases
        if bias.days == days
    ]
    limits = [(n, bias.low) for n, bias in found], [(n, bias.high) for n, bias in found]
    seen = [(float(n), bias.typical) for n, bias in found]
    whole = [(float(n), bias.bias) for n, bias in found]
    top = max(1.2, *(y for _, y in (*seen, *whole, *limits[1]))) * 1.05
    newest = found[-1][1]
    plot = svg.plot(
        lines=[
            (limits[0], "alarm below"),
            (seen, f"level after {days} days"),
            (whole, "largest customers in full"),
            (limits[1], "alarm above"),
        ],
        dots=[(float(n), bias.typical, "") for n, bias in found if bias.alarm],
        x=_weeks_axis(report),
        y=svg.Axis("expected / came", 0.0, top),
        level=1.0,
        level_name="as expected",
        title=f"Level after {days} days by week",
    )
    return pages.figure(
        plot,
        f"What customers were expected to bring in {days} days over what they brought, by the week"
        f" in which it was known; in the newest {newest.typical:.2f}, an alarm outside of"
        f" {newest.low:.2f} to {newest.high:.2f}.",
    )


def _drift_plot(report: Monitored) -> str:
    newest = sorted(report.weeks[-1].drifts, key=lambda drift: -drift.psi)
    names = [SCORE, *(d.name for d in newest if d.threshold is not None and d.name != SCORE)]
    lines = []
    for name in names[: 1 + _SHOWN]:
        points = [
            (float(number), drift.psi)
            for number, week in enumerate(report.weeks)
            for drift in week.drifts
            if drift.name == name
        ]
        lines.append((points, name))
    top = max([0.3, *(y for points, _ in lines for _, y in points if math.isfinite(y))]) * 1.1
    plot = svg.plot(
        lines=lines,
        dots=[],
        x=_weeks_axis(report),
        y=svg.Axis("PSI", 0.0, top),
        level=0.25,
        level_name="an alarm, where there are customers enough",
        title="Population stability index by week",
    )
    return pages.figure(
        plot, "How far the CLV, and the features that moved most, are from what training saw."
    )


def _drift_table(week: MonitoredWeek) -> str:
    rows = [
        (
            drift.alarm,
            (
                drift.name,
                f"{drift.psi:.3f}",
                "ages with the shop" if drift.threshold is None else f"{drift.threshold:.2f}",
            ),
        )
        for drift in sorted(week.drifts, key=lambda drift: -drift.psi)
    ]
    return pages.table(("feature", "PSI", "alarm from"), rows)


def _weeks_axis(report: Monitored) -> svg.Axis:
    last = max(len(report.weeks) - 1, 1)
    every = max(1, math.ceil(len(report.weeks) / 6))
    ticks = tuple((float(n), week.end[2:]) for n, week in enumerate(report.weeks))[::every]
    return svg.Axis("week to", 0.0, last + 0.3, ticks=ticks)
