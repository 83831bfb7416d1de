"""The licences of what `requirements.txt` installs, as their packages declare them; run as
`python -m tests.support.project.licences > docs/licences.md`."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
_PIN: Final = re.compile(r"^([A-Za-z0-9_.\-]+)==([^ ;\\]+)", re.MULTILINE)


def pins() -> list[tuple[str, str]]:
    """Name and version of every pinned runtime requirement."""
    return _PIN.findall((ROOT / "requirements.txt").read_text())


def licence(name: str) -> str:
    """What a package's metadata declares: an expression, a short name, or else its classifiers."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return "not installed here"
    declared = found.get("License-Expression") or found.get("License") or ""
    kinds = [
        text.split(" :: ")[-1]
        for text in found.get_all("Classifier") or []
        if text.startswith("License ::")
    ]
    # Some packages have the whole text there.
    short = declared.strip() if len(declared) <= 80 and "\n" not in declared.strip() else ""
    return short or ", ".join(kinds) or "see the package"


def page() -> str:
    rows = "\n".join(f"| {name} | {version} | {licence(name)} |" for name, version in pins())
    return (
        "# Licences\n\nOf everything that `requirements.txt` pins, as the packages declare them."
        " Made by `python -m tests.support.project.licences > docs/licences.md`.\n\n"
        f"| package | version | licence |\n| --- | --- | --- |\n{rows}\n"
    )


if __name__ == "__main__":
    print(page(), end="")
