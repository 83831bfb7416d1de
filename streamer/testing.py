"""A pytest plugin: an order log, or made-up customers, through the worker's own pipeline.

    def test_a_regular_who_stops_is_warned_of(order_log, customer, clv_model):
        alice = customer("alice").orders(every="7d", until="2026-03-01").then_silent()
        replayed = order_log(alice).replay(model=clv_model)
        assert [warning.trigger for warning in replayed.warnings_of("alice")] == ["silence"]

Installed, the package is found by pytest. From a checkout, say so in the top `conftest.py`:
`pytest_plugins = ["streamer.testing"]`. `docs/testing-your-shop.md` is the guide.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from model.artifact.artifact import Artifact
    from streamer.replay.customer_builder import Customer
    from streamer.replay.order_log import OrderLog

# Every pytest run in the environment loads this module, so what is heavy is imported when it is
# asked for.


def order_log(*sources: str | Path | Customer) -> OrderLog:
    """A log of files (CSV, JSON Lines, Parquet, `.gz`) and made-up customers, to be replayed."""
    from streamer.replay.order_log import OrderLog

    return OrderLog.of(sources)


def customer(user_id: str) -> Customer:
    """A made-up customer without orders; `streamer.replay.customer_builder` has what may happen to
    it."""
    from streamer.replay.customer_builder import Customer

    return Customer(user_id)


@pytest.fixture(scope="session", name="order_log")
def order_log_fixture() -> Callable[..., OrderLog]:
    """`order_log("orders.csv.gz")` or `order_log(customer(...), ...)`: a log to be replayed."""
    return order_log


@pytest.fixture(scope="session", name="customer")
def customer_fixture() -> Callable[[str], Customer]:
    """`customer("alice").orders(every="7d", until="2026-03-01").then_silent()`."""
    return customer


@pytest.fixture(scope="session")
def clv_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a small model of a made-up shop: 90 days ahead, in USD."""
    from model.training.build import save_ready_made

    directory = tmp_path_factory.mktemp("clv-model") / "model"
    save_ready_made(directory)
    return directory


@pytest.fixture(scope="session")
def clv_model(clv_model_path: Path) -> Artifact:
    """The small model, loaded: for `replay(model=clv_model)`."""
    from model.artifact import artifact

    return artifact.load(clv_model_path)
