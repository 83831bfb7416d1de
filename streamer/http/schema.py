"""What `POST /predict` takes, as pydantic models: they check it, and OpenAPI shows them.

Orders are not read here: they are in the very form of the orders topic, for
`features.events.orders.parse` to read from the bytes that were sent, so that no amount is ever a
float.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SkipValidation,
    WithJsonSchema,
    create_model,
)

from features.columns.vector import FEATURE_NAMES, FEATURE_VERSION
from features.times import InstantError, wire_ms
from model.data.attributes import MAX_NUMBER

MAX_RECORDS: Final = 1_000
# Far above any money or count, and far from where sums of them overflow.
MAX_FEATURE: Final = 1e15

INSTANT: Final[dict[str, Any]] = {
    "description": "RFC 3339 with an offset, or integer milliseconds since 1970-01-01T00:00:00Z.",
    "oneOf": [
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 100_000_000_000, "exclusiveMaximum": 253_402_300_800_000},
    ],
}


def instant_of(value: object) -> int:
    """Epoch ms of an RFC 3339 time with offset, or of integer epoch ms. Raises ValueError with the
    remedy."""
    try:
        return wire_ms(value)
    except InstantError as error:
        remedy = "send RFC 3339 with offset (2026-03-01T12:00:00Z) or integer epoch milliseconds"
        raise ValueError(f"as_of {error}; {remedy}") from None


def least_of(feature: str) -> float:
    """The lowest value of a feature: only net revenue falls below 0, by refunds."""
    return -MAX_FEATURE if "net_minor" in feature else 0.0


_INSTANT = PlainValidator(lambda value: None if value is None else instant_of(value))


def _instant(description: str) -> WithJsonSchema:
    either = [*INSTANT["oneOf"], {"type": "null"}]
    return WithJsonSchema(
        {"description": f"{description} {INSTANT['description']}", "oneOf": either}
    )


def _attributes(left_out: str) -> WithJsonSchema:
    number = {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
    return WithJsonSchema(
        {
            "description": "What is known of the customer besides orders, by the names of the"
            " columns that the model was trained with: a number or a text, as the column was, or"
            " null where it is missing. A text that training never saw is taken as such."
            f" {left_out}",
            "type": ["object", "null"],
            "additionalProperties": {"oneOf": [number, {"type": "string"}, {"type": "null"}]},
        }
    )


class _Strict(BaseModel):
    """No field that is not named, and no text where a number belongs."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


_NUMBERS: Final[dict[str, Any]] = {
    name: Annotated[float, Field(ge=least_of(name), le=MAX_FEATURE)] for name in FEATURE_NAMES
}
Features: Any = create_model(
    "Features",
    __base__=_Strict,
    __doc__="A feature vector as `features.columns.vector` makes it; money in minor units.",
    **_NUMBERS,
)

_Order = Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/Order"})]


class OrdersRecord(_Strict):
    """All orders of one customer, in any order."""

    orders: Annotated[list[SkipValidation[_Order]], Field(min_length=1)]
    as_of: Annotated[
        int | None,
        _INSTANT,
        _instant("The instant to score as of, not before the newest order. Without it: now."),
    ] = None
    attributes: Annotated[
        dict[str, Any] | None,
        _attributes(
            "Those left out are as CLV_ATTRIBUTES has them for the user, if the worker has such a"
            " file and the user is in it."
        ),
    ] = None


class FeaturesRecord(_Strict):
    """Ready features of one customer."""

    features: Features
    feature_version: Literal[FEATURE_VERSION]  # type: ignore[valid-type]  # it is a constant
    attributes: Annotated[dict[str, Any] | None, _attributes("Those left out are missing.")] = None


class PredictRequest(_Strict):
    """Records to be scored; each becomes a prediction, in their order."""

    records: Annotated[
        list[SkipValidation[OrdersRecord | FeaturesRecord]],
        Field(min_length=1, max_length=MAX_RECORDS),
    ]
    as_of: Annotated[
        int | None,
        _INSTANT,
        _instant("For all records with orders that have none of their own."),
    ] = None
    contributions: Annotated[
        bool,
        Field(description="false leaves out what makes up each CLV, which takes most of the time."),
    ] = True
