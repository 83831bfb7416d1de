"""One turn for all partitions of a worker: what waits to be judged is judged together.

Nobody is waited for. A turn takes what has come by the time that the event loop gets to it; what
comes while it judges is the next turn, so the turns grow with the load by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from model.judge.isolate import Isolated
from model.judge.judge import Judge
from model.judge.together import Arrived, judge_together

# Customers judged in one go: more save nothing, and keep the first of them waiting.
MOST: Final = 1_000


class _Waiting(NamedTuple):
    judge: Judge
    asked: Arrived
    answer: asyncio.Future[Isolated]


class Turns:
    """Judges what the partitions of an event loop ask for."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    async def judge(self, judge: Judge, asked: Arrived) -> Isolated:
        """See `model.judge.isolate.judge_isolated`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Isolated] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._turn)
        self._waiting.append(_Waiting(judge, asked, answer))
        return await answer

    def _turn(self) -> None:
        """Judges as many as may be judged together, the others soon after."""
        waiting = [one for one in self._waiting if not one.answer.done()]  # else: cancelled
        taken: list[_Waiting] = []
        while waiting and _goes_with(waiting[0], taken):
            taken.append(waiting.pop(0))
        self._waiting = waiting
        if waiting:
            asyncio.get_running_loop().call_soon(self._turn)
        if taken:
            found = judge_together(taken[0].judge, [one.asked for one in taken])
            for one, result in zip(taken, found, strict=True):
                if isinstance(result, Isolated):
                    one.answer.set_result(result)
                else:
                    one.answer.set_exception(result)


def _goes_with(one: _Waiting, others: Sequence[_Waiting]) -> bool:
    customers = sum(len(each.asked.customers) for each in (one, *others))
    return not others or (one.judge is others[0].judge and customers <= MOST)
