"""What waits to be judged at the same time is judged together, and nobody waits for anybody."""

from __future__ import annotations

import asyncio

import pytest

from model.decide.codec import UNKNOWN
from model.judge.customers import CustomerArrays
from model.judge.isolate import Isolated, judge_isolated
from model.judge.judge import Judge
from model.judge.judged import ScheduledCustomer
from model.judge.together import Arrived
from streamer.worker import turn
from streamer.worker.turn import Turns
from tests.support.fakes import CannotScore, Raising, every, judge, scorer
from tests.support.twins.judge import events_of


def arrived(*users: str, orders: int = 2) -> Arrived:
    events = {user: events_of(every(user, 7, orders), 0) for user in users}
    tracks = [(user, ScheduledCustomer(UNKNOWN, None)) for user in users]
    return Arrived.of(CustomerArrays.of(tracks), events)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were judged together in each turn."""
    counts: list[int] = []
    together = turn.judge_together

    def counting(by: Judge, asked: list[Arrived]) -> list[Isolated | Exception]:
        counts.append(len(asked))
        return together(by, asked)

    monkeypatch.setattr(turn, "judge_together", counting)
    return counts


async def test_all_who_ask_at_once_are_judged_in_one_turn_and_get_their_own(
    judged: list[int],
) -> None:
    turns, by = Turns(), judge()
    asked = [arrived("ada"), arrived("ada", "ben"), arrived("cleo")]
    found = await asyncio.gather(*(turns.judge(by, one) for one in asked))
    assert judged == [3]
    for one, of_one in zip(asked, found, strict=True):
        assert of_one.judged.states() == judge_isolated(by, *one).judged.states()


async def test_who_asks_later_or_of_another_judge_gets_another_turn(judged: list[int]) -> None:
    turns, by = Turns(), judge()
    await turns.judge(by, arrived("ada"))
    await asyncio.gather(turns.judge(by, arrived("ada")), turns.judge(judge(), arrived("ben")))
    assert judged == [1, 1, 1]


async def test_more_customers_than_save_anything_are_not_judged_together(
    judged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "MOST", 3)
    turns, by = Turns(), judge()
    asked = [arrived("a", "b"), arrived("c", "d"), arrived("e"), arrived(*"fghi")]
    await asyncio.gather(*(turns.judge(by, one) for one in asked))
    assert judged == [1, 2, 1]


async def test_one_who_fails_or_is_cancelled_takes_nobody_along(judged: list[int]) -> None:
    turns, by = Turns(), judge(by=scorer(Raising(orders=3)))
    many = arrived(*(f"user-{n}" for n in range(30)), orders=3)
    gone = asyncio.create_task(turns.judge(by, arrived("ada")))
    rest = asyncio.gather(
        turns.judge(by, arrived("ben")), turns.judge(by, many), return_exceptions=True
    )
    asyncio.get_running_loop().call_soon(gone.cancel)
    fine, failed = await rest
    assert isinstance(fine, Isolated)
    assert isinstance(failed, CannotScore)
    assert gone.cancelled()
