"""Batches judged together come to what each comes to by itself."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order
from model.decide.codec import UNKNOWN
from model.judge.customers import CustomerArrays
from model.judge.isolate import Isolated, judge_isolated
from model.judge.judge import Judge
from model.judge.judged import JudgedBatch, ScheduledCustomer
from model.judge.together import Arrived, judge_together
from tests.support.fakes import CannotScore, Raising, every, judge, scorer
from tests.support.logs import LATENESSES_MS, shop_logs
from tests.support.twins.judge import events_of


def arrived(orders: Sequence[Order], lateness_ms: int = 0) -> Arrived:
    """The first orders of a partition; its offsets begin as those of all others."""
    events: dict[str, list] = {order.user_id: [] for order in orders}
    for event in events_of(orders, lateness_ms):
        events[event.order.user_id].append(event)
    tracks = [(user, ScheduledCustomer(UNKNOWN, None)) for user in events]
    return Arrived.of(CustomerArrays.of(tracks), events)


def told(found: Isolated, of: Arrived) -> tuple[JudgedBatch, dict[str, bytes]]:
    found.judged.instants = 0  # of all, they are counted with the first
    return found.judged.batch(*of), found.judged.states()


def assert_each_as_alone(by: Judge, asked: Sequence[Arrived]) -> None:
    for one, found in zip(asked, judge_together(by, asked), strict=True):
        alone = judge_isolated(by, *one)
        assert isinstance(found, Isolated)
        assert told(found, one) == told(alone, one)
        assert found.users == alone.users
        assert found.unscored.keys() == alone.unscored.keys()


@given(st.lists(shop_logs(), min_size=1, max_size=4), LATENESSES_MS, st.sampled_from([None, 3]))
def test_each_of_several_batches_comes_to_what_it_does_alone(
    logs: list[list[Order]], lateness_ms: int, raising_at: int | None
) -> None:
    by = judge() if raising_at is None else judge(by=scorer(Raising(orders=raising_at)))
    asked = [arrived(log, lateness_ms) for log in logs if log]
    assert_each_as_alone(by, asked)
    if raising_at is None:
        instants = [judge_isolated(by, *one).judged.instants for one in asked]
        found = [one.judged.instants for one in judge_together(by, asked)]  # type: ignore[union-attr]
        assert sum(found) == sum(instants)


def test_a_batch_that_fails_as_a_whole_fails_by_itself() -> None:
    fine = arrived(every("ada", 7, 2))
    broken = arrived([order for n in range(30) for order in every(f"user-{n}", 7, 3)])
    first, second = judge_together(judge(by=scorer(Raising(orders=3))), [fine, broken])
    assert isinstance(first, Isolated)
    assert isinstance(second, CannotScore)
