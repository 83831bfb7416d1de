"""The same on every machine: what is trained, and what a replay says, hang on no last bits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from model.artifact.artifact import save
from model.data.synthetic import write_csv
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
    "its own": {},
}
_TRAINED = """
from dataclasses import replace
from model.artifact.artifact import version_of
from model.data.training_rows import training_set
from model.estimators.kinds import fit
from model.estimators.kinds import options_of
from tests.support import modelling

rows = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
for kind, options in (
    ("blend", {}), ("bgnbd", {}), ("linear", {}), ("tweedie", {}), ("poisson", {"select": 12}),
    ("poisson", {"pca": 8}), ("hurdle", {"parts": "glm"}), ("forest", {"trees": 20}),
):
    config = replace(modelling.CONFIG, kind=kind, options=options_of(kind, options))
    print(kind, options, version_of(fit(rows, config, modelling.known())))
"""


def _run(processor: str, *arguments: str) -> str:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], check=False,
        env=environ | _PROCESSORS[processor], cwd=_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_log_gives_the_same_model_on_every_processor() -> None:
    models = [_run(processor, "-c", _TRAINED).splitlines() for processor in _PROCESSORS]
    assert [line for line, *others in zip(*models, strict=True) if {line} != set(others)] == []


def test_a_replay_with_the_same_model_is_the_same_bytes_on_every_processor(tmp_path: Path) -> None:
    save(tmp_path / "model", modelling.model(), modelling.fields())
    write_csv(modelling.orders(), tmp_path / "log.csv")
    said = set()
    for processor in _PROCESSORS:
        out = tmp_path / processor
        _run(
            processor, "-m", "streamer", "replay", str(tmp_path / "log.csv"),
            "--model", str(tmp_path / "model"), "--out", str(out),
        )  # fmt: skip
        files = [out / f"{name}.jsonl" for name in ("warnings", "scores", "dead-letters")]
        said.add(hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest())
        assert (out / "scores.jsonl").stat().st_size > 10_000
    assert len(said) == 1
