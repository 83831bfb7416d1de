"""The settings of whoever acts on warnings: `model.decide.policy.Policy`."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from model.decide.policy import Policy
from streamer.settings.fields import (
    PERCENTILES,
    Section,
    Segments,
    Severities,
)

_POLICY: Final = Policy()


class WarningSettings(Section):
    """When a customer is warned of, and how many are."""

    heading: ClassVar = "Whoever acts on the warnings"

    floor_percentile: float = Field(70.0, ge=0, le=100)
    """Only customers whose reference reaches this percentile of CLV are warned of."""
    floor: float | None = Field(None, ge=0, allow_inf_nan=False)
    """The same as an amount of money, instead of the percentile."""
    min_orders: int = Field(1, ge=1)
    """Days with an order that a customer needs to be warned of; 2 leaves one-time buyers out."""
    early: float = Field(_POLICY.early, gt=0, lt=1)
    """How early: share of the customers who leave whose warning has come by half of the horizon, as
    the shop's own past has it. More is earlier, and less often right."""
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    """How sure, instead: share of warnings that is to be strictly right, as the shop's own past has
    it; unset: as early as asked for."""
    budget_per_day: Annotated[int, Field(ge=1)] | None = None
    """At most so many warnings a day, those with the most at stake and the surest; unset: all."""
    money: Annotated[float, Field(ge=0, le=100)] | None = None
    """How much weight a budget gives to what customers spend: 0 calls those who are surest to
    leave, 2 follows the money; unset: as the shop's own past has it."""

    segment_percentiles: Segments = Field(
        _POLICY.segment_percentiles, json_schema_extra={"default_text": PERCENTILES[3]}
    )
    """Where the segments top, high and middle begin, in percentiles of CLV among the customers that
    the model was trained on; below is low."""
    severity_percentiles: Severities = Field(
        _POLICY.severity_percentiles, json_schema_extra={"default_text": PERCENTILES[2]}
    )
    """Where the severities high and medium begin: the expected loss against the same percentiles;
    below is low."""
    holdout_share: float = Field(0.0, ge=0, le=1)
    """Share of customers whose warnings are marked `holdout`, to measure by."""

    @property
    def policy(self) -> Policy:
        """What a user has set about warnings."""
        known: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(Policy)
            if field.name in type(self).model_fields
        }
        return Policy(**known)
