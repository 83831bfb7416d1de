"""The one base of what goes wrong in a way that somebody can do something about."""

from __future__ import annotations

import traceback
from pathlib import Path


class StreamerError(Exception):
    """The message is a sentence for an operator, with the remedy: it is shown as it is, without a
    traceback. Whatever is raised from another class is a fault of the program."""


def where(error: BaseException) -> str:
    """The error's type and the place in the code that raised it, without its message.

    >>> where(KeyError("alice"))
    'KeyError'
    """
    name = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    return f"{name} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name
