"""Entering a run: claimed or taken over, indexed while it is held, its ears open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from session_fabric.asking import Asking
from session_fabric.hearing import Hearing
from session_fabric.holdings import Held
from session_fabric.open_message import Recovered
from session_fabric.parts import Parts
from session_fabric.records import SessionRecord
from session_fabric.recovery import recover
from session_fabric.redacting.forgetting import forget_noted
from session_fabric.rules.batching import WINDOW_S
from session_fabric.run import Run, Takeover
from session_fabric.settling import settle
from session_fabric.words import measures
from session_fabric.words.errors import BrokerUnavailable, RunClosed, RunFenced, SessionGone
from session_fabric.words.names import new_id

T = TypeVar("T")


async def _once(call: Callable[[], Awaitable[T]]) -> T:
    return await call()


class OpenRun:
    """What `session.run()` returns: enter it to claim the run.

    `claim` is what RUN_STARTED says beside AG-UI's fields; `make` makes the run that the author gets. `patient`: while
    the broker is away it is tried on; otherwise that raises `BrokerUnavailable`.
    """

    def __init__(
        self,
        parts: Parts,
        id: str | None,
        window_s: float = WINDOW_S,
        *,
        claim: Mapping[str, Any] | None = None,
        takeover: Takeover | None = None,
        make: Callable[..., Run] = Run,
        patient: bool = False,
    ) -> None:
        self._parts = parts
        self._id = new_id("run-") if id is None else id
        self._window_s = window_s
        self._claim = dict(claim or {})
        self._takeover = takeover
        self._make = make
        self._persist = parts.persist if patient else _once
        self._run: Run | None = None
        self._record: SessionRecord | None = None
        self._held: Held | None = None
        self._begun = 0.0

    async def __aenter__(self) -> Run:
        parts = self._parts
        self._record = await self._persist(parts.open)
        to = self._record.stretch
        if self._takeover is None and self._record.forgetting is not None:
            # What was redacted since agents saved what they know is not to be known to this run.
            await self._persist(partial(forget_noted, parts.broker, parts.directory, self._record))

        async def recovered(upto: int) -> list[Recovered]:
            return await parts.persist(lambda: recover(parts.broker.log, parts.history, to, self._id, upto))

        holdings = parts.common.holdings
        self._run = self._make(
            parts.broker.log,
            parts.identity,
            to,
            self._id,
            window_s=self._window_s,
            claim={**self._claim, "holder": holdings.holder},
            takeover=self._takeover,
            recover=recovered,
            controls=lambda run: Hearing(parts, run).run(),
        )
        self._run.asker = Asking(parts, self._run)
        self._run.traces = parts.common.traces
        facts = {"agent": parts.identity.participant, "pool": self._claim.get("pool")}
        self._held = await self._persist(partial(holdings.enter, parts.place, "run", self._run.id, facts))
        try:
            await self._persist(self._run.take_hold)
            run = await self._run.__aenter__()
        except (BrokerUnavailable, asyncio.CancelledError):
            self._settle(self._run, self._held)  # it may have been claimed
            raise
        except BaseException:
            await holdings.leave(self._held)
            raise
        self._begun = time.monotonic()
        parts.common.metrics.add(measures.RUNS_ACTIVE, 1)
        if self._takeover is not None:
            parts.common.metrics.count(measures.TAKEOVERS)
        return run

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool:
        assert self._run is not None
        assert self._record is not None
        assert self._held is not None
        another = False
        try:
            return await self._run.__aexit__(kind, error, trace)
        except (RunFenced, RunClosed, SessionGone):
            another = True
            raise
        finally:
            self._count(self._run)
            # Without its end in the log it may be somebody else's by now, and its deltas are all there is of it.
            if self._run.ended is not None:
                if self._run.asker is not None:
                    await self._run.asker.close()
                self._parts.common.ended(self._record, self._run.id, self._run.ended)
            if another or self._run.ended is not None or self._run.orphaned:
                await self._parts.common.holdings.leave(self._held)
            else:
                self._settle(self._run, self._held)

    def _settle(self, run: Run, held: Held) -> None:
        """See to it that it gets an end: its author has left it, and the log does not say so."""
        self._parts.common.errands.begin(settle(self._parts, run, held), f"end of run {run.id}")

    def _count(self, run: Run) -> None:
        metrics = self._parts.common.metrics
        metrics.add(measures.RUNS_ACTIVE, -1)
        metrics.count(measures.RUNS, run.end or ("orphaned" if run.orphaned else "lost"))
        metrics.observe(measures.RUN, time.monotonic() - self._begun)
        if run.first_text_after_s is not None:
            metrics.observe(measures.FIRST_TEXT, run.first_text_after_s)
