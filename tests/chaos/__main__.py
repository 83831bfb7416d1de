"""`python -m tests.chaos`: the fault suite, then its page in docs/results.

In parts side by side, since most of what they do is to wait. CHAOS_FULL=1 for the full suite;
CHAOS_BROKER for the broker, see `conftest`. With arguments for pytest it is one run, and the page
stays as it is; so it does with CI=true.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.chaos.results import RESULTS, write_page

HERE: Final = Path(__file__).parent
PARTS: Final = {
    "workers": ["test_workers.py"],
    "stores": ["test_stores.py", "test_clock.py"],
    "topics": [
        "test_inputs.py",
        "test_network.py",
        "test_models.py",
        "test_covered.py",
        "test_ingest.py",
    ],
}


def main(arguments: list[str]) -> int:
    if arguments:
        return _pytest("partial", [str(HERE), *arguments]).wait()
    size = "full" if os.environ.get("CHAOS_FULL") == "1" else "small"
    for old in RESULTS.glob(f"{size}-*.json"):
        old.unlink()
    running = [
        _pytest(f"{size}-{name}", [str(HERE / file) for file in files])
        for name, files in PARTS.items()
    ]
    codes = [process.wait() for process in running]
    if os.environ.get("CI") != "true":
        write_page(size)
    return max(codes)


def _pytest(results: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # The cache of which tests failed last is one for all.
        [sys.executable, "-m", "pytest", "-m", "chaos", "-p", "no:cacheprovider", *arguments],
        env={**os.environ, "CHAOS_RESULTS": results},
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
