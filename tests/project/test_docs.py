"""The pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamer.commands.reference import PAGES as REFERENCE
from streamer.commands.reference import settings_table
from streamer.pipeline.claim import CustomersMoved, LogTooShort, LostWrites, RetentionGap, StoreLost
from streamer.pipeline.rebuild import CustomerUnrecoverable, StoreDamaged
from streamer.records import Partition
from streamer.store.base import NewerSchema, PartitionCountChanged, TopicRecreated
from tests.support.project.licences import pins

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def test_the_readme_says_of_settings_what_the_reference_says() -> None:
    known = set(settings_table().splitlines())
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if "| `CLV_" in line]
    assert rows
    assert set(rows) <= known


@pytest.mark.parametrize("name", REFERENCE)
def test_a_page_of_the_reference_has_what_the_code_has(name: str) -> None:
    page = REFERENCE[name]()
    assert page.startswith("# ")
    assert page.count("\n\n\n") == page.count("\t") == 0
    for expected in {
        "settings": ["`CLV_CURRENCY`", "`REDIS_URL`"],
        "commands": ["## `python -m model train`", "## `python -m streamer worker`", "--cutoff"],
        "metrics": ["`clv_lag_records`", "`clv_orders_applied_total`"],
        "features": ["`orders_30d`", "minor units"],
        "messages": ["## Churn warning", "| `order_id` | yes |", "`value_at_risk`"],
        "http": ["`POST /predict`", "`GET /customers/{user_id}`"],
    }[name]:
        assert expected in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    broken = [to for to in _LINK.findall(page.read_text()) if not (page.parent / to).exists()]
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    pages = {
        str(page.relative_to(ROOT / "docs")) for page in PAGES if ROOT / "docs" in page.parents
    }
    assert {page for page in pages - {"README.md"} if f"({page})" not in index} == set()


def test_every_pinned_requirement_is_on_the_page_of_licences() -> None:
    rows = (ROOT / "docs/licences.md").read_text().splitlines()
    for name, version in pins():
        [row] = [row for row in rows if row.startswith(f"| {name} | {version} | ")]
        assert row.count("|") == 4, row
    assert len(pins()) > 50


def test_every_test_that_the_security_page_names_is_there() -> None:
    tests = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    page = (ROOT / "docs/security.md").read_text()
    for name in re.findall(r"`(test_\w+)`", page):
        assert any(f"def {name}(" in text for text in tests.values()), name
    for name in re.findall(r"`((?:[\w/]+/)?test_\w+\.py)`", page):
        assert any(str(path).endswith(f"/{name}") for path in tests), name


def test_the_messages_on_the_recovery_page_are_those_of_the_code() -> None:
    here = Partition("orders", 0)
    messages = " ".join(
        str(error)
        for error in (
            CustomerUnrecoverable(here, 1, "why"),
            CustomersMoved(here, 1),
            LogTooShort(here, 2, 1),
            NewerSchema("meta", 2, 1),
            PartitionCountChanged("orders", 4, 8),
            RetentionGap(here, 1, 2),
            StoreDamaged(here),
            StoreLost(here, 1, 2),
            TopicRecreated("orders", "one", "two"),
            LostWrites(here),
        )
    )
    page = (ROOT / "docs/recovery.md").read_text()
    quoted = re.findall(
        r"(?:ends|refuses|with|or): `([^`]+)`|(?:or|with) `([a-zA-Z][^`]+ [^`]+)`", page
    )
    phrases = {one or other for one, other in quoted}
    assert len(phrases) >= 9
    assert {phrase for phrase in phrases if phrase not in messages} == set()
