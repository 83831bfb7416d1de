"""How warnings ended and what acting on them brought, together: for a terminal, and as a page."""

from __future__ import annotations

import msgspec
from markupsafe import Markup

from model.report.format import share
from model.report.html import render
from streamer.admin import acting, outcomes
from streamer.admin.acting import Acting
from streamer.admin.outcomes import WeekOutcomes


class Outcomes(msgspec.Struct, frozen=True):
    """Warnings by week, what acting on them brought (None where nobody was held out), and how many
    orders and refunds lowered a CLV, by trigger."""

    weeks: list[WeekOutcomes]
    acting: Acting | None
    value_drops: dict[str, int]


def text(found: Outcomes) -> str:
    """Both for a terminal, under 80 columns."""
    parts = [outcomes.text(found.weeks)]
    if found.value_drops:
        parts.append(dropped(found))
    if found.weeks:
        parts.append(acting.text(found.acting))
    return "\n\n".join(parts)


def dropped(found: Outcomes) -> str:
    """What the value drops were, in a sentence."""
    counts = " and ".join(
        f"{count:,} {trigger}{'s' if count != 1 else ''}"
        for trigger, count in found.value_drops.items()
    )
    return f"Value drops, which are no warnings: {counts} lowered a CLV."


def page(found: Outcomes) -> str:
    """Both as a page that needs no network."""
    return render(
        "outcomes.html",
        found=found,
        weeks=_rows(found),
        endings=_endings(found) if found.weeks else None,
        acting=[(False, cells) for cells in acting.cells(found.acting)],
        heads=acting.HEADS,
        said=acting.sentences(found.acting),
        dropped=dropped(found) if found.value_drops else "",
    )


def _rows(found: Outcomes) -> list[tuple[bool, list[str]]]:
    return [
        (
            week.holdout,
            [
                f"{week.week}{', held out' if week.holdout else ''}",
                *(
                    f"{n:,}"
                    for n in (week.warnings, week.kept, week.recovered, week.lost, week.open)
                ),
                share(week.strict_precision),
                share(week.episode_precision),
            ],
        )
        for week in found.weeks
    ]


def _endings(found: Outcomes) -> Markup:
    from model.report.plots import bars

    weeks = sorted({week.week for week in found.weeks})
    sums = {
        name: [
            sum(
                (week.lost, week.recovered, week.kept, week.open)[at]
                for week in found.weeks
                if week.week == name
            )
            for at in range(4)
        ]
        for name in weeks
    }
    return bars(
        [(name, sums[name]) for name in weeks],
        x="week of the warning",
        y="warnings",
        series=["lost", "recovered", "kept", "open"],
        title="How warnings ended, by the week in which they were sent: "
        + "; ".join(f"{name} {sums[name][0]} lost of {sum(sums[name])}" for name in weeks[-8:]),
    )
