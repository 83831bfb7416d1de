"""What happens to the model under a working worker: F19."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from model.artifact import registry
from model.artifact.artifact import save
from model.artifact.files import MANIFEST_FILE, MODEL_FILE
from tests.chaos.conftest import SetStage, named
from tests.support import modelling
from tests.support.chaos.deployment import size
from tests.support.chaos.results import Book


def _cut(version: Path, _: Path) -> None:
    file = version / MODEL_FILE
    file.write_bytes(file.read_bytes()[:-100])


def _gone(version: Path, _: Path) -> None:
    (version / MODEL_FILE).unlink()


def _of_another(version: Path, other: Path) -> None:
    shutil.copy(other / MODEL_FILE, version / MODEL_FILE)


def _no_manifest(version: Path, _: Path) -> None:
    (version / MANIFEST_FILE).write_bytes(b"{")


def _fewer_features(version: Path, _: Path) -> None:
    manifest = msgspec.json.decode((version / MANIFEST_FILE).read_bytes())
    manifest["feature_names"].pop()
    (version / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "cut short": _cut,
    "without its bytes": _gone,
    "with another model's bytes": _of_another,
    "with a manifest that is none": _no_manifest,
    "with a feature fewer": _fewer_features,
}


@dataclass(frozen=True, slots=True)
class Models:
    """A registry with two versions, and with damaged ones that are numbered."""

    root: Path
    first: str
    second: str


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """A model, current; the same halved; and that in every damaged form."""
    root = tmp_path / "registry"
    versions = []
    for factor in (1.0, 0.5):
        model, made = modelling.scaled_model(factor), tmp_path / f"times-{factor}"
        save(made, model, modelling.fields(model))
        versions.append(registry.publish(root, made))
    registry.promote(root, versions[0])
    for number, damage in enumerate(DAMAGES.values()):
        shutil.copytree(root / versions[1], root / f"damaged-{number}")
        damage(root / f"damaged-{number}", root / versions[0])
    return Models(root, *versions)


async def test_models_swapped_and_refused_under_load(
    set_stage: SetStage, book: Book, models: Models
) -> None:
    root, both = models.root, (models.first, models.second)
    stage = set_stage("f19", CLV_MODEL=str(root), CLV_MODEL_CHECK="50ms")
    swaps = size(6, 60)
    part = len(stage.orders) // (swaps + len(DAMAGES) + 1)
    what = f"another model promoted; one {', '.join(DAMAGES)} promoted: the one before goes on"
    with book.entry("F19", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep()
        for number in range(swaps):
            await stage.under_way(part)
            registry.promote(root, both[1 - number % 2])
            await stage.until(lambda n=number: worker.logged("model.swapped") > n)
            if number < len(DAMAGES):
                await stage.under_way(part)
                registry.promote(root, f"damaged-{number}")
                await stage.until(lambda n=number: worker.logged("model.refused") > n)
        await stage.feed_rest()
        # Which order was judged by which model is read off the scores; all else is held to it.
        await stage.verified(entry, models=[root / version for version in both])
        entry.times = swaps + len(DAMAGES)
        assert worker.alive
        assert worker.logged("model.swapped") == swaps
        assert worker.logged("model.refused") == len(DAMAGES)
        entry.note(f"{swaps} taken over, {len(DAMAGES)} refused, no restart")
