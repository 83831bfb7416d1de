"""What a replay writes: a JSON Lines file for each topic, in the order of event time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count, groupby
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from features.times import instant_ms
from model.files.order_log import RejectedRow
from streamer.records import Message, MessageColumns, Topics

# Lines held back at most for a partition that has fallen silent, some 60 MB.
_MOST_HELD: Final = 200_000


class _Stamp(msgspec.Struct, frozen=True, gc=False):
    """By what warnings are put in order, beside their key."""

    as_of: str


_stamps = msgspec.json.Decoder(list[_Stamp]).decode


class _Lines:
    """Lines on their way to a file, put in the order of `as_of`, then of customer.

    Partitions and batches hand them in as they come about; in order they are the same whatever
    the batches were. Those of one customer and instant stay as they came.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held: list[tuple[int, bytes, int, bytes]] = []
        self._count = count()

    def add(self, messages: MessageColumns) -> None:
        """Takes lines; the keys of the messages name the customers."""
        # In UTF-8, bytes are in the order of what they spell.
        self._held += zip(
            messages.as_of_ms, messages.keys, self._count, messages.values, strict=False
        )

    def release(self, before_ms: int | None) -> None:
        """Writes what is as of an instant before this one; None: all that is held."""
        self._held.sort()
        end = len(self._held) if before_ms is None else bisect_left(self._held, (before_ms,))
        if len(self._held) - end > _MOST_HELD:
            end = len(self._held) - _MOST_HELD // 2
        if end:
            self._file.write(b"\n".join([value for *_, value in self._held[:end]]) + b"\n")
            del self._held[:end]
        self._file.flush()


def _in_columns(messages: Sequence[Message]) -> MessageColumns:
    """Messages of one topic, each of the instant in its value."""
    values = [message.value or b"" for message in messages]
    stamps = _stamps(b"[" + b",".join(values) + b"]")
    return MessageColumns(
        messages[0].topic,
        [message.key or b"" for message in messages],
        values,
        [instant_ms(stamp.as_of) for stamp in stamps],
    )


class LogFiles:
    """A publisher that writes each topic to a JSON Lines file of its own; a context manager.

    `warnings.jsonl` and `scores.jsonl` have the very bytes that Kafka would get, one a line, by
    `as_of`; `dead-letters.jsonl` has each dead letter's reason, detail, source and value.
    """

    def __init__(self, directory: Path, topics: Topics) -> None:
        self._directory = directory
        self._names = {topics.warnings: "warnings.jsonl", topics.scores: "scores.jsonl"}
        self._lines: dict[str, _Lines] = {}
        self._rejected: list[bytes] = []
        self._dead_letters: list[tuple[int, int, bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> LogFiles:
        self._directory.mkdir(parents=True, exist_ok=True)
        for topic, name in self._names.items():
            self._lines[topic] = _Lines(self._opened(name))
        self._dead_letter_file = self._opened("dead-letters.jsonl")
        return self

    def __exit__(self, *_: object) -> None:
        self.release(None)
        self.end_page()
        self._stack.close()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Takes the messages; they are written by `release` and `end_page`."""
        if isinstance(messages, MessageColumns):
            self._lines[messages.topic].add(messages)
            return
        for topic, of_topic in groupby(messages, key=lambda message: message.topic):
            if topic not in self._lines:
                for letter in of_topic:
                    self._add_dead_letter(letter)
            # A tombstone tells a topic of an erasure, and a file nothing.
            elif told := [message for message in of_topic if message.value is not None]:
                self._lines[topic].add(_in_columns(told))

    def reject(self, row: RejectedRow) -> None:
        """Takes a row of an order log that is not a valid order."""
        record = {
            "reason": row.rejected.reason.value,
            "detail": row.rejected.detail,
            "source": f"{row.path.name}:{row.line}",
        }
        self._rejected.append(msgspec.json.encode(record) + b"\n")

    def release(self, watermark_ms: int | None) -> None:
        """Writes warnings and scores as of instants before the watermark, for which no more can
        come; None: all."""
        for lines in self._lines.values():
            lines.release(watermark_ms)

    def end_page(self) -> None:
        """Writes the dead letters of the last rows: invalid rows first, then the others."""
        self._dead_letters.sort()
        self._dead_letter_file.writelines(self._rejected)
        self._dead_letter_file.writelines(line for *_, line in self._dead_letters)
        self._rejected.clear()
        self._dead_letters.clear()

    def _opened(self, name: str) -> BinaryIO:
        return self._stack.enter_context((self._directory / name).open("wb"))

    def _add_dead_letter(self, message: Message) -> None:
        record = {name: value.decode() for name, value in message.headers}
        if message.value is not None:
            record["value"] = message.value.decode(errors="replace")
        place = int(record["source_partition"]), int(record["source_offset"])
        self._dead_letters.append((*place, msgspec.json.encode(record) + b"\n"))
