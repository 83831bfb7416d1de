"""A backtest as text for a terminal, at most 80 columns wide."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from tabulate import tabulate

from model.backtest.panel import Quality
from model.backtest.result import Backtest, Baseline
from model.decide.learned import Learned
from model.decide.policy import Policy
from model.report.format import ratio, share


def text(report: Backtest) -> str:
    """The report in a terminal, at most 80 columns wide."""
    blocks = [
        _head(report),
        _rules(report),
        _counts(report),
        _rankings(report),
        *_settings(report),
        *suggestions(report),
    ]
    return "\n\n".join(blocks)


def sent(report: Backtest) -> int:
    """All warnings of the period, also those that nobody can judge yet."""
    return sum(report.by_standing.values())


def _head(report: Backtest) -> str:
    retrained = (
        f"retrained every {report.retrained_every_days} days ({report.models} models)"
        if report.retrained_every_days
        else "not retrained"
    )
    return "\n".join(
        [
            f"Backtest {report.start} to {report.end}, horizon {report.horizon_days} days",
            f"Model {report.model_version}, {retrained}; policy {report.policy_version}",
            f"{report.eligible_silences:,} silences of customers worth a warning; of those with"
            f" {report.horizon_days} days",
            f"of log after them {report.rule.churners:,} became longer than {report.horizon_days}"
            " days: churners.",
            learned_text(report.learned, Policy()),
        ]
    )


def learned_text(learned: Learned, policy: Policy) -> str:
    """What training learned of when to warn, and what that promises."""
    found = learned.chosen(policy)
    if found is None:
        why = "\n".join(wrap(f"No threshold was learned: {learned.why_not}.", 79))
        return f"{why}\nSilences warn from half of the horizon on."
    return (
        f"Learned on {learned.left:,} silences of customers who left and"
        f" {learned.returned:,} of others,\nbegun {learned.since} to {learned.until}."
        " There it has a strict precision of"
        f"\n{share(found.precision)} and a median lead of {found.median_lead_days:.0f} days."
        f"\n{_ranking_text(learned, policy)}"
    )


def _ranking_text(learned: Learned, policy: Policy) -> str:
    found, money = learned.ranking, learned.money(policy)
    if policy.money is not None:
        return f"A budget weighs money by {money:g}, as set."
    if found is None:
        return f"A budget weighs money by {money:g}: too few left to learn it."
    return (
        f"A budget weighs money by {money:g}: on {found.lists} past lists {share(found.precision)}"
        f" of those called left,\nwith {share(found.value)} of the money that did; simple lists at"
        f" most {share(found.simple_precision)} and {share(found.simple_value)}."
    )


_COLUMNS: Final = (("strict", 8), ("episode", 9), ("recall", 8), ("value", 7), ("lead", 6))


def _rules(report: Backtest) -> str:
    lines = [
        f"{'':<32}{'warned':>8}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS),
        _row("this rule", report.rule),
        f"{'a random day (base rate)':<32}{'':>8}{share(report.base_rate):>8}",
    ]
    if report.panel_share < 1:
        sample = f"of 1 customer in {round(1 / report.panel_share)}"
        lines.append(_row(f"silence, {sample}", report.panel_rule))
    else:
        lines.append(_row("its silence alone", report.panel_rule))
    lines += [
        _row(f"{named(baseline)}; {baseline.lead}", baseline.quality) for baseline in report.simpler
    ]
    lines += [_over(baseline) for baseline in report.simpler]
    return "\n".join(
        [
            *lines,
            "strict: no order came within the horizon after the warning; episode: its",
            "silence became longer than the horizon. recall, value: share of the churners",
            "warned of, and of their CLV. lead: days left until they were churners, median.",
            "over: points of strict precision, with the 95 % interval.",
        ]
    )


def _row(name: str, found: Quality) -> str:
    lead = found.median_lead_days
    cells = [
        share(found.strict_precision),
        share(found.episode_precision),
        share(found.recall),
        share(found.value_captured),
        ratio(lead, 0),
    ]
    row = f"{name[:31]:<32}{found.warnings:>8,}"
    return row + "".join(f"{c:>{width}}" for c, (_, width) in zip(cells, _COLUMNS, strict=True))


def named(baseline: Baseline) -> str:
    """A simple rule with its threshold."""
    number = f"{baseline.threshold:.3g}"
    return {
        "silent for D days": f"silent for {number} days",
        "k own median gaps": f"{number} own gaps",
        "k own median gaps, or 5/6 H": f"{number} own gaps or 5/6 H",
        "P(alive) below p": f"P(alive) < {number}",
        "P(alive) below p, or 5/6 H": f"P(alive)<{number} or 5/6 H",
    }.get(baseline.name, f"{baseline.name} ({number})")


def held_against(baseline: Baseline) -> str:
    """In what the rule and a simple one are alike, where their precision is compared."""
    same = f"same {baseline.lead} lead"
    return f"{same}, {baseline.quality.warnings:,} warnings each" if baseline.as_many else same


def _over(baseline: Baseline) -> str:
    chance = ": may be chance" if baseline.may_be_chance else ""
    return (
        f"over {named(baseline)}, {held_against(baseline)}:\n  {100 * baseline.gain:+.1f}"
        f" ({100 * baseline.low:.1f} to {100 * baseline.high:.1f}){chance}"
    )


def _counts(report: Backtest) -> str:
    leads = report.rule.lead_days
    lines = [
        f"Warnings sent in the period: {sent(report):,}. The table counts those of silences that",
        "began in it with enough log after them to say how they ended.",
    ]
    if leads:
        quantiles = ", ".join(f"{lead:.0f}" for lead in leads)
        lines.append(f"Lead in days at 10, 25, 50, 75, 90 %: {quantiles}")
    lines.append(
        f"Warnings per 1,000 active customers a week: {ratio(report.per_1000_a_week, 1)};"
        f" most on a day:"
        f" {report.most_on_a_day:,}"
    )
    if report.withheld:
        lines.append(f"Withheld by the budget at first: {report.withheld:,} episodes")
    standing = ", ".join(f"{name} {count:,}" for name, count in sorted(report.by_standing.items()))
    lines.append(f"Warned by standing: {standing or 'none'}")
    if report.left_out:
        out = ", ".join(f"{name} {count:,}" for name, count in sorted(report.left_out.items()))
        lines.append(f"Churners left out by the policy: {out}")
    if report.swap_days_share is not None:
        lines.append(
            f"Days with a new model: {share(report.swap_days_share)} of days,"
            f" {share(report.swap_warnings_share)} of warnings"
        )
    lines.append(
        f"Scoring only when orders arrive would find {share(report.order_only_recall)} of churners"
    )
    return "\n".join(lines)


def _rankings(report: Backtest) -> str:
    lines = [f"{'If only a tenth can be called: list sorted by':<56}{'strict':>10}{'value':>10}"]
    lines += [
        f"  {name:<54}{share(found.precision):>10}{share(found.value_captured):>10}"
        for name, found in report.rankings.items()
    ]
    return "\n".join(
        [
            *lines,
            "A tenth of the better half of the active customers, three times a horizon.",
            f"strict: how many of them did not order for {report.horizon_days} days. value: of"
            " what all who",
            f"did not had spent in the {report.horizon_days} days before, the share of those on"
            " the list.",
        ]
    )


SHOWN_EARLY: Final = (0.25, 0.5, 0.75)


def settings_rows(report: Backtest) -> list[tuple[str, ...]]:
    """What each value of CLV_EARLY, and the CLV_PRECISION that asks for the same, gives here."""
    promised = {each.early: each.precision for each in report.learned.thresholds}
    return [
        (
            f"{point.early:g}",
            ratio(promised.get(point.early), 2),
            f"{point.per_week:,.0f}",
            share(point.quality.strict_precision),
            share(point.quality.recall),
            ratio(point.quality.median_lead_days, 0),
        )
        for point in sorted(report.points, key=lambda each: each.early)
        if point.early in SHOWN_EARLY
    ]


def _settings(report: Backtest) -> list[str]:
    rows = settings_rows(report)
    blocks = []
    if rows:
        heads = ("CLV_EARLY", "or CLV_PRECISION", "warnings a week", "strict", "recall", "lead")
        blocks.append(tabulate([heads, *rows], (), "plain", colalign=("right",) * 6))
    if any(each.list.precision is not None for each in report.moneys):
        lines = [
            f"  {f'CLV_MONEY={each.money:g}':<54}{share(each.list.precision):>10}"
            f"{share(each.list.value_captured):>10}"
            for each in report.moneys
        ]
        blocks.append("\n".join(["The same list with another weight on money:", *lines]))
    return blocks


def suggestions(report: Backtest) -> list[str]:
    """What was wished for, as settings, and what those would have given."""
    lines = []
    for suggestion in report.suggestions:
        settings = " ".join(f"{name}={value}" for name, value in suggestion.settings.items())
        if suggestion.point is None:
            told = (
                f"\n  {settings}\n  (at any threshold more are due: the rest waits)"
                if settings
                else " no threshold reaches it on this log"
            )
            lines.append(f"For {suggestion.wish}:{told}")
            continue
        found = suggestion.point.quality
        lines.append(
            f"For {suggestion.wish}:\n  {settings}\n"
            f"  ({suggestion.point.per_week:.0f} warnings a week, strict precision"
            f" {share(found.strict_precision)}, recall {share(found.recall)})"
        )
    return lines
