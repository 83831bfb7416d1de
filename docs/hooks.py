"""What the site has beside the pages of docs/: the README and its kin, and a reference made from
the code. Run by mkdocs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from streamer.commands.reference import PAGES

ROOT = Path(__file__).parents[1]
# Pages that people and forges look for at the root.
AT_ROOT = {
    "README.md": "quickstart.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation with each `folder/*` spelled out."""
    for item in config.nav or []:
        for title, pages in item.items() if isinstance(item, dict) else ():
            if isinstance(pages, str) and pages.endswith("/*"):
                found = sorted((ROOT / "docs").glob(f"{pages}.md"))
                item[title] = [path.relative_to(ROOT / "docs").as_posix() for path in found]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of docs/ and those that are made."""
    for name, uri in AT_ROOT.items():
        text = (ROOT / name).read_text()
        files.append(File.generated(config, uri, content=_moved(text, ROOT, ROOT / "docs")))
    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """A page whose links to what is not on the site are names of files."""
    if page.file.generated_by is not None:
        return markdown
    here = (ROOT / "docs" / page.file.src_uri).parent
    return _moved(markdown, here, here)


def _moved(markdown: str, before: Path, now: Path) -> str:
    """Links from a page of the folder `before` as they are in `now`."""

    def link(found: re.Match[str]) -> str:
        text, to, anchor = found[1], found[2], found[3] or ""
        if "://" in to:
            return found[0]
        path = (before / to).resolve()
        name = path.relative_to(ROOT).as_posix()
        if name in AT_ROOT:
            path = ROOT / "docs" / AT_ROOT[name]
        elif not path.is_relative_to(ROOT / "docs") or path.is_dir():
            return text if text.startswith("`") else f"{text} (`{name}`)"
        return f"[{text}]({os.path.relpath(path, now)}{anchor})"

    return _LINK.sub(link, markdown)
