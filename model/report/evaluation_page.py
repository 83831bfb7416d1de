"""An evaluation as one HTML page for a data team: tables, plots, and a sentence on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from features.money import minor_exponent
from features.times import iso_day
from model.evaluate.bootstrap import Difference
from model.evaluate.diagnostics import BEST, Dependence, Diagnostics, diagnostics
from model.evaluate.holdout import BGNBD_GG, MODEL, Evaluation
from model.evaluate.metrics import ChurnMetrics, Decile
from model.evaluate.rolling import Rolled, Rolling
from model.report import svg
from model.report.html import cards, document, figure, table

_IMPORTANT: Final = 12
_DRAWN: Final = 4
# Metric, how it is called, decimals; money where there are none.
_METRICS: Final = (
    ("mae", "MAE", None),
    ("rmse", "RMSE", None),
    ("mse", "MSE", None),
    ("r2", "R²", 3),
    ("gini", "Gini", 3),
    ("spearman", "Spearman", 3),
    ("top_decile", "top 10 %", 3),
    ("decile_wape", "decile WAPE", 3),
    ("bias", "bias", 3),
)


def page(found: Rolled, version: str) -> str:
    """The page of an evaluation of the model named `version`; plots are SVG in it."""
    report, holdout = found.report, found.holdouts[-1]
    looked_at = diagnostics(holdout, found.model)
    newest = report.cutoffs[-1]
    body = [
        _head(report, version),
        _in_words(report),
        _cards(report),
        *_tables(report),
        f"<h2>Can the level be believed?</h2><p>Customers of the newest cutoff, {newest.cutoff},"
        " in ten groups by what was predicted of them.</p>",
        _calibration(report),
        _residuals(looked_at, report.currency),
        "<h2>Does it find the customers who matter?</h2>",
        _gain(looked_at, newest),
        "<h2>Does the level drift?</h2>",
        _drift(report),
        "<h2>What does it look at?</h2>",
        *_importance(looked_at, report.currency),
        *_dependence(looked_at, report),
        f"<h2>Who will not order for {report.horizon_days} days?</h2>",
        *_churn(report),
        "<h2>What the numbers mean</h2>",
        _glossary(report),
    ]
    return document(f"CLV model {version}, {newest.cutoff}", body)


def _head(report: Rolling, version: str) -> str:
    options = ", ".join(f"{name} {value}" for name, value in report.options.items())
    count = len(report.cutoffs)
    trained = (
        f"trained anew at {count} cutoff{'s' * (count > 1)}"
        if report.refitted
        else "as it is, at one cutoff"
    )
    facts = [
        f"model {version}, {trained}",
        f"kind {report.kind}" + (f" ({options})" if options else ""),
        f"net revenue of the next {report.horizon_days} days, {report.currency}",
        f"cutoffs {', '.join(one.cutoff for one in report.cutoffs)}",
    ]
    return (
        "<h1>How good the CLV model is on a time it has not seen</h1>"
        f'<p class="small">{escape(" · ".join(facts))}</p>'
    )


def _in_words(report: Rolling) -> str:
    mean = report.mean[MODEL]
    top, bias = mean["top_decile"], mean["bias"]
    if top is None or bias is None:
        return "<p>Nobody brought any revenue after a cutoff, so there is nothing to rank.</p>"
    level = "as much as" if abs(bias - 1) < 0.005 else f"{abs(bias - 1):.0%} "
    level += "" if abs(bias - 1) < 0.005 else ("more than" if bias > 1 else "less than")
    sentences = [
        f"The tenth of customers that the model ranks highest brought <b>{top:.0%}</b> of the"
        f" revenue of the {report.horizon_days} days that followed. In total it predicted"
        f" <b>{level}</b> what came in. For a single customer it was off by"
        f" <b>{_money(mean['mae'])} {report.currency}</b> on average."
    ]
    said = report.differences.get(BGNBD_GG, {})
    better = [name for key, name, _ in _METRICS if key in said and said[key].better]
    worse = [name for key, name, _ in _METRICS if key in said and said[key].better is False]
    if said:
        sentences.append(
            f"Beside BG/NBD + Gamma-Gamma it is better in {_listed(better)} and worse in"
            f" {_listed(worse)}; the rest may be chance."
        )
    return f"<p>{' '.join(sentences)}</p>"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "nothing"


def _cards(report: Rolling) -> str:
    mean = report.mean[MODEL]
    return cards(
        [
            (_ratio(mean["gini"], 3), "normalized Gini: how well it ranks, 1 at best"),
            (_money(mean["mae"]), f"mean absolute error, {report.currency}"),
            (_ratio(mean["bias"], 2), "predicted over actual revenue of everybody"),
            (_ratio(report.churn_mean["roc_auc"], 3), "ROC AUC of the churn probability"),
        ]
    )


# --- tables ---------------------------------------------------------------------------------------


def _tables(report: Rolling) -> list[str]:
    many = len(report.cutoffs) > 1
    of = f"Means of {len(report.cutoffs)} cutoffs" if many else "At the cutoff"
    head = ("", *(name for _, name, _ in _METRICS))
    parts = [
        "<h2>Beside the yardsticks</h2>",
        f"<p>{of}. BG/NBD + GG is the classic model of repeat buying, fitted on the same past;"
        f" “same again” takes the net revenue of the last {report.horizon_days} days for that of"
        " the next.</p>",
        table(
            head,
            [
                (name == MODEL, [name, *(_cell(means[key], places) for key, _, places in _METRICS)])
                for name, means in report.mean.items()
            ],
        ),
    ]
    parts += [
        f'<p class="small">{escape(name)} is missing at {one.cutoff}: {escape(why)}.</p>'
        for one in report.cutoffs
        for name, why in one.skipped.items()
    ]
    for other, found in report.differences.items():
        parts += [
            f"<p>The model less {escape(other)}, with the interval that holds 95 % of"
            f" {report.resamples:,} resamples of the customers:</p>",
            table(
                ("", "difference", "95 % interval", ""),
                [
                    (False, _compared(name, found[key], places))
                    for key, name, places in _METRICS
                    if key in found and key != "bias"
                ],
            ),
        ]
    if many:
        parts += ["<h2>Each cutoff</h2>", _each(report)]
    return parts


def _compared(name: str, found: Difference, places: int | None) -> list[str]:
    def signed(value: float) -> str:
        text = _money(abs(value)) if places is None else f"{abs(value):.{places}f}"
        return ("−" if value < 0 else "+") + text

    said = {True: "better", False: "worse", None: "may be chance"}[found.better]
    return [name, signed(found.value), f"{signed(found.low)} to {signed(found.high)}", said]


def _each(report: Rolling) -> str:
    columns = [column for column in _METRICS if column[0] != "mse"]
    rows: list[tuple[bool, Sequence[str]]] = []
    for one in report.cutoffs:
        for name, metrics in one.clv.items():
            cells = [_cell(getattr(metrics, key), places) for key, _, places in columns]
            first = one.cutoff if name == MODEL else ""
            count = f"{metrics.customers:,}" if name == MODEL else ""
            rows.append((name == MODEL, [first, name, count, *cells]))
    head = ("cutoff", "", "customers", *(name for _, name, _ in columns))
    return table(head, rows, named=True)


# --- plots ----------------------------------------------------------------------------------------


def _calibration(report: Rolling) -> str:
    newest = report.cutoffs[-1]
    groups = {
        name: newest.clv[name].calibration for name in (MODEL, BGNBD_GG) if name in newest.clv
    }
    values = [v for tenths in groups.values() for d in tenths for v in (d.predicted, d.actual)]
    top = max(values)
    if top <= 0:
        return "<p>All predictions and all revenue are 0.</p>"
    low = max(min((v for v in values if v > 0), default=top), top / 10_000)
    low = low / 1.5 if low < top else top / 10
    axis = svg.Axis(f"mean predicted, {report.currency}", low, top * 1.2, scale="log")
    lines: list[tuple[Sequence[tuple[float, float]], str]] = [
        ([(low, low), (top * 1.2, top * 1.2)], "said = happened")
    ]
    lines += [
        ([(max(d.predicted, low), max(d.actual, low)) for d in tenths], name)
        for name, tenths in groups.items()
    ]
    wape = newest.clv[MODEL].decile_wape
    plot = svg.plot(
        lines=lines,
        dots=[],
        x=axis,
        y=svg.Axis(f"mean actual, {report.currency}", low, top * 1.2, scale="log"),
        dotted=True,
        title="Calibration: mean actual revenue against mean prediction, by tenth of customers. "
        + _read_out(groups[MODEL]),
    )
    return figure(
        plot,
        "On the grey line, a group brought what was said of it; above it more, below it less."
        " Each step along an axis is a multiple, so that small and large customers are seen at"
        f" once. The groups are off by {_ratio(wape, 3)} of all revenue (decile WAPE).",
    )


def _residuals(found: Diagnostics, currency: str) -> str:
    columns = [
        (str(number + 1), one.percentiles, one.mean) for number, one in enumerate(found.residuals)
    ]
    ends = [value for _, five, mean in columns for value in (*five, mean)]
    low, high = min(*ends, -1.0), max(*ends, 1.0)
    plot = svg.ranges(
        columns,
        x="tenth of customers, lowest to highest prediction",
        y=svg.Axis(f"predicted less actual, {currency}", low * 1.3, high * 1.3, scale="signed"),
        names=("8 of 10", "the middle half", "median", "mean"),
        title="Residuals by tenth of customers by prediction. "
        + "; ".join(
            f"{name}: median {_money(five[2])}, mean {_money(m)}" for name, five, m in columns
        ),
    )
    return figure(
        plot,
        "How far single customers were off. A median above 0 with a mean below it: most were said"
        " a little too much, as many bring nothing, and a few brought far more than was said.",
    )


def _gain(found: Diagnostics, newest: Evaluation) -> str:
    if not found.gain:
        return "<p>Nobody brought any revenue, so no ranking is better than another.</p>"
    lines: list[tuple[Sequence[tuple[float, float]], str]] = [([(0.0, 0.0), (1.0, 1.0)], "chance")]
    lines += [(points, name) for name, points in found.gain.items()]
    gini, top = newest.clv[MODEL].gini, newest.clv[MODEL].top_decile
    plot = svg.plot(
        lines=lines,
        dots=[],
        x=svg.Axis("share of customers, highest ranked first", 0, 1, percent=True),
        y=svg.Axis("share of all revenue", 0, 1, percent=True),
        title=f"Gain curve: the tenth that the model ranks highest brought {_ratio(top, 2)} of the"
        f" revenue; normalized Gini {_ratio(gini, 3)}.",
    )
    return figure(
        plot,
        "How much of the revenue one would have caught by working down each ranking. No ranking"
        f" can lie above the one {BEST}. The normalized Gini is the room under the model's curve"
        f" as a share of the room under that one: {_ratio(gini, 3)}.",
    )


def _drift(report: Rolling) -> str:
    names = [name for name in report.cutoffs[-1].clv if name in report.mean]
    bias = {
        name: [
            (float(at), value)
            for at, one in enumerate(report.cutoffs)
            if (value := one.clv[name].bias) is not None
        ]
        for name in names
    }
    values = [value for points in bias.values() for _, value in points]
    if len(report.cutoffs) < 2 or not values:
        return (
            f"<p>At this cutoff the bias is {_ratio(report.mean[MODEL]['bias'], 2)}. Evaluate with"
            " --cutoffs 3 or more to see whether it drifts from one period to the next.</p>"
        )
    last = len(report.cutoffs) - 1
    every = 1 + last // 6
    ticks = tuple((float(at), one.cutoff) for at, one in enumerate(report.cutoffs))[::every]
    pad = 0.12 * last
    # Fifths, from below the lowest to above the highest, fewer where there are many.
    low, high = math.floor(min(*values, 0.95) * 5), math.ceil(max(*values, 1.05) * 5)
    levels = range(low, high + 1, 1 + (high - low) // 8)
    plot = svg.plot(
        lines=[([(0.0, 1.0), (float(last), 1.0)], "right level")]
        + [(points, name) for name, points in bias.items()],
        dots=[],
        x=svg.Axis("cutoff", -pad, last + pad, ticks=ticks),
        y=svg.Axis(
            "predicted over actual revenue",
            low / 5,
            high / 5,
            ticks=tuple((level / 5, f"{level / 5:.1f}") for level in levels),
        ),
        dotted=True,
        title="Bias by cutoff: "
        + "; ".join(f"{one.cutoff}: {_ratio(one.clv[MODEL].bias, 2)}" for one in report.cutoffs),
    )
    return figure(
        plot,
        "The sum of all predictions over what came in, at each cutoff. Below 1 the customers"
        " brought more than was said, such as before Christmas; above 1 less. Rankings do not"
        " suffer from it; sums of money do.",
    )


def _importance(found: Diagnostics, currency: str) -> list[str]:
    groups = svg.lengths(
        [(one.group, one.drop, one.deviation, f"{one.drop:.3f}") for one in found.groups],
        x="what the normalized Gini loses",
        left=110,
        title="Importance of groups: "
        + ", ".join(f"{one.group} {one.drop:.3f}" for one in found.groups),
    )
    sizes = sorted(found.groups, key=lambda one: -one.contribution)
    contributions = svg.lengths(
        [(one.group, one.contribution, 0.0, _money(one.contribution)) for one in sizes],
        x=f"mean contribution to a CLV, {currency}, either sign",
        left=110,
        title="Mean contributions of groups: "
        + ", ".join(f"{one.group} {_money(one.contribution)}" for one in sizes),
    )
    best = found.importance[:_IMPORTANT]
    features = svg.lengths(
        [(one.feature, one.drop, one.deviation, f"{one.drop:.3f}") for one in best],
        x="what the normalized Gini loses",
        left=215,
        title="Permutation importance: "
        + ", ".join(f"{one.feature} {one.drop:.3f}" for one in best),
    )
    return [
        f"<p>From {found.rows:,} customers of the cutoff {iso_day(found.cutoff_day)}.</p>",
        '<div class="pairs">',
        figure(
            groups,
            "Give each customer somebody else's silence, baskets and so on: how much worse the"
            " ranking gets. The line at the end of a bar is the deviation between tries.",
        ),
        figure(
            contributions,
            "How much money each group moves a customer's CLV, up or down, compared with that of"
            " the most ordinary customer. The command “show” has them for a single customer.",
        ),
        "</div>",
        figure(
            features,
            "Permutation importance of single features. Where two features say nearly the same,"
            " each seems to matter little, as the other stands in for it: look at groups first.",
        ),
    ]


def _dependence(found: Diagnostics, report: Rolling) -> list[str]:
    if not found.dependence:
        return []
    top = svg.rounded_up(max(value for curve in found.dependence for value in curve.clv))
    return [
        "<p>Partial dependence: the mean CLV, were everybody's feature what the axis says and all"
        " else as it is. Steep means much depends on it; flat, little.</p>",
        '<div class="pairs">',
        *(figure(*_curve(curve, top, report.currency)) for curve in found.dependence),
        "</div>",
    ]


def _curve(curve: Dependence, top: float, currency: str) -> tuple[str, str]:
    minor = "minor" in curve.feature
    # Money is in minor units in the vector, and in major ones for people.
    scale = 1.0
    name = curve.feature
    if minor:
        scale, name = 10.0 ** -minor_exponent(currency), f"{curve.feature} (in {currency})"
    points = [(at * scale, clv) for at, clv in zip(curve.at, curve.clv, strict=True)]
    plot = svg.plot(
        lines=[(points, "")],
        dots=[],
        x=svg.Axis(name, points[0][0], points[-1][0]),
        y=svg.Axis(f"mean CLV, {currency}", 0, top),
        title=f"Partial dependence on {curve.feature}: from {_money(curve.clv[0])} at"
        f" {svg.short(points[0][0])} to {_money(curve.clv[-1])} at {svg.short(points[-1][0])}.",
    )
    return plot, f"{curve.feature}, between its 5th and 95th percentile"


def _churn(report: Rolling) -> list[str]:
    churns = [(one.cutoff, one.churn) for one in report.cutoffs]
    # More lines than this cannot be told apart.
    drawn, (newest_day, newest) = churns[-_DRAWN:], churns[-1]
    tenths = newest.calibration
    alone = len(churns) == 1
    plot = svg.plot(
        lines=[([(0.0, 0.0), (1.0, 1.0)], "said = happened")]
        + [
            ([(t.predicted, t.actual) for t in churn.calibration], "this model" if alone else day)
            for day, churn in drawn
        ],
        dots=[],
        x=svg.Axis("probability of no order, as said", 0, 1, percent=True),
        y=svg.Axis("share without an order", 0, 1, percent=True),
        dotted=True,
        title="Calibration of the churn probability by tenth of customers. "
        + _read_out(newest.calibration, percent=True),
    )
    return [
        table(
            ("cutoff", "customers", "without an order", "said", "ROC AUC", "PR AUC", "Brier", "F1",
             "F1 of “all”", "off by"),
            [(False, [day, *_churn_cells(churn)]) for day, churn in churns],
        ),
        figure(
            plot,
            "On the grey line, of the customers given a probability that share did not order;"
            " above it more did not, below it fewer. “Off by” is how far the tenths are from the"
            f" line on average. F1 counts a customer as leaving from {newest.threshold:g} on;"
            " beside it what it would be were everybody counted so.",
        ),
        table(
            (f"tenth, {newest_day}", *(str(number + 1) for number in range(len(tenths)))),
            [
                (False, ["said", *(f"{tenth.predicted:.1%}" for tenth in tenths)]),
                (False, ["did not order", *(f"{t.actual:.1%}" for t in tenths)]),
            ],
        ),
    ]  # fmt: skip


def _churn_cells(churn: ChurnMetrics) -> list[str]:
    said = "–" if churn.said_rate is None else f"{churn.said_rate:.1%}"
    return [
        f"{churn.customers:,}",
        f"{churn.base_rate:.1%}",
        said,
        *(_ratio(value, 3) for value in (churn.roc_auc, churn.pr_auc, churn.brier, churn.f1)),
        _ratio(churn.base_f1, 3),
        _ratio(churn.calibration_error, 3),
    ]


def _read_out(tenths: Sequence[Decile], *, percent: bool = False) -> str:
    """The deciles in words."""
    shown = (lambda value: f"{value:.0%}") if percent else _money
    return "; ".join(f"said {shown(d.predicted)}, was {shown(d.actual)}" for d in tenths)


def _glossary(report: Rolling) -> str:
    return (
        '<p class="small"><b>MAE, RMSE, MSE</b>: mean absolute, root mean squared and mean squared'
        f" error of a customer's net revenue in {report.horizon_days} days. <b>R²</b>: share of the"
        " variance that is predicted. <b>Gini</b> (normalized): how well customers are ranked by"
        " value; 1 is perfect, 0 is chance. <b>Spearman</b>: rank correlation, in which the many"
        " small customers count as much as the few large ones. <b>Top 10 %</b>: share of the"
        " revenue that the highest-ranked tenth brought. <b>Decile WAPE</b>: errors of ten groups'"
        " sums over all revenue. <b>Bias</b>: predicted over actual revenue of everybody."
        " <b>ROC AUC</b>: how likely somebody who did not order was given the higher probability"
        " than somebody who did. <b>PR AUC</b>: mean precision of the lists by probability, however"
        " long. <b>Brier</b>: mean squared error of the probability; less is better."
        " <b>Interval</b>: customers are drawn with replacement, the same draw for both"
        f" predictions, {report.resamples:,} times (seed {report.seed}).</p>"
    )


def _cell(value: float | None, places: int | None) -> str:
    return _money(value) if places is None else _ratio(value, places)


def _ratio(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _money(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{abs(value):,.0f}" if abs(value) >= 1_000 else f"{abs(value):,.2f}"
    return ("−" if value < 0 else "") + text
