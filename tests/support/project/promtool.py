"""Prometheus' own checker: from the PATH, or Debian's, unpacked into .cache and not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parents[3] / ".cache" / "promtool"


def promtool() -> str | None:
    """Where it is; None where it cannot be had."""
    if found := shutil.which("promtool"):
        return found
    binary = CACHE / "usr" / "bin" / "promtool"
    if not binary.exists() and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "prometheus"], cwd=CACHE, check=False, capture_output=True
        )
        for package in CACHE.glob("prometheus_*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(CACHE)], check=False)
            package.unlink()
    return str(binary) if binary.exists() else None
