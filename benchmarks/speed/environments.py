"""Environments of their own for what only a benchmark needs, made when one is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RIVALS = Path(__file__).parent / "rivals"
_WHERE = ROOT / ".cache" / "bench"


def python_of(name: str) -> Path:
    """The interpreter of `floor` or `rivals`, with what `rivals/NAME.txt` pins."""
    pins, place = RIVALS / f"{name}.txt", _WHERE / f"env-{name}"
    stamp, python = place / "pins.txt", place / "bin" / "python"
    if not stamp.is_file() or stamp.read_bytes() != pins.read_bytes():
        print(f"Setting up the environment of {pins.name} (once) ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        quiet = ("--disable-pip-version-check", "--quiet", "--no-input", "--require-hashes")
        subprocess.run([python, "-m", "pip", "install", *quiet, "-r", pins], check=True)
        stamp.write_bytes(pins.read_bytes())
    return python
