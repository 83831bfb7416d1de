"""An evaluation as one HTML page for a data team: tables, plots, and a sentence on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from features.events.money import currency_name, minor_exponent
from model.evaluate.bootstrap import Difference
from model.evaluate.diagnostics import BEST, Dependence, Diagnostics, diagnostics
from model.evaluate.holdout import BGNBD_GG, MODEL, Evaluation
from model.evaluate.metrics import ChurnMetrics, Decile
from model.evaluate.rolling import Rolled, Rolling
from model.report.format import Shown, money_in, ratio, share, short, signed
from model.report.html import render
from model.report.plots import Axis, Points, lengths, plot, ranges

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
_EACH: Final = tuple(column for column in _METRICS if column[0] != "mse")
_DIAGONAL: Final = ((0.0, 0.0), (1.0, 1.0))
_AS_PREDICTED: Final = "predicted = observed"

Rows = list[tuple[bool, list[str]]]


def page(found: Rolled, version: str) -> str:
    """The page of an evaluation of the model named `version`."""
    report = found.report
    looked_at = diagnostics(found.holdouts[-1], found.model)
    newest = report.cutoffs[-1]
    money = money_in(report.currency)
    tenths = newest.churn.calibration
    return render(
        "evaluation.html",
        report=report,
        version=version,
        newest=newest,
        found=looked_at,
        model=MODEL,
        best=BEST,
        options=", ".join(f"{name} {value}" for name, value in report.options.items()),
        level=_level(report.mean[MODEL]["bias"]),
        verdict=_verdict(report),
        head=("", *(name for _, name, _ in _METRICS)),
        means=_means(report),
        differences={name: _compared(rows, money) for name, rows in report.differences.items()},
        each_head=("cutoff", "", "customers", *(name for _, name, _ in _EACH)),
        each=_each(report),
        calibration=_calibration(report),
        residuals=_residuals(looked_at, report.currency),
        gain=_gain(looked_at, newest),
        bias=_bias(report),
        groups=_groups(looked_at),
        contributions=_contributions(looked_at, report.currency),
        features=_features(looked_at),
        curves=_curves(looked_at, report.currency),
        churn=[(False, [one.cutoff, *_churn_cells(one.churn)]) for one in report.cutoffs],
        churn_calibration=_churn_calibration(report),
        tenths_head=(
            f"tenth, {newest.cutoff}",
            *(str(number + 1) for number in range(len(tenths))),
        ),
        tenths=[
            (False, ["predicted", *(share(tenth.predicted) for tenth in tenths)]),
            (False, ["observed", *(share(tenth.actual) for tenth in tenths)]),
        ],
    )


# --- tables and sentences -------------------------------------------------------------------------


def _level(bias: float | None) -> str:
    if bias is None or abs(bias - 1) < 0.005:
        return "as much as"
    return f"{abs(bias - 1):.0%} {'more' if bias > 1 else 'less'} than"


def _verdict(report: Rolling) -> tuple[str, str] | None:
    """The metrics in which the model is better than BG/NBD, and those in which it is worse."""
    found = report.differences.get(BGNBD_GG)
    if not found:
        return None
    named = [(name, found[key].better) for key, name, _ in _METRICS if key in found]
    return (
        ", ".join(name for name, better in named if better),
        ", ".join(name for name, better in named if better is False),
    )


def _means(report: Rolling) -> Rows:
    money = money_in(report.currency)
    return [
        (name == MODEL, [name, *(_cell(means[key], places, money) for key, _, places in _METRICS)])
        for name, means in report.mean.items()
    ]


def _compared(found: dict[str, Difference], money: Shown) -> Rows:
    rows: Rows = []
    for key, name, places in _METRICS:
        if key not in found or key == "bias":
            continue
        d, shown = found[key], money if places is None else ratio
        verdict = {True: "better", False: "worse", None: "within sampling error"}[d.better]
        interval = f"{signed(d.low, shown)} to {signed(d.high, shown)}"
        rows.append((False, [name, signed(d.value, shown), interval, verdict]))
    return rows


def _each(report: Rolling) -> Rows:
    rows: Rows = []
    money = money_in(report.currency)
    for one in report.cutoffs:
        for name, metrics in one.clv.items():
            ours = name == MODEL
            cells = [_cell(getattr(metrics, key), places, money) for key, _, places in _EACH]
            first = [one.cutoff, name, f"{metrics.customers:,}"] if ours else ["", name, ""]
            rows.append((ours, [*first, *cells]))
    return rows


def _churn_cells(churn: ChurnMetrics) -> list[str]:
    ratios = (churn.roc_auc, churn.pr_auc, churn.brier, churn.f1, churn.base_f1)
    return [
        f"{churn.customers:,}",
        share(churn.base_rate),
        share(churn.mean_predicted),
        *map(ratio, (*ratios, churn.calibration_error)),
    ]


def _cell(value: float | None, places: int | None, money: Shown) -> str:
    return money(value) if places is None else ratio(value, places)


def _read_out(tenths: Sequence[Decile], shown: Shown) -> str:
    """The deciles in words."""
    return "; ".join(f"predicted {shown(d.predicted)}, observed {shown(d.actual)}" for d in tenths)


# --- plots ----------------------------------------------------------------------------------------


def _calibration(report: Rolling) -> Markup | None:
    newest = report.cutoffs[-1]
    groups = {
        name: newest.clv[name].calibration for name in (MODEL, BGNBD_GG) if name in newest.clv
    }
    values = [v for tenths in groups.values() for d in tenths for v in (d.predicted, d.actual)]
    top = max(values)
    if top <= 0:
        return None
    low = max(min((v for v in values if v > 0), default=top), top / 10_000)
    low = low / 1.5 if low < top else top / 10
    high = top * 1.2
    return plot(
        Axis(f"mean predicted, {currency_name(report.currency)}", low, high, scale="log"),
        Axis(f"mean observed, {currency_name(report.currency)}", low, high, scale="log"),
        title="Calibration: mean observed revenue against mean prediction, by tenth of customers. "
        + _read_out(groups[MODEL], money_in(report.currency)),
        lines=[
            ([(max(d.predicted, low), max(d.actual, low)) for d in tenths], name)
            for name, tenths in groups.items()
        ],
        reference=(((low, low), (high, high)), _AS_PREDICTED),
        dotted=True,
    )


def _residuals(found: Diagnostics, currency: str) -> Markup:
    columns = [
        (str(number + 1), one.percentiles, one.mean) for number, one in enumerate(found.residuals)
    ]
    ends = [value for _, five, mean in columns for value in (*five, mean)]
    return ranges(
        columns,
        "tenth of customers, lowest to highest prediction",
        Axis(
            f"predicted minus observed, {currency_name(currency)}",
            min(*ends, -1.0) * 1.3,
            max(*ends, 1.0) * 1.3,
            scale="symlog",
        ),
        names=("10th to 90th percentile", "middle half", "median", "mean"),
        title="Errors by tenth of customers by prediction. "
        + "; ".join(
            f"{name}: median {money_in(currency)(five[2])}, mean {money_in(currency)(mean)}"
            for name, five, mean in columns
        ),
    )


def _gain(found: Diagnostics, newest: Evaluation) -> Markup | None:
    if not found.gain:
        return None
    gini, top = newest.clv[MODEL].gini, newest.clv[MODEL].top_decile
    return plot(
        Axis("share of customers, highest ranked first", 0, 1, percent=True),
        Axis("share of all revenue", 0, 1, percent=True),
        title=f"Gain curve: the tenth that the model ranks highest brought {share(top, 0)} of the"
        f" revenue; normalized Gini {ratio(gini)}.",
        lines=[(points, name) for name, points in found.gain.items()],
        reference=(_DIAGONAL, "random order"),
    )


def _bias(report: Rolling) -> Markup | None:
    """The bias of every predictor at each cutoff; None where there is one cutoff, or no bias."""
    lines: list[tuple[Points, str]] = []
    for name in report.mean:
        biases = [(at, one.clv[name].bias) for at, one in enumerate(report.cutoffs)
                  if name in one.clv]  # fmt: skip
        points = [(float(at), bias) for at, bias in biases if bias is not None]
        if points:
            lines.append((points, name))
    last = len(report.cutoffs) - 1
    if last < 1 or not lines:
        return None
    values = [value for points, _ in lines for _, value in points]
    pad = 0.12 * last
    return plot(
        Axis("cutoff", -pad, last + pad, names=[one.cutoff for one in report.cutoffs]),
        Axis("predicted over observed revenue", min(*values, 0.8) - 0.1, max(*values, 1.2) + 0.1),
        title="Bias by cutoff: "
        + "; ".join(f"{one.cutoff}: {ratio(one.clv[MODEL].bias, 2)}" for one in report.cutoffs),
        lines=lines,
        reference=(((-pad, 1.0), (last + pad, 1.0)), "unbiased"),
        dotted=True,
    )


def _groups(found: Diagnostics) -> Markup:
    return lengths(
        [(one.group, one.drop, one.deviation, ratio(one.drop)) for one in found.groups],
        x="loss of normalized Gini",
        title="Importance of groups: "
        + ", ".join(f"{one.group} {ratio(one.drop)}" for one in found.groups),
    )


def _contributions(found: Diagnostics, currency: str) -> Markup:
    money = money_in(currency)
    sizes = sorted(found.groups, key=lambda one: -one.contribution)
    return lengths(
        [(one.group, one.contribution, 0.0, money(one.contribution)) for one in sizes],
        x=f"mean absolute contribution to CLV, {currency_name(currency)}",
        title="Mean absolute contributions of groups: "
        + ", ".join(f"{one.group} {money(one.contribution)}" for one in sizes),
    )


def _features(found: Diagnostics) -> Markup:
    best = found.importance[:_IMPORTANT]
    return lengths(
        [(one.feature, one.drop, one.deviation, ratio(one.drop)) for one in best],
        x="loss of normalized Gini",
        title="Permutation importance: "
        + ", ".join(f"{one.feature} {ratio(one.drop)}" for one in best),
    )


def _curves(found: Diagnostics, currency: str) -> list[tuple[str, Markup]]:
    top = 1.08 * max((value for curve in found.dependence for value in curve.clv), default=0.0)
    return [(curve.feature, _curve(curve, top or 1.0, currency)) for curve in found.dependence]


def _curve(curve: Dependence, top: float, currency: str) -> Markup:
    # Money is in minor units in the vector, and in major ones for people.
    minor = "minor" in curve.feature
    money = money_in(currency)
    scale = 10.0 ** -minor_exponent(currency) if minor else 1.0
    points = [(at * scale, clv) for at, clv in zip(curve.at, curve.clv, strict=True)]
    return plot(
        Axis(f"{curve.feature} (in {currency_name(currency)})" if minor else curve.feature),
        Axis(f"mean CLV, {currency_name(currency)}", 0, top),
        title=f"Partial dependence on {curve.feature}: from {money(curve.clv[0])} at"
        f" {short(points[0][0])} to {money(curve.clv[-1])} at {short(points[-1][0])}.",
        lines=[(points, "")],
    )


def _churn_calibration(report: Rolling) -> Markup:
    # More lines than this cannot be told apart.
    drawn = report.cutoffs[-_DRAWN:]
    return plot(
        Axis("predicted churn", 0, 1, percent=True),
        Axis("observed churn", 0, 1, percent=True),
        title="Calibration of the churn probability by tenth of customers. "
        + _read_out(drawn[-1].churn.calibration, lambda value: share(value, 0)),
        lines=[
            ([(t.predicted, t.actual) for t in one.churn.calibration],
             "this model" if len(report.cutoffs) == 1 else one.cutoff)
            for one in drawn
        ],
        reference=(_DIAGONAL, _AS_PREDICTED),
        dotted=True,
    )  # fmt: skip
