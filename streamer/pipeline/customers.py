"""The customers of a partition: from memory, from the store, or, where the store's bytes are
damaged, from the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from model.decide import codec
from model.decide.codec import CustomerNewer
from model.judge.customers import CustomerArrays
from model.judge.judge import JudgedArrays
from model.judge.judged import ScheduledCustomer
from model.judge.kept import KeptCustomers
from model.judge.kept import read as read_customers
from streamer import log
from streamer.clock import Clock
from streamer.pipeline.batch import Counters, Pipeline
from streamer.pipeline.claim import Lease
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.messages import listed_until
from streamer.pipeline.rebuild import (
    MAX_REBUILDS,
    CustomerUnrecoverable,
    History,
    Rebuild,
    StoreDamaged,
    damage_of,
    listed_again,
    quarantine_entry,
)
from streamer.store.base import NewerSchema, StateStore, Stored, Write

_log = log.get(__name__)


class Customers:
    """Loads customers, and remembers as many as there is room for."""

    def __init__(
        self,
        lease: Lease,
        store: StateStore,
        erasures: Erasures,
        *,
        room: int,
        history: History | None = None,
        rebuild_partly: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """`history`: where damaged customers are rebuilt from; `rebuild_partly`: also where it has
        lost orders of theirs."""
        self._lease = lease
        self._store = store
        self._erasures = erasures
        self._history = history
        self._rebuild_partly = rebuild_partly
        self._clock = clock
        self._rebuilds = 0
        self._kept = KeptCustomers(room)

    def remember(self, judged: JudgedArrays) -> None:
        self._kept.put(judged.customers, judged.changed)

    def forget(self, user_id: str) -> None:
        self._kept.forget(user_id)

    def forget_all(self) -> None:
        self._kept.clear()

    async def load(
        self, user_ids: Sequence[str], pipeline: Pipeline, counters: Counters
    ) -> CustomerArrays:
        """The customers, damaged ones rebuilt; for what is raised see `_rebuilt`."""
        missing = [user_id for user_id in user_ids if user_id not in self._kept]
        if not missing:
            return self._kept.take(user_ids)
        read = await self._fetched(missing, pipeline, counters)
        if len(missing) == len(user_ids):
            return read
        known = self._kept.take([user_id for user_id in user_ids if user_id in self._kept])
        is_missing = np.array([user_id not in self._kept for user_id in user_ids], bool)
        order = np.argsort(np.argsort(is_missing, kind="stable"), kind="stable")
        return CustomerArrays.together([known, read]).take(order)

    async def _fetched(
        self, user_ids: Sequence[str], pipeline: Pipeline, counters: Counters
    ) -> CustomerArrays:
        """Customers from the store."""
        loaded = await self._store.load(self._lease.partition, user_ids)
        found, refused = read_customers(
            user_ids, [one.state for one in loaded], [one.due_ms for one in loaded]
        )
        for error in refused.values():
            if isinstance(error, CustomerNewer):
                where = f"a customer in {self._lease.partition.tag}"
                raise NewerSchema(where, error.version, error.known)
        if not refused:
            return found
        damaged = [user_ids[place] for place in refused]
        times = await self._store.due_times(self._lease.partition, damaged)
        rebuilt = await self._rebuilt(
            {
                user_ids[place]: replace(loaded[place], due_ms=due_ms)
                for place, due_ms in zip(refused, times, strict=True)
            },
            pipeline,
        )
        counters.rebuilt += len(damaged)
        places = [place for place in range(len(user_ids)) if place not in refused] + [*refused]
        again = CustomerArrays.of([(user_id, rebuilt[user_id]) for user_id in damaged])
        return CustomerArrays.together([found, again]).take(np.argsort(np.array(places)))

    @property
    def listed(self) -> bool:
        """Whether every open warning of the partition is listed."""
        return self._lease.listed

    async def list_again(
        self,
        user_ids: Sequence[str],
        pipeline: Pipeline,
        counters: Counters,
        *,
        whole: bool = False,
    ) -> None:
        """Lists the open warnings of customers as their states have them; `whole`: with these, all
        of the partition's customers have been named since it was claimed."""
        customers = await self.load(user_ids, pipeline, counters)
        tracks = {user: customers.track(at) for at, user in enumerate(customers.users)}
        listing = listed_again(tracks, pipeline)
        await self._lease.write(Write({}, {}, [], None, None, listing=listing, listed=whole))

    async def unlist(self) -> None:
        """Takes off the list whose horizon is over by event time: they are lost."""
        now_ms = self._lease.position.time.ts_ms or 0
        listed = await self._store.open_warnings(self._lease.partition)
        over = [user for user, end_ms in map(listed_until, listed) if end_ms <= now_ms]
        if over:
            await self._lease.write(Write({}, {}, [], None, None, listing=dict.fromkeys(over)))

    async def _rebuilt(
        self, damaged: Mapping[str, Stored], pipeline: Pipeline
    ) -> dict[str, ScheduledCustomer]:
        """The damaged customers, rebuilt from the log and written in place of what was there.

        Raises CustomerUnrecoverable where that cannot be, StoreDamaged where it had to be done too
        often, LogUnavailable, and what a write raises.
        """
        lease, partition = self._lease, self._lease.partition
        if self._history is None:
            raise CustomerUnrecoverable(partition, len(damaged), "there is no log to read again")
        if self._rebuilds >= MAX_REBUILDS:
            raise StoreDamaged(partition)
        self._rebuilds += 1
        start, first = await self._history.start(partition), lease.first_offset
        complete = start <= first
        if not complete and not self._rebuild_partly:
            why = f"the log begins at {start}, after the {first} from which they were built"
            raise CustomerUnrecoverable(partition, len(damaged), why)
        now_ms = None if self._clock is None else self._clock.now_ms()
        rebuild = Rebuild(damaged, lease.position, pipeline, self._erasures, now_ms)
        async for records in self._history.read(partition, lease.next_offset):
            rebuild.add(records)
        customers = rebuild.customers()
        await lease.write(
            Write(
                states={user: codec.encode(one.customer) for user, one in customers.items()},
                due={user: one.due_ms for user, one in customers.items()},
                outbox=[],
                next_offset=None,
                high_ts_ms=None,
                quarantine={
                    user: quarantine_entry(stored, lease.next_offset, complete=complete)
                    for user, stored in damaged.items()
                },
                listing=listed_again(customers, pipeline),
            )
        )
        _log.error(
            "customers.rebuilt",
            partition=partition.number,
            count=len(customers),
            complete=complete,
            why=damage_of(next(iter(damaged.values()))),
        )
        return customers
