"""Log lines that are an event name and its fields.

    2026-03-01T12:00:00.123Z WARNING order.rejected partition=3 offset=128 reason=bad_json

Fields say where and why, never whom or what: no customer ids, no keys, no values of records.
The libraries underneath would, so they are held
at WARNING, and at INFO with `DEBUG`: at DEBUG Faust logs keys and values of messages, and aiokafka
whole requests (faust/topics.py, faust/transport/consumer.py, aiokafka/conn.py). An error that
nobody foresaw may quote anything in its message, an id in a KeyError for one: above DEBUG only its
type and the place in the code are told. Should a secret get into a line after all, it is blotted
out.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from typing import Final, TextIO

from features.times import rfc3339
from streamer.errors import where

ROOT: Final = "streamer"
_TAMED: Final = ("faust", "mode", "aiokafka", "aiohttp", "asyncio", "kafka")

BLOT: Final = "***"
# A shorter one would blot out half of every line, and is no secret.
_SHORTEST_SECRET: Final = 4

_Field = str | int | float | bool | None


class Logger:
    """Logs events with fields: `log.info("order.rejected", partition=3, offset=128)`."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: _Field) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: _Field) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: _Field) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: _Field) -> None:
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, error: BaseException, **fields: _Field) -> None:
        """An ERROR that carries message and traceback at DEBUG only: those are for developers."""
        debug = self._logger.isEnabledFor(logging.DEBUG)
        fields["error"] = _describe(error) if debug else where(error)
        trace = error if debug else None
        self._log(logging.ERROR, event, fields, trace)

    def _log(
        self, level: int, event: str, fields: dict[str, _Field], trace: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=trace)


def get(name: str) -> Logger:
    """The logger for a module: `log = get(__name__)`."""
    return Logger(name)


class EventFormatter(logging.Formatter):
    """Time, level, event, `key=value` fields; values with spaces, quotes or line ends are quoted.

    Lines of other libraries come out in the same form, their message as a field.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """`secrets` are texts to be blotted out, wherever they come from."""
        super().__init__()
        # The longest first: one may be part of another.
        hidden = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)
        # As they are, as repr writes them, and either in quotes of ours.
        plain = [form for s in hidden for form in (s, repr(s)[1:-1])]
        forms = dict.fromkeys([*plain, *map(_escaped, plain)])
        self._secret = re.compile("|".join(map(re.escape, forms))) if forms else None

    def format(self, record: logging.LogRecord) -> str:
        line = self._line(record)
        return line if self._secret is None else self._secret.sub(BLOT, line)

    def _line(self, record: logging.LogRecord) -> str:
        created_ms = int(record.created) * 1000 + int(record.msecs)
        head = f"{rfc3339(created_ms, milliseconds=True)} {record.levelname}"
        fields = getattr(record, "fields", None)
        if fields is None:
            line = f"{head} {record.name} message={_quoted(record.getMessage())}"
        else:
            line = " ".join([head, record.msg, *(f"{k}={_quoted(v)}" for k, v in fields.items())])
        if record.exc_info and record.exc_info[0] is not None:
            if logging.getLogger(ROOT).isEnabledFor(logging.DEBUG):
                return f"{line}\n{self.formatException(record.exc_info)}"
            if fields is None and record.exc_info[1] is not None:
                return f"{line} error={_quoted(where(record.exc_info[1]))}"
        return line


class Repeats(logging.Filter):
    """Lets a library say the same thing once in ten seconds: clients without a server repeat
    themselves many times a second. Ours are told apart by their fields, and always pass."""

    def __init__(self, quiet_s: float = 10.0) -> None:
        super().__init__()
        self._quiet_s = quiet_s
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "fields"):
            return True
        kind = (record.name, str(record.msg))
        if record.created - self._last.get(kind, 0.0) < self._quiet_s:
            return False
        if len(self._last) > 1_000:
            self._last.clear()
        self._last[kind] = record.created
        return True


def configure(
    level: str = "INFO", stream: TextIO | None = None, secrets: Iterable[str] = ()
) -> None:
    """Sends every log line of the process to `stream` (stderr) in our form, without `secrets`.

    Raises ValueError for a level that logging does not know.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"level={level!r}: one of DEBUG, INFO, WARNING, ERROR")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(EventFormatter(secrets))
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    floor = logging.INFO if number <= logging.DEBUG else logging.WARNING
    for name in _TAMED:
        logging.getLogger(name).setLevel(max(number, floor))


def _describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _quoted(value: object) -> str:
    """The value on one line, so that no input can forge a second log line."""
    text = str(value)
    if text and text.isprintable() and not any(c in text for c in ' "=\\'):
        return text
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in escaped)
