"""A mapping proposed from a sample of records: what each field is, how sure that is and why, and
what has to be asked. What changes money or time is asked where names and values leave it open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from features.proposal.draft import Answers, Draft, Proposal, columns_of, name_path, raw
from features.proposal.ids import find_ids, find_versions
from features.proposal.money import find_amount, find_currency, note_other_money
from features.proposal.names import TOTALS, plain, score
from features.proposal.status import find_statuses
from features.proposal.times import find_time


def propose(sample: Sequence[Mapping[str, Any]], answers: Answers | None = None) -> Proposal:
    """The mapping that records like these seem to need."""
    footers = _footers(sample)
    rows = [record for at, record in enumerate(sample) if at not in footers]
    below = _below(rows)
    rows = [record for record in rows if not (below and _blank(record, below))]
    draft = Draft(columns_of(rows), len(rows), answers or Answers())
    if below:
        path = name_path(below)
        draft.skip(path if below == PARENT else f"!{path}", "further lines of orders")
    if footers:
        told = sorted(set(footers.values()))
        draft.skip(" || ".join(f"{path} == {raw(said)}" for path, said in told), "rows of totals")
    find_time(draft)
    amounts = find_amount(draft)
    find_ids(draft)
    find_currency(draft, amounts)
    find_versions(draft)
    find_statuses(draft)
    note_other_money(draft)
    toml = "" if draft.questions else _toml(draft)
    return Proposal(toml, draft.guesses, draft.questions, draft.notes)


_MOSTLY: Final = 0.9
PARENT: Final = "__parentId"
_NAMED: Final = 0.75
_LEAST_BELOW: Final = 0.02
_LOOKED_AT: Final = 200


def _footers(sample: Sequence[Mapping[str, Any]]) -> dict[int, tuple[str, str]]:
    """The rows of totals below others or among them: one says so, and has a blank where nearly all
    others have none; each with the path and the text by which it is known."""
    filled: Counter[str] = Counter()
    for record in sample:
        filled.update(key for key, value in record.items() if str(value or "").strip())
    usual = [key for key, count in filled.items() if count >= _MOSTLY * len(sample)]
    found = {}
    for at, record in enumerate(sample):
        said = next(
            (
                (name_path(key), value)
                for key, value in record.items()
                if isinstance(value, str) and plain(value) in TOTALS
            ),
            None,
        )
        if said and not all(str(record.get(key) or "").strip() for key in usual):
            found[at] = said
    return found


def _below(sample: Sequence[Mapping[str, Any]]) -> str:
    """The field by which rows that only have further lines of the order above them are known: a
    time that they leave blank, or the parent that Shopify's bulk operations name; or nothing."""
    if any(PARENT in record for record in sample):
        return PARENT
    names = {name for record in sample[:_LOOKED_AT] for name in record}
    ids = [name for name in names if score(name, "order_id") >= _NAMED]
    for time in sorted(names, key=lambda name: (-score(name, "ts"), name)):
        if score(time, "ts") < _NAMED:
            break
        blank = [record for record in sample if _blank(record, time)]
        if len(blank) < _LEAST_BELOW * len(sample) or len(blank) == len(sample):
            continue
        for order in ids:
            told = {str(record.get(order)) for record in sample if not _blank(record, time)}
            if all(str(record.get(order)) in told for record in blank):
                return time
    return ""


def _blank(record: Mapping[str, Any], name: str) -> bool:
    """Whether a row is one below another, by the field that says so."""
    if name == PARENT:
        return PARENT in record
    return not str(record.get(name) or "").strip()


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
