"""Two models on the same customers, side by side: what each says, and whom each would warn of.

Either judges every event and every due instant of the customers that are followed, by the very code
that runs live, from the state in which they were first met: the live model as it stands, the other
as though it had taken over at that moment. So the two differ by the model and by nothing else. A
budget of warnings is left out on both sides: it depends on all customers, and these are a part.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from features.times import MS_PER_DAY
from model.evaluate.metrics import spearman
from model.judge.judge import Judge
from model.judge.judged import Event, JudgedBatch, ScheduledCustomer, Scoring
from model.shadow.protocol import MIN_PAIRS, QUANTILES, Agreement, Step

# Episodes whose warnings are matched; the oldest go first.
MAX_EPISODES: Final = 100_000


@dataclass(slots=True)
class _Pair:
    """A customer as the live model and the shadow would have it."""

    live: ScheduledCustomer
    shadow: ScheduledCustomer


class _Said(NamedTuple):
    live_minor: int
    shadow_minor: int


@dataclass(slots=True)
class _Partition:
    pairs: dict[str, _Pair] = field(default_factory=dict)
    judged_day: int = -1


class ShadowComparison:
    """Follows customers under two models."""

    def __init__(self, live: Judge, shadow: Judge) -> None:
        self._live, self._shadow = _without_budget(live), _without_budget(shadow)
        self._day_of = live.rules.calendar.day_of
        self._partitions: dict[int, _Partition] = {}
        self._said: dict[str, _Said] = {}
        self._episodes: OrderedDict[tuple[str, int, bytes], list[int | None]] = OrderedDict()
        self._scorings = 0
        self._failed = 0

    def take(self, step: Step, track_of: Mapping[str, ScheduledCustomer]) -> None:
        """Follows a step; `track_of` has the tracks of the customers met in it."""
        if step.anew:
            gone = self._partitions.pop(step.partition, _Partition())
            for user in gone.pairs:
                self._said.pop(user, None)
        known = self._partitions.setdefault(step.partition, _Partition())
        if step.erased is not None:
            self._forget(known, step.erased)
        for user, track in track_of.items():
            known.pairs[user] = _Pair(track, track)
        events: dict[str, list[Event]] = {}
        for place, order, watermark_ms in step.events:
            if order.user_id in known.pairs:
                events.setdefault(order.user_id, []).append(Event(place, order, watermark_ms))
        self._judge(known, list(events), events, None)
        until_ms = step.until_ms
        if until_ms is not None and (track_of or self._day_of(until_ms) > known.judged_day):
            # Instants lie at midnights: whoever was not due at the last one is not before the next.
            known.judged_day = max(known.judged_day, self._day_of(until_ms))
            due = [user for user, pair in known.pairs.items() if _due(pair, until_ms)]
            self._judge(known, due, {}, until_ms)

    def agreement(self) -> Agreement:
        """What has been seen so far."""
        pairs = np.array(list(self._said.values()), np.float64).reshape(-1, 2)
        live, shadow = pairs[:, 0], pairs[:, 1]
        enough = len(pairs) >= MIN_PAIRS
        ratios = shadow[live > 0] / live[live > 0]
        episodes = list(self._episodes.values())
        later = [(b - a) / MS_PER_DAY for a, b in episodes if a is not None and b is not None]
        return Agreement(
            live=self._live.scorer.model_version,
            shadow=self._shadow.scorer.model_version,
            customers=sum(len(one.pairs) for one in self._partitions.values()),
            scorings=self._scorings,
            spearman=round(spearman(live, shadow), 4) if enough else None,
            ratio_quantiles=[round(float(q), 4) for q in np.percentile(ratios, QUANTILES)]
            if enough and len(ratios) >= MIN_PAIRS
            else None,
            mean_ratio=round(float(shadow.sum() / live.sum()), 4)
            if enough and live.sum()
            else None,
            both=len(later),
            added=sum(a is None for a, _ in episodes),
            removed=sum(b is None for _, b in episodes),
            days_later=median(later) if later else None,
            failed=self._failed,
        )

    def _judge(
        self,
        known: _Partition,
        users: Sequence[str],
        events: Mapping[str, Sequence[Event]],
        until_ms: int | None,
    ) -> None:
        if not users:
            return
        try:
            live = self._live.judge({u: known.pairs[u].live for u in users}, events, until_ms)
            shadow = self._shadow.judge({u: known.pairs[u].shadow for u in users}, events, until_ms)
        except Exception:
            # One of them cannot score one of these: nothing to compare.
            self._failed += len(users)
            for user in users:
                del known.pairs[user]
                self._said.pop(user, None)
            return
        for user in users:
            known.pairs[user] = _Pair(live.tracks[user], shadow.tracks[user])
        self._compare(live, shadow)

    def _compare(self, live: JudgedBatch, shadow: JudgedBatch) -> None:
        said = {_key(scoring): scoring.score.clv_minor for scoring in shadow.scorings}
        for scoring in live.scorings:
            other = said.get(_key(scoring))
            if other is not None:
                self._said[scoring.user_id] = _Said(scoring.score.clv_minor, other)
                self._scorings += 1
        for side, judged in enumerate((live, shadow)):
            for scoring in judged.scorings:
                if scoring.raised:
                    raised = scoring.raised
                    key = scoring.user_id, raised.episode_ms, raised.episode_id
                    self._episodes.setdefault(key, [None, None])[side] = raised.as_of_ms
        while len(self._episodes) > MAX_EPISODES:
            self._episodes.popitem(last=False)

    def _forget(self, known: _Partition, user: str) -> None:
        known.pairs.pop(user, None)
        self._said.pop(user, None)
        for key in [key for key in self._episodes if key[0] == user]:
            del self._episodes[key]


def _due(pair: _Pair, until_ms: int) -> bool:
    return any(
        track.due_ms is not None and track.due_ms <= until_ms for track in (pair.live, pair.shadow)
    )


def _key(scoring: Scoring) -> tuple[str, int, int | None]:
    return scoring.user_id, scoring.as_of_ms, scoring.offset


def _without_budget(judge: Judge) -> Judge:
    policy = replace(judge.rules.policy, budget_per_day=None)
    return replace(judge, rules=replace(judge.rules, policy=policy))
