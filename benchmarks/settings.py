"""What each plain setting of warnings does, on one log: a table of docs/warnings.md.

    python -m benchmarks.settings

Reads `cdnow.csv.gz` from CLV_BENCH_DATA. Method: every third customer of the log; a model trained
on what was known on day 270 at a horizon of 90 days; the rest of the log is simulated day by day
through the live judge, once for each setting.
"""

from __future__ import annotations

from benchmarks.warnings_bar import orders_of
from features.times import day_of
from model.backtest.result import Backtest
from model.backtest.run import BacktestPlan, BacktestRun, trained
from model.data.training_rows import TrainingConfig
from model.decide.policy import Policy

TRIED = (
    ("defaults", Policy()),
    ("CLV_EARLY=0.25", Policy(early=0.25)),
    ("CLV_EARLY=0.75", Policy(early=0.75)),
    ("CLV_PRECISION=0.6", Policy(precision=0.6)),
    ("CLV_PRECISION=0.7", Policy(precision=0.7)),
    ("CLV_BUDGET_PER_DAY=5", Policy(budget_per_day=5)),
    ("CLV_BUDGET_PER_DAY=5 CLV_MONEY=0", Policy(budget_per_day=5, money=0.0)),
    ("CLV_BUDGET_PER_DAY=5 CLV_MONEY=2", Policy(budget_per_day=5, money=2.0)),
    ("CLV_FLOOR_PERCENTILE=90", Policy(floor_percentile=90.0)),
)
HORIZON = 90
CUTOFF_DAY = 270
ONE_OF = 3


def row(name: str, report: Backtest) -> str:
    """What the warnings that a setting sent were worth."""
    found = report.rule
    shares = (found.strict_precision, found.recall, found.value_captured)
    cells = (
        f"`{name}`" if "=" in name else name,
        f"{found.warnings:,}",
        *("-" if share is None else f"{100 * share:.1f}" for share in shares),
        f"{found.median_lead_days or 0:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    orders = orders_of("cdnow")
    users = sorted({order.user_id for order in orders})
    kept = set(users[::ONE_OF])
    orders = [order for order in orders if order.user_id in kept]
    start = day_of(orders[0].ts_ms) + CUTOFF_DAY
    scorer = trained(orders, start, TrainingConfig(horizon_days=HORIZON))
    print("| setting | warnings | strict precision | recall | of the churners' CLV | median lead |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, policy in TRIED:
        report = BacktestRun(orders, scorer, BacktestPlan(start, policy)).report()
        print(row(name, report), flush=True)


if __name__ == "__main__":
    main()
