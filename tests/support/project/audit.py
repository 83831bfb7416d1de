"""What pip-audit found, read as its JSON from stdin: `make audit`.

Fails where something is vulnerable. Where the database cannot be reached, nothing was audited: that
is told, and fails nothing, since a build without network is no vulnerability.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

# Known, and why it does not concern us, by the id that pip-audit gives.
EXPLAINED: Final[dict[str, str]] = {}


def verdict(text: str) -> tuple[int, str]:
    """An exit code, and what to tell."""
    try:
        found: list[dict[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        found = []
    audited = [one for one in found if "skip_reason" not in one]
    if not audited:
        return 0, "NOT AUDITED: the database of vulnerabilities cannot be reached from here"
    bad = [
        f"{one['name']} {one['version']}: {vuln['id']}, mended in {vuln['fix_versions']}"
        for one in audited
        for vuln in one["vulns"]
        if vuln["id"] not in EXPLAINED
    ]
    skipped = sorted(one["name"] for one in found if "skip_reason" in one)
    told = f"{len(audited)} packages audited, {len(bad)} vulnerabilities"
    if skipped:
        told += f"; not audited: {', '.join(skipped)}"
    return int(bool(bad)), "\n".join([told, *bad])


if __name__ == "__main__":
    code, told = verdict(sys.stdin.read())
    print(told)
    sys.exit(code)
