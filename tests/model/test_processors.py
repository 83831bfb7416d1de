"""The same on every machine: what is trained, and what a replay says, hang on no last bits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.artifact.artifact import save, version_of
from model.data.synthetic import write_csv
from model.data.training_rows import training_set
from model.estimators.kinds import fit, options_of
from streamer.commands.cli import cli
from tests.support import modelling

_ROOT = Path(__file__).parents[2]
# Kernels of OpenBLAS with and without fused sums, and of numpy's and the C library's logarithms.
# Where a processor lacks one, it takes another.
_PROCESSORS = {
    "plain": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
    },
    "haswell": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4"},
    "zen": {"OPENBLAS_CORETYPE": "Zen"},
}
on_another_processor = pytest.mark.parametrize(
    "processor",
    ["plain", *(pytest.param(name, marks=pytest.mark.slow) for name in ("haswell", "zen"))],
)


def _run(processor: str, *arguments: str) -> str:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], check=False,
        env=environ | _PROCESSORS[processor], cwd=_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def trained() -> tuple[str, ...]:
    """The versions of models of several kinds, as this processor trains them."""
    rows = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
    found = []
    for kind, options in (
        ("blend", {}), ("bgnbd", {}), ("linear", {}), ("tweedie", {}), ("poisson", {"select": 12}),
        ("poisson", {"pca": 8}), ("hurdle", {"parts": "glm"}), ("forest", {"trees": 20}),
    ):  # fmt: skip
        config = replace(modelling.CONFIG, kind=kind, options=options_of(kind, options))
        found.append(f"{kind} {options} {version_of(fit(rows, config, modelling.known()))}")
    return tuple(found)


@on_another_processor
def test_the_same_log_gives_the_same_model_on_every_processor(processor: str) -> None:
    program = f"import runpy; print(*runpy.run_path({__file__!r})['trained'](), sep='\\n')"
    assert tuple(_run(processor, "-c", program).splitlines()) == trained()


@on_another_processor
def test_a_replay_with_the_same_model_is_the_same_bytes_on_every_processor(
    processor: str, tmp_path: Path
) -> None:
    save(tmp_path / "model", modelling.model(), modelling.fields())
    write_csv(modelling.orders()[:1_000], tmp_path / "log.csv")
    command = ["replay", str(tmp_path / "log.csv"), "--model", str(tmp_path / "model"), "--out"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert CliRunner().invoke(cli, [*command, str(here)]).exit_code == 0
    _run(processor, "-m", "streamer", *command, str(there))
    assert (here / "scores.jsonl").stat().st_size > 10_000
    for name in ("warnings.jsonl", "scores.jsonl", "dead-letters.jsonl"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
