"""Makes docs/speed.md and its plots of what the other commands left in docs/results/speed.

python -m benchmarks speed.page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
        return self.all.get(name, {}).get("rows", [])

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

Cell = tuple[str, str, float | None, Callable[[float], bool]]


def at_most(limit: float) -> Callable[[float], bool]:
    return lambda value: value <= limit


def at_least(limit: float) -> Callable[[float], bool]:
    return lambda value: value >= limit


def bar(results: Results) -> Iterator[Cell]:
    """What is wanted, as the issue of speed had it, and what was found."""
    of = results.value
    ours, floor = "clv-streamer", of("whole", "times_ours", way="floor by hand, no guarantees")
    yield "whole job, CPU us an order", "<= 22", of("whole", "cpu_us", way=ours), at_most(22)
    yield "the same, times the floor", "<= 1", 1 / floor if floor else None, at_most(1)
    a_second = of("whole", "a_second", way=ours)
    yield "the same, orders a second", ">= 40,000", a_second, at_least(40_000)
    clock = of("whole", "cpu_us", way="clv-streamer, CDNOW")
    yield "CDNOW, CPU us an order", "<= 110", clock, at_most(110)
    for size in (500, 2_000):
        us = of("inside", "us", what="silences", batch=size)
        yield f"silence, {size:,} at once, us", "<= 5", us, at_most(5)
    us = of("inside", "us", what="orders", batch=10)
    yield "order in batches of 10, us", "<= 60", us, at_most(60)
    one = of("growth-partitions", "a_second", partitions=1)
    yield "one partition, orders a second", ">= 25,000", one, at_least(25_000)
    for share, limit in ((0.5, 150), (0.9, 1_000)):
        ms = of("latency", "warnings_p99", share=share)
        yield f"warning at {share:.0%}, p99 ms", f"< {limit:,}", ms, at_most(limit)
    for log, limit in (("burst", 50_000), ("cdnow", 9_000), ("shop-1000000", 18_000)):
        found = of("logs", "a_second", log=log, command="replay")
        yield f"replay of {log}, orders a CPU s", f">= {limit:,}", found, at_least(limit)
    mb = [row["peak_mb"] for row in results.rows("logs") if row["command"] == "replay"]
    yield "replay, MB", "<= 500", max(mb, default=None), at_most(500)
    for log, seconds, most in (("shop-1000000", 60, 1_000), ("shop-10000000", 600, 3_000)):
        took = of("logs", "cpu_s", log=log, command="backtest")
        yield f"backtest of {log}, CPU s", f"<= {seconds}", took, at_most(seconds)
        peak = of("logs", "peak_mb", log=log, command="backtest")
        yield "the same, MB", f"<= {most:,}", peak, at_most(most)
    kept = of("whole", "redis_bytes", way=ours)
    yield "Redis bytes a customer of 10 orders", "<= 350", kept, at_most(350)
    grown = {row["customers"]: row["cpu_us"] for row in results.rows("growth-customers")}
    more = 100 * (grown[max(grown)] / grown[min(grown)] - 1) if len(grown) > 1 else None
    most_customers = short(max(grown, default=0))
    yield f"{most_customers} customers against 10k, % more", "<= 15", more, at_most(15)
    peak = of("growth-backlog", "peak_mb", backlog=100_000)
    yield "backlog of 1M, then 100k due, MB", "<= 400", peak, at_most(400)
    yield "`make demo`, s", "<= 25", of("logs", "wall_s", log="cdnow", command="demo"), at_most(25)


def bar_rows(results: Results) -> Rows:
    return [
        {
            "what": what,
            "wanted": wanted,
            "found": number(found),
            "": "not run" if found is None else "met" if holds(found) else "**missed**",
        }
        for what, wanted, found, holds in bar(results)
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
    **{f"scores_p{p}": f"score p{p}" for p in (50, 90, 99)},
    **{f"warnings_p{p}": f"warning p{p}" for p in (50, 90, 99)},
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


def inside_rows(results: Results) -> Rows:
    """CPU and instructions of a batch's size beside one another."""
    return [
        {
            "what": row["what"],
            "batch": number(row["batch"]),
            "us": number(row["us"]),
            "instructions": number(
                results.value("instructions", "instructions", what=row["what"], batch=row["batch"])
            ),
        }
        for row in results.rows("inside")
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
        "Made by `make bench ARGS=speed.page` of what the commands named here left in"
        " `docs/results/speed`. us: microseconds of CPU; orders/s: wall time."
        f" {machine}, shared with others: read CPU and ratios.",
        "## Wanted and found",
        table(bar_rows(results)),
        "## The whole job",
        f"{told(results, 'whole')} Kafka, state, features, model, rule, score, durable. The others"
        " have an easier job: see `benchmarks/speed/rivals/job.py`.",
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
        "## In one process",
        f"{told(results, 'inside')} Instructions: `--instructions`, by callgrind.",
        table(inside_rows(results)),
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
