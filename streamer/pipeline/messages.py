"""What goes out to Kafka, and its JSON: warnings, scores, dead letters. Values <-> bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import msgspec

from features.events.money import minor_exponent
from features.events.orders import Rejected
from features.times import MS_PER_DAY, instant_ms, rfc3339, rfc3339_of
from model.decide.history import Tenure, history_of
from model.decide.policy import Rules
from model.decide.rule_state import RaisedWarning
from model.decide.scoring import Scorer
from model.explain.reasons import Share
from model.explain.summary import answer_sentence, warning_sentence
from model.judge.judged import Scoring
from model.judge.scorings import TRIGGERS, Scorings
from streamer.records import Message, MessageColumns, Topics

WARNING_SCHEMA: Final = "churn-warning/1"
SCORE_SCHEMA: Final = "clv-score/1"
WARNING_KIND: Final = "warning"
RECOVERED_KIND: Final = "recovered"
VALUE_DROP_KIND: Final = "value_drop"
REFERENCE: Final = "peak"
REDRIVEN: Final = "redriven"
"""Header of an order that was a dead letter, and of the dead letter that it became again: how many
times it has been redriven."""


class WarningReason(msgspec.Struct, frozen=True):
    """A factor and its share of the fall; the shares of a warning add up to 1."""

    factor: str
    share: float


class ChurnWarning(msgspec.Struct, frozen=True):
    """A record of the churn-warnings topic (`schemas/churn-warning-1.json`), in major units.

    With `kind` "value_drop" an order or refund lowered the CLV; nobody is warned of for that. With
    `kind` "recovered", `closes` is the id of the warning that an order answered, `outcome` how
    its episode ended (`model.decide.outcome`), and `reference…` what that warning compared with.
    """

    schema: str
    warning_id: str
    kind: str
    user_id: str
    as_of: str
    trigger: str
    clv: float
    reference_clv: float
    reference: str
    drop: float
    value_at_risk: float
    severity: str
    churn_probability: float
    reasons: tuple[WarningReason, ...]
    last_order_at: str | None
    days_since_last_order: int | None
    horizon_days: int
    currency: str
    model_version: str
    policy_version: str
    holdout: bool
    expected_loss: float = 0.0
    standing: str = Tenure.ESTABLISHED.value
    summary: str = ""
    closes: str | None = None
    outcome: str | None = None


class ClvScore(msgspec.Struct, frozen=True, gc=False):
    """A record of the clv-scores topic (`schemas/clv-score-1.json`). Money in major units."""

    schema: str
    user_id: str
    as_of: str
    clv: float
    segment: str
    churn_probability: float
    reference_clv: float | None
    trigger: str
    model_version: str


# A dead letter's key and value: most bytes that are kept whole, as many as a topic takes of a
# record by default, and how many where there are more, or the topic takes less.
_MOST_WHOLE: Final = 1_048_576
_KEPT: Final = 65_536
_LEAST: Final = 1_024
# All that a reference to a record says of why.
_TOO_LARGE: Final = b"cut"

# A longer count is none of ours.
_COUNT_DIGITS: Final = 9

# No value and no headers, in MessagePack.
_NOTHING_ELSE: Final = b"\xc0\x90"
_TRIGGERS: Final = tuple(trigger.value for trigger in TRIGGERS)

_json = msgspec.json.Encoder()
_packed = msgspec.msgpack.Encoder()
_unpacked = msgspec.msgpack.Decoder(Message)


def pack(message: Message) -> bytes:
    """The message as an outbox entry."""
    return _packed.encode(message)


def beginning(topic: str, key: bytes) -> bytes:
    """How every outbox entry begins that holds a message of this topic and key, and no other."""
    whole = pack(Message(topic, key, None))
    return whole[: -len(_NOTHING_ELSE)]


def unpack(entry: bytes) -> Message:
    """The message in an outbox entry."""
    return _unpacked.decode(entry)


def listed_until(entry: bytes) -> tuple[str, int]:
    """Whose a listed warning is, and when its horizon is over."""
    found = _term.decode(unpack(entry).value or b"")
    return found.user_id, horizon_end_ms(found)


def horizon_end_ms(warning: ChurnWarning | _Term) -> int:
    """When the horizon after a warning is over."""
    return instant_ms(warning.as_of) + warning.horizon_days * MS_PER_DAY


class _Term(msgspec.Struct):
    user_id: str
    as_of: str
    horizon_days: int


_term = msgspec.json.Decoder(_Term)


def warning_id(
    user_id: str, raised: RaisedWarning, policy_version: str, kind: str = WARNING_KIND
) -> str:
    """The id of a warning, or of the answer to one: a hash of customer, episode and policy, and of
    nothing that depends on when or how often it was computed."""
    cause = (user_id, raised.episode_ms, raised.episode_id, kind, policy_version)
    return hashlib.sha256(_packed.encode(cause)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns scorings into messages, under one model and one policy."""

    scorer: Scorer
    rules: Rules
    topics: Topics
    policy_version: str

    @classmethod
    def of(cls, scorer: Scorer, rules: Rules, topics: Topics) -> Writer:
        """The writer of a scorer's messages under some rules."""
        return cls(scorer, rules, topics, rules.policy.version)

    def scores(self, scorings: Scorings) -> MessageColumns:
        """The clv-scores records of scorings, keyed by user so that compaction keeps the last."""
        scale, instants = self._scale, scorings.as_of_ms.tolist()
        users = [scorings.users[place] for place in scorings.place.tolist()]
        clvs, references = scorings.clv_minor.tolist(), scorings.reference_minor.tolist()
        records = map(
            ClvScore,
            repeat(SCORE_SCHEMA),
            users,
            map(rfc3339_of(set(instants)).__getitem__, instants),
            [clv / scale for clv in clvs],
            self.rules.segments(clvs),
            scorings.churn.tolist(),
            [None if minor < 0 else minor / scale for minor in references],
            map(_TRIGGERS.__getitem__, scorings.trigger.tolist()),
            repeat(self.scorer.model_version),
        )
        # In one go, a record a line; a newline within a text is written \\n.
        lines = _json.encode_lines(list(records)).split(b"\n")[:-1]
        return MessageColumns(self.topics.scores, list(map(str.encode, users)), lines, instants)

    def warning(self, scoring: Scoring, shares: Sequence[Share]) -> Message:
        """The churn-warnings record of a scoring that raised a warning, or of a value drop."""
        return self._message(self.warning_record(scoring, shares))

    def again(self, scoring: Scoring, shares: Sequence[Share]) -> Message:
        """The record of a warning that was sent before, perhaps under another policy."""
        raised, record = scoring.raised, self.warning_record(scoring, shares)
        assert raised is not None
        version = raised.policy_version or self.policy_version
        return self._message(
            msgspec.structs.replace(
                record,
                warning_id=warning_id(scoring.user_id, raised, version),
                policy_version=version,
            )
        )

    def _message(self, record: ChurnWarning) -> Message:
        return Message(self.topics.warnings, record.user_id.encode(), _json.encode(record))

    def warning_record(self, scoring: Scoring, shares: Sequence[Share]) -> ChurnWarning:
        """The warning or value drop of a scoring, as a value."""
        notice = scoring.notice
        assert notice is not None
        summary = warning_sentence(scoring, shares, self.scorer.currency, self.rules.calendar)
        kind = WARNING_KIND if scoring.raised else VALUE_DROP_KIND
        record = self._about(scoring, notice, kind, summary)
        reasons = tuple(WarningReason(share.factor.value, share.share) for share in shares)
        return msgspec.structs.replace(record, reasons=reasons)

    def recovered(self, scoring: Scoring) -> Message:
        """The churn-warnings record of a scoring whose order answers a warning."""
        answered = scoring.answered
        assert answered is not None
        horizon_days = self.rules.horizon_days
        summary = answer_sentence(answered, horizon_days, self.rules.calendar)
        record = msgspec.structs.replace(
            self._about(scoring, answered.raised, RECOVERED_KIND, summary),
            closes=warning_id(
                scoring.user_id,
                answered.raised,
                answered.raised.policy_version or self.policy_version,
            ),
            outcome=answered.ending(horizon_days, self.rules.calendar).value,
        )
        return self._message(record)

    def _about(
        self, scoring: Scoring, raised: RaisedWarning, kind: str, summary: str
    ) -> ChurnWarning:
        """A record about a customer as scored, against the reference of a warning."""
        last_ms = scoring.facts.last_order_ms(self.rules.calendar)
        history = history_of(scoring.facts)
        as_of_day = self.rules.calendar.day_of(scoring.as_of_ms)
        horizon_days = self.rules.horizon_days
        clv_minor, reference_minor = scoring.score.clv_minor, raised.reference.clv_minor
        standing = history.tenure(as_of_day, horizon_days) if history else Tenure.ONE_TIME
        loss_minor = scoring.score.churn_probability * reference_minor
        return ChurnWarning(
            schema=WARNING_SCHEMA,
            warning_id=warning_id(scoring.user_id, raised, self.policy_version, kind),
            kind=kind,
            user_id=scoring.user_id,
            as_of=rfc3339(scoring.as_of_ms),
            trigger=scoring.trigger.value,
            clv=self.major(clv_minor),
            reference_clv=self.major(reference_minor),
            reference=REFERENCE,
            drop=round(max(1 - clv_minor / reference_minor, 0.0), 4),
            value_at_risk=self.major(max(reference_minor - clv_minor, 0)),
            severity=self.rules.severity(loss_minor),
            churn_probability=scoring.score.churn_probability,
            reasons=(),
            last_order_at=None if last_ms is None else rfc3339(last_ms),
            days_since_last_order=as_of_day - history.last_day if history else None,
            horizon_days=horizon_days,
            currency=self.scorer.currency,
            model_version=self.scorer.model_version,
            policy_version=self.policy_version,
            holdout=in_holdout(scoring.user_id, self.rules.policy.holdout_share),
            expected_loss=self.major(round(loss_minor)),
            standing=standing.value,
            summary=summary,
        )

    def major(self, minor: int) -> float:
        """Minor units of the model's currency in major units."""
        return minor / self._scale

    @property
    def _scale(self) -> int:
        scale: int = 10 ** minor_exponent(self.scorer.currency)
        return scale


def in_holdout(user_id: str, share: float) -> bool:
    """Whether a customer belongs to the held-out share: by a hash of the id, so for ever."""
    if not share:
        return False
    hashed = int.from_bytes(hashlib.sha256(b"holdout:" + user_id.encode()).digest()[:8])
    return hashed < share * 2**64


def dead_letter(
    rejected: Rejected,
    *,
    key: bytes | None,
    value: bytes | None,
    source: tuple[str, int, int],
    topic: str,
    redriven: int = 0,
) -> Message:
    """The dead letter of a record: its bytes and key as they came, the reason and its origin
    (`source`: topic, partition, offset) in the headers, and how often it has been redriven.

    A topic takes compressed records that are larger than any it would take as they are, so what is
    too long is cut, and its full size and SHA-256 stand in headers."""
    source_topic, partition, offset = source
    headers: tuple[tuple[str, bytes], ...] = (
        ("reason", rejected.reason.value.encode()),
        ("detail", rejected.detail.encode()),
        ("source_topic", source_topic.encode()),
        ("source_partition", str(partition).encode()),
        ("source_offset", str(offset).encode()),
    )
    if redriven:
        headers += ((REDRIVEN, str(redriven).encode()),)
    return _cut(Message(topic, key, value, headers), _MOST_WHOLE, _KEPT)


def shortened(letter: Message) -> Message | None:
    """A dead letter that takes less room than this one, in the end a reference to the record; None
    where there is nothing more to leave out."""
    for most in (_KEPT, _LEAST, 0):
        shorter = _cut(letter, most, most)
        if shorter != letter:
            return shorter
    kept = tuple(
        (name, _TOO_LARGE if name == "detail" else value)
        for name, value in letter.headers
        if name not in ("key_sha256", "value_sha256")
    )
    return None if kept == letter.headers else msgspec.structs.replace(letter, headers=kept)


def _cut(message: Message, most: int, kept: int) -> Message:
    """The message; where its key or value has more than `most` bytes, with `kept` of them."""
    headers = message.headers
    for name, part in (("key", message.key), ("value", message.value)):
        if part is not None and len(part) > most:
            if all(header != f"{name}_size" for header, _ in headers):
                digest = hashlib.sha256(part).hexdigest()
                headers += (
                    (f"{name}_size", b"%d" % len(part)),
                    (f"{name}_sha256", digest.encode()),
                )
            message = msgspec.structs.replace(message, **{name: part[:kept]}, headers=headers)
    return message


def is_cut(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a dead letter with these headers has less than the record had."""
    return any(name in ("key_size", "value_size") for name, _ in headers)


def times_redriven(headers: Sequence[tuple[str, bytes]]) -> int:
    """How often the record with these headers has been redriven; 0 where they do not say."""
    for name, value in headers:
        if name == REDRIVEN and value.isdigit() and len(value) < _COUNT_DIGITS:
            return int(value)
    return 0
