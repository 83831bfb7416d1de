"""Files that others wrote, opened so that no line of them takes more than a bound of memory."""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader, StringIO, TextIOWrapper
from pathlib import Path
from typing import Final, cast

from model.errors import ModelError

# An order is some hundred bytes; a JSON line with a whole basket some ten thousand.
MAX_LINE: Final = 1_048_576
_BLOCK_BYTES: Final = 1 << 16


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


def blocks(binary: BufferedReader) -> Iterator[bytes]:
    """A file in blocks of whole lines, unless one is longer than may be."""
    rest = b""
    while part := binary.read(_BLOCK_BYTES):
        rest += part
        # Old files of Macs end lines with \\r alone; the last one may yet be followed by \\n.
        end = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1
        if not end and len(rest) >= 4 * MAX_LINE:
            end = len(rest)
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


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
            check_length(line, path, number)
            yield line
    except UnicodeDecodeError:
        raise OrderLogError(
            f"order log {path}, line {number + 1}: it is damaged UTF-16; save the file as UTF-8"
        ) from None
    finally:
        # Whoever opened the file closes it; where that was done already there is nothing to detach.
        with suppress(ValueError):
            text.detach()


def text_blocks(binary: BufferedReader, path: Path) -> Iterator[str]:
    """The text of a file in blocks of whole lines, to be split by `lines_of`; see `text_lines`."""
    if utf16(binary):
        yield from text_lines(binary, path)
        return
    for block in blocks(binary):
        yield block.decode(errors="surrogateescape")


def lines_of(block: str) -> StringIO:
    """The lines of a text, line ends kept; `read` gives what is left of it."""
    return StringIO(block, newline="")


def utf16(binary: BufferedReader) -> bool:
    """Whether a file begins as one in UTF-16 does."""
    return binary.peek(2).startswith((BOM_UTF16_LE, BOM_UTF16_BE))


def check_length(line: bytes | str, path: Path, number: int) -> None:
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
