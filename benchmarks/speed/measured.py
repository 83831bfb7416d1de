"""What is read of processes and machine, and where results are kept."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed.environments import ROOT
from tests.support.chaos.results import commit, machine

RESULTS = ROOT / "docs" / "results" / "speed"
CACHE = ROOT / ".cache" / "bench"


def cpu_s(pid: int) -> float:
    """CPU seconds of another process so far, of all its threads, those that ended too (Linux)."""
    return time.clock_gettime((~pid << 3) | 2)


def peak_mb(pid: int) -> float:
    """The most memory that a process has had, resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


class Ran(NamedTuple):
    """What a command took. `peak_mb`: most resident memory."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    out: str


def run(command: Sequence[str | Path], environ: Mapping[str, str] = {}) -> Ran:
    """Runs a command of the product to its end. Ends us where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {out[-2_000:]}")
    return Ran(
        used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024, out
    )


def middle(values: Iterable[float]) -> float:
    """The median, to three digits."""
    return float(f"{statistics.median(values):.3g}")


def about() -> dict[str, Any]:
    """When, where and of what code a measurement is."""
    load = "/".join(f"{part:.1f}" for part in os.getloadavg())
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"at": at, "machine": machine(), "load": load, "commit": commit()}


def keep(name: str, method: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> Path:
    """Writes the results of a measurement to docs/results, in place of earlier ones."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = {**about(), "method": method, **more, "rows": list(rows)}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"\n{machine()}; load {kept['load']}; commit {kept['commit']}\n{path}")
    return path


def update(name: str, by: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows in place of those that have the same under `by`, or behind them; the rest stays
    as it was."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        keep(name, "", [])
    kept = json.loads(path.read_text())
    new = {row[by]: row for row in rows}
    kept["rows"] = [new.pop(row[by], row) for row in kept["rows"]] + list(new.values())
    path.write_text(json.dumps(kept, indent=1) + "\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in Markdown, by the first one's names."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    lines += [f"| {' | '.join(str(row.get(name, '')) for name in names)} |" for row in rows]
    return "\n".join(lines)
