"""The model card: a manifest in words and tables, in Markdown, for whoever has to trust the model.

Nothing stands in it that is not in the manifest, so it can be written again at any time. The
manifest is the truth; the card is not signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from features.events.money import currency_name
from model.artifact.files import MANIFEST_FILE, MODEL_FILE
from model.evaluate.metrics import ChurnMetrics, ClvMetrics, Decile
from model.report.escape import markdown
from model.report.format import Shown, money_in, ratio

if TYPE_CHECKING:
    from model.artifact.manifest import Manifest

# A level that is further off than this is said first.
_LEVEL_OFF: Final = 0.15
_MOST_TRIALS: Final = 5


class _Metrics(msgspec.Struct, frozen=True):
    """The part of `model.evaluate.holdout.Evaluation` that is told here."""

    cutoff: str
    until: str
    clv: dict[str, ClvMetrics]
    churn: ChurnMetrics
    skipped: dict[str, str] = {}


def card(manifest: Manifest) -> str:
    """The card of a model, in Markdown; no text of the manifest is markup."""
    manifest = msgspec.convert(_escaped(msgspec.to_builtins(manifest)), type(manifest))
    metrics = _metrics(manifest.metrics)
    sections = (
        _head(manifest),
        _use(manifest),
        _data(manifest),
        *(_quality(manifest, metrics) if metrics else (_not_evaluated(manifest),)),
        _by_cutoff(manifest),
        _search(manifest),
        _loading(manifest),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return markdown(value)
    if isinstance(value, dict):
        return {markdown(name): _escaped(one) for name, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list | tuple) else value


def _head(manifest: Manifest) -> str:
    options = ", ".join(f"{name} {value}" for name, value in sorted(manifest.options.items()))
    kind = f"`{manifest.kind}`" if manifest.kind else "not named"
    rows = [
        ("kind", f"{kind}, {options}" if options else kind),
        ("says", f"net revenue of the next {manifest.horizon_days} days in"
                 f" {currency_name(manifest.currency)},"
                 " refunds deducted, never below 0; and P(no order in them)"),
        ("sees", _seen(manifest)),
        ("trained on", f"orders from {manifest.trained_from} to before {manifest.cutoff}"),
        ("libraries", ", ".join(f"{n} {v}" for n, v in sorted(manifest.libraries.items()))),
    ]  # fmt: skip
    return f"# Model {manifest.model_version}\n\n" + _table(("", ""), rows)


def _seen(manifest: Manifest) -> str:
    known = ", ".join(column.name for column in manifest.attributes)
    orders = len(manifest.feature_names) - len(manifest.attributes)
    source = f"{orders} features of version {manifest.feature_version}, from a customer's orders"
    return f"{source}; and what else is known of them: {known}" if known else f"{source} alone"


def _use(manifest: Manifest) -> str:
    beyond = (
        ", beside the attributes that it was given" if manifest.attributes else ", and nothing else"
    )
    return f"""## What it is for, and what not

For ranking the customers of the shop whose orders it was trained on, and for telling how much of
a customer's expected revenue a silence puts at risk. One model serves one shop, one currency and
one horizon of {manifest.horizon_days} days.

- Not for decisions about persons: prices, credit, service. It knows when somebody bought and for
  how much{beyond}.
- It explains nothing about causes. That a customer is likely to leave does not mean that a
  voucher keeps them.
- One customer's CLV is an expectation over customers alike; most bring nothing, or several times
  as much. Sums over many are what it is good at.
- It has not seen what the future has not in common with the past: a new assortment, a campaign, a
  season that the orders before {manifest.cutoff} do not have. Retrain it, and watch its level
  (`python -m model monitor`).
- A customer without an order that was not taken back is worth 0."""


def _data(manifest: Manifest) -> str:
    lines = [
        f"## What it was made of\n\n{manifest.training_rows:,} rows of"
        f" {manifest.training_customers:,} customers: snapshots every"
        f" {manifest.snapshot_every_days} days, each row with what was known on its day and with"
        f" what came in the {manifest.horizon_days} days after it, all before {manifest.cutoff}."
    ]
    data = manifest.data
    if data is not None:
        lines.append(
            _table(
                ("orders", "customers", "first", "last", "fingerprint"),
                [(f"{data.orders:,}", f"{data.customers:,}", data.first, data.last, data.hash)],
            )
        )
        lines.append(
            "The fingerprint is of these orders in any order of files and rows; another one means"
            " other orders."
        )
    if manifest.cleaning:
        rows = [
            (name.replace("_", " "), value)
            for name, value in _flat(manifest.cleaning, money_in(manifest.currency))
        ]
        lines.append("Cleaning:\n\n" + _table(("what", "count"), rows, "lr"))
    return "\n\n".join(lines)


def _not_evaluated(manifest: Manifest) -> str:
    return (
        "## How good it is\n\nNot known: the orders end less than"
        f" {manifest.horizon_days} days after the cutoff, or nobody has evaluated it. Train with an"
        " earlier `--cutoff` to see how good such a model is on this shop."
    )


def _quality(manifest: Manifest, metrics: _Metrics) -> Iterable[str]:
    model = next(iter(metrics.clv.values()))
    head = (
        f"## How good it is\n\nOn {model.customers:,} customers and the time from"
        f" {metrics.cutoff} to {metrics.until}, which it has not seen; errors in"
        f" {currency_name(manifest.currency)}."
    )
    money = money_in(manifest.currency)
    columns = ("", "MAE", "RMSE", "R²", "norm. Gini", "Spearman", "bias", "decile WAPE", "top 10 %")
    rows = [
        (name, money(m.mae), money(m.rmse), ratio(m.r2), ratio(m.gini), ratio(m.spearman),
         ratio(m.bias), ratio(m.decile_wape), ratio(m.top_decile))
        for name, m in metrics.clv.items()
    ]  # fmt: skip
    yield f"{head}\n\n{_table(columns, rows, 'l' + 'r' * 8)}" + "".join(
        f"\n\n{name} could not be fitted: {why}" for name, why in metrics.skipped.items()
    )
    churn = metrics.churn
    yield (
        f"P(no order in {manifest.horizon_days} days), which was so for {churn.base_rate:.1%}:"
        f" ROC AUC {ratio(churn.roc_auc)}, PR AUC {ratio(churn.pr_auc)},"
        f" Brier score {churn.brier:.3f}"
        + (
            f", calibration error {churn.calibration_error:.3f}"
            f" (mean probability {churn.mean_predicted or 0.0:.1%})"
            if churn.calibration_error is not None
            else ""
        )
        + (f", F1 {churn.f1:.3f} at {churn.threshold:g}." if churn.f1 is not None else ".")
    )
    yield _level(manifest, model.bias)
    if model.calibration:
        yield _calibration(manifest, model.calibration)


def _level(manifest: Manifest, bias: float | None) -> str:
    if bias is None:
        return "**Level.** Nobody bought anything in that time, so the level is not known."
    drift = (
        "The level drifts with the seasons and with the shop: a model trained before Christmas"
        " does not know of it. Ranking suffers far less than sums do."
    )
    if abs(bias - 1) <= _LEVEL_OFF:
        return f"**Level.** The sum of all predictions was {bias:.2f} of what came. {drift}"
    way = "too much" if bias > 1 else "too little"
    return (
        f"**Level: off by {abs(bias - 1):.0%}.** It predicted {way}: {bias:.2f} of what came."
        f" Do not add its CLVs up to a forecast. {drift}"
    )


def _calibration(manifest: Manifest, deciles: Sequence[Decile]) -> str:
    rows = [
        (
            str(number),
            f"{one.customers:,}",
            *map(money_in(manifest.currency), (one.predicted, one.actual)),
        )
        for number, one in enumerate(deciles, 1)
    ]
    return (
        "### Calibration\n\nTenths of the customers by prediction, the lowest first: means in"
        f" {currency_name(manifest.currency)}.\n\n"
        + _table(("tenth", "customers", "predicted", "came"), rows, "rrrr")
    )


def _by_cutoff(manifest: Manifest) -> str:
    rows, money = [], money_in(manifest.currency)
    for one in manifest.cutoffs:
        metrics = _metrics(one)
        if metrics is None:
            continue
        rows += [
            (metrics.cutoff if not at else "", name, money(m.mae), money(m.rmse),
             ratio(m.gini), ratio(m.spearman), ratio(m.bias))
            for at, (name, m) in enumerate(metrics.clv.items())
        ]  # fmt: skip
    if not rows:
        return ""
    columns = ("cutoff", "", "MAE", "RMSE", "norm. Gini", "Spearman", "bias")
    return (
        "### At other cutoffs\n\nThe same kind with the same options, retrained on what was"
        " known at each.\n\n" + _table(columns, rows, "llrrrrr")
    )


def _search(manifest: Manifest) -> str:
    if not manifest.search:
        return ""
    plain = [
        (name.replace("_", " "), _short(value))
        for name, value in manifest.search.items()
        if not isinstance(value, list | dict)
    ]
    tried = manifest.search.get("trials")
    text = (
        "## How it was chosen\n\nKind and options come from a search; all of it is in the manifest."
    )
    text += "\n\n" + _table(("", ""), plain) if plain else ""
    if isinstance(tried, list) and tried and isinstance(tried[0], dict):
        text += f"\n\nThe first of {len(tried)} trials:\n\n" + _trials(tried[:_MOST_TRIALS])
    return text


def _trials(trials: Sequence[Mapping[str, Any]]) -> str:
    columns = [name for name, value in trials[0].items() if not isinstance(value, list)]
    rows = [[_short(trial.get(name, "")) for name in columns] for trial in trials]
    return _table(columns, rows)


def _loading(manifest: Manifest) -> str:
    if manifest.file == MODEL_FILE:
        what = f"""`{MODEL_FILE}` holds numbers and runs nothing. clv-streamer checks their names,
shapes and ranges, that its SHA-256 is that of `{MANIFEST_FILE}`, and that it scores
{len(manifest.canary.clv)} customers as it did when it was saved."""
    else:
        what = f"""`{manifest.file}` is a pickle: it can run any code where it is opened.
clv-streamer opens it only if a trusted key signed it, or where it is told to (`--trust-pickle`).
Take it from nobody you would not run a program from."""
    return f"""## Before you load it

{what}
That finds damage and mix-ups. Who made it, only a signature tells.

```sh
sha256sum {manifest.file}    # {manifest.sha256}
python -m model registry publish REGISTRY . --keys trusted.keys    # only if one of them signed it
```"""


def _metrics(metrics: Mapping[str, Any]) -> _Metrics | None:
    """None where there are none, or where they are of a form that is not known here."""
    try:
        found = msgspec.convert(metrics, _Metrics)
    except msgspec.ValidationError:
        return None
    return found if found.clv else None


def _flat(counts: Mapping[str, Any], money: Shown, above: str = "") -> Iterable[tuple[str, str]]:
    """Numbers of a nested mapping by the path to them."""
    for name, value in counts.items():
        path = f"{above}: {name}" if above else name
        if isinstance(value, Mapping):
            yield from _flat(value, money, path)
        elif isinstance(value, bool):
            yield path, "yes" if value else "no"
        elif value is not None and not isinstance(value, list):
            yield path, f"{value:,}" if isinstance(value, int) else _fraction(name, value, money)


def _fraction(name: str, value: object, money: Shown) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1%}" if name.endswith("share") else money(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    marks = {"l": "---", "r": "---:"}
    rule = [marks[align[at] if at < len(align) else "l"] for at in range(len(columns))]
    lines = [columns, rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 100 else text[:100] + "…"
