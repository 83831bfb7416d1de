"""`make package`: the wheel as a user gets it, in an environment that has nothing else.

Builds it, installs it with the pinned requirements, and runs its commands and its demo in a
directory that is no checkout. Prints how long it took.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
PACKAGES: Final = ("features", "model", "streamer")
_PIP: Final = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")


def build(into: Path) -> Path:
    """The wheel of a copy of what belongs into it: building leaves files behind."""
    source = into / "source"
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    # setuptools is a dependency of ours already: no network for it.
    command = [sys.executable, *_PIP, "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(into), str(source)], check=True)
    (wheel,) = into.glob("*.whl")
    return wheel


def packed(wheel: Path) -> set[str]:
    """The files of our packages in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.split("/")[0] in PACKAGES}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="clv-package-") as temporary:
        place, began = Path(temporary), time.monotonic()
        wheel = build(place / "wheel")
        venv = place / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        python, command = venv / "bin/python", venv / "bin/clv-streamer"
        pinned = ["install", "--require-hashes", "-r", str(ROOT / "requirements.txt")]
        subprocess.run([python, *_PIP, *pinned], check=True)
        subprocess.run([python, *_PIP, "install", "--no-deps", str(wheel)], check=True)
        subprocess.run([python, *_PIP, "check"], check=True)
        print(f"installed after {time.monotonic() - began:.0f} s", flush=True)
        elsewhere = place / "elsewhere"
        elsewhere.mkdir()
        # What a shell of the developer has set must not help.
        kept = {"PATH", "HOME", "OMP_NUM_THREADS", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "TMPDIR"}
        environ = {name: value for name, value in os.environ.items() if name in kept}
        for words in (
            [command, "--help"],
            [python, "-m", "streamer", "reference", "settings"],
            [python, "-m", "model", "--help"],
        ):
            subprocess.run(words, cwd=elsewhere, env=environ, check=True, stdout=subprocess.DEVNULL)
        code = subprocess.run([command, "demo"], cwd=elsewhere, env=environ).returncode
        print(f"{wheel.name}: demo ended with {code} after {time.monotonic() - began:.0f} s")
        return code


if __name__ == "__main__":
    sys.exit(main())
