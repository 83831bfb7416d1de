"""`python -m tests.chaos`: the fault suite, then the table in docs/reliability.md.

CHAOS_FULL=1 for the full one; CHAOS_BROKER=apache for Apache Kafka in place of the embedded
broker. With CI=true the page stays as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.chaos.book import write_page


def main(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-m", "chaos", "tests/chaos", *arguments]
    code = subprocess.run(command, check=False).returncode
    if os.environ.get("CI") != "true":
        write_page()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
