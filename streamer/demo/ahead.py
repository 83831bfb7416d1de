"""A worker that is loaded before its model is there: `python -m streamer.demo.ahead FILE`.

It begins to work once the file is there, so that whoever trains need not wait for imports.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

from streamer.settings import Settings
from streamer.worker.run import run_worker

_POLL_S: Final = 0.05


def main(ready: Path) -> None:
    """Runs a worker with the environment's settings; ends the process."""
    settings = Settings.load(os.environ)
    while not ready.exists():
        time.sleep(_POLL_S)
    run_worker(settings)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
