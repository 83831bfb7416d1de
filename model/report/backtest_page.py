"""A backtest for people: a table for the terminal, and a page for who decides about warnings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from model.backtest.panel import Quality
from model.backtest.result import Backtest, Baseline, Point
from model.report import html as pages
from model.report import svg

_IN_WORDS: Final = {
    "expected loss": "expected loss: probability to leave × CLV before",
    "P(churn) x spend": "probability to leave × spend",
    "P(churn)": "probability to leave",
    "lowest P(alive)": "lowest P(alive) of BG/NBD",
}


def text(report: Backtest) -> str:
    """The report in a terminal, at most 80 columns wide."""
    blocks = [
        _head(report),
        _rules(report),
        _counts(report),
        _rankings(report),
        *_suggestions(report),
    ]
    return "\n\n".join(blocks)


def _sent(report: Backtest) -> int:
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
        ]
    )


_COLUMNS: Final = (("strict", 8), ("episode", 9), ("recall", 8), ("value", 7), ("lead", 6))


def _rules(report: Backtest) -> str:
    lines = [
        f"{'':<32}{'warned':>8}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS),
        _row("this rule", report.rule),
        *(_row(f"  by {name}", found) for name, found in report.by_trigger.items() if found.judged),
        f"{'a random day (base rate)':<32}{'':>8}{_share(report.base_rate):>8}",
    ]
    if report.panel_share < 1:
        share = f"of 1 customer in {round(1 / report.panel_share)}"
        lines.append(_row(f"silence, {share}", report.panel_rule))
    else:
        lines.append(_row("its silence alone", report.panel_rule))
    lines += [_row(_named(baseline), baseline.quality) for baseline in report.baselines]
    mean, lead = report.mean_baseline, report.panel_rule.mean_lead_days
    if mean is not None and lead is not None:
        days = f"At its mean lead ({lead:.0f} days) silence of {mean.threshold:.0f} days"
        lines.append(f"{days} has a strict precision of {_share(mean.quality.strict_precision)}.")
    return "\n".join(
        [
            *lines,
            "strict: no order came within the horizon after the warning; episode: its",
            "silence became longer than the horizon. recall, value: share of the churners",
            "warned of, and of their CLV. lead: days left until they were churners, median.",
        ]
    )


def _row(name: str, found: Quality) -> str:
    lead = found.median_lead_days
    cells = [
        _share(found.strict_precision),
        _share(found.episode_precision),
        _share(found.recall),
        _share(found.value_captured),
        "-" if lead is None else f"{lead:.0f}",
    ]
    row = f"{name[:31]:<32}{found.warnings:>8,}"
    return row + "".join(f"{c:>{width}}" for c, (_, width) in zip(cells, _COLUMNS, strict=True))


def _named(baseline: Baseline) -> str:
    return f"{baseline.name} ({baseline.threshold:g})"


def _counts(report: Backtest) -> str:
    leads = report.rule.lead_days
    lines = [
        f"Warnings sent in the period: {_sent(report):,}. The table counts those of silences that",
        "began in it with enough log after them to say how they ended.",
    ]
    if leads:
        quantiles = ", ".join(f"{lead:.0f}" for lead in leads)
        lines.append(f"Lead in days at 10, 25, 50, 75, 90 %: {quantiles}")
    rate = "-" if report.per_1000_a_week is None else f"{report.per_1000_a_week:.1f}"
    lines.append(
        f"Warnings per 1,000 active customers a week: {rate}; most on a day:"
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
            f"Days with a new model: {_share(report.swap_days_share)} of days,"
            f" {_share(report.swap_warnings_share)} of warnings"
        )
    lines.append(
        f"Scoring only when orders arrive would find {_share(report.order_only_recall)} of churners"
    )
    return "\n".join(lines)


def _rankings(report: Backtest) -> str:
    lines = [f"{'If only a tenth can be called: list sorted by':<56}{'strict':>10}{'value':>10}"]
    lines += [
        f"  {name:<54}{_share(found.precision):>10}{_share(found.value_captured):>10}"
        for name, found in report.rankings.items()
    ]
    return "\n".join(
        [
            *lines,
            "A tenth of the better half of the active customers, every 30 days. strict: how",
            f"many of them did not order for {report.horizon_days} days. value: of what all who"
            " did not had",
            f"spent in the {report.horizon_days} days before, the share of those on the list.",
        ]
    )


def _suggestions(report: Backtest) -> list[str]:
    lines = []
    for suggestion in report.suggestions:
        if suggestion.point is None:
            lines.append(f"For {suggestion.wish}: no threshold reaches it on this log")
            continue
        settings = " ".join(f"{name}={value}" for name, value in suggestion.settings.items())
        found = suggestion.point.quality
        lines.append(
            f"For {suggestion.wish}:\n  {settings}\n"
            f"  ({suggestion.point.per_week:.0f} warnings a week, strict precision"
            f" {_share(found.strict_precision)}, recall {_share(found.recall)})"
        )
    return lines


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


# --- the page ------------------------------------------------------------------------------------


def page(report: Backtest) -> str:
    """The report as one HTML page that needs no network: plots are SVG in it."""
    body = [
        f"<h1>How good the churn warnings would have been</h1>"
        f'<p class="small">{report.start} to {report.end} · horizon {report.horizon_days} days ·'
        f" model {escape(report.model_version)} · policy {report.policy_version}"
        f"{_retrained(report)}</p>",
        _in_words(report),
        _cards(report),
        "<h2>How many are right, how many are found</h2>",
        "<p>Each point of the line is another threshold: further to the right more of the customers"
        " who leave are warned of, and fewer of the warnings are right. The dots are the"
        " rule as it is set and the simpler rules that warn as early.</p>",
        _precision_recall(report),
        "<h2>How early</h2>",
        f"<p>Days left until a customer has been silent for {report.horizon_days} days, when the"
        " warning comes. A tenth of the customers found had fewer days left than the first bar, a"
        " tenth more than the last.</p>",
        _leads(report),
        "<h2>Can the probabilities be believed?</h2>",
        "<p>Customers in ten groups by the probability to leave that the model gave them. On the"
        " diagonal, what was said is what happened. Above it, more left than was said."
        f"{_level(report)}</p>",
        _calibration(report),
        "<h2>Warnings over time</h2>",
        "<p>Warnings in each week, by what made the value fall: silence, an order that was worth"
        " less, or a refund.</p>",
        _over_time(report),
        "<h2>Beside simpler rules</h2>",
        "<p>Each simpler rule is set so that it warns as early as this one, in the median of the"
        " days left, as far as it can; the last in the mean. Look at how many each finds, too: a"
        " rule that warns of few can be right about them.</p>",
        _rules_table(report),
        "<h2>If only a tenth can be called</h2>",
        "<p>Once a month, a tenth of the better half of the active customers goes on a call list."
        f" How many of those on it then order nothing for {report.horizon_days} days, and how much"
        " of the money that leaves with such customers is on the list, by what it is sorted by. A"
        " list that calls the right people calls small ones, one that follows the money calls many"
        " who stay: the budget's own list is meant to do both.</p>",
        _rankings_table(report),
        '<p class="small">Money that leaves: what customers who then order nothing for'
        f" {report.horizon_days} days had spent in the {report.horizon_days} days before.</p>",
        _wishes(report),
        "<h2>What the words mean</h2>",
        _glossary(report),
    ]
    return pages.document(f"Churn warnings, {report.start} to {report.end}", body)


def _retrained(report: Backtest) -> str:
    if not report.retrained_every_days:
        return ""
    return f" · retrained every {report.retrained_every_days} days"


def _in_words(report: Backtest) -> str:
    rule = report.rule
    lead = rule.median_lead_days
    if rule.strict_precision is None or rule.recall is None or lead is None:
        return "<p>Too few warnings came in this period to say how good they are.</p>"
    return (
        f"<p>Of 100 customers worth a warning who went silent for more than {report.horizon_days}"
        f" days, <b>{rule.recall * 100:.0f}</b> were warned of in time, half of them at least"
        f" <b>{lead:.0f} days</b> before that. Of 100 warnings,"
        f" <b>{rule.strict_precision * 100:.0f}</b> were followed by no order at all for"
        f" {report.horizon_days} days; on a day picked at random it would have been"
        f" {(report.base_rate or 0) * 100:.0f}.</p>"
    )


def _cards(report: Backtest) -> str:
    rule = report.rule
    per = report.per_1000_a_week
    cards = [
        (f"{_sent(report):,}", f"warnings in the period, {rule.judged:,} of them judged here"),
        (_share(rule.strict_precision), "followed by no order within the horizon"),
        (_share(rule.recall), "of those who left were warned of"),
        (_share(rule.value_captured), "of the value that left"),
        ("-" if per is None else f"{per:.1f}", "warnings per 1,000 active customers a week"),
    ]
    return pages.cards(cards)


def _precision_recall(report: Backtest) -> str:
    def line(points: Sequence[Point]) -> list[tuple[float, float]]:
        found = [
            (p.quality.recall, p.quality.strict_precision)
            for p in points
            if p.quality.recall is not None and p.quality.strict_precision is not None
        ]
        return sorted(found)

    rule = report.panel_rule
    dots = []
    for baseline in report.baselines:
        quality = baseline.quality
        # One that finds next to nobody is in the table, not a dot on the axis.
        if (quality.recall or 0.0) >= 0.01 and quality.strict_precision is not None:
            dots.append((quality.recall or 0.0, quality.strict_precision, _shortly(baseline)))
    if rule.recall is not None and rule.strict_precision is not None:
        # Last, so that it lies on top of a simpler one at the same place.
        dots.append((rule.recall, rule.strict_precision, "this rule"))
    return svg.plot(
        lines=[(line([p for p in report.points if not p.late]), "other thresholds")],
        dots=dots,
        x=svg.Axis("share of leaving customers warned of", 0, 1, percent=True),
        y=svg.Axis("share of warnings that are right (strict)", 0, 1, percent=True),
        level=report.base_rate,
        level_name="a random day",
        title="Share of warnings that are right by share of leaving customers found: "
        + "; ".join(f"{name} {found:.0%} found, {right:.0%} right" for found, right, name in dots),
    )


def _leads(report: Backtest) -> str:
    leads = report.rule.lead_days or ()
    names = ("10 %", "25 %", "median", "75 %", "90 %")
    return svg.bars(
        [(name, [lead]) for name, lead in zip(names, leads, strict=False)],
        x="share of the customers found who had no more days left",
        y="days left",
        series=["days left"],
        values=True,
        title="Days left at the warning: "
        + ", ".join(f"{name} {lead:.0f}" for name, lead in zip(names, leads, strict=False)),
    )


def _calibration(report: Backtest) -> str:
    points = [(each.predicted, each.observed) for each in report.calibration]
    return svg.plot(
        lines=[([(0.0, 0.0), (1.0, 1.0)], "said = happened"), (points, "this model")],
        dots=[(x, y, "") for x, y in points],
        x=svg.Axis("probability to leave, as said", 0, 1, percent=True),
        y=svg.Axis("share that left", 0, 1, percent=True),
        title="Calibration of the probability to leave: "
        + "; ".join(f"said {said:.0%}, was {was:.0%}" for said, was in points),
    )


def _over_time(report: Backtest) -> str:
    return svg.bars(
        [(week.start, [week.silence, week.order, week.refund]) for week in report.weeks],
        x="week that begins",
        y="warnings",
        series=["silence", "order", "refund"],
        title=f"Warnings in each of {len(report.weeks)} weeks, by what made the value fall.",
    )


def _rules_table(report: Backtest) -> str:
    def cells(name: str, found: Quality) -> list[str]:
        lead = found.median_lead_days
        return [
            name,
            f"{found.warnings:,}",
            _share(found.strict_precision),
            _share(found.episode_precision),
            _share(found.recall),
            "-" if lead is None else f"{lead:.0f}",
            "-" if found.mean_lead_days is None else f"{found.mean_lead_days:.0f}",
        ]

    rows = [(True, cells("this rule, silence", report.panel_rule))]
    rows += [(False, cells(_shortly(each), each.quality)) for each in report.baselines]
    mean = report.mean_baseline
    if mean is not None:
        rows.append((False, cells(f"{_shortly(mean)}, same mean lead", mean.quality)))
    head = (
        "rule",
        "warnings",
        "strictly right",
        f"silent for > {report.horizon_days} days",
        "found",
        "median lead, days",
        "mean lead, days",
    )
    return pages.table(head, rows)


def _rankings_table(report: Backtest) -> str:
    rows = [
        (
            name == report.ranked_by,
            [_worded(name, report), _share(r.precision), _share(r.value_captured)],
        )
        for name, r in report.rankings.items()
    ]
    return pages.table(("sorted by", "of them leave", "of the money that leaves"), rows)


def _worded(name: str, report: Backtest) -> str:
    if name == report.ranked_by:
        return f"the budget: the surest and the largest ({name.removeprefix('budget: ')})"
    return _IN_WORDS.get(name.partition(":")[0], name)


def _shortly(baseline: Baseline) -> str:
    """A simple rule with its threshold in its name."""
    number = f"{baseline.threshold:g}"
    return {
        "silent for D days": f"silent for {number} days",
        "k x own median gap": f"{number} × own gap",
        "P(alive) below p": f"P(alive) < {number}",
    }.get(baseline.name, _named(baseline))


def _level(report: Backtest) -> str:
    """Whether the model said too little or too much, on the whole."""
    rows = sum(each.rows for each in report.calibration)
    if not rows:
        return ""
    said = sum(each.rows * each.predicted for each in report.calibration) / rows
    left = sum(each.rows * each.observed for each in report.calibration) / rows
    return f" On the whole the model said {said:.0%}, and {left:.0%} left."


def _wishes(report: Backtest) -> str:
    if not report.suggestions:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in _suggestions(report))
    return f"<h2>Settings for what you wished for</h2><ul>{items}</ul>"


def _glossary(report: Backtest) -> str:
    horizon = report.horizon_days
    return (
        '<p class="small">'
        f"<b>Left</b> (a churner): no order for more than {horizon} days after the one before."
        f" <b>Strictly right</b>: no order in the {horizon} days after the warning."
        " <b>Found</b> (recall): share of those who left that were warned of before they had."
        " <b>Worth a warning</b>: customers whose value reached the floor of the policy."
        f" <b>CLV</b>: what a customer is expected to bring in the next {horizon} days; <b>CLV"
        " before</b>: the highest of late, before the fall."
        f" <b>Active</b>: ordered within the last {horizon} days; <b>the better half</b> of them is"
        " that with the higher CLV before."
        f" <b>Spend</b>: net revenue of the last {horizon} days.</p>"
    )
