"""`python -m tests.kafka`: the tests marked kafka, once what their broker needs is there.

Without Java or Maven it says so and ends with code 0; with CI=true in the environment, code 1.
"""

from __future__ import annotations

import os
import sys

from tests.support.servers.jars import ApacheKafkaMissing, JarsNotFetched, jars, java


def main(arguments: list[str]) -> int:
    try:
        java()
        jars()
    except ApacheKafkaMissing as missing:
        ci = os.environ.get("CI") == "true"
        print(f"test-kafka {missing}; {'failed' if ci else 'nothing was tested'}", file=sys.stderr)
        return int(ci)
    except JarsNotFetched as failed:
        print(f"test-kafka cannot fetch Apache Kafka: {failed}", file=sys.stderr)
        return 1
    # In place of this process, so that signals and exit codes are pytest's own.
    return os.execv(sys.executable, [sys.executable, "-m", "pytest", "-m", "kafka", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
