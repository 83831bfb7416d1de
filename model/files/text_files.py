"""Files that others wrote, opened so that no line of them takes more than a bound of memory."""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Final, cast

from model.errors import ModelError

# An order is some hundred bytes; a JSON line with a whole basket some ten thousand.
MAX_LINE: Final = 1_048_576


class OrderLogError(ModelError):
    """A file cannot be read as an order log. Mend or replace the file that the message names."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The bytes of a file, unpacked where its name ends in .gz, after a UTF-8 byte order mark.

    Raises OrderLogError for a file that cannot be read, is damaged or takes more memory than there
    is, whenever that shows.
    """
    compressed = path.name.lower().endswith(".gz")
    kind = "gzip file" if compressed else "file"
    try:
        with gzip.open(path, "rb") if compressed else path.open("rb") as raw:
            binary = cast(BufferedReader, raw)  # GzipFile reads and peeks like one
            if binary.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
                binary.read(len(BOM_UTF8))
            yield binary
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, kind, error) from None
    except MemoryError:
        raise OrderLogError(
            f"order log {path} takes more memory than there is; split it, or give this command more"
        ) from None


def lines(binary: BufferedReader, path: Path) -> Iterator[bytes]:
    """The lines of a file in UTF-8, line ends kept. Raises OrderLogError for one that is longer
    than MAX_LINE, and for UTF-16."""
    if utf16(binary):
        raise OrderLogError(f"order log {path} is UTF-16; save it as UTF-8")
    for number, line in enumerate(iter(partial(binary.readline, MAX_LINE), b""), start=1):
        _check_length(line, path, number)
        yield line


def text_lines(binary: BufferedReader, path: Path) -> Iterator[str]:
    """The lines of a text file, as the `csv` module wants them: line ends kept. UTF-16 is read by
    its byte order mark; what is not UTF-8 otherwise comes through as surrogates, so that it sets
    aside its own row only. Raises OrderLogError for a line that is longer than MAX_LINE."""
    if utf16(binary):
        text = TextIOWrapper(binary, encoding="utf-16", newline="")
    else:
        text = TextIOWrapper(binary, encoding="utf-8", errors="surrogateescape", newline="")
    number = 0
    try:
        for number, line in enumerate(iter(partial(text.readline, MAX_LINE), ""), start=1):
            _check_length(line, path, number)
            yield line
    except UnicodeDecodeError:
        raise OrderLogError(
            f"order log {path}, line {number + 1}: it is damaged UTF-16; save the file as UTF-8"
        ) from None
    finally:
        # Whoever opened the file closes it; where that was done already there is nothing to detach.
        with suppress(ValueError):
            text.detach()


def utf16(binary: BufferedReader) -> bool:
    """Whether a file begins as one in UTF-16 does."""
    return binary.peek(2).startswith((BOM_UTF16_LE, BOM_UTF16_BE))


def _check_length(line: bytes | str, path: Path, number: int) -> None:
    if len(line) >= MAX_LINE:
        raise OrderLogError(
            f"order log {path}, line {number}: it is longer than {MAX_LINE:,} characters; an order"
            " a line, each with its line end"
        )


def unreadable(path: Path, kind: str, error: BaseException) -> OrderLogError:
    """What is said of a file that is damaged."""
    fault = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return OrderLogError(f"order log {path} cannot be read as a {kind}: {fault}; copy it again")


def for_spreadsheets(text: str) -> str:
    """A cell of a CSV that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
