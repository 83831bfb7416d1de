"""The walk of docs/your-orders.md runs as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from model.data.synthetic import Shop, generate, write_csv
from tests.support.project.shape import ROOT

PAGE = ROOT / "docs/your-orders.md"


def test_the_commands_of_the_page_run_one_after_the_other(tmp_path: Path) -> None:
    write_csv(
        generate(Shop(customers=150, days=260, arrival_days=180, seed=2)).orders,
        tmp_path / "orders_export.csv",
    )
    commands = re.findall(r"^    (python -m streamer .*)$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        words = [sys.executable, *shlex.split(command)[1:]]
        target = None
        if ">" in words:
            at = words.index(">")
            words, target = words[:at], words[at + 1]
        done = subprocess.run(
            words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)
        if target is not None:
            (tmp_path / target).write_text(done.stdout)
    for name in ("slipping.html", "slipping.csv", "warnings.csv", "mapping.toml"):
        assert (tmp_path / "report" / name).stat().st_size
