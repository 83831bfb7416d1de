"""Who is slipping away as of an instant, for whoever calls them: rows of a page and of a CSV file.

On the list is who has an open warning and has not been silent for longer than the horizon: those
have left by definition, and are counted apart.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final

from features.events.money import minor_exponent
from features.facts.state import CustomerState
from features.times import iso_day
from model.decide.codec import CustomerRecord
from model.decide.history import history_of
from model.decide.outcome import Ending, ending
from model.decide.policy import SEVERITIES, Rules
from model.decide.rule_state import RaisedWarning, Trigger
from model.decide.scoring import Score, Scorer
from model.explain.reasons import explain
from model.explain.summary import warning_sentence
from model.judge.budget import spent_minor
from model.judge.judged import Scoring
from model.report.escape import cell

OFFERS: Final = dict(zip(SEVERITIES, ("call", "offer", "reminder"), strict=True))
"""What a customer is worth to be kept by, after the severity of the loss that is expected."""

COLUMNS: Final = (
    "customer",
    "last_order",
    "usual_gap_days",
    "days_overdue",
    "spend",
    "churn_probability",
    "at_stake",
    "why",
    "offer",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlippingCustomer:
    """A customer who is slipping away, in the order of the columns.

    `last_order`: ISO date. `usual_gap_days`: mean of the days between orders, None for who bought
    on one day only; `days_overdue`: days since the last order beyond that, at least 0. `spend`: net
    revenue of the last H days, `at_stake`: P(churn) x reference CLV, both in major units.
    `churn_probability`: of no order in the next H days. `why`: one sentence. `offer`: what they are
    worth, one of OFFERS.
    """

    customer: str
    last_order: str
    usual_gap_days: float | None
    days_overdue: int | None
    spend: float
    churn_probability: float
    at_stake: float
    why: str
    offer: str


@dataclass(frozen=True, slots=True)
class SlippingList:
    """Those slipping away as of 00:00 of an ISO date, most at stake first; `gone`: with an open
    warning, but silent for longer than the horizon."""

    as_of: str
    horizon_days: int
    currency: str
    model_version: str
    customers: Sequence[SlippingCustomer]
    gone: int


def slipping(
    customers: Iterable[tuple[str, CustomerRecord]], scorer: Scorer, rules: Rules, as_of_ms: int
) -> SlippingList:
    """Those of the customers who are slipping away as of an instant (epoch ms), judged by what is
    known then; the records are as of no later."""
    calendar, horizon = scorer.calendar, rules.horizon_days
    today = calendar.day_of(as_of_ms)
    listed: list[tuple[str, CustomerRecord]] = []
    gone = 0
    for user, record in customers:
        last = record.facts.last_purchase_day
        if last is None or not _is_open(record, as_of_ms, horizon):
            continue
        if today - last > horizon:
            gone += 1
        else:
            listed.append((user, record))
    rows = _rows(listed, scorer, rules, as_of_ms) if listed else []
    found = SlippingList(iso_day(today), horizon, scorer.currency, scorer.model_version, rows, gone)
    return merged([found])


def merged(lists: Sequence[SlippingList]) -> SlippingList:
    """One list of several, at least one, of other customers as of the same instant."""
    rows = [row for one in lists for row in one.customers]
    rows.sort(key=lambda row: (-row.at_stake, row.customer))
    return replace(lists[0], customers=rows, gone=sum(one.gone for one in lists))


def _is_open(record: CustomerRecord, as_of_ms: int, horizon_days: int) -> bool:
    """Whether the customer has a warning that no order has answered and that has not run out."""
    raised = record.rule_state.raised
    if raised is None or record.rule_state.armed or raised.as_of_ms > as_of_ms:
        return False
    return ending(raised.as_of_ms, None, None, as_of_ms, horizon_days) is Ending.OPEN


def _rows(
    listed: Sequence[tuple[str, CustomerRecord]], scorer: Scorer, rules: Rules, as_of_ms: int
) -> list[SlippingCustomer]:
    users = [user for user, _ in listed]
    pairs = [(record.facts, as_of_ms) for _, record in listed]
    scores = scorer.scores(pairs, users)
    now = [
        _scoring(user, record, score, as_of_ms)
        for (user, record), score in zip(listed, scores, strict=True)
    ]
    today, scale = scorer.calendar.day_of(as_of_ms), 10 ** minor_exponent(scorer.currency)
    rows = []
    for scoring, shares in zip(now, explain(scorer, now), strict=True):
        assert scoring.raised is not None
        last = scoring.facts.last_purchase_day
        assert last is not None
        gap = _usual_gap(scoring.facts)
        loss = scoring.score.churn_probability * scoring.raised.reference.clv_minor
        rows.append(
            SlippingCustomer(
                customer=scoring.user_id,
                last_order=iso_day(last),
                usual_gap_days=gap,
                days_overdue=None if gap is None else max(int(today - last - gap), 0),
                spend=spent_minor(scoring.facts, today, rules.horizon_days) / scale,
                churn_probability=scoring.score.churn_probability,
                at_stake=round(loss) / scale,
                why=warning_sentence(scoring, shares, scorer.currency, scorer.calendar),
                offer=OFFERS[rules.severity(loss)],
            )
        )
    return rows


def _scoring(user: str, record: CustomerRecord, score: Score, as_of_ms: int) -> Scoring:
    """The warning as it would read now. Where the CLV has not fallen by now, as it read then."""
    raised = record.rule_state.raised
    assert raised is not None
    if score.clv_minor < raised.reference.clv_minor:
        raised = RaisedWarning(
            Trigger.SILENCE,
            as_of_ms,
            score.clv_minor,
            raised.reference,
            raised.episode_ms,
            raised.episode_id,
        )
    return Scoring(
        user, None, as_of_ms, raised.trigger, score, raised.reference, record.facts, raised
    )


def _usual_gap(facts: CustomerState) -> float | None:
    """The mean days between purchase days, as the sentence says; None without two of them."""
    history = history_of(facts, sys.maxsize)
    if history is None or history.purchase_days < 2:
        return None
    return round((history.last_day - history.first_day) / (history.purchase_days - 1), 1)


def slipping_csv(customers: Iterable[SlippingCustomer]) -> str:
    """The rows under the names of COLUMNS, for a spreadsheet, which runs no cell as a formula."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\r\n")
    lines.writerow(COLUMNS)
    for row in customers:
        lines.writerow(
            ["" if v is None else cell(v) if isinstance(v, str) else v for v in astuple(row)]
        )
    return written.getvalue()
