"""A registry has one current version, whatever is cut off, torn or done twice at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.artifact import files, registry
from model.artifact.files import ArtifactRefused
from model.artifact.registry import (
    RegistryError,
    history,
    promote,
    publish,
    resolve,
    rollback,
    versions,
)


def made(folder: Path, version: str, **facts: object) -> Path:
    """Something that a registry takes for an artifact: it reads no more than this of it."""
    directory = folder / f"made-{version}"
    directory.mkdir(parents=True, exist_ok=True)
    manifest = {"model_version": version, "cutoff": "2026-01-01", **facts}
    (directory / "model.json").write_bytes(b"bytes of " + version.encode())
    (directory / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with the versions a, b and c, of which none is current."""
    root = tmp_path / "models"
    for number, version in enumerate("abc"):
        publish(root, made(tmp_path, version, cutoff=f"2026-01-0{number + 1}"))
    return root


def now(root: Path) -> str:
    return resolve(root).name


def test_an_artifact_resolves_to_itself_and_a_registry_to_its_current_version(
    root: Path, tmp_path: Path
) -> None:
    assert resolve(tmp_path / "made-a") == tmp_path / "made-a"
    promote(root, "b")
    assert resolve(root) == root / "b"
    assert resolve(str(root)) == root / "b"


def test_a_directory_that_is_neither_is_left_to_whoever_loads_it(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    assert resolve(tmp_path / "missing") == tmp_path / "missing"


def test_publishing_copies_every_file_of_an_artifact_and_nothing_else(tmp_path: Path) -> None:
    source = made(tmp_path, "a")
    (source / "MODEL_CARD.md").write_text("a card")
    (source / "secret.key").write_text("not a part of it")
    assert publish(tmp_path / "models", source) == "a"
    assert sorted(path.name for path in (tmp_path / "models" / "a").iterdir()) == [
        "MODEL_CARD.md", "manifest.json", "model.json",
    ]  # fmt: skip


def test_publishing_again_changes_nothing_and_adds_a_signature(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "made-a"
    before = (root / "a" / "manifest.json").stat().st_mtime_ns
    (source / "signature.json").write_text("{}")
    publish(root, source)
    assert (root / "a" / "manifest.json").stat().st_mtime_ns == before
    assert [one.signed for one in versions(root)] == [True, False, False]


def test_other_bytes_under_a_version_that_is_there_are_refused(root: Path, tmp_path: Path) -> None:
    source = made(tmp_path, "a", cutoff="2026-02-01")
    with pytest.raises(RegistryError, match=r"another manifest\.json.*--replace"):
        publish(root, source)
    publish(root, source, replace=True)
    assert (root / "a" / "manifest.json").read_bytes() == (source / "manifest.json").read_bytes()


def test_a_version_cut_off_while_it_was_published_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, source = tmp_path / "models", made(tmp_path, "a")

    def cut_off(path: Path, content: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError("no space left")
        files.replace_durably(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(registry, "replace_durably", cut_off)
        with pytest.raises(OSError, match="no space"):
            publish(root, source)
    assert versions(root) == []
    with pytest.raises(RegistryError, match="has no version a; there are: none"):
        promote(root, "a")
    publish(root, source)
    promote(root, "a")
    assert now(root) == "a"


@pytest.mark.parametrize("version", ["../a", "current/..", "", ".lock", "a b", "é"])
def test_a_name_that_could_lead_elsewhere_is_refused(root: Path, version: str) -> None:
    with pytest.raises(RegistryError):
        promote(root, version)


def test_a_manifest_cannot_name_a_directory_outside(tmp_path: Path) -> None:
    source = made(tmp_path, "a")
    (source / "manifest.json").write_bytes(b'{"model_version": "../../etc"}')
    with pytest.raises(RegistryError, match="not a version name"):
        publish(tmp_path / "models", source)


def test_promoting_the_current_version_is_no_change(root: Path) -> None:
    assert promote(root, "a", why="first")
    assert promote(root, "a") is None
    (change,) = history(root)
    assert (change.version, change.before, change.why) == ("a", None, "first")


def test_who_compared_with_another_version_does_not_promote(root: Path) -> None:
    promote(root, "a")
    promote(root, "b")
    with pytest.raises(RegistryError, match="current is b, no longer a"):
        promote(root, "c", expected="a")
    assert now(root) == "b"


def test_rolling_back_goes_one_back_each_time_and_says_when_there_is_no_more(root: Path) -> None:
    for version in "abc":
        promote(root, version)
    assert [rollback(root).version, rollback(root).version] == ["b", "a"]
    with pytest.raises(RegistryError, match="no version before a"):
        rollback(root)
    assert now(root) == "a"


def test_rolling_back_passes_over_a_version_that_was_removed(root: Path) -> None:
    for version in "abc":
        promote(root, version)
    (root / "b" / "manifest.json").unlink()
    assert rollback(root).version == "a"


def test_a_lost_or_torn_pointer_is_mended_by_rollback_and_by_promote(root: Path) -> None:
    promote(root, "a")
    promote(root, "b")
    (root / "current").unlink()
    assert rollback(root).version == "b"
    (root / "current").write_bytes(b"torn")
    promote(root, "c")
    assert now(root) == "c"


@pytest.mark.parametrize(
    "content",
    [b"", b"a", b"\n", b"a\nb\n", b"a\r\n", b" a\n", b"../../a\n", b"\xff\n", b"a" * 300 + b"\n"],
)
def test_a_torn_or_foreign_pointer_is_refused_with_what_to_do(root: Path, content: bytes) -> None:
    (root / "current").write_bytes(content)
    with pytest.raises(ArtifactRefused, match="current") as refused:
        resolve(root)
    if len(content) < 300:
        assert f"python -m model registry promote {root} VERSION" in str(refused.value)


def test_a_pointer_to_a_version_that_is_not_there_is_refused(root: Path) -> None:
    (root / "current").write_text("d\n")
    with pytest.raises(ArtifactRefused, match="current is d, expected a version that is there"):
        resolve(root)


def test_a_registry_without_a_pointer_is_refused_and_not_taken_for_an_artifact(root: Path) -> None:
    with pytest.raises(ArtifactRefused, match="current is not there"):
        resolve(root)


def test_an_artifact_is_no_registry(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="is an artifact"):
        publish(made(tmp_path, "a"), made(tmp_path, "b"))


def test_history_survives_a_torn_line(root: Path) -> None:
    promote(root, "a")
    with (root / "history.jsonl").open("ab") as file:
        file.write(b'{"at": "20')
    promote(root, "b")
    assert [change.version for change in history(root)] == ["a", "b"]
    assert rollback(root).version == "a"


_STEPS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "back"]), st.booleans()), max_size=12)


@settings(max_examples=20)
@given(_STEPS)
def test_rollback_undoes_what_took_effect_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    root = folder / "models"
    for version in "abc":
        publish(root, made(folder, version))
    line: list[str] = []
    for step, cut_off in steps:
        with pytest.MonkeyPatch.context() as patched:
            if cut_off and line:
                patched.setattr(registry, "replace_durably", _but_not("current"))
            try:
                changed = rollback(root) if step == "back" else promote(root, step)
            except RegistryError:
                assert step == "back"
                assert len(line) < 2
                continue
            except KeyboardInterrupt:
                continue  # the change never took effect
        if step == "back":
            line.pop()
        elif changed:
            line.append(step)
        assert now(root) == line[-1]


def test_a_first_promotion_that_was_cut_off_can_be_done_again_or_finished(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "replace_durably", _but_not("current"))
        with pytest.raises(KeyboardInterrupt):
            promote(root, "a")
    with pytest.raises(ArtifactRefused, match="current is not there"):
        resolve(root)
    assert rollback(root).version == "a"
    with pytest.raises(RegistryError, match="no version before a"):
        rollback(root)


def _but_not(name: str) -> Any:
    def write(path: Path, content: bytes) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        files.replace_durably(path, content)

    return write


def _promote_all(root: Path, order: str) -> None:
    for version in order * 10:
        promote(root, version)


def test_promoting_from_two_processes_at_once_loses_no_history(root: Path) -> None:
    # fork: nothing but files is used, and starting Python anew takes a second.
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_promote_all, args=(root, order)) for order in ("abc", "cba")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    changes = history(root)
    assert [change.before for change in changes[1:]] == [c.version for c in changes[:-1]]
    assert now(root) == changes[-1].version


def test_only_one_holds_a_lock_that_is_not_waited_for(root: Path) -> None:
    with registry.locked(root, wait=False) as first, registry.locked(root, wait=False) as second:
        assert (first, second) == (True, False)
    with registry.locked(root, wait=False) as again:
        assert again
