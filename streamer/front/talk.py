"""What a worker and its front tell each other, a line of JSON each, over the front's stdin and
stdout. Either knows by the end of the lines that the other is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

# Between two lines of either.
TELL_S: Final = 1.0
# The worker's own pages, which the front has answered there.
WORKERS_OWN: Final = ("/healthz", "/readyz", "/metrics", "/model")


class Task(msgspec.Struct, frozen=True):
    """The first line to the front: the file descriptor of the socket that it is to answer, the port
    of the worker's own pages, and the id of the Kafka cluster, which names the keys in Redis."""

    listener: int
    port: int
    cluster: str


class News(msgspec.Struct, frozen=True):
    """What a worker scores by, null while its first model is being read, and a number that is
    another whenever the files there are; and records that wait in each of its partitions."""

    model: str | None
    edition: int
    lags: dict[int, int | None]

    @property
    def path(self) -> Path | None:
        """The model's directory."""
        return None if self.model is None else Path(self.model)


class Report(msgspec.Struct, frozen=True):
    """How many requests of a page were answered with a status since the report before."""

    answered: list[tuple[str, int, int]]


def line(told: msgspec.Struct) -> bytes:
    """As it is sent."""
    return msgspec.json.encode(told) + b"\n"
