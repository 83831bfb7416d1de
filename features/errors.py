"""The one base of what features refuse."""

from __future__ import annotations


class FactsError(ValueError):
    """What was given is not a valid order, time, amount or state; the message says why,
    and what to give instead."""
