"""Programs from the PATH, or Debian's, unpacked into .cache and not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parents[3] / ".cache" / "debian"


def from_debian(program: str, *packages: str) -> Path | None:
    """Where a program is that is in one of the packages; None where it cannot be had."""
    if found := shutil.which(program):
        return Path(found)
    root = CACHE / program
    binary = root / "usr" / "bin" / program
    if not binary.exists() and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        root.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", *packages], cwd=root, check=False, capture_output=True
        )
        for package in root.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=False)
            package.unlink()
    return binary if binary.exists() else None
