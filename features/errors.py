"""The one base of what features refuse."""

from __future__ import annotations


class FactsError(ValueError):
    """What was given is no order, instant, amount or state that can be kept; the message says why,
    and what to give instead."""
