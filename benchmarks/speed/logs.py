"""What replay, train and backtest take on logs of 70 thousand, 1 million and 10 million orders.

    python -m benchmarks speed.logs [--log NAME ...] [--turns 1] [COMMAND ...]

Method: CPU seconds and most resident memory of each command as a user runs it, reading the CSV
included; the median where there are several turns. `cdnow`: 69,659 orders, a horizon of 90 days.
`shop-1000000` and `shop-10000000` are made: 3 orders to a customer in 60 days, a horizon of 14.
`burst` is that of the whole job; it and the demo have one command. Replays use CDNOW's model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.measured import CACHE, Ran, keep, middle, run, table
from benchmarks.speed.served import cdnow, model
from benchmarks.speed.workloads import burst, write_shop

LOGS = ("burst", "cdnow", "shop-1000000", "shop-10000000")
COMMANDS = ("replay", "train", "backtest", "demo")
DAYS, HORIZON = 60, 14


def log_of(name: str) -> tuple[Path, int]:
    """A log, and how many orders it has."""
    path = CACHE / f"{name}.csv"
    if name == "cdnow":
        return cdnow(), 69_659
    if name == "burst":
        path.write_text(
            "\n".join(["order_id,user_id,ts,amount", *map(",".join, burst().rows()), ""])
        )
        return path, burst().orders
    rows = int(name.partition("-")[2])
    if not path.is_file():
        write_shop(path, rows, rows * 3 // 10, DAYS)
    return path, rows


def commands_of(name: str, wanted: Sequence[str]) -> list[str]:
    there = {"burst": ("replay",), "cdnow": COMMANDS}.get(name, COMMANDS[:3])
    return [command for command in there if command in wanted]


def measure(name: str, wanted: Sequence[str], turns: int) -> list[dict[str, Any]]:
    (path, rows), commands = log_of(name), commands_of(name, wanted)
    options = [] if name == "cdnow" else ["--horizon", str(HORIZON)]
    found: dict[str, list[Ran]] = {command: [] for command in commands}
    with tempfile.TemporaryDirectory(prefix="clv-bench-") as directory:
        made = Path(directory) / "model"
        lines = {
            "replay": ["streamer", "replay", path, "--model", model(), "--out", directory],
            "train": ["model", "train", path, "--out", made, *options],
            "backtest": ["model", "backtest", path, "--model", made / "judged"],
            "demo": ["streamer", "demo"],
        }
        if "backtest" in commands and "train" not in commands:
            run(lines["train"])
        for _ in range(turns):
            for command, taken in found.items():
                taken.append(run(lines[command]))
                print(f"{name} {command}: {taken[-1].cpu_s:.1f} CPU s", flush=True)
    return [
        {
            "log": name,
            "rows": rows,
            "command": command,
            "cpu_s": middle(one.cpu_s for one in taken),
            "wall_s": middle(one.wall_s for one in taken),
            "peak_mb": middle(one.peak_mb for one in taken),
            "a_second": middle(rows / one.cpu_s for one in taken),
        }
        for command, taken in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--log", nargs="*", default=list(LOGS))
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("commands", nargs="*", choices=[*COMMANDS, []], default=[])
    asked = parser.parse_args()
    wanted = asked.commands or COMMANDS
    found: list[dict[str, Any]] = []
    for name in asked.log:
        found += measure(name, wanted, asked.turns)
        keep("logs", f"medians of {asked.turns}", found)
    print(table(found))


if __name__ == "__main__":
    main()
