"""A shadow model beside the live one: what happens is passed on to a subprocess.

Followed is a share of the customers, chosen by a hash of their ids. A partition tells what it has
written, once it is written; nobody waits. What the process has not taken yet is held up to a
limit, above which it is dropped and counted; the customers of a partition of which something was
dropped are met again, so that what is compared stays right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

import msgspec

from features.times import UTC, Calendar
from model.artifact.files import ArtifactRefused
from model.decide import codec as customer_bytes
from model.judge.judged import ScheduledCustomer
from model.shadow.process import ShadowMessage, ShadowTask, command, frame
from model.shadow.protocol import Agreement, Step
from streamer import log
from streamer.pipeline.batch import WriteContext
from streamer.worker.reload import Sight, look_at

_log = log.get(__name__)

# Customers followed at most, some 5 KB each in the other process.
MAX_CUSTOMERS: Final = 20_000
# Held for the process at most, some 20,000 orders; further steps are dropped.
MAX_WAITING_BYTES: Final = 4_000_000
# From the end of a process until another is started with the same models.
RESTART_S: Final = 60.0
_LINE_BYTES: Final = 1 << 20


class Pipe(Protocol):
    """Where frames go; an asyncio transport for writing is one."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...


class ShadowListener(Protocol):
    """Who hears what has been seen; `streamer.metrics.Metrics` does."""

    def shadow(self, agreement: Agreement | None) -> None: ...
    def shadow_dropped(self, orders: int) -> None: ...


@dataclass(slots=True)
class _Known:
    """Who of a partition is followed, and up to which day the process was told to judge."""

    users: set[str] = field(default_factory=set)
    day: int = -1
    anew: bool = True


class Shadow:
    """An observer of partitions that has a shadow model compared with the live one."""

    def __init__(
        self,
        share: float,
        heard: ShadowListener,
        task: Callable[[Path, Path], ShadowTask] | None = None,
        calendar: Calendar = UTC,
    ) -> None:
        """`share`: of the customers to follow. `task`: what to compare, of two artifacts.
        `calendar`: that of the models."""
        self.agreement: Agreement | None = None
        self.refused = ""
        self.dropped = 0
        self._limit = round(share * 2**32)
        self._heard = heard
        self._task = task
        self._calendar = calendar
        self._known: dict[int, _Known] = {}
        self._pipe: Pipe | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._compared: tuple[Sight, Sight] | None = None
        self._again_s = 0.0

    def page(self) -> object:
        """What /model says of it."""
        agreement = None if self.agreement is None else msgspec.to_builtins(self.agreement)
        return {"agreement": agreement, "refused": self.refused, "dropped": self.dropped}

    # --- the observer ------------------------------------------------------------------------

    def opened(self, partition: int) -> None:
        self._known[partition] = _Known()

    def erased(self, partition: int, user_id: str) -> None:
        known = self._known.get(partition)
        if known is not None and user_id in known.users:
            known.users.discard(user_id)
            self._send(Step(partition, erased=user_id), known)

    def wrote(self, partition: int, context: WriteContext) -> None:
        """Passes on what concerns the customers that are followed."""
        if self._pipe is None:
            return
        known = self._known.setdefault(partition, _Known())
        users = self._followed(context.events)
        events = [
            (event.offset, event.order, event.watermark_ms)
            for user in users
            for event in context.events[user]
        ]
        until_ms = context.until_ms
        if until_ms is None:
            closing = (events[-1].watermark_ms for events in context.events.values() if events)
            until_ms = max(closing, default=None)
        else:
            users = self._followed(context.customers.users)
        met = self._met(known, users, context)
        day = -1 if until_ms is None else self._calendar.day_of(until_ms)
        if not met and not events and day <= known.day:
            return
        known.day = max(known.day, day)
        followed = [
            (user, track.due_ms, customer_bytes.encode(track.customer)) for user, track in met
        ]
        self._send(Step(partition, followed, events, until_ms), known)

    def _followed(self, users: Iterable[str]) -> list[str]:
        return [user for user in users if crc32(user.encode()) < self._limit]

    def _met(
        self, known: _Known, users: Iterable[str], context: WriteContext
    ) -> list[tuple[str, ScheduledCustomer]]:
        """Those who are met for the first time, while there is room."""
        room = MAX_CUSTOMERS - sum(len(one.users) for one in self._known.values())
        fresh = [user for user in users if user not in known.users][: max(room, 0)]
        known.users.update(fresh)
        if not fresh:
            return []
        at = {user: place for place, user in enumerate(context.customers.users)}
        return [(user, context.customers.track(at[user])) for user in fresh]

    def _send(self, step: Step, known: _Known) -> None:
        if self._pipe is None:
            return
        if self._pipe.get_write_buffer_size() > MAX_WAITING_BYTES:
            self.dropped += len(step.events)
            self._heard.shadow_dropped(len(step.events))
            self._known[step.partition] = _Known()
            return
        if known.anew:
            step = msgspec.structs.replace(step, anew=True)
            known.anew = False
        self._pipe.write(frame(step))

    # --- the process -------------------------------------------------------------------------

    async def look(self, live: Sight | None, model: Path) -> None:
        """Starts the process, and anew where one of the models is another. Raises nothing."""
        if live is None:
            return
        loop = asyncio.get_running_loop()
        try:
            shadow = await asyncio.to_thread(look_at, model)
        except (ArtifactRefused, OSError) as error:
            self._refuse(" ".join(str(error).split()))
            return
        if self._compared == (live, shadow) and (
            self._pipe is not None or loop.time() < self._again_s
        ):
            return
        await self.close()
        self._compared, self._again_s = (live, shadow), loop.time() + RESTART_S
        try:
            await self._start(live, shadow)
        except OSError as error:
            self._refuse(error.strerror or str(error))

    async def close(self) -> None:
        """Ends the process, if there is one."""
        self._pipe = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)
        self._process = self._reading = None

    async def _start(self, live: Sight, shadow: Sight) -> None:
        assert self._task is not None
        arguments, environment = command(self._task(live.path, shadow.path))
        self._process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        assert self._process.stdin is not None
        self._known = {}
        self.agreement = None
        self._heard.shadow(None)
        self._pipe = self._process.stdin.transport
        self._reading = asyncio.create_task(self._read(self._process))
        _log.info("shadow.started", live=live.version, shadow=shadow.version)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Takes what the process says, until it ends."""
        assert process.stdout is not None
        refused = "the process that compares has ended"
        while line := await process.stdout.readline():
            told = msgspec.json.decode(line, type=ShadowMessage)
            if told.agreement is not None:
                self.agreement, self.refused = told.agreement, ""
                self._heard.shadow(told.agreement)
            refused = told.refused or refused
        if self._process is process and self._pipe is not None:
            self._pipe = None
            self._refuse(refused)

    def _refuse(self, reason: str) -> None:
        if reason != self.refused:
            _log.warning("shadow.refused", reason=reason)
        self.refused = reason
