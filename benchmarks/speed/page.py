"""Makes docs/speed.md and its plots of what the other commands left in docs/results/speed.

python -m benchmarks speed.page
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.speed.environments import ROOT
from benchmarks.speed.measured import RESULTS, table

PAGE = ROOT / "docs" / "speed.md"
AXES = ("customers", "partitions", "workers", "orders_each", "due", "backlog")
# The same plot of the same numbers, to the byte.
STYLE = {"svg.hashsalt": "clv-streamer", "svg.fonttype": "none", "font.size": 9}
TEAL, GREY = "#00796b", "#90a4ae"

Rows = list[dict[str, Any]]


class Results:
    """What was measured, by command; empty where a command was not run."""

    def __init__(self) -> None:
        found = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
        self.all: dict[str, dict[str, Any]] = dict(sorted(found.items()))

    def rows(self, name: str) -> Rows:
        rows = self.all.get(name, {}).get("rows", [])
        # Where nobody was due there is nothing to divide by.
        return [row for row in rows if row.get("instants") != 0]

    def value(self, name: str, of: str, **where: object) -> float | None:
        """What a row has under a name; None where nothing was measured."""
        for row in self.rows(name):
            if all(row.get(key) == wanted for key, wanted in where.items()):
                return row.get(of)
        return None


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def short(value: float) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size and value % size == 0:
            return f"{value // size:g}{letter}"
    return f"{value:g}"


# --- the bar -----------------------------------------------------------------------------------


class Goal(NamedTuple):
    """A figure that is wanted, at most or (`least`) at least, and what was found."""

    wanted: float
    found: float | None
    least: bool = False

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "-"
        met = self.found >= self.wanted if self.least else self.found <= self.wanted
        return "✓" if met else "✗"


def bar(results: Results) -> Iterator[tuple[str, list[Goal]]]:
    """What is wanted, and what was found."""
    of = results.value
    ours, floor = "clv-streamer", of("whole", "times_ours", way="floor by hand, no guarantees")
    a_second = Goal(40_000, of("whole", "a_second", way=ours), least=True)
    to_floor = Goal(1, 1 / floor if floor else None)
    whole_us = Goal(22, of("whole", "cpu_us", way=ours))
    yield "whole job: us an order, times the floor, orders/s", [whole_us, to_floor, a_second]
    clock = of("whole", "cpu_us", way="clv-streamer, CDNOW")
    yield "CDNOW: us an order", [Goal(110, clock)]
    many = [of("inside", "us", what="silences", batch=size) for size in (500, 2_000)]
    yield "silence of 500, 2,000: us", [Goal(5, us) for us in many]
    yield "order in tens: us", [Goal(60, of("inside", "us", what="orders", batch=10))]
    one = of("growth-partitions", "a_second", partitions=1)
    yield "one partition: orders/s", [Goal(25_000, one, least=True)]
    late = {0.5: 150, 0.9: 1_000}
    p99 = [Goal(ms, of("latency", "warnings_p99", share=at)) for at, ms in late.items()]
    yield "warning at 50, 90 %: p99 ms", p99
    fast = {"burst": 50_000, "cdnow": 9_000, "shop-1000000": 18_000}
    replays = [
        Goal(rate, of("logs", "a_second", log=log, command="replay"), least=True)
        for log, rate in fast.items()
    ]
    yield f"replay of {', '.join(fast)}: rows a CPU s", replays
    mb = [row.get("peak_mb", 0) for row in results.rows("logs") if row["command"] == "replay"]
    yield "replay: MB", [Goal(500, max(mb, default=0) or None)]
    for log, seconds, most in (("shop-1000000", 60, 1_000), ("shop-10000000", 600, 3_000)):
        took = Goal(seconds, of("logs", "cpu_s", log=log, command="backtest"))
        peak = Goal(most, of("logs", "peak_mb", log=log, command="backtest"))
        yield f"backtest of {log}: CPU s, MB", [took, peak]
    kept = of("growth-orders_each", "redis_bytes", orders_each=10)
    yield "customer of 10 orders in Redis: bytes", [Goal(350, kept)]
    grown = {row["customers"]: row["cpu_us"] for row in results.rows("growth-customers")}
    more = 100 * (grown[max(grown)] / grown[min(grown)] - 1) if len(grown) > 1 else None
    yield f"{short(max(grown, default=0))} customers against 10k: % more", [Goal(15, more)]
    peak_mb = of("growth-backlog", "peak_mb", backlog=100_000)
    yield "backlog of 1M, 100k due: MB", [Goal(400, peak_mb)]
    yield "demo: s", [Goal(25, of("logs", "wall_s", log="cdnow", command="demo"))]


def bar_rows(results: Results) -> Rows:
    return [
        {
            "what": what,
            "wanted": ", ".join(f"{'≥' if goal.least else '≤'} {goal.wanted:,}" for goal in goals),
            "found": ", ".join(number(goal.found) for goal in goals),
            "": " ".join(goal.verdict for goal in goals),
        }
        for what, goals in bar(results)
    ]


# --- tables ------------------------------------------------------------------------------------


def selected(rows: Rows, names: dict[str, str]) -> Rows:
    """The rows with some of their fields, under other names."""
    return [
        {
            new: value if isinstance(value := row.get(old), str) else number(value)
            for old, new in names.items()
        }
        for row in rows
    ]


WHOLE = {
    "way": "way",
    "orders": "orders",
    "cpu_us": "us an order",
    "times_ours": "times ours",
    "redis_us": "Redis us",
    "a_second": "orders/s",
    "peak_mb": "MB",
}
LATENCY = {
    "share": "share",
    "a_second": "orders/s",
    **{f"scores_p{p}": f"score p{p}" for p in (50, 99)},
    **{f"warnings_p{p}": f"warning p{p}" for p in (50, 99)},
}
LOGS = {
    "log": "log",
    "command": "command",
    "cpu_s": "CPU s",
    "a_second": "rows a CPU s",
    "peak_mb": "MB",
}


def growth_rows(results: Results) -> Rows:
    return [
        {
            "axis": axis.replace("_", " "),
            "us an order (due: a silence)": ", ".join(
                f"{short(row[axis])}: {number(row['cpu_us'])}" for row in rows
            ),
            "MB at most": number(max(row["peak_mb"] for row in rows)),
        }
        for axis in AXES
        if (rows := results.rows(f"growth-{axis}"))
    ]


def told(results: Results, name: str) -> str:
    """How and on what a measurement was made."""
    found = results.all.get(name)
    if found is None:
        return f"`speed.{name}`: not run."
    return (
        f"`speed.{name}`: {found['method']}; {found['at']}, load {found['load']},"
        f" commit {found['commit']}."
    )


def picture(name: str, of: str) -> str:
    there = (RESULTS / f"{name}.svg").is_file()
    return f"![{of}](results/speed/{name}.svg)" if there else ""


def page(results: Results) -> str:
    machine = next((one["machine"] for one in results.all.values()), "")
    growth = next((name for name in results.all if name.startswith("growth-")), "growth")
    sections = [
        "# Speed",
        "Written by `python -m benchmarks speed.page`, not by hand, from `docs/results/speed`. us:"
        " CPU, microseconds; orders/s: wall time, on"
        f" {machine}, shared with others: read CPU and ratios. -: not run.",
        "## Wanted and found",
        table(bar_rows(results)),
        "## The whole job",
        f"{told(results, 'whole')} The others do less (`benchmarks/speed/rivals/job.py`).",
        table(selected(results.rows("whole"), WHOLE)),
        picture("whole", "CPU an order by way"),
        "## Latency",
        f"{told(results, 'latency')} Milliseconds.",
        table(selected(results.rows("latency"), LATENCY)),
        picture("latency", "Latency by rate"),
        "## Growth",
        told(results, growth).replace(f"speed.{growth}", "speed.growth"),
        table(growth_rows(results)),
        picture("growth", "CPU by size"),
        "## Logs",
        told(results, "logs"),
        table(selected(results.rows("logs"), LOGS)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


# --- plots -------------------------------------------------------------------------------------


def saved(figure: Figure, name: str) -> None:
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")


def plot_whole(rows: Rows) -> None:
    figure = Figure((7, 2.6))
    axes = figure.subplots()
    names = [row["way"] for row in reversed(rows)]
    values = [row["cpu_us"] for row in reversed(rows)]
    colours = [TEAL if name.startswith("clv") else GREY for name in names]
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, labels=[number(value) for value in values], padding=3)
    axes.set(xscale="log", xlabel="CPU an order, us", xlim=(min(values) / 2, max(values) * 3))
    saved(figure, "whole")


def plot_latency(rows: Rows) -> None:
    figure = Figure((7, 2.6))
    axes = figure.subplots()
    shares = [f"{row['share']:.0%}" for row in rows]
    for what, colour in (("scores", GREY), ("warnings", TEAL)):
        for percentile, style in ((50, "-"), (90, "--"), (99, ":")):
            values = [row[f"{what}_p{percentile}"] for row in rows]
            label = f"{what.removesuffix('s')}, p{percentile}"
            axes.plot(shares, values, style, color=colour, marker="o", label=label)
    axes.set(yscale="log", ylabel="ms", xlabel="share of capacity")
    axes.legend(fontsize=7)
    saved(figure, "latency")


def plot_growth(results: Results, axes_: Sequence[str] = AXES[:-1]) -> None:
    figure = Figure((10, 2.2))
    all_axes = figure.subplots(1, len(axes_))
    for axes, axis in zip(all_axes, axes_, strict=True):
        rows = results.rows(f"growth-{axis}")
        points = [short(row[axis]) for row in rows]
        axes.plot(points, [row["cpu_us"] for row in rows], color=TEAL, marker="o")
        axes.set(xlabel=axis.replace("_", " "), ylim=(0, None))
    all_axes[0].set_ylabel("CPU, us")
    saved(figure, "growth")


def main() -> None:
    results = Results()
    with mpl.rc_context(STYLE):
        if rows := results.rows("whole"):
            plot_whole(rows)
        if rows := results.rows("latency"):
            plot_latency(rows)
        if any(name.startswith("growth-") for name in results.all):
            plot_growth(results)
    PAGE.write_text(page(results))
    print(PAGE)


if __name__ == "__main__":
    main()
