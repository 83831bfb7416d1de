"""An order log, replayed in memory, with its outcome as values: for tests and notebooks.

The pipeline is the worker's own (`streamer.replay.replay`); there is no broker, no Redis and no
file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from features.events.orders import Order
from features.times import MS_PER_DAY, Instant, instant_ms, rfc3339
from model.artifact import artifact
from model.artifact.artifact import Artifact
from model.artifact.files import MANIFEST_FILE
from model.artifact.registry import resolve
from model.files.loading import load
from model.files.order_log import FileRules, RejectedRow
from model.files.rejections import Rejections
from model.files.rows import RowsAre
from streamer.assemble import as_trained, pipeline_of
from streamer.http import customer_view as show
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import ChurnWarning, ClvScore
from streamer.records import MemoryPublisher, Message, Partition
from streamer.replay.customer_builder import Customer
from streamer.replay.replay import Replay, Replayed
from streamer.settings import Settings

_BATCH: Final = 20_000
_PIECE_MS: Final = 5 * MS_PER_DAY

Source: TypeAlias = str | Path | Customer
T = TypeVar("T")


class NoSuchCustomer(LookupError):
    """The log has no order of this customer, or none yet at this instant."""


@dataclass(frozen=True, slots=True)
class CustomerScore:
    """A customer as of an instant, from all orders up to it. Money in major units."""

    user_id: str
    as_of: str
    clv: float
    churn_probability: float
    segment: str
    reference_clv: float | None
    orders: int
    net_revenue: float
    last_order_at: str | None
    days_since_last_order: int | None
    currency: str
    horizon_days: int
    model_version: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What was set aside: the reason's code, a sentence for a person, and where it stood."""

    reason: str
    detail: str
    source: str


class ReplayedLog:
    """What came of a log. `until_ms`: the instant up to which event time has passed."""

    def __init__(
        self,
        pipeline: Pipeline,
        partitions: int,
        orders: Sequence[Order],
        rejected: Sequence[RejectedRow],
        until_ms: int | None,
    ) -> None:
        self._pipeline = pipeline
        self._partitions = partitions
        self._orders = orders
        self._rejected = rejected
        self._asked_until_ms = until_ms
        # Scores are many, and most tests look at warnings: they are written when asked for.
        self._said, result = self._run(pipeline.without_scores())
        self.until_ms = (result.last_ts_ms or 0) if until_ms is None else until_ms

    @cached_property
    def warnings(self) -> list[ChurnWarning]:
        """The warnings, by `as_of`."""
        return [said for said in self._said_as_warnings if said.kind == "warning"]

    @cached_property
    def recoveries(self) -> list[ChurnWarning]:
        """The records of the warnings' topic which say that a customer has recovered."""
        return [said for said in self._said_as_warnings if said.kind == "recovered"]

    @property
    def value_drops(self) -> list[ChurnWarning]:
        """The records of the warnings' topic about orders and refunds that lowered a CLV."""
        return [said for said in self._said_as_warnings if said.kind == "value_drop"]

    @cached_property
    def scores(self) -> list[ClvScore]:
        """The scores that were published, by `as_of`."""
        if not self._pipeline.publish_scores:
            return []
        said, _ = self._run(self._pipeline)
        return _decoded(said.of(self._pipeline.topics.scores), ClvScore)

    @cached_property
    def dead_letters(self) -> list[DeadLetter]:
        """Rows that are not valid orders, then orders that were set aside."""
        letters = [
            DeadLetter(row.rejected.reason.value, row.rejected.detail, f"{row.path}:{row.line}")
            for row in self._rejected
        ]
        for message in self._said.of(self._pipeline.topics.dead_letters):
            header = {name: value.decode() for name, value in message.headers}
            source = f"{header['source_topic']}-{header['source_partition']}"
            place = f"{source}@{header['source_offset']}"
            letters.append(DeadLetter(header["reason"], header["detail"], place))
        return letters

    @cached_property
    def user_ids(self) -> list[str]:
        """The customers, by id."""
        return sorted(self._histories)

    def warnings_of(self, user_id: str) -> list[ChurnWarning]:
        """The warnings of one customer."""
        self._history(user_id)
        return [warning for warning in self.warnings if warning.user_id == user_id]

    def scores_of(self, user_id: str) -> list[ClvScore]:
        """The published scores of one customer."""
        self._history(user_id)
        return [score for score in self.scores if score.user_id == user_id]

    def score(self, user_id: str, as_of: Instant | None = None) -> CustomerScore:
        """The customer as of an instant of the log, from the orders up to and including it; at the
        log's end if none is named. Raises NoSuchCustomer, and ValueError past the log's end."""
        history = self._history(user_id)
        as_of_ms = self.until_ms if as_of is None else instant_ms(as_of)
        if as_of_ms > self.until_ms:
            raise ValueError(
                f"as_of {rfc3339(as_of_ms)} lies after {rfc3339(self.until_ms)}, the end of the"
                " log; replay it with a later until, or add then_silent() to a customer"
            )
        known = [order for order in history if order.ts_ms <= as_of_ms]
        if not known:
            first = rfc3339(min(order.ts_ms for order in history))
            raise NoSuchCustomer(f"{user_id!r} is not known before {first}; choose a later as_of")
        pipeline = self._pipeline
        replay = Replay(pipeline, MemoryPublisher(), partitions=1)
        _at_once(_fed(replay, known, as_of_ms))
        place = Partition(pipeline.topics.orders, 0)
        (stored,) = _at_once(replay.store.load(place, [user_id]))
        assert stored.state is not None
        view = show.view(user_id, place, stored.state, stored.due_ms, pipeline, as_of_ms)
        return CustomerScore(**{name: getattr(view, name) for name in CustomerScore.__slots__})

    def _run(self, pipeline: Pipeline) -> tuple[MemoryPublisher, Replayed]:
        publisher = MemoryPublisher()
        replay = Replay(pipeline, publisher, partitions=self._partitions)
        _at_once(_fed(replay, self._orders, self._asked_until_ms))
        return publisher, replay.result()

    @cached_property
    def _said_as_warnings(self) -> list[ChurnWarning]:
        return _decoded(self._said.of(self._pipeline.topics.warnings), ChurnWarning)

    @cached_property
    def _histories(self) -> dict[str, list[Order]]:
        histories: dict[str, list[Order]] = defaultdict(list)
        for order in self._orders:
            histories[order.user_id].append(order)
        return dict(histories)

    def _history(self, user_id: str) -> list[Order]:
        history = self._histories.get(user_id)
        if history is None:
            near = get_close_matches(user_id, self._histories, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise NoSuchCustomer(f"the log has no order of {user_id!r}{hint}")
        return history


@dataclass(frozen=True, slots=True)
class OrderLog:
    """Orders to be replayed: files of any kind that `replay` reads, and made-up customers."""

    paths: tuple[Path, ...] = ()
    customers: tuple[Customer, ...] = ()

    @classmethod
    def of(cls, sources: Iterable[Source]) -> OrderLog:
        """The log of files and customers; their orders are merged by time where there are both."""
        sources = list(sources)
        customers = tuple(source for source in sources if isinstance(source, Customer))
        counts = Counter(customer.user_id for customer in customers)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(
                f"{twice[0]!r} is there {counts[twice[0]]} times; give each customer one story"
            )
        paths = tuple(Path(source) for source in sources if not isinstance(source, Customer))
        return cls(paths, customers)

    def replay(
        self,
        model: str | Path | Artifact,
        *,
        until: Instant | None = None,
        settings: Mapping[str, str] | None = None,
        rows: str | None = None,
    ) -> ReplayedLog:
        """What comes of the log under a model (a directory, or an artifact that was loaded).

        Orders at `until` or later are left out, and event time passes up to it; without it, to the
        end of the log. `settings` are environment variables of the worker: {"CLV_EARLY": "0.6"}.
        `rows`: what several rows of one id are, as the option of `replay`.
        """
        loaded = model if isinstance(model, Artifact) else _loaded(Path(model))
        given = {**as_trained(loaded.manifest), **(settings or {})}
        read = Settings.load(given, needs=())
        orders, rejected = self._read(read, None if rows is None else RowsAre(rows))
        if until is None:
            until_ms = self._end_ms(loaded.manifest.horizon_days)
        else:
            until_ms = instant_ms(until)
            orders = [order for order in orders if order.ts_ms < until_ms]
        return ReplayedLog(pipeline_of(read, loaded), read.partitions, orders, rejected, until_ms)

    def _read(
        self, settings: Settings, rows_are: RowsAre | None
    ) -> tuple[list[Order], list[RejectedRow]]:
        orders: list[Order] = []
        rejected: list[RejectedRow] = []
        if self.paths:
            rejections = Rejections(also=rejected.append)
            rules = FileRules(settings.order_rules)
            orders += load(self.paths, rules, rows_are, rejections=rejections).orders
        if self.customers:
            for customer in self.customers:
                orders += customer.as_orders(settings.currency)
            orders.sort(key=lambda order: order.ts_ms)
        return orders, rejected

    def _end_ms(self, horizon_days: int) -> int | None:
        """The instant up to which the customers' stories go; None: that of the last order."""
        ends = [c.now_ms for c in self.customers if c.now_ms is not None and c.paused]
        ends += [
            # A day more, so that the last instant of the horizon is among them.
            c.now_ms + (horizon_days + 1) * MS_PER_DAY
            for c in self.customers
            if c.now_ms is not None and c.open_end
        ]
        return max(ends, default=None)


async def _fed(replay: Replay, orders: Sequence[Order], until_ms: int | None) -> None:
    await replay.start()
    for start in range(0, len(orders), _BATCH):
        await replay.feed(orders[start : start + _BATCH])
    if until_ms is None:
        return
    # In pieces: who was warned of in one is not judged in the next.
    now_ms = orders[-1].ts_ms if orders else until_ms
    for piece_ms in range(now_ms + _PIECE_MS, until_ms, _PIECE_MS):
        await replay.until(piece_ms)
    await replay.until(until_ms)


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never waits, within a running event loop as well."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    coroutine.close()
    raise RuntimeError("a replay in memory waited for something")


def _decoded(messages: Sequence[Message], kind: type[T]) -> list[T]:
    decode = msgspec.json.Decoder(kind).decode
    values = [decode(message.value) for message in messages if message.value is not None]
    # Stable: those of one customer and instant stay as they came.
    return sorted(values, key=_by_time)


def _by_time(value: Any) -> tuple[str, str]:
    return value.as_of.removesuffix("Z"), value.user_id


def _loaded(path: Path) -> Artifact:
    directory = resolve(path)
    manifest = directory / MANIFEST_FILE
    written_ns = manifest.stat().st_mtime_ns if manifest.exists() else 0
    return _load(directory.resolve(), written_ns)


@lru_cache(maxsize=8)
def _load(path: Path, written_ns: int) -> Artifact:
    return artifact.load(path)
