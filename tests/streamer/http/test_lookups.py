"""Customers asked for at once are looked up together, each answered as if alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamer.http import lookups
from streamer.records import Partition
from streamer.store.base import Stored
from tests.support.fakes import every
from tests.support.served import Served, served

USERS = [f"customer {n:02}" for n in range(30)]
INSTANTS = ("now", "event-time", "2026-09-01T00:00:00Z", "no%20time", "1970-01-02T00:00:00Z")


async def a_shop(shop: Served) -> None:
    await shop.apply(one for n, user in enumerate(USERS) for one in every(user, 3 + n % 4, 5 + n))


async def test_each_is_answered_as_if_alone() -> None:
    async with served() as shop:
        await a_shop(shop)
        asked = [
            f"/customers/{user.replace(' ', '%20')}?as_of={INSTANTS[n % len(INSTANTS)]}"
            for n, user in enumerate([*USERS, "nobody"])
        ]
        alone = [await shop.ask(path) for path in asked]
        assert {status for status, _, _ in alone} == {200, 404, 422}
        assert await asyncio.gather(*map(shop.ask, asked)) == alone


async def test_who_asks_while_others_are_worked_out_is_in_the_next_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as shop:
        await a_shop(shop)
        batches, load = list[Sequence[str]](), shop.store.load

        async def counted(partition: Partition, user_ids: Sequence[str]) -> list[Stored]:
            batches.append(user_ids)
            return await load(partition, user_ids)

        monkeypatch.setattr(shop.store, "load", counted)
        answers = await asyncio.gather(
            *(shop.api._lookups.answer(user, "now") for user in USERS for _ in range(4))
        )
        assert len(answers) == 4 * len(USERS)
        # Two batches, of what lies in three partitions.
        assert len(batches) <= 6
        assert sum(map(len, batches)) <= 2 * len(USERS)


async def test_one_who_cannot_be_scored_keeps_nobody_else_from_being(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as shop:
        await a_shop(shop)
        damaged, views = USERS[7], lookups.views

        def breaks(sought: Sequence[lookups.Sought], *rest: object) -> object:
            if any(one.user_id == damaged for one in sought):
                raise ValueError("no number")
            return views(sought, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(lookups, "views", breaks)
        asked = (shop.api._lookups.answer(user, "now") for user in USERS)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [
            user for user, one in zip(USERS, answers, strict=True) if type(one) is not bytes
        ] == [damaged]


async def test_more_than_may_wait_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_WAITING", 3)
    monkeypatch.setattr(lookups, "MAX_TOGETHER", 1)
    async with served() as shop:
        await a_shop(shop)
        asked = (shop.api._lookups.answer(user, "now") for user in USERS)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        busy = [one for one in answers if isinstance(one, lookups.NotReady)]
        assert len(busy) == len(USERS) - 3
        assert (await shop.customer(USERS[0]))["user_id"] == USERS[0]


async def test_who_goes_away_holds_nobody_up() -> None:
    async with served() as shop:
        await a_shop(shop)
        gone = asyncio.create_task(shop.api._lookups.answer(USERS[0], "now"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await shop.api._lookups.answer(USERS[1], "now")
