"""What was injected and what was found: one entry a scenario, kept as JSON, shown as a table.

Entries are written by the tests as they run, whether they hold or not; the pages of `docs/results`
are made from them and from nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.support.chaos.covered import NOT_COVERED

ROOT: Final = Path(__file__).resolve().parents[3]
RESULTS: Final = ROOT / ".cache" / "chaos"
PAGES: Final = ROOT / "docs" / "results"
_FAULTS: Final = """\
# Fault suite

Written by `make chaos`, not by hand. ✓: matches the replay, or the named tests pass. Duplicates:
warnings delivered again with the same id and content, of all warnings; consumers drop them by id.
See [reliability](../reliability.md).
"""
_SOAK: Final = """\
# Soak test

Written by `make soak`, not by hand; columns as in the [fault suite](faults.md).
"""
_BROKERS: Final = {"Apache Kafka": "Kafka", "none, real Redis": "Redis", "none": ""}


@dataclass(slots=True)
class Entry:
    """One scenario as it went. `times`: how often the fault was injected; `duplicates`: warnings
    said again with the same id and content; `faults`: what the verifier found."""

    id: str
    what: str
    broker: str = ""
    times: int = 0
    records: int = 0
    warnings: int = 0
    duplicates: int = 0
    faults: list[str] = field(default_factory=list)
    verified: bool = False
    known: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    seconds: float = 0.0
    tests: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.verified and not self.faults and not self.failure

    def note(self, text: str) -> None:
        self.notes.append(text)


class Book:
    """The entries of one run."""

    def __init__(self, path: Path, size: str) -> None:
        self._path = path
        self._size = size
        self._began = datetime.now(UTC)
        self.entries: list[Entry] = []

    @contextmanager
    def entry(self, id: str, what: str, broker: str = "") -> Iterator[Entry]:
        """An entry that is written down however the block ends."""
        entry = Entry(id, what, broker)
        began = time.monotonic()
        try:
            yield entry
        except BaseException as error:
            told = str(error).strip().splitlines() or [""]
            entry.failure = f"{type(error).__name__}: {told[0]}"[:300]
            raise
        finally:
            entry.seconds = round(time.monotonic() - began, 1)
            self.add(entry)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            "size": self._size,
            "began": self._began.isoformat(timespec="seconds"),
            "machine": machine(),
            "commit": commit(),
            "entries": [asdict(one) for one in self.entries],
        }
        self._path.write_text(json.dumps(kept, indent=1))


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    with_name = Path("/proc/cpuinfo")
    if with_name.exists():
        for line in with_name.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{os.cpu_count()} x {cpu}, {system}, Python {platform.python_version()}"


def commit() -> str:
    """The commit that is run, as Git abbreviates it; empty where Git does not know."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return asked.stdout.strip()


# --- the table -----------------------------------------------------------------------------------


def render(run: dict[str, Any]) -> str:
    """The results of a run as Markdown."""
    entries = [Entry(**one) for one in run["entries"]]
    entries.sort(key=lambda one: (_order(one.id), one.what))
    held = sum(entry.holds for entry in entries)
    lines = [
        f"{run['size'].capitalize()}, {run['began'][:10]}. {held} of {len(entries)} scenarios hold."
        f" {run['machine']}. Commit {run['commit']}.",
        "",
        "|id|injected|times|broker|records|found|duplicates|s|",
        "|---|---|---:|---|---:|---|---:|---:|",
    ]
    lines += [_line(entry) for entry in entries]
    if "soak" not in run["size"]:
        lines += [f"|{id}|||||**not covered**: {why}|||" for id, why in NOT_COVERED.items()]
    return "\n".join(lines)


def _line(entry: Entry) -> str:
    if entry.failure:
        found = f"**does not hold**: {entry.failure}"
    elif entry.faults:
        found = f"**does not hold**: {len(entry.faults)} faults, the first: {entry.faults[0][:200]}"
    elif not entry.verified:
        found = "not verified"
    elif entry.tests:
        found = f"✓ {', '.join(f'`{test}`' for test in entry.tests)}"
    else:
        found = "✓"
    more = "; ".join([*entry.known, *entry.notes])
    found = f"{found} {more}" if found == "✓" and more else "; ".join(filter(None, [found, more]))
    again = f"{entry.duplicates:,}/{entry.warnings:,}" if entry.warnings else ""
    cells = (
        entry.id,
        entry.what,
        f"{entry.times:,}" if entry.times else "",
        _BROKERS.get(entry.broker, entry.broker),
        f"{entry.records:,}" if entry.records else "",
        found,
        again,
        f"{entry.seconds:.0f}",
    )
    return f"|{'|'.join(cell.replace('|', '&#124;') for cell in cells)}|"


def _order(id: str) -> tuple[int, str]:
    digits = "".join(c for c in id.partition("-")[0] if c.isdigit())
    return (int(digits) if digits else 99, id)


def write_page(size: str) -> None:
    """Writes the page of the last run of this size: the fault suite's or the soak's."""
    if (run := _kept(size)) is None:
        return
    name, head = ("soak.md", _SOAK) if size == "soak" else ("faults.md", _FAULTS)
    PAGES.mkdir(exist_ok=True)
    (PAGES / name).write_text(f"{head}\n{render(run)}\n", encoding="utf-8")


def _kept(size: str) -> dict[str, Any] | None:
    """What the parts of the last run of a size have written."""
    named = "soak.json" if size == "soak" else f"{size}-*.json"
    parts = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(named))]
    if not parts:
        return None
    parts.sort(key=lambda part: part["began"])
    # A scenario that was run again stands there as it went last.
    entries = {(e["id"], e["what"]): e for part in parts for e in part["entries"]}
    commits = dict.fromkeys(part["commit"] for part in parts if part["commit"])
    return parts[0] | {"entries": list(entries.values()), "commit": ", ".join(commits)}
