"""The job that every rival does: an order into a customer's state, 24 features, a model, a rule.

It is less than the product's: no refunds, corrections, late orders, dead letters, silences, reasons
or ids of warnings, and a smaller model. What differs between the rivals is everything around it.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import numpy as np
from sklearn.linear_model import PoissonRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

BROKERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
REDIS = os.environ.get("REDIS_URL", "")
ORDERS, SCORES, WARNINGS = "orders", "clv-scores", "churn-warnings"
WINDOWS = (7, 30, 90, 365)
DAY_MS = 86_400_000
# Order ids of a customer that are remembered, against repeats.
REMEMBERED = 16
DROP, REFERENCE_DAYS = 0.7, 90

State = dict[str, Any]


def signed_log(X: Any) -> Any:
    return np.copysign(np.log1p(np.abs(X)), X)


def fitted() -> Pipeline:
    """A Poisson regression on logarithms; the same numbers in every process."""
    draws = np.random.default_rng(0)
    steps = (FunctionTransformer(signed_log), StandardScaler(), PoissonRegressor(alpha=0.01))
    return make_pipeline(*steps).fit(draws.random((1_000, 24)) * 50, draws.random(1_000) * 50)


MODEL = fitted()


def milliseconds(ts: str) -> int:
    return int(datetime.fromisoformat(ts).timestamp() * 1_000)


def new_state() -> State:
    kept = {"days": [], "counts": [], "revenue": [], "ids": []}
    return {**kept, "first": 0, "last": 0, "orders": 0, "total": 0, "top": 0.0, "top_day": 0}


def fold(state: State, order_id: str, ts_ms: int, amount: float) -> bool:
    """Whether the order is new, and is in the state now."""
    if order_id in state["ids"]:
        return False
    day, cents = ts_ms // DAY_MS, round(amount * 100)
    if state["days"] and state["days"][-1] == day:
        state["counts"][-1] += 1
        state["revenue"][-1] += cents
    else:
        state["days"].append(day)
        state["counts"].append(1)
        state["revenue"].append(cents)
    state["first"] = state["first"] or ts_ms
    state["last"] = max(state["last"], ts_ms)
    state["orders"] += 1
    state["total"] += cents
    state["ids"] = [*state["ids"][1 - REMEMBERED :], order_id]
    return True


def features(state: State, day: int) -> list[float]:
    """Orders, revenue and their ratio within each window; then the customer's whole life."""
    orders, revenue = [0] * 4, [0] * 4
    for bought, count, cents in zip(state["days"], state["counts"], state["revenue"], strict=True):
        age = day - bought
        for number, window in enumerate(WINDOWS):
            if age < window:
                orders[number] += count
                revenue[number] += cents
    each = [cents / (count or 1) for count, cents in zip(orders, revenue, strict=True)]
    n, total, repeats = state["orders"], state["total"], len(state["days"]) - 1
    recency = (state["last"] - state["first"]) / DAY_MS
    age, silent = day - state["first"] // DAY_MS, day - state["last"] // DAY_MS
    gap = recency / repeats if repeats else 0.0
    life = [n, total, total / n, repeats, recency, age, silent, gap, silent / (gap or 1)]
    return [*orders, *revenue, *each, *life, n / (age + 1), total / (age + 1), state["revenue"][-1]]


def warns(state: State, clv: float, day: int) -> bool:
    """Whether the CLV fell well below the best of the last 90 days; remembers that best."""
    held = day - state["top_day"] < REFERENCE_DAYS
    fell = bool(state["top"] and held and clv < DROP * state["top"])
    if clv >= state["top"] or not held:
        state["top"], state["top_day"] = clv, day
    return fell


def segment(clv: float) -> str:
    return "top" if clv > 40 else "high" if clv > 6 else "middle" if clv > 2 else "low"


def score(user_id: str, ts: str, clv: float, warned: bool) -> dict[str, Any]:
    """The message that goes out."""
    said = {"user_id": user_id, "as_of": ts, "clv": clv}
    return {**said, "segment": segment(clv), "warned": warned}


def scored(state: State, order: dict[str, Any]) -> dict[str, Any] | None:
    """One order through the whole job; None for a repeat."""
    ts_ms = milliseconds(order["ts"])
    if not fold(state, order["order_id"], ts_ms, order["amount"]):
        return None
    day = ts_ms // DAY_MS
    clv = float(MODEL.predict([features(state, day)])[0])
    return score(order["user_id"], order["ts"], clv, warns(state, clv, day))
