"""What an artifact's directory holds, read with care and written durably; and its refusal.

Nothing here brings scikit-learn with it: who only wants to know which model is current need not
wait for that.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from model.errors import ModelError
from model.report.escape import line

MODEL_FILE: Final = "model.json"
PICKLE_FILE: Final = "model.joblib"
MANIFEST_FILE: Final = "manifest.json"
REPORT_FILE: Final = "report.txt"
CARD_FILE: Final = "MODEL_CARD.md"
SIGNATURE_FILE: Final = "signature.json"
JUDGED: Final = "judged"
"""Where, beside a model, its twin is: the same trained a horizon earlier, to be judged."""
# All that may be in the directory of an artifact, the manifest last: without it, there is none.
ARTIFACT_FILES: Final = (
    MODEL_FILE,
    PICKLE_FILE,
    REPORT_FILE,
    CARD_FILE,
    SIGNATURE_FILE,
    MANIFEST_FILE,
)

# Most models are far smaller than a megabyte, a large forest is not; keeps a wrong file out of
# memory.
MAX_BYTES: Final = 200_000_000


class ArtifactRefused(ModelError):
    """The model on disk is not used. Retrain it here, or put back the one that fits.

    `field`, `found` and `expected` say what does not fit.
    """

    def __init__(
        self, path: Path, field: str, found: object, expected: object, remedy: str
    ) -> None:
        super().__init__(
            f"model {path} is refused: {field} is {_shown(found)}, expected {_shown(expected)};"
            f" {remedy}"
        )
        self.path = path
        self.field = field
        self.found = found
        self.expected = expected
        self.remedy = remedy


def read_bytes(directory: Path, name: str, most: int = MAX_BYTES) -> bytes:
    """A regular file of the directory, read once. Raises ArtifactRefused, also above `most` bytes.

    No link is followed and nothing is waited for: whoever can write there could else have a secret
    of the reader's copied, or the reader hang.
    """
    try:
        handle = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "no regular file")
            data = file.read(most + 1)
    except OSError as error:
        raise ArtifactRefused(
            directory,
            name,
            _why_unreadable(error),
            "a readable file",
            "train one or check the path",
        ) from None
    if len(data) > most:
        raise ArtifactRefused(
            directory, f"size of {name}", f"over {most}", f"at most {most} bytes",
            "this is not a clv-streamer model",
        )  # fmt: skip
    return data


def is_there(directory: Path, name: str) -> bool:
    """Whether the directory has a regular file of that name, which is no link."""
    try:
        return stat.S_ISREG(os.lstat(directory / name).st_mode)
    except OSError:
        return False


def _why_unreadable(error: OSError) -> object:
    if isinstance(error, FileNotFoundError):
        return "not there"
    return "a link" if error.errno == errno.ELOOP else error.strerror or error


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file and waits until it is on disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Puts the content where `path` is, at once: a reader has the old file or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        # mkstemp makes it private, and the worker's user reads it; an old file keeps its mode.
        os.fchmod(handle, _mode(path))
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(os.lstat(path).st_mode)
    except FileNotFoundError:
        return 0o644


def _sync_directory(path: Path) -> None:
    """Makes a rename last. Mounted object stores know nothing of the kind, and need not."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _shown(value: object) -> str:
    text = line(str(value))
    return text if len(text) <= 160 else text[:160] + "…"
