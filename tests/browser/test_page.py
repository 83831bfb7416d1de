"""The page in a browser: what people do with it, by mouse and by keyboard, in both themes, on a
phone, with many customers. Whatever is said on the console or asked of another host fails it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers.shown import HOSTILE, RETURNED, Shop

if TYPE_CHECKING:
    from tests.browser.conftest import Watched

Watch = Callable[[Shop], "Watched"]
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
AXE = Path(__file__).parent / "axe" / "axe.min.js"
ROOT = Path(__file__).parents[2]
PICTURED = [
    ("risk", "#risk", "light"),
    ("customer", "#customer/ada", "light"),
    ("quality", "#quality", "dark"),
]
PHONE = {"width": 390, "height": 844}
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
VIEWS = ("#risk", "#now", "#customer/ada", "#quality", "#customer/nobody", "#customer/")


def names(page: Any) -> list[str]:
    return [str(text) for text in page.locator("tbody tr td:first-child").all_inner_texts()]


def test_customers_at_risk_are_paged_filtered_and_found(small_shop: Shop, watch: Watch) -> None:
    page = watch(small_shop).page()
    first = names(page)
    assert len(first) == 50
    page.get_by_role("button", name="Next").click()
    page.get_by_text("page 2 of").wait_for()
    assert not set(first) & set(names(page))
    page.get_by_role("button", name="Previous").click()
    page.get_by_text("page 1 of").wait_for()
    assert names(page) == first
    page.get_by_label("Severity").select_option("medium")
    sync_api.expect(page.locator(".tag:not(.medium)")).to_have_count(0)
    page.get_by_label("Severity").select_option("")
    page.get_by_label("Id contains").fill("R-00011")
    sync_api.expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Id contains").fill("nobody at all")
    page.get_by_text("No open warning fits these filters").wait_for()


def test_what_is_downloaded_is_what_is_shown(
    small_shop: Shop, watch: Watch, tmp_path: Path
) -> None:
    page = watch(small_shop).page()
    page.get_by_label("Held out").select_option("true")
    page.get_by_text("customers, expected loss").wait_for()
    page.locator("a.button[href*='holdout=true']").wait_for()
    shown = set(names(page))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    download.value.save_as(tmp_path / "warnings.csv")
    with (tmp_path / "warnings.csv").open(encoding="utf-8-sig", newline="") as file:
        assert {row["user_id"] for row in csv.DictReader(file)} == shown


def test_a_customer_is_shown_as_text_and_forgotten_after_a_question(
    small_shop: Shop, watch: Watch
) -> None:
    page = watch(small_shop).page()
    page.get_by_role("link", name=HOSTILE).click()
    page.get_by_role("heading", level=1, name=HOSTILE).wait_for()
    assert page.get_by_text("this silence is longer than any before").count() == 1
    assert page.get_by_role("img").count() == 2
    page.get_by_role("button", name="Forget this customer").click()
    page.get_by_role("button", name="Keep").click()
    assert small_shop.forgotten == []
    page.get_by_role("button", name="Forget this customer").click()
    assert page.get_by_role("dialog").get_by_text("It cannot be undone").count() == 1
    page.get_by_role("button", name="Forget for good").click()
    page.get_by_role("heading", name="Forgotten").wait_for()
    assert small_shop.forgotten == [HOSTILE]
    assert page.title() != "1"


def test_how_a_warning_ended_is_told(small_shop: Shop, watch: Watch) -> None:
    page = watch(small_shop).page(f"#customer/{RETURNED}")
    assert page.get_by_text("It is kept: ordered before").count() == 1


def test_warnings_appear_as_they_arrive(small_shop: Shop, watch: Watch) -> None:
    page = watch(small_shop).page("#now")
    page.get_by_text("Connected.").wait_for()
    small_shop.warn("somebody new")
    page.get_by_role("link", name="somebody new").wait_for()
    page.get_by_role("link", name="How good").click()
    page.get_by_role("heading", level=1, name="How good warnings were").wait_for()
    assert page.get_by_role("table").count() >= 1


def test_everything_is_done_by_keyboard(small_shop: Shop, watch: Watch) -> None:
    page = watch(small_shop).page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1, name="How good warnings were").wait_for()
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "find-id"
    page.keyboard.type("bob")
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1, name="bob").wait_for()
    page.get_by_role("button", name="Forget this customer").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Keep"
    page.keyboard.press("Escape")
    assert page.evaluate("document.getElementById('ask').open") is False


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1200, "height": 900}, PHONE], ids=["desk", "phone"])
def test_every_view_is_readable_to_all(
    small_shop: Shop, watch: Watch, scheme: str, size: dict[str, int]
) -> None:
    watched = watch(small_shop)
    page = watched.page(color_scheme=scheme, viewport=size, bypass_csp=True)
    page.add_script_tag(path=str(AXE))
    for view in VIEWS:
        page.evaluate("view => { location.hash = view }", view)
        page.wait_for_timeout(50)
        page.wait_for_selector("main:not([aria-busy]) h1")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], view
        found = page.evaluate("axe.run(document)")["violations"]
        serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], (view, found)
    # The browser itself says on the console what a worker answers with 404.
    watched.wrong[:] = [one for one in watched.wrong if "404" not in one]


def test_ten_thousand_warnings_are_a_page_at_a_time(big_shop: Shop, watch: Watch) -> None:
    """How long it takes is told, and is no test: that is the machine's."""
    page = watch(big_shop).page()
    paint = page.evaluate(FIRST_PAINT)
    full = page.evaluate("performance.now()")
    took = [interaction(page, act) for act in ("next", "severity", "user")]
    print(f"first paint {paint:.0f} ms, list {full:.0f} ms, interactions {took} ms")
    assert 0 < page.locator("tbody tr").count() <= 50
    assert page.get_by_text("page 1 of").count() == 1


@pytest.mark.skipif("PICTURES" not in os.environ, reason="makes the docs' own: PICTURES=1")
@pytest.mark.parametrize(("name", "view", "scheme"), PICTURED)
def test_pictures_for_the_docs(
    small_shop: Shop, watch: Watch, name: str, view: str, scheme: str
) -> None:
    size = {"width": 1000, "height": 640}
    page = watch(small_shop).page(view, viewport=size, color_scheme=scheme)
    if view == "#risk":
        page.get_by_label("Id contains").fill("customer-")
        sync_api.expect(page.get_by_role("link", name=HOSTILE)).to_have_count(0)
    page.screenshot(path=ROOT / "docs" / "pictures" / f"{name}.png")


def interaction(page: Any, act: str) -> float:
    """Milliseconds until the list has changed."""
    return float(
        page.evaluate(
            """async (act) => {
              const list = document.querySelector("main > div > div:last-child");
              const changed = new Promise((done) =>
                new MutationObserver(() => done()).observe(list, { childList: true }));
              const began = performance.now();
              const form = document.querySelector("form.filters");
              if (act === "next") [...document.querySelectorAll(".pager button")].at(-1).click();
              else {
                form.elements[act].value = act === "severity" ? "high" : "r-000";
                form.elements[act].dispatchEvent(new Event("change", { bubbles: true }));
              }
              await changed;
              return Math.round(performance.now() - began);
            }""",
            act,
        )
    )
