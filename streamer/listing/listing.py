"""The list of open warnings: one entry a customer, the message that was sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from model.judge.judged import Scoring


def listing(scorings: Iterable[Scoring], entries: Sequence[bytes]) -> dict[str, bytes | None]:
    """What scorings change in the list: a warning opens an entry, an order after it closes it.

    `entries`: what they say, packed, in their order: the answer to a warning, then the notice.
    """
    changes: dict[str, bytes | None] = {}
    said = iter(entries)
    for scoring in scorings:
        if scoring.answered is not None:
            next(said)
            changes[scoring.user_id] = None
        if scoring.notice is not None:
            entry = next(said)
            if scoring.raised is not None:
                changes[scoring.user_id] = entry
    return changes
