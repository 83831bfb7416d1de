"""What a kernel compiled by numba would add to NumPy on silences: decision 0016.

    python -m benchmarks speed.kernel [--turns 5]

Method: `share`: how much of an instant in one process (`speed.inside`) is arithmetic, looking at
facts, risks and scores: no kernel can save more. `decayed`: the sums of `decayed_columns` over the
buckets of 500 and 2,000 customers, by NumPy and by a kernel, and whether both are equal to the bit.
Start-up: of processes of their own, importing numba and compiling that kernel, without and with its
cache. Medians of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import inside
from benchmarks.speed.environments import ROOT, python_of
from benchmarks.speed.measured import keep, middle, table
from features.columns.catalog import HALF_LIVES_DAYS
from features.columns.table import BucketTable, FactColumns
from features.columns.windows import decayed_columns
from features.facts.state import HISTORY_DAYS
from model.decide.scoring import Scorer

SIZES = (500, 2_000)
BUCKETS_EACH = 12


def share(size: int) -> dict[str, Any]:
    """Microseconds a silence, and how many of them are arithmetic."""
    spent = [0.0]
    depth = [0]

    def timed(of: type, name: str) -> Callable[[], None]:
        original = getattr(of, name)

        def measured(*given: Any, **named: Any) -> Any:
            depth[0] += 1
            began = time.process_time()
            try:
                return original(*given, **named)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    spent[0] += time.process_time() - began

        setattr(of, name, measured)
        return lambda: setattr(of, name, original)

    at: list[float] = []

    def mark() -> float:
        at.append(spent[0])
        return time.process_time()

    undo = [timed(Scorer, name) for name in ("risks", "rated", "rate", "vectors")]
    undo.append(timed(FactColumns, "at"))
    try:
        moved = asyncio.run(inside.silences(size, mark, 5 * size))
    finally:
        for back in undo:
            back()
    return {"us": 1e6 * moved.each, "arithmetic_us": 1e6 * (at[1] - at[0]) / moved.over}


def facts(size: int) -> BucketTable:
    """The buckets of customers who bought on twelve days."""
    draws, many = np.random.default_rng(0), size * BUCKETS_EACH
    row = np.repeat(np.arange(size), BUCKETS_EACH)
    age = np.sort(draws.integers(0, 1_000, (size, BUCKETS_EACH)))[:, ::-1].ravel()
    cents = draws.integers(100, 20_000, many)
    refunded = np.where(draws.random(many) < 0.05, cents, 0)
    as_of_day = np.full(size, 20_000)
    orders, none = draws.integers(1, 3, many), np.zeros((size, 1), np.int64)
    return BucketTable(size, as_of_day, row, 20_000 - age, age, orders, cents, refunded, none)


def compiled() -> Callable[..., np.ndarray]:
    """The kernel: the same sums in the same order, one bucket after the other."""
    import numba

    @numba.njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
    def kernel(rows: int, row: Any, age: Any, orders: Any, net: Any, weights: Any) -> Any:
        out, last = np.zeros((rows, 2 * len(weights))), weights.shape[1] - 1
        for at in range(len(row)):
            for half in range(len(weights)):
                weight = weights[half, min(age[at], last)]
                out[row[at], 2 * half] += orders[at] * weight
                out[row[at], 2 * half + 1] += net[at] * weight
        return out

    return kernel  # type: ignore[no-any-return]


def decayed(size: int, kernel: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Microseconds a customer by NumPy and by the kernel; whether they agree."""
    one = facts(size)
    ages = np.arange(HISTORY_DAYS + 1)
    weights = np.array([np.append(0.5 ** (ages / half), 0.0) for half in HALF_LIVES_DAYS])

    def by_kernel() -> np.ndarray:
        return kernel(size, one.row, one.age_days, one.orders, one.gross - one.refunded, weights)

    def by_numpy() -> np.ndarray:
        return np.ascontiguousarray(decayed_columns(one).T)

    equal = bool((by_kernel() == by_numpy()).all())
    return {
        "numpy_us": each_us(by_numpy, size),
        "kernel_us": each_us(by_kernel, size),
        "equal": equal,
    }


def each_us(work: Callable[[], object], size: int) -> float:
    taken = []
    for _ in range(50):
        began = time.process_time()
        work()
        taken.append(1e6 * (time.process_time() - began) / size)
    return middle(taken)


def process_s(cache: Path, *given: str) -> float:
    """CPU seconds of a process that does so much of it."""
    environ = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "KERNEL_PART": " ".join(given)}
    before = os.times()
    subprocess.run([sys.executable, "-m", __spec__.name], cwd=ROOT, env=environ, check=True)
    after = os.times()
    return after.children_user + after.children_system - before[2] - before[3]


def start_up(turns: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="clv-bench-") as directory:
        taken: dict[str, list[float]] = {}
        for turn in range(turns):
            cache = Path(directory) / str(turn)
            none = process_s(cache, "none")
            for name in ("import", "compile", "cached"):
                part = "compile" if name == "cached" else name
                taken.setdefault(f"{name}_s", []).append(process_s(cache, part) - none)
    return {name: middle(each) for name, each in taken.items()}


def installed_mb(place: Path) -> float:
    """Of what numba brings along, without NumPy."""
    files = [f for name in ("numba", "llvmlite*") for d in place.glob(name) for f in d.rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    place = next((python_of("kernel").parents[1] / "lib").glob("python*")) / "site-packages"
    sys.path.append(str(place))
    match os.environ.get("KERNEL_PART", ""):
        case "none":
            return
        case "import":
            import numba

            print(numba.__version__, file=sys.stderr)
            return
        case "compile":
            decayed(10, compiled())
            return
    kernel = compiled()
    rows = []
    for size in SIZES:
        shares = [share(size) for _ in range(asked.turns)]
        of = {key: middle(one[key] for one in shares) for key in shares[0]}
        rows.append({"customers": size, **of, **decayed(size, kernel)})
    print(table(rows))
    more = {**start_up(asked.turns), "installed_mb": round(installed_mb(place))}
    print(more)
    keep("kernel", f"medians of {asked.turns}", rows, **more)


if __name__ == "__main__":
    main()
