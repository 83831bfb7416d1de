"""What kind of file it is, by its bytes and not its name, and the texts within: gzip and zip opened
with bounds, workbooks and Parquet told apart."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final

from model.files.text_files import OrderLogError

# Order logs shrink to a tenth. A file that grows this much further holds nothing but repetition.
_MOST_GROWTH: Final = 200
_ALWAYS_ALLOWED: Final = 64 << 20
MAX_SHEETS_BYTES: Final = 2 << 30
_OLE: Final = b"\xd0\xcf\x11\xe0"
CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class FilePart:
    """One table of a file: the file itself, or a member of an archive."""

    path: Path
    member: str = ""
    kind: str = "text"
    """`text`, `workbook` or `parquet`."""

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a compressed file; raises where they are out of all proportion."""

    def __init__(self, raw: IO[bytes] | gzip.GzipFile, packed_bytes: int, part: FilePart) -> None:
        self._raw, self._part = raw, part
        self._left = max(_ALWAYS_ALLOWED, packed_bytes * _MOST_GROWTH)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # what io hands over
        chunk = self._raw.read(len(view))
        self._left -= len(chunk)
        if self._left < 0:
            raise _bomb(self._part)
        view[: len(chunk)] = chunk
        return len(chunk)


def parts_of(path: Path) -> list[FilePart]:
    """The tables in a file. Raises OrderLogError for a file that is not there, empty, locked with a
    password, or of a kind that is not read."""
    if not path.exists():
        raise OrderLogError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise OrderLogError(f"{path} is a directory; name the files in it")
    if not path.stat().st_size:
        raise OrderLogError(f"{path} is empty; export it again")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise OrderLogError(f"{path} cannot be opened: {error.strerror or error}") from None
    if head.startswith(_OLE):
        raise OrderLogError(
            f"{path} is a workbook with a password, or of before Excel 2007 (.xls); open it and"
            " save it as .xlsx without a password"
        )
    if head.startswith(b"PAR1"):
        return [FilePart(path, kind="parquet")]
    if head.startswith(b"%PDF"):
        raise OrderLogError(f"{path} is a PDF; export the orders as CSV")
    if head.startswith(b"PK"):
        return _of_archive(path)
    return [FilePart(path)]


def _of_archive(path: Path) -> list[FilePart]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info for info in archive.infolist() if not info.is_dir()]
            if any(info.filename == "[Content_Types].xml" for info in names):
                return [_workbook(path, archive)]
            wanted = [info for info in names if not _is_clutter(info.filename)]
            for info in wanted:
                if info.flag_bits & 1:
                    raise OrderLogError(
                        f"{path}/{info.filename} needs a password; unpack it and give the file"
                        " itself"
                    )
                if info.filename.lower().endswith((".zip", ".xlsx", ".xlsm", ".xls", ".gz")):
                    raise OrderLogError(f"{path} holds {info.filename}; unpack it first")
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise OrderLogError(f"{path} is damaged: {error}; copy or export it again") from None
    if not wanted:
        raise OrderLogError(f"{path} holds no file; export it again")
    return [FilePart(path, info.filename) for info in wanted]


def _is_clutter(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _workbook(path: Path, archive: zipfile.ZipFile) -> FilePart:
    """The workbook, once all that is in it was unpacked with bounds."""
    names = {info.filename for info in archive.infolist()}
    if any(name.endswith("vbaProject.bin") for name in names):
        raise OrderLogError(
            f"{path} is a workbook with macros, which are not opened; save it as .xlsx without"
        )
    if "xl/workbook.xml" not in names:
        raise OrderLogError(f"{path} is a document of another kind; export the orders as CSV")
    part, total = FilePart(path, kind="workbook"), 0
    for info in archive.infolist():
        # What the archive says of its sizes may be a lie: they are counted.
        packed, info.file_size = info.compress_size, MAX_SHEETS_BYTES + 1
        most = max(_ALWAYS_ALLOWED, packed * _MOST_GROWTH)
        with archive.open(info) as member:
            of_member = 0
            for chunk in chunks(member):
                of_member += len(chunk)
                total += len(chunk)
                if of_member > most or total > MAX_SHEETS_BYTES:
                    raise _bomb(part)
    return part


def chunks(binary: IO[bytes]) -> Iterator[bytes]:
    """What is left of a file, a mebibyte at a time."""
    return iter(partial(binary.read, CHUNK), b"")


def _bomb(part: FilePart) -> OrderLogError:
    return OrderLogError(
        f"{part} unpacks to more than {_MOST_GROWTH} times its size, as no export does; unpack it"
        " yourself if you trust it"
    )


@contextmanager
def unpacked(part: FilePart) -> Iterator[IO[bytes]]:
    """The bytes of a text. Raises OrderLogError where they are damaged, whenever that shows."""
    try:
        if part.member:
            with zipfile.ZipFile(part.path) as archive:
                info = archive.getinfo(part.member)
                with archive.open(info) as member:
                    yield io.BufferedReader(_Bounded(member, info.compress_size, part), CHUNK)
            return
        with part.path.open("rb") as raw:
            if raw.peek(2).startswith(b"\x1f\x8b"):
                packed = part.path.stat().st_size
                with gzip.GzipFile(fileobj=raw) as inner:
                    yield io.BufferedReader(_Bounded(inner, packed, part), CHUNK)
            else:
                yield raw
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        fault = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise OrderLogError(
            f"{part} is damaged or was cut off: {fault}; copy or export it again"
        ) from None
