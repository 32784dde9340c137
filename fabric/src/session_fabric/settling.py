"""A run that its process has let go of before the log had its end: that is said when the broker answers again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from session_fabric.doorbell import ring
from session_fabric.endings import By, agent_lost, bell_of, cancelled, end_run, orphan_run
from session_fabric.holdings import Held
from session_fabric.parts import Parts
from session_fabric.requests import close as close_requests
from session_fabric.run import Run
from session_fabric.words.errors import SessionClosed, SessionGone, SessionNotFound
from session_fabric.words.logs import log

# A claim that was sent and whose writer did not wait for its answer is stored by then, or not at all: a try's time.
_ON_ITS_WAY_S: Final = 5.0


async def settle(parts: Parts, run: Run, held: Held) -> None:
    """Say how a run has ended for this process, or ring for it where others may go on with it; then it is held no more.

    Tried for as long as the broker is away. Where it has ended, or somebody else has it by now, nothing is said.
    Cancelled, it leaves the entry in the index: whoever finds this process gone sees to it.
    """
    log.warning("run_left_without_end", session=parts.place.session, run=run.id)
    with suppress(SessionClosed, SessionGone, SessionNotFound):  # nobody is told any more
        if await parts.persist(partial(_is_there, parts, run.id)) is False:
            await asyncio.sleep(_ON_ITS_WAY_S)
        await parts.persist(partial(_say, parts, run, held))
    await parts.common.holdings.leave(held)


async def _is_there(parts: Parts, run: str) -> bool:
    return await parts.newest_own(await parts.directory.load(parts.place), run) is not None


async def _say(parts: Parts, run: Run, held: Held) -> None:
    by = By(held.holder, run.generation)
    if run.when_cut_off == "orphaned":
        sequence = await orphan_run(parts, run.id, by, parts.identity.participant)
        if sequence is not None:
            await ring(parts, str(held.facts["pool"]), bell_of(run.id, sequence), run.id)
        return
    handed_over = cancelled(parts.place.session, run.id) | {"reason": "handoff"}
    if await end_run(parts, run.id, handed_over if run.when_cut_off == "handoff" else agent_lost(), by):
        await close_requests(parts, run.id)
