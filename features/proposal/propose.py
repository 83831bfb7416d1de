"""A mapping proposed from a sample of records: what each field is, how sure that is and why, and
what has to be asked. What changes money or time is asked where names and values leave it open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from features.proposal.draft import Answers, Draft, Proposal, columns_of
from features.proposal.ids import find_ids, find_versions
from features.proposal.money import find_amount, find_currency
from features.proposal.status import find_statuses
from features.proposal.times import find_time


def propose(sample: Sequence[Mapping[str, Any]], answers: Answers | None = None) -> Proposal:
    """The mapping that records like these seem to need."""
    draft = Draft(columns_of(sample), len(sample), answers or Answers())
    find_time(draft)
    amounts = find_amount(draft)
    find_ids(draft)
    find_currency(draft, amounts)
    find_versions(draft)
    find_statuses(draft)
    toml = "" if draft.questions else _toml(draft)
    return Proposal(toml, draft.guesses, draft.questions, draft.notes)


def _toml(draft: Draft) -> str:
    why = {one.field: one for one in draft.guesses}
    keys = ("order_id", "user_id", "ts", "amount", "currency", "refund_id", "updated_at", "rows")
    lines = []
    for key in keys:
        if key in draft.lines:
            told = f"  # {why[key].sure:.0%}: {why[key].why}" if key in why else ""
            lines.append(f"{key} = {draft.lines[key]}{told}")
    kind = f"type = {draft.lines['type']}" if "type" in draft.lines else ""
    if draft.events:
        events = [f"[[event]]\n{kind}".rstrip() + "\n", *draft.events]
    else:
        lines += [kind] if kind else []
        events = []
    return "\n".join(["\n".join(lines) + "\n", *draft.skips, *events])
