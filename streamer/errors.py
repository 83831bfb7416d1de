"""The one base of what goes wrong in a way that somebody can do something about."""

from __future__ import annotations


class StreamerError(Exception):
    """The message is a sentence for an operator, with the remedy: it is shown as it is, without a
    traceback. Whatever is raised from another class is a fault of the program."""
