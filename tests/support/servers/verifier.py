"""What must have come of an orders topic, held against what there is.

`verify` recomputes it from the topic's records through `streamer.replay.replay`, and compares:
customers byte for byte, due times, progress, every key in Redis, warnings, scores, dead letters.

What a replay gives depends on the order of records *within* a partition, as the watermark does,
and on nothing else: not on offsets, on batches, on how partitions interleave, or on who read them.
Only `epoch`, `sequence` and `topic_id` tell of claims, batches and the broker; they are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec
import redis
from aiokafka import ConsumerRecord
from redis.cluster import ClusterNode

from features.events.orders import Order, Rejected, parse
from features.facts.state import StateError
from features.times import MS_PER_DAY
from model.artifact import artifact, registry
from model.decide import codec as customer_bytes
from model.decide.rule_state import Trigger
from streamer.assemble import pipeline_of, topics_of
from streamer.clock import SystemClock
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import unpack
from streamer.pipeline.partitioner import partition_for
from streamer.pipeline.read import unreadable
from streamer.records import MemoryPublisher, Message, Partition, Unreadable
from streamer.replay.replay import Replay
from streamer.store.base import FEED_SIZE
from streamer.store.layout import SCHEMA, root_of
from streamer.store.memory import MemoryStore
from tests.support.servers.deployment import Deployment

_REPLAY_CHUNK: Final = 2_000
# Fields of meta that tell of claims, writes, the broker and the limits of dead letters; no replay
# knows them.
_OF_THE_RUN: Final = frozenset(
    b"epoch sequence topic_id trail lead lister listed open tally erased".split()
)


class Origin(NamedTuple):
    """Where a record came from."""

    topic: str
    partition: int
    offset: int


class Letter(NamedTuple):
    """A dead letter, without its origin."""

    reason: str
    detail: str
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Kept:
    """What Redis must have of a partition."""

    next_offset: int = 0
    high_ts_ms: int | None = None
    warnings: int = 0
    states: dict[str, bytes] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Truth:
    """What must come of the records of the orders topic, whatever happened on the way."""

    partitions: dict[int, Kept]
    warnings: dict[str, tuple[bytes | None, bytes | None]]
    scores: dict[bytes | None, list[bytes | None]]
    dead_letters: dict[Origin, Letter]
    orders: dict[int, list[Order]]


class Digested(NamedTuple):
    """What is kept of a score where there are millions: whose it is, and a digest of its bytes."""

    key: bytes | None
    value: bytes | None

    @classmethod
    def of(cls, score: ConsumerRecord | Message) -> Digested:
        return cls(score.key, blake2b(score.value or b"", digest_size=16).digest())


class DigestingPublisher(MemoryPublisher):
    """Keeps digests of what goes to one topic, and all else as it is."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(
            [
                Message(one.topic, *Digested.of(one)) if one.topic == self._topic else one
                for one in messages
            ]
        )


class Turn(NamedTuple):
    """So many orders of a partition, one after the other, judged by one pipeline."""

    orders: int
    pipeline: Pipeline


async def truth_of(
    records: Sequence[ConsumerRecord],
    pipeline: Pipeline,
    partitions: int,
    turns: Mapping[int, Sequence[Turn]] | None = None,
    *,
    digest: bool = False,
) -> Truth:
    """The truth about a topic's records, by replaying the orders among them.

    Records have to be keyed as Kafka's own producers key them, by customer. `turns` of a partition
    say which pipeline judged what; None: this one judged all. `digest`: of scores, digests.
    """
    topic, now_ms = pipeline.topics.orders, SystemClock().now_ms()
    truth = Truth({n: Kept() for n in range(partitions)}, {}, {}, {}, defaultdict(list))
    offsets: dict[int, list[ConsumerRecord]] = defaultdict(list)
    for record in records:
        truth.partitions[record.partition].next_offset = record.offset + 1
        if record.value is None:
            continue  # an erasure, or a tombstone of the shop's
        outcome: Order | Rejected
        if isinstance(record.value, Unreadable):
            outcome = unreadable(record.value)
        else:
            rules = pipeline.order_rules
            outcome = parse(record.value, record.key, record.timestamp, rules, now_ms)
        if isinstance(outcome, Rejected):
            why = Letter(outcome.reason.value, outcome.detail, record.key, record.value)
            truth.dead_letters[Origin(topic, record.partition, record.offset)] = why
        else:
            truth.orders[record.partition].append(outcome)
            offsets[record.partition].append(record)
    scores = pipeline.topics.scores
    publisher = DigestingPublisher(scores) if digest else MemoryPublisher()
    store = MemoryStore()
    replay = Replay(pipeline, publisher, partitions=partitions, store=store)
    await replay.start()
    for number, orders in truth.orders.items():
        start = 0
        for turn in turns[number] if turns else [Turn(len(orders), pipeline)]:
            replay.runners[number].adopt(turn.pipeline)
            end = start + turn.orders
            for at in range(start, end, _REPLAY_CHUNK):
                await replay.feed(orders[at : min(at + _REPLAY_CHUNK, end)])
            start = end
    for number, kept in truth.partitions.items():
        await _fill(kept, store, Partition(topic, number), truth.orders[number])
    for message in publisher.of(pipeline.topics.warnings):
        truth.warnings[_warning_id(message.value)] = (message.key, message.value)
    for message in publisher.of(scores):
        truth.scores.setdefault(message.key, []).append(message.value)
    for message in publisher.of(pipeline.topics.dead_letters):
        # The replay counts accepted orders only, and has no raw bytes.
        origin, letter = _read_letter(message.headers, message.key, message.value)
        record = offsets[origin.partition][origin.offset]
        truth.dead_letters[Origin(topic, origin.partition, record.offset)] = letter._replace(
            key=record.key, value=record.value
        )
    return truth


async def _fill(
    kept: Kept, store: MemoryStore, partition: Partition, orders: Sequence[Order]
) -> None:
    users = sorted({order.user_id for order in orders})
    for user, stored in zip(users, await store.load(partition, users), strict=True):
        if stored.state is not None:
            kept.states[user] = stored.state
        if stored.due_ms is not None:
            kept.due[user] = stored.due_ms
    claim = await store.peek(partition)
    kept.high_ts_ms = claim.high_ts_ms if claim else None
    kept.warnings = (await store.outbox(partition, 1)).first


# --- what there is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """`faults` has a line for each thing that is not as it must be; the rest are figures."""

    faults: list[str]
    records: int
    customers: int
    warnings: int
    warning_copies: int
    scores: int
    score_copies: int
    dead_letters: int


def turns_of(
    scores: Sequence[ConsumerRecord], pipelines: Mapping[str, Pipeline]
) -> dict[int, list[Turn]]:
    """Which model judged how many orders of each partition, and in which order, as the scores say.

    Every order is scored once, by the model of its batch, and batches follow the log; so what the
    run may choose, the place of a swap, is read off, and all else is held against it. Only where
    no score was published twice and every order is a new one.
    """
    turns: dict[int, list[Turn]] = defaultdict(list)
    for record in scores:
        score = msgspec.json.decode(record.value)
        if score["trigger"] == Trigger.SILENCE:
            continue
        pipeline, ours = pipelines[score["model_version"]], turns[record.partition]
        if ours and ours[-1].pipeline is pipeline:
            ours[-1] = ours[-1]._replace(orders=ours[-1].orders + 1)
        else:
            ours.append(Turn(1, pipeline))
    return turns


async def verify(
    deployment: Deployment,
    orders: Sequence[Order] | None = None,
    models: Sequence[Path] = (),
    *,
    digest: bool = False,
) -> Verdict:
    """Holds everything that a settled deployment left against the truth about its orders topic.

    `orders`: what was meant to be in the topic, in the order of sending; None where a fault of the
    broker may have repeated some on their way in. `models`: the artifacts that were current in the
    course of it, where a registry's was switched (see `turns_of`). `digest`: scores are compared by
    digests, for there are too many to keep.
    """
    assert not (digest and models), "turns are read off whole scores"
    settings = deployment.settings
    topics = topics_of(settings)
    assert settings.model is not None
    pipelines = {
        path.name: pipeline_of(settings, artifact.load(path))
        for path in models or [registry.resolve(settings.model)]
    }
    pipeline = next(iter(pipelines.values()))
    records, warnings, letters = [
        await deployment.read(topic)
        for topic in (topics.orders, topics.warnings, topics.dead_letters)
    ]
    scores = await deployment.read(topics.scores, Digested.of if digest else None)
    turns = turns_of(scores, pipelines) if models else None
    truth = await truth_of(records, pipeline, settings.partitions, turns, digest=digest)
    faults = [
        *(() if orders is None else _input_faults(truth, orders, settings.partitions)),
        *_redis_faults(truth, deployment),
        *_warning_faults(truth, warnings),
        *(_score_faults(truth, scores) if settings.scores else ()),
        *_letter_faults(truth, letters),
    ]
    return Verdict(
        faults=faults,
        records=len(records),
        customers=sum(len(kept.states) for kept in truth.partitions.values()),
        warnings=len(truth.warnings),
        warning_copies=len(warnings),
        scores=sum(map(len, truth.scores.values())),
        score_copies=len(scores),
        dead_letters=len(truth.dead_letters),
    )


def _input_faults(truth: Truth, orders: Sequence[Order], partitions: int) -> Iterator[str]:
    meant: dict[int, list[Order]] = defaultdict(list)
    for order in orders:
        meant[partition_for(order.user_id.encode(), partitions)].append(order)
    for number in range(partitions):
        if truth.orders[number] != meant[number]:
            yield (
                f"partition {number} of the orders topic has {len(truth.orders[number])} orders;"
                f" meant were {len(meant[number])}, or others"
            )


def _redis_faults(truth: Truth, deployment: Deployment) -> Iterator[str]:
    """Every key of the server, read as it is, not through the store."""
    settings, servers = deployment.settings, deployment.servers
    cluster = settings.cluster_id or servers.kafka.cluster_id
    root = root_of(settings.state_namespace, cluster)
    count_key = f"{root}{{{settings.orders_topic}}}:partitions"
    with _client(servers.redis.url) as client:
        keys = {key.decode() for key in client.scan_iter(count=1_000)}
        if client.get(count_key) != str(settings.partitions).encode():
            yield f"{count_key} is {client.get(count_key)!r}"
        keys.discard(count_key)
        for number, kept in truth.partitions.items():
            prefix = f"{root}{{{settings.orders_topic}-{number}}}:"
            ours = {key for key in keys if key.startswith(prefix)}
            keys -= ours
            yield from _partition_faults(client, prefix, ours, kept, settings.partitions)
    for key in sorted(keys):
        yield f"a key that is not ours: {key}"


def _client(url: str) -> redis.Redis:
    """A client of one server, or of a cluster, which answers alike."""
    scheme, _, hosts = url.partition("://")
    if scheme != "redis+cluster":
        return redis.Redis.from_url(url)
    nodes = [host.rsplit(":", 1) for host in hosts.split(",")]
    found = [ClusterNode(host, int(port)) for host, port in nodes]
    return cast(redis.Redis, redis.RedisCluster(startup_nodes=found))


def _partition_faults(
    client: redis.Redis, prefix: str, keys: set[str], kept: Kept, partitions: int
) -> Iterator[str]:
    names = {key: key.removeprefix(f"{prefix}c:") for key in keys if key.startswith(f"{prefix}c:")}
    users = list(names.values())
    records: list[Any] = client.mget(list(names)) if names else []
    found = {user: record[6:] for user, record in zip(users, records, strict=True)}
    for user in sorted(kept.states.keys() | found.keys()):
        if found.get(user) != kept.states.get(user):
            yield from _customer_faults(f"{prefix}c:{user}", found.get(user), kept.states.get(user))
    instants = [int(at) for at in cast(list[bytes], client.zrange(f"{prefix}due", 0, -1))]
    due = {
        user.decode(): at
        for at in instants
        for user in cast(set[bytes], client.smembers(f"{prefix}due:{at}"))
    }
    for user, record in zip(users, records, strict=True):
        says = int.from_bytes(record[:6], "big") - 2**47
        if says != due.get(user, 2**47 - 1):
            yield f"{prefix}due: {user} is due {due.get(user)}, which must be {says} by the record"
    for user in sorted(kept.due.keys() | due.keys()):
        if due.get(user) != kept.due.get(user):
            yield f"{prefix}due: {user} is due {due.get(user)}, must be {kept.due.get(user)}"
    fields: Any = client.hgetall(f"{prefix}meta")
    compared = {
        name.decode(): value.decode() for name, value in fields.items() if name not in _OF_THE_RUN
    }
    must = {"partitions": partitions, "schema": SCHEMA, "outbox_first": kept.warnings, "first": 0}
    compared.pop("cluster", None)
    if kept.next_offset:
        must["next"] = kept.next_offset
    if kept.high_ts_ms is not None:
        must["high_ts"] = kept.high_ts_ms
    if compared != {name: str(value) for name, value in must.items()}:
        yield f"{prefix}meta is {compared}, must be {must}"
    if waiting := client.llen(f"{prefix}outbox"):
        yield f"{prefix}outbox has {waiting} entries"
    yield from _list_faults(client, prefix, kept, fields)
    lists = ("meta", "due", "outbox", "open", "feed", *(f"due:{at}" for at in instants))
    known = {f"{prefix}{name}" for name in lists} | names.keys()
    for key in sorted(keys - known):
        yield f"a key of no known kind: {key}"


def _list_faults(
    client: redis.Redis, prefix: str, kept: Kept, meta: Mapping[bytes, bytes]
) -> Iterator[str]:
    """Who is listed as warned of must be who is, and everything that was said once in the feed."""
    listed = {user.decode() for user in cast(list[bytes], client.hkeys(f"{prefix}open"))}
    warned = {user for user, state in kept.states.items() if is_warned(state)}
    feed = cast(list[bytes], client.lrange(f"{prefix}feed", 0, -1))
    said = [unpack(entry) for entry in feed if entry]  # nothing stands for who was erased
    ids = [msgspec.json.decode(one.value or b"{}", type=_Id).warning_id for one in said]
    if len(feed) != min(kept.warnings, FEED_SIZE) or len(set(ids)) != len(ids):
        yield f"{prefix}feed has {len(feed)} of {kept.warnings} messages, {len(set(ids))} different"
    if b"open" not in meta:
        return  # the list is being made again: customers have moved
    if meta[b"open"] != str(len(listed)).encode():
        yield f"{prefix}meta: open is {meta[b'open']!r}, listed are {len(listed)}"
    # Whose horizon is over may be on the list, or not any more.
    for user in sorted(listed - warned):
        yield f"{prefix}open: {user} is listed, and was not warned of or has ordered since"
    end_ms = kept.high_ts_ms or 0
    for user in sorted(warned - listed):
        if warned_until(kept.states[user], said) > end_ms:
            yield f"{prefix}open: {user} is not listed"


class _Id(msgspec.Struct):
    warning_id: str


def is_warned(state: bytes) -> bool:
    """Whether the customer was warned of and has not ordered since."""
    rule_state = customer_bytes.decode(state).rule_state
    return rule_state.raised is not None and not rule_state.armed


def warned_until(state: bytes, said: Sequence[Message]) -> int:
    """When the horizon of a customer's last warning is over."""
    raised = customer_bytes.decode(state).rule_state.raised
    assert raised is not None
    days = msgspec.json.decode(said[0].value or b"{}", type=_Horizon).horizon_days if said else 0
    return raised.as_of_ms + days * MS_PER_DAY


class _Horizon(msgspec.Struct):
    horizon_days: int


def _customer_faults(key: str, found: bytes | None, must: bytes | None) -> Iterator[str]:
    """The fields in which two stored customers differ."""
    if found is None or must is None:
        yield f"{key} {'is missing' if found is None else 'is one too many'}"
        return
    try:
        is_, should = (dict(_flat(customer_bytes.decode(data))) for data in (found, must))
    except StateError as error:
        yield f"{key} cannot be read: {error}"
        return
    differing = [name for name in is_.keys() | should.keys() if is_.get(name) != should.get(name)]
    for name in sorted(differing):
        yield f"{key}: {name} is {is_.get(name)!r}, must be {should.get(name)!r}"
    if not differing:
        yield f"{key}: other bytes for the same values: {found!r}, must be {must!r}"


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, msgspec.Struct):
        for inner in value.__struct_fields__:
            yield from _flat(getattr(value, inner), f"{name}.{inner}" if name else inner)
    else:
        yield name, value


def _warning_faults(truth: Truth, records: Sequence[ConsumerRecord]) -> Iterator[str]:
    found: dict[str, set[tuple[bytes | None, bytes | None]]] = defaultdict(set)
    for record in records:
        found[_warning_id(record.value)].add((record.key, record.value))
    for one in sorted(truth.warnings.keys() - found.keys()):
        yield f"warning {one} is missing: {truth.warnings[one]}"
    for one in sorted(found.keys() - truth.warnings.keys()):
        yield f"warning {one} was never to be given: {found[one]}"
    for one in sorted(found.keys() & truth.warnings.keys()):
        if found[one] != {truth.warnings[one]}:
            yield f"warning {one} is {found[one]}, must be {truth.warnings[one]}"


def _score_faults(truth: Truth, records: Sequence[ConsumerRecord]) -> Iterator[str]:
    """Each score at least once, none else, and for each customer the right one last."""
    found: dict[bytes | None, list[bytes | None]] = defaultdict(list)
    for record in records:
        found[record.key].append(record.value)
    for key in sorted(truth.scores.keys() | found.keys(), key=repr):
        is_, must = found.get(key, []), truth.scores.get(key, [])
        missing, surplus = set(must) - set(is_), set(is_) - set(must)
        if missing:
            yield f"{len(missing)} scores of {key!r} are missing: {min(missing, key=repr)!r}, ..."
        if surplus:
            yield f"{len(surplus)} scores of {key!r} are too many: {min(surplus, key=repr)!r}, ..."
        if is_[-1:] != must[-1:]:
            yield f"the last score of {key!r} is {is_[-1:]}, must be {must[-1:]}"


def _letter_faults(truth: Truth, records: Sequence[ConsumerRecord]) -> Iterator[str]:
    found: dict[Origin, set[Letter]] = defaultdict(set)
    for record in records:
        origin, letter = _read_letter(record.headers, record.key, record.value)
        if origin in truth.dead_letters:
            letter = _uncut(letter, dict(record.headers), truth.dead_letters[origin])
        found[origin].add(letter)
    for origin in sorted(truth.dead_letters.keys() | found.keys()):
        must = {truth.dead_letters[origin]} if origin in truth.dead_letters else set()
        if found.get(origin, set()) != must:
            yield f"dead letters of {origin} are {found.get(origin)}, must be {must}"


def _uncut(letter: Letter, headers: Mapping[str, bytes], must: Letter) -> Letter:
    """The letter as it was before it was cut, where what is left of it, and its headers' sizes and
    hashes, say that it was the one that must be; else as it is."""
    for name in ("key", "value"):
        kept, whole = getattr(letter, name), getattr(must, name)
        size, told = headers.get(f"{name}_size"), headers.get(f"{name}_sha256")
        if size is None or not isinstance(whole, bytes) or int(size) != len(whole):
            continue
        hashed = sha256(whole).hexdigest().encode()
        # A mere reference has no room for hashes, nor for why.
        by_size = told is None and not kept and letter.detail == "cut"
        rest = len(kept or b"") < len(whole) and whole.startswith(kept or b"")
        if rest and (by_size or told == hashed):
            letter = letter._replace(**{name: whole})
    told_at_all = any(name.endswith("_sha256") for name in headers)
    return letter if told_at_all or letter.detail != "cut" else letter._replace(detail=must.detail)


def _read_letter(
    headers: Iterable[tuple[str, bytes]], key: bytes | None, value: bytes | None
) -> tuple[Origin, Letter]:
    named = {name: text.decode() for name, text in headers}
    origin = Origin(
        named["source_topic"], int(named["source_partition"]), int(named["source_offset"])
    )
    return origin, Letter(named["reason"], named["detail"], key, value)


def _warning_id(value: bytes | None) -> str:
    return str(msgspec.json.decode(value or b"{}")["warning_id"])
