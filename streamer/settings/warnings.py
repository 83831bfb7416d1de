"""The settings of whoever acts on warnings: the drop rule's, `model.decide.policy.Policy`."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from model.decide.policy import Policy, ReferenceKind, Stake
from streamer.settings.fields import (
    PERCENTILES,
    Days,
    DaysOrOff,
    MinSilenceDays,
    Section,
    Segments,
    Severities,
)

_POLICY: Final = Policy()


class WarningSettings(Section):
    """When a customer is warned of, and how many are."""

    heading: ClassVar = "Whoever acts on the warnings"

    reference: Literal["peak", "last_order"] = "peak"
    """What a CLV is compared with: `peak` (the highest at an event of late) or `last_order`."""
    reference_days: int = Field(90, ge=1)
    """Days over which a peak counts."""
    drop: float = Field(_POLICY.drop, gt=0, lt=1)
    """A silence warns once this share of the reference is gone."""
    event_drop: float = Field(_POLICY.event_drop, gt=0, lt=1)
    """The same where an order or refund lowers the CLV itself."""
    floor_percentile: float = Field(70.0, ge=0, le=100)
    """Only customers whose reference reaches this percentile of CLV are warned of."""
    floor: float | None = Field(None, ge=0, allow_inf_nan=False)
    """The same as an amount of money, instead of the percentile."""
    min_orders: int = Field(1, ge=1)
    """Days with an order that a customer needs to be warned of; 2 leaves one-time buyers out."""
    min_history_days: int = Field(0, ge=0)
    """Days since the first order before a customer is warned of."""
    min_silence_days: MinSilenceDays = Field(
        None, validation_alias="CLV_MIN_SILENCE", json_schema_extra={"default_text": "H/2"}
    )
    """Days without an order before silence may warn; `H/2`: half the horizon."""
    one_time_silence_days: Days | None = Field(None, validation_alias="CLV_ONE_TIME_SILENCE")
    """The same for one-time buyers; unset: no different."""
    churn_percentile: float = Field(_POLICY.churn_percentile, ge=0, le=100)
    """Silence warns once P(churn) reaches this percentile of the active customers in training; 0:
    whatever it is."""
    late_silence_days: Days | None = Field(None, validation_alias="CLV_LATE_SILENCE")
    """Days without an order after which P(churn) is no longer required; unset: 5/6 of the
    horizon."""
    cooldown_days: int = Field(0, ge=0)
    """Days after a warning without another one of the same customer."""
    swap_spread_days: int = Field(_POLICY.swap_spread_days, ge=0)
    """Days over which the warnings that a new model brings are spread; 0: none."""
    budget_per_day: Annotated[int, Field(ge=1)] | None = None
    """At most so many warnings a day, those with the most at stake and the surest; unset: all."""
    budget_value: Literal["spend", "reference"] = "spend"
    """What is at stake for a budget: `spend` (net revenue of the last horizon) or `reference` (the
    CLV that the rule compares with)."""
    budget_certainty: float = Field(_POLICY.budget_certainty, ge=0, le=100)
    """The power of P(churn) by which a budget ranks: 1 is the most money, more are more often
    right."""
    refresh_days: DaysOrOff = 7
    """Days between scorings of customers with nothing to decide, or `off`."""

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
        """The knobs of the drop rule."""
        known: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(Policy)
            if field.name in type(self).model_fields
        }
        kinds = {
            "reference": ReferenceKind(self.reference),
            "budget_value": Stake(self.budget_value),
        }
        return Policy(**known | kinds)
