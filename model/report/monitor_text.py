"""What monitoring saw, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from model.monitor.drift import MIN_CUSTOMERS
from model.monitor.result import SCORE, Bias, Drift, Monitored, MonitoredWeek

OLD: Final = "The model is old: more than {days} days. Train a new one (python -m model retrain)."


def text(report: Monitored) -> str:
    """The report in a terminal, under 80 columns."""
    days = days_of(report)
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
        lines += ["", f"The newest week raises {counted}:", *(f"  {alarm}" for alarm in rung)]
    else:
        lines += ["", "The newest week raises no alarm."]
    if report.age.old:
        lines += ["", OLD.format(days=report.age.old_after)]
    return "\n".join(lines)


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


def days_of(report: Monitored) -> list[int]:
    return sorted({bias.days for week in report.weeks for bias in week.biases})
