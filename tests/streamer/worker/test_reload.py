"""Which model a worker takes over, keeps, and says that it has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from model.artifact.files import ArtifactRefused
from model.artifact.registry import promote, rollback
from streamer.clock import ManualClock
from streamer.metrics import Metrics
from streamer.pipeline.batch import Pipeline
from streamer.worker.reload import FIRST_RETRY_S, LAST_RETRY_S, UNREADABLE, Reloader, model_page
from tests.support.fakes import LinearModel, judge, pipeline, scorer


def version(root: Path, name: str) -> None:
    """Publishes a version that the fake loader below can read."""
    (root / name).mkdir(parents=True)
    (root / name / "model.json").write_bytes(b"numbers")
    (root / name / "manifest.json").write_text(json.dumps({"model_version": name}))


class World:
    """A registry with `one` promoted, a reloader and whatever it did."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.loads: list[str] = []
        self.adopted: list[str] = []
        self.refused: dict[str, Exception] = {}
        self.metrics = Metrics()
        for name in ("one", "two", "three"):
            version(root, name)
        promote(root, "one")
        self.reloader = Reloader(root, self._load, self._adopt, self.metrics, clock=self.clock)

    def _load(self, path: Path) -> Pipeline:
        self.loads.append(path.name)
        if path.name in self.refused:
            raise self.refused[path.name]
        return pipeline(judge(by=scorer(LinearModel(), path.name)))

    def _adopt(self, pipeline: Pipeline) -> None:
        self.adopted.append(pipeline.judge.scorer.model_version)

    def refuse(self, name: str, error: Exception | None = None) -> None:
        self.refused[name] = error or ArtifactRefused(
            self.root / name, "canary", "NaN", "numbers", "train"
        )

    @property
    def in_use(self) -> str:
        assert self.reloader.pipeline is not None
        return self.reloader.pipeline.judge.scorer.model_version

    def sample(self, name: str) -> list[str]:
        lines = self.metrics.exposition({}).decode().splitlines()
        return [line for line in lines if line.startswith(name)]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "models")
    await world.reloader.start()
    return world


def signed(world: World, name: str, at: str) -> None:
    """A signature that says so; who checks it is the loader."""
    said = {"schema": "clv-signature/2", "key": "k", "registry": "shop", "signed_at": at}
    (world.root / name / "signature.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("was", "now", "older"),
    [
        ("2026-03-02T00:00:00Z", "2026-03-01T23:59:59Z", True),
        ("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", False),
        ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", False),
        ("2026-03-02T00:00:00Z", None, False),
        (None, "2026-03-01T00:00:00Z", False),
    ],
)
async def test_a_model_that_was_signed_before_the_one_in_use_is_taken_over_and_told(
    world: World, caplog: pytest.LogCaptureFixture, was: str | None, now: str | None, older: bool
) -> None:
    for name, at in (("one", was), ("two", now)):
        if at is not None:
            signed(world, name, at)
    promote(world.root, "two")
    with caplog.at_level("WARNING"):
        await world.reloader.look()
    assert world.in_use == "two"
    told = [vars(r)["fields"] for r in caplog.records if r.getMessage() == "model.signature_older"]
    assert told == ([{"version": "two", "signed_at": now, "was": was}] if older else [])


async def test_a_look_without_news_costs_no_load(world: World) -> None:
    await world.reloader.look()
    assert (world.loads, world.adopted) == (["one"], [])
    assert world.sample("clv_model_info") == ['clv_model_info{version="one"} 1.0']


async def test_what_is_promoted_takes_over_and_what_is_rolled_back_to_does_too(
    world: World,
) -> None:
    promote(world.root, "two")
    await world.reloader.look()
    assert (world.in_use, world.adopted) == ("two", ["two"])
    rollback(world.root)
    await world.reloader.look()
    assert (world.in_use, world.adopted) == ("one", ["two", "one"])
    assert world.sample("clv_model_info") == ['clv_model_info{version="one"} 1.0']
    assert world.sample("clv_model_swaps_total") == ["clv_model_swaps_total 2.0"]


async def test_a_refused_model_leaves_the_old_one_and_is_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.refuse("two")
    promote(world.root, "two")
    for _ in range(5):
        await world.reloader.look()
        world.clock.advance(round(LAST_RETRY_S * 1000))
    assert (world.in_use, world.adopted) == ("one", [])
    assert [r.getMessage().split()[0] for r in caplog.records].count("model.refused") == 1
    assert world.sample("clv_model_refused") == ['clv_model_refused{version="two"} 1.0']
    assert world.sample("clv_model_refusals_total") == ["clv_model_refusals_total 1.0"]
    page = json.loads(model_page(world.reloader, {"shadow": lambda: {"share": 0.1}}))
    assert (page["version"], page["refused"]["version"]) == ("one", "two")
    assert "canary is NaN" in page["refused"]["reason"]
    assert page["shadow"] == {"share": 0.1}


async def test_a_refusal_ends_with_a_rollback_or_a_better_version(world: World) -> None:
    world.refuse("two")
    promote(world.root, "two")
    await world.reloader.look()
    rollback(world.root)
    await world.reloader.look()
    assert world.sample("clv_model_refused{") == []
    assert world.reloader.standing is not None
    assert world.reloader.standing.refused is None
    promote(world.root, "two")
    await world.reloader.look()
    promote(world.root, "three")
    await world.reloader.look()
    assert world.in_use == "three"
    assert world.sample("clv_model_refused{") == []


async def test_a_refused_model_is_tried_again_when_its_files_change_and_now_and_then_without(
    world: World,
) -> None:
    world.refuse("two")
    promote(world.root, "two")
    await world.reloader.look()
    await world.reloader.look()
    assert world.loads == ["one", "two"]
    world.clock.advance(round(FIRST_RETRY_S * 1000))
    await world.reloader.look()
    assert world.loads == ["one", "two", "two"]
    world.refused.clear()
    (world.root / "two" / "model.json").write_bytes(b"other numbers")
    await world.reloader.look()
    assert world.in_use == "two"


async def test_what_is_published_anew_under_its_name_is_read_again(world: World) -> None:
    (world.root / "one" / "manifest.json").write_text('{"model_version": "one", "more": 1}')
    await world.reloader.look()
    await world.reloader.look()
    assert (world.loads, world.adopted) == (["one", "one"], ["one"])
    assert world.sample("clv_model_swaps_total") == ["clv_model_swaps_total 0.0"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: (root / "current").write_text("half a na"),
        lambda root: (root / "current").write_text("../../elsewhere\n"),
        lambda root: (root / "current").write_text("unknown\n"),
        lambda root: (root / "current").unlink(),
    ],
    ids=["torn", "a path", "unknown", "missing"],
)
async def test_a_registry_that_cannot_be_read_changes_nothing(
    world: World, damage: Callable[[Path], None]
) -> None:
    damage(world.root)
    await world.reloader.look()
    await world.reloader.look()
    assert (world.in_use, world.loads) == ("one", ["one"])
    assert world.sample("clv_model_refused{") == [
        f'clv_model_refused{{version="{UNREADABLE}"}} 1.0'
    ]
    assert world.sample("clv_model_refusals_total") == ["clv_model_refusals_total 1.0"]


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("alice"), ValueError("euros")])
async def test_no_failure_of_a_load_reaches_the_worker(world: World, error: Exception) -> None:
    world.refuse("two", error)
    promote(world.root, "two")
    await world.reloader.look()
    assert world.in_use == "one"
    assert world.reloader.standing is not None
    assert world.reloader.standing.refused is not None
    # What nobody foresaw may quote anything.
    assert "alice" not in world.reloader.standing.refused.reason


async def test_the_first_model_has_none_before_it_to_go_on_with(tmp_path: Path) -> None:
    world = World(tmp_path / "models")
    await world.reloader.look()
    assert world.loads == []
    world.refuse("one")
    with pytest.raises(ArtifactRefused):
        await world.reloader.start()
