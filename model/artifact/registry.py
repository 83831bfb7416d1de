"""A directory of model versions, and the one that is current.

    <root>/<model_version>/   an artifact, as `model.artifact.artifact` writes it
    <root>/current            the current version and a line end
    <root>/history.jsonl      who became current, when and why: one JSON object a line

`current` is a small file that is replaced whole, no symbolic link: object stores mounted as a
directory have none. For their sake no directory is renamed either: the files of a version are
written one by one, the manifest last, and without its manifest a version is not there.

History is written before `current` is switched. A change that was cut off in between is an entry
that never took effect; reading history sorts it out by what each entry found to be current.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from features.times import epoch_ms, rfc3339
from model.artifact import signature
from model.artifact.files import (
    ARTIFACT_FILES,
    MANIFEST_FILE,
    MODEL_FILE,
    PICKLE_FILE,
    SIGNATURE_FILE,
    ArtifactRefused,
    is_there,
    read_bytes,
    replace_durably,
)
from model.errors import ModelError

CURRENT_FILE: Final = "current"
HISTORY_FILE: Final = "history.jsonl"
LOCK_FILE: Final = ".lock"

PROMOTE: Final = "promote"
ROLLBACK: Final = "rollback"
KEEP: Final = "keep"

# Names that a version may not have, for they are the registry's own.
_RESERVED: Final = frozenset({"current", "history"})
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# A version and its line end, with room to see that it is something else.
_MAX_CURRENT: Final = 200
_NO_LOCKS: Final = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}


class RegistryError(ModelError):
    """The registry was left as it is; the message says why, and what to do."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history: `version` became current in place of `before` (None: there was none).

    With the action `keep` it did not, although it was tried for that. `key` names what a retraining
    was about: its orders, its code and what it was asked for.
    """

    at: str
    action: str
    version: str
    before: str | None
    why: str = ""
    key: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version that the registry holds. `since` is when it last became current, if it ever did."""

    version: str
    current: bool
    trained_from: str
    cutoff: str
    signed: bool
    signed_at: str | None
    since: str | None


# --- reading ---------------------------------------------------------------------------------


def resolve(path: str | Path) -> Path:
    """The artifact's directory that a path names: itself, or of a registry its current version's.

    Costs two small reads. Raises ArtifactRefused where a registry has no usable `current`. A
    directory that is neither comes back as it is: loading it says what is missing.
    """
    directory = Path(path)
    if not is_registry(directory):
        return directory
    version = current(directory)
    if version is None:
        raise ArtifactRefused(
            directory, CURRENT_FILE, "not there", "the name of a version", _promote(directory)
        )
    if not _published(directory, version):
        raise ArtifactRefused(
            directory, CURRENT_FILE, version, "a version that is there", _promote(directory)
        )
    return directory / version


def is_registry(path: Path) -> bool:
    """Whether a directory is a registry: it has a `current` or versions, and is not an artifact."""
    if is_there(path, MANIFEST_FILE):
        return False
    return any(os.path.lexists(path / name) for name in (CURRENT_FILE, HISTORY_FILE)) or bool(
        _names(path)
    )


def holds(path: Path) -> bool:
    """Whether a directory is a version of a registry, which has the name of its model."""
    return any(os.path.lexists(path.parent / name) for name in (CURRENT_FILE, HISTORY_FILE))


def current(root: Path) -> str | None:
    """The version that `current` names; None where there is no such file.

    Raises ArtifactRefused for a file that is torn or foreign.
    """
    if not os.path.lexists(root / CURRENT_FILE):
        return None
    content = read_bytes(root, CURRENT_FILE, _MAX_CURRENT)
    name = content.removesuffix(b"\n").decode("ascii", "replace")
    if not content.endswith(b"\n") or not _VERSION.fullmatch(name):
        raise ArtifactRefused(
            root, CURRENT_FILE, repr(content[:40]), "one version and a line end", _promote(root)
        )
    return name


def history(root: Path) -> list[Change]:
    """All changes, the oldest first; lines that are none are passed over."""
    found = []
    for line in _told(root).splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Change))
        except (ValueError, RecursionError):
            continue
    return found


def signed_at(directory: Path) -> str | None:
    """When a version says that it was signed (RFC 3339), unchecked; None where it does not."""
    try:
        told = signature.told(signature.read(directory))
    except ArtifactRefused:
        return None
    return None if told is None else told.signed_at


def versions(root: str | Path) -> list[Version]:
    """What the registry holds, by the end of training and by name, the newest last."""
    directory = Path(root)
    now = current(directory)
    since = {one.version: one.at for one in history(directory) if one.action != KEEP}
    found = []
    for name in _names(directory):
        manifest = _facts(directory / name)
        found.append(
            Version(
                version=name,
                current=name == now,
                trained_from=str(manifest.get("trained_from", "")),
                cutoff=str(manifest.get("cutoff", "")),
                signed=is_there(directory / name, SIGNATURE_FILE),
                signed_at=signed_at(directory / name),
                since=since.get(name),
            )
        )
    return sorted(found, key=lambda one: (one.cutoff, one.version))


# --- changing --------------------------------------------------------------------------------


def publish(root: str | Path, artifact: str | Path, *, replace: bool = False) -> str:
    """The version under which an artifact's files were copied into the registry.

    Publishing again what is there does nothing, and adds a signature that was missing. Raises
    RegistryError where the version is there with other bytes, unless `replace`.
    """
    directory, source = Path(root), Path(artifact)
    if (directory / MANIFEST_FILE).exists():
        raise RegistryError(f"{directory} is an artifact; name the directory of a registry")
    files = {
        name: read_bytes(source, name)
        for name in ARTIFACT_FILES
        if os.path.lexists(source / name) or name == MANIFEST_FILE
    }
    if MODEL_FILE not in files and PICKLE_FILE not in files:
        read_bytes(source, MODEL_FILE)  # raises, and says that it is not there
    version = str(_facts(source, files[MANIFEST_FILE]).get("model_version", ""))
    _check_name(version)
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        target = directory / version
        if _published(directory, version) and not replace:
            _check_same(target, files)
        target.mkdir(exist_ok=True)
        for name, content in files.items():
            if not _holds(target, name, content):
                replace_durably(target / name, content)
        for name in {MODEL_FILE, PICKLE_FILE} - files.keys():
            (target / name).unlink(missing_ok=True)
    return version


def promote(
    root: str | Path, version: str, *, why: str = "", key: str = "", expected: str | None = None
) -> Change | None:
    """The change that made a version current; None where it was.

    `expected` is the version that must be current, for who compared with it. Raises RegistryError.
    Whether the version can be loaded is the caller's to see first.
    """
    directory = Path(root)
    with locked(directory):
        check_there(directory, version)
        before = _current_or_broken(directory)
        if expected is not None and before != expected:
            raise RegistryError(
                f"{directory}: current is {before or 'not there'}, no longer {expected}: somebody"
                " else has promoted meanwhile; look at the versions and decide again"
            )
        return _switch(directory, PROMOTE, version, before, why, key)


def rollback(root: str | Path, *, why: str = "") -> Change:
    """The change back to the version that was current before. Raises RegistryError.

    Again, it goes one further back.
    """
    directory = Path(root)
    with locked(directory):
        now = _current_or_broken(directory)
        line = _line(history(directory), now)
        # With `current` lost or torn, the last one of history is the one to go back to.
        line = line[:-1] if now is not None and line and line[-1] == now else line
        while line and not _published(directory, line[-1]):
            line.pop()
        if not line:
            raise RegistryError(
                f"{directory}: history has no version before {now or 'this'} that is still there;"
                f" {_promote(directory)}"
            )
        change = _switch(directory, ROLLBACK, line[-1], now, why, "")
        assert change is not None
        return change


def keep(root: Path, version: str, before: str | None, *, why: str, key: str = "") -> Change:
    """The line of history that says that a version was tried and did not become current."""
    with locked(root):
        change = Change(at=_now(), action=KEEP, version=version, before=before, why=why, key=key)
        _append(root, change)
    return change


def judged(root: Path, key: str) -> Change | None:
    """The last line of history about a key; None where there is none, or it was cut off before it
    took effect."""
    changes, now = history(root), _current_or_broken(root)
    for at in reversed(range(len(changes))):
        change = changes[at]
        if change.key == key:
            later = [one.before for one in changes[at + 1 :] if one.action != KEEP]
            found_next = later[0] if later else now
            return change if change.action == KEEP or found_next == change.version else None
    return None


@contextmanager
def locked(root: Path, name: str = LOCK_FILE, *, wait: bool = True) -> Iterator[bool]:
    """Holds the registry's lock: one writer at a time. It goes with the process that has it.

    Yields False where `wait` is off and another has it. A mount without locks does without: there,
    one machine should do the promoting.
    """
    if not root.is_dir():
        raise RegistryError(f"{root} is not a directory; publish a model into it first")
    with (root / name).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield True


def _switch(
    root: Path, action: str, version: str, before: str | None, why: str, key: str
) -> Change | None:
    if version == before:
        return None
    change = Change(at=_now(), action=action, version=version, before=before, why=why, key=key)
    _append(root, change)
    replace_durably(root / CURRENT_FILE, f"{version}\n".encode())
    return change


def _now() -> str:
    return rfc3339(epoch_ms(datetime.now(UTC)), milliseconds=True)


def _append(root: Path, change: Change) -> None:
    path, told = root / HISTORY_FILE, _told(root)
    if told and not told.endswith(b"\n"):
        told += b"\n"
    replace_durably(path, told + msgspec.json.encode(change) + b"\n")


def _told(root: Path) -> bytes:
    """The bytes of the history; none where there is none. Raises ArtifactRefused for a link."""
    there = os.path.lexists(root / HISTORY_FILE)
    return read_bytes(root, HISTORY_FILE) if there else b""


def _line(changes: Sequence[Change], now: str | None) -> list[str]:
    """The versions that led to the current one, it included, without what was rolled back.

    An entry whose successor found another version current never took effect.
    """
    line: list[str] = []
    before_last: list[str] = []
    for change in changes:
        if change.action == KEEP:
            continue
        line = before_last = _as_found(line, before_last, change.before)
        if change.action == ROLLBACK and change.version in line:
            line = line[: _last(line, change.version) + 1]
        elif line[-1:] != [change.version]:
            line = [*line, change.version]
    return _as_found(line, before_last, now)


def _as_found(line: list[str], before_last: list[str], found: str | None) -> list[str]:
    # Without `current` (lost, or the very first promotion was cut off) history is what there is.
    if found is None or line[-1:] == [found]:
        return line
    # Else somebody has written `current` by hand.
    return before_last if before_last[-1:] == [found] else [*line, found]


def _last(line: Sequence[str], version: str) -> int:
    return len(line) - 1 - line[::-1].index(version)


def _current_or_broken(root: Path) -> str | None:
    """The current version; None too where the file is torn, so that a promotion repairs it."""
    try:
        return current(root)
    except ArtifactRefused:
        return None


def check_there(root: Path, version: str) -> None:
    """Raises RegistryError where the registry does not hold the version."""
    _check_name(version)
    if not _published(root, version):
        there = ", ".join(_names(root)) or "none"
        raise RegistryError(f"{root} has no version {version}; there are: {there}")


def _check_name(version: str) -> None:
    if not _VERSION.fullmatch(version) or version in _RESERVED:
        raise RegistryError(
            f"{version!r} is not a version name: letters, digits, hyphen and underscore"
        )


def _check_same(target: Path, files: dict[str, bytes]) -> None:
    for name in (MODEL_FILE, PICKLE_FILE, MANIFEST_FILE):
        if name in files and not _holds(target, name, files[name]):
            raise RegistryError(
                f"{target} is there with another {name}: the same parameters, of other libraries"
                " or with other figures; publish with --replace to have this one in its place"
            )


def _holds(directory: Path, name: str, content: bytes) -> bool:
    try:
        return read_bytes(directory, name) == content
    except ArtifactRefused:
        return False


def _published(root: Path, version: str) -> bool:
    directory = root / version
    return not directory.is_symlink() and is_there(directory, MANIFEST_FILE)


def _names(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    names = (path.name for path in root.iterdir() if _VERSION.fullmatch(path.name))
    return sorted(name for name in names if _published(root, name))


def _facts(directory: Path, data: bytes | None = None) -> dict[str, object]:
    """The manifest as it stands, unchecked. Raises ArtifactRefused where it is no JSON object."""
    data = read_bytes(directory, MANIFEST_FILE) if data is None else data
    try:
        facts: dict[str, object] = msgspec.json.decode(data, type=dict[str, object])
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused(
            directory, MANIFEST_FILE, str(error), "a manifest", "publish the version again"
        ) from None
    return facts


def _promote(root: Path) -> str:
    command = "python -m model registry"
    return f"choose one: {command} versions {root}, {command} promote {root} VERSION"
