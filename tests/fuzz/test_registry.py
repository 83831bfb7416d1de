"""Whatever lies in a registry's directory is read, refused or mended; a promotion always is one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from model.artifact import registry
from model.artifact.files import MANIFEST_FILE, SIGNATURE_FILE, ArtifactRefused
from model.artifact.registry import RegistryError
from tests.fuzz.mutate import fuzzed, mutated, seeds_of

SEEDS = seeds_of("registry")
GOOD: Final = "a1"
MANIFEST: Final = b'{"model_version":"a1","trained_from":"2025-01-01","cutoff":"2025-12-31"}'
NAMES = st.sampled_from(["b2", "current", "history", "..b", "-b", "b2\n", "\x1b[2J", "c" * 65]) | (
    st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), max_size=60)
)


def outlived(current: bytes, history: bytes, name: str, manifest: bytes) -> None:
    """Does all that a registry can do, where its files are as given."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for version, content in ((name, manifest), (GOOD, MANIFEST)):
            if version.strip(".") and version not in (registry.CURRENT_FILE, registry.HISTORY_FILE):
                (root / version).mkdir(exist_ok=True)
                (root / version / MANIFEST_FILE).write_bytes(content)
                (root / version / SIGNATURE_FILE).write_bytes(history)
        (root / registry.CURRENT_FILE).write_bytes(current)
        (root / registry.HISTORY_FILE).write_bytes(history)
        doings: tuple[Callable[[], object], ...] = (
            lambda: registry.resolve(root),
            lambda: registry.versions(root),
            lambda: registry.judged(root, "k"),
            lambda: registry.promote(root, name),
            lambda: registry.publish(root, root / name),
            lambda: registry.rollback(root),
        )
        for do in doings:
            with suppress(ArtifactRefused, RegistryError):
                do()
        registry.promote(root, GOOD, why="to mend it")
        assert registry.current(root) == GOOD
        assert registry.resolve(root) == root / GOOD
        before = registry.history(root)
        registry.keep(root, GOOD, GOOD, why="again")
        assert registry.history(root)[:-1] == before


def test_every_seed_is_outlived() -> None:
    for seed in SEEDS:
        outlived(b"a1\n", seed, "b2", MANIFEST)
        outlived(seed, b"", "b2", MANIFEST)


@fuzzed
@given(mutated(SEEDS), mutated(SEEDS), NAMES, mutated([MANIFEST]))
def test_any_registry_is_outlived(
    current: bytes, history: bytes, name: str, manifest: bytes
) -> None:
    outlived(current, history, name, manifest)
